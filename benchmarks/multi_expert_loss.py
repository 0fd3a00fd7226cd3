"""Multi-expert loss of three stages, 2,048 boxes, 1,203 classes: against Eq. 1-2 as printed and plain cross-entropy."""

import numpy as np
import torch
import torch.nn.functional as F
from harness import arguments, measure

from longtail.frequency.groups import CategoryGroups
from longtail.mec.losses import expert_losses

ROWS, CLASSES, STAGES, WEIGHT = 2048, 1203, 3, 0.7


def literal(logits: torch.Tensor, target: torch.Tensor, member: torch.Tensor) -> torch.Tensor:
    """Eq. 1-2: both probabilities of all classes, mixed, then the logarithm of the label's."""
    p = logits.softmax(dim=1)
    exponential = (logits - logits.amax(dim=1, keepdim=True)).exp() * member
    within = exponential / exponential.sum(dim=1, keepdim=True).clamp(min=1e-12)
    mixed = torch.where(member, p**WEIGHT * within ** (1 - WEIGHT), p)
    return -mixed.gather(1, target[:, None]).clamp(min=1e-12).log().mean()


def main() -> None:
    options = arguments(__doc__, gpu=True).parse_args()
    counts = np.random.default_rng(0).pareto(0.5, CLASSES) * 8
    groups = CategoryGroups.by_count(counts.astype(np.int64))
    losses = [loss.to(options.device) for loss in expert_losses(groups, overall_weight=WEIGHT)]
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(ROWS, CLASSES + 1, generator=generator) for _ in range(STAGES)]
    logits = [z.to(options.device).requires_grad_() for z in drawn]
    target = torch.randint(CLASSES, (ROWS,), generator=generator)
    target[ROWS // 4 :] = CLASSES  # one foreground box in four
    target = target.to(options.device)
    members = [F.pad(torch.from_numpy(mask), (0, 1)).to(options.device) for mask in groups.masks]

    def run(loss) -> list[float]:
        values = []
        for stage in range(STAGES):
            logits[stage].grad = None
            value = loss(stage)
            value.backward()
            values.append(value.item())
        return values

    sides = {
        "Eq. 1-2 as printed": lambda: run(lambda k: literal(logits[k], target, members[k])),
        "longtail": lambda: run(lambda k: losses[k](logits[k], target)),
        "plain cross-entropy": lambda: run(lambda k: F.cross_entropy(logits[k], target)),
    }
    if not np.allclose(sides["longtail"](), sides["Eq. 1-2 as printed"](), rtol=1e-5):
        raise AssertionError("the loss is not Eq. 1-2")
    measure(
        "multi_expert_loss",
        sides,
        options,
        note=f"{ROWS} boxes x {CLASSES + 1} logits x {STAGES} stages, forward and backward; groups of {groups.sizes}",
        floor="plain cross-entropy",
    )


if __name__ == "__main__":
    main()
