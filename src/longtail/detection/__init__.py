"""Cascade detectors on torchvision's parts."""
