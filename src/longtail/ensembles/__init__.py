"""Ensembles of experts' outputs: one per file."""
