"""Data sets: images with masks or objects."""
