"""Metrics and the results format."""
