"""The losses of MEDOE's three experts, against the same equations written straight down."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from harness import arguments, measure
from torch import Tensor

from longtail.frequency import CategoryGroups
from longtail.medoe.experts import LabelSets, mask_labels
from longtail.medoe.losses import ExpertLoss
from longtail.pixels import Upsampling


def straightforward(logits: Tensor, target: Tensor, label_set: Tensor, prior: Tensor, alpha: float = 0.2) -> Tensor:
    """Eq. 3-5 in their default reading, as stock PyTorch calls over whole maps."""
    masked = mask_labels(target, label_set)
    own = masked != 255
    loss = F.cross_entropy(logits, masked, ignore_index=255, reduction="sum") / own.sum().clamp(min=1)
    void = (target != 255).unsqueeze(1)
    penalty = (logits[:, ~label_set].square() * void).sum() / void.sum().clamp(min=1)
    inside = logits[:, label_set].softmax(dim=1)
    mean = (inside * own.unsqueeze(1)).sum(dim=(0, 2, 3)) / own.sum().clamp(min=1)
    q = prior[label_set] / prior[label_set].sum()
    return loss + alpha * (penalty + (mean * (mean.clamp(min=1e-30) / q).log()).sum())


def main() -> None:
    parser = arguments(__doc__, gpu=True)
    parser.add_argument("--images", type=int, default=2, help="images of a batch")
    options = parser.parse_args()
    images = options.images
    classes, generator = 150, torch.Generator().manual_seed(0)
    share = 1 / torch.arange(1, classes + 1).double() ** 1.6
    target = torch.multinomial(share, images * 512 * 512, True, generator=generator).view(images, 512, 512)
    target, prior = target.to(options.device), (share / share.sum()).float().to(options.device)
    sets = LabelSets.from_groups(CategoryGroups.by_rank(share.numpy(), (21, 55, 74)))
    drawn = [torch.randn(images, classes, 128, 128, generator=generator) for _ in range(3)]
    low = [z.to(options.device).requires_grad_() for z in drawn]
    masks = [mask.to(options.device) for mask in sets.masks]
    criteria = [ExpertLoss(mask, prior).to(options.device) for mask in masks]

    upsampling = Upsampling((512, 512))

    def up(z: Tensor) -> Tensor:
        return F.interpolate(z, (512, 512), mode="bilinear")

    def ours() -> Tensor:
        loss = sum(sum(c(z, target, upsampling).values()) for c, z in zip(criteria, low, strict=True))
        loss.backward()
        return loss

    def stock(of_maps: Callable[..., Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            loss = sum(of_maps(up(z), target, m, prior) for m, z in zip(masks, low, strict=True))
            loss.backward()
            return loss

        return run

    theirs = stock(straightforward)
    sides = {"stock composition": theirs}
    if options.device != "cpu":
        sides["the same, torch.compile"] = stock(torch.compile(straightforward))
    torch.testing.assert_close(ours(), theirs())
    measure(
        "expert_loss",
        {**sides, "longtail ExpertLoss": ours},
        options,
        note=f"3 experts, 150 classes, {images} x 128x128 -> 512x512, forward and backward, equal values",
    )


if __name__ == "__main__":
    main()
