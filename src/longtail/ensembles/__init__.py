"""Ensembles of experts' outputs: one a file."""
