"""The losses of MEDOE's three experts, against the same equations written straight down."""

import torch
import torch.nn.functional as F
from harness import arguments, measure
from torch import Tensor

from longtail.frequency import CategoryGroups
from longtail.medoe.experts import LabelSets, mask_labels
from longtail.medoe.losses import ExpertLoss
from longtail.segmentation.upsampling import Upsampling


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
    options = arguments(__doc__).parse_args()
    classes, generator = 150, torch.Generator().manual_seed(0)
    share = 1 / torch.arange(1, classes + 1).double() ** 1.6
    target = torch.multinomial(share, 2 * 512 * 512, True, generator=generator).view(2, 512, 512)
    prior = (share / share.sum()).float()
    sets = LabelSets.from_groups(CategoryGroups.by_rank(share.numpy(), (21, 55, 74)))
    low = [torch.randn(2, classes, 128, 128, generator=generator, requires_grad=True) for _ in range(3)]
    criteria = [ExpertLoss(mask, prior) for mask in sets.masks]

    upsampling = Upsampling((512, 512))

    def up(z: Tensor) -> Tensor:
        return F.interpolate(z, (512, 512), mode="bilinear")

    def ours() -> Tensor:
        loss = sum(sum(c(z, target, upsampling).values()) for c, z in zip(criteria, low, strict=True))
        loss.backward()
        return loss

    def theirs() -> Tensor:
        loss = sum(straightforward(up(z), target, m, prior) for m, z in zip(sets.masks, low, strict=True))
        loss.backward()
        return loss

    torch.testing.assert_close(ours(), theirs())
    measure(
        "expert_loss",
        {"stock composition": theirs, "longtail ExpertLoss": ours},
        note="3 experts, 150 classes, 2 x 128x128 -> 512x512, forward and backward, equal values",
        repeats=options.repeats,
        allocator=options.allocator,
    )


if __name__ == "__main__":
    main()
