"""Samplers that decide which images an epoch shows."""
