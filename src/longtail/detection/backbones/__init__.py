"""Backbones with feature pyramids."""
