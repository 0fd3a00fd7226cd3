"""Classifiers that take the place of a linear one, over rows of features."""
