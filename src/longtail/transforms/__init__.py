"""Joint transforms of images, masks and boxes."""
