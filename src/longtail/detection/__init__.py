"""Detectors of stages: cascades on torchvision's parts, and query detectors of transformers."""
