"""Formats of exported files by name. This module does not import torch, so that command lines start quickly."""

from typing import Literal

Format = Literal["onnx", "torch-export", "torchscript"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2", "torchscript": ".pt"}
