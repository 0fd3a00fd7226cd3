"""Segmentation models and the contracts they meet."""
