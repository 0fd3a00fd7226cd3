"""Weights that other programs have trained, by the names of this library's models."""
