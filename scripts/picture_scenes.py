"""The picture of the README: synthetic scenes above, their labels below."""

from pathlib import Path

import torch
from torchvision.utils import make_grid, save_image

from longtail import LongTailScenes

TARGET = Path(__file__).parents[1] / "docs" / "assets" / "scenes.png"


def main() -> None:
    """Render the first scenes of the training split."""
    scenes = LongTailScenes("train", num_images=6, size=(160, 160))
    palette = torch.tensor(scenes.classes.palette, dtype=torch.uint8)
    images = [scene["image"].as_subclass(torch.Tensor) for scene in scenes]
    labels = [palette[scene["mask"].as_subclass(torch.Tensor).long()].permute(2, 0, 1) for scene in scenes]
    TARGET.parent.mkdir(exist_ok=True)
    save_image(make_grid(torch.stack(images + labels).float() / 255, nrow=6, pad_value=1.0), TARGET)


if __name__ == "__main__":
    main()
