"""Named segmentation models and adapters, one library a file."""
