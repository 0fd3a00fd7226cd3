"""Trained models as files that run without this library: ONNX, torch.export and TorchScript."""
