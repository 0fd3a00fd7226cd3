"""Methods and trained models by name: build, save, publish, load."""
