"""Group alignment and dynamic ensemble of three stages, 1,000 proposals, 1,203 classes: against an index for each group."""

import numpy as np
import torch
from harness import arguments, measure

from longtail.ensembles.dynamic import DynamicEnsemble
from longtail.frequency.groups import CategoryGroups

ROWS, CLASSES, STAGES = 1000, 1203, 3


def by_index(logits: torch.Tensor, groups: CategoryGroups) -> torch.Tensor:
    """Eq. 3, 5 and 6 with an index for each group and stage, as one would write them; the background goes along."""
    aligned = logits.clone()
    weights = logits.new_empty(STAGES, ROWS, groups.num_groups)
    for j, members in enumerate(groups.members):
        index = list(members)
        for k in range(STAGES):
            aligned[k][:, index] = logits[k][:, index] - logits[k][:, index].mean(dim=1, keepdim=True)
            weights[k, :, j] = aligned[k][:, index].logsumexp(dim=1)
    weights = weights.softmax(dim=0)
    combined = logits.new_empty(ROWS, CLASSES + 1)
    for j, members in enumerate(groups.members):
        index = list(members)
        combined[:, index] = sum(weights[k, :, j, None] * aligned[k][:, index] for k in range(STAGES))
    combined[:, -1] = (logits[:, :, -1] - logits[:, :, :-1].mean(dim=2)).mean(dim=0)
    return combined.softmax(dim=1)


@torch.inference_mode()
def main() -> None:
    options = arguments(__doc__, gpu=True).parse_args()
    counts = np.random.default_rng(0).pareto(0.5, CLASSES) * 8
    groups = CategoryGroups.by_count(counts.astype(np.int64))
    ranges = CategoryGroups.by_count(np.sort(counts).astype(np.int64))  # classes numbered by group
    logits = torch.randn(STAGES, ROWS, CLASSES + 1, generator=torch.Generator().manual_seed(0)).to(options.device)
    ensemble, ordered = DynamicEnsemble(groups).to(options.device), DynamicEnsemble(ranges).to(options.device)
    if not torch.allclose(ensemble(logits), by_index(logits, groups), atol=1e-6):
        raise AssertionError("the two ensembles differ")
    measure(
        "dynamic_ensemble",
        {
            "an index for each group": lambda: by_index(logits, groups),
            "longtail": lambda: ensemble(logits),
            "longtail, classes numbered by group": lambda: ordered(logits),
        },
        options,
        note=f"{ROWS} proposals x {CLASSES + 1} logits x {STAGES} stages; groups of {groups.sizes}",
    )


if __name__ == "__main__":
    main()
