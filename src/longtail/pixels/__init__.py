"""Maps of pixels below the image's size: upsampling, losses and labels in bounded memory."""
