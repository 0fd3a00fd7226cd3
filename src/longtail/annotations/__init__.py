"""Annotation files as arrays: one reader and one set of checks for counting, training and scoring."""
