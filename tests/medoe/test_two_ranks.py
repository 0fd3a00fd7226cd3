"""The experts' losses of two ranks are those of one that sees all images, though only one rank shows a rare class."""

import torch
from torch import Tensor

from longtail.medoe.losses import ExpertLoss, ExpertLossOptions
from longtail.pixels import Upsampling
from support.two_ranks import run_on_two_ranks

LABEL_SET = torch.tensor([False, False, True, True])
PRIOR = torch.tensor([0.6, 0.3, 0.08, 0.02])
READINGS = {
    "default": {},
    "pixel": {"divergence": "pixel", "penalty": "absolute"},
    "expert": {"penalty_pixels": "expert", "normalizer": "valid"},
    "running": {"momentum": 0.5},
}


def losses(images: slice) -> dict[str, Tensor]:
    """Terms of some of three images, and the gradients of their sums with respect to those images' logits."""
    g = torch.Generator().manual_seed(5)
    low, target = torch.randn(3, 4, 4, 6, generator=g), torch.randint(0, 4, (3, 8, 12), generator=g)
    target[1:] = target[1:].where(target[1:] < 2, 255)  # the first image alone shows the expert's classes
    found = {}
    for name, options in READINGS.items():
        for upsampling in (None, Upsampling((8, 12))):
            logits = low[images].clone().requires_grad_()
            whole = logits if upsampling else torch.nn.functional.interpolate(logits, (8, 12), mode="bilinear")
            terms = ExpertLoss(LABEL_SET, PRIOR, ExpertLossOptions(**options))(whole, target[images], upsampling)
            sum(terms.values()).backward()
            case = f"{name} {'of the map' if upsampling is None else 'below its size'}"
            found |= {f"{case} {term}": value.detach() for term, value in terms.items()}
            found[f"{case} gradient"] = logits.grad
    return found


def on_rank(rank: int) -> dict[str, Tensor]:
    return losses(slice(1, 3) if rank else slice(1))


def test_two_ranks_are_one(tmp_path):
    first, second = run_on_two_ranks(tmp_path, on_rank)
    for name, value in losses(slice(3)).items():
        if name.endswith("gradient"):  # averaged over the ranks, each with images of its own
            torch.testing.assert_close(torch.cat([first[name], second[name]]) / 2, value, msg=name)
        else:
            torch.testing.assert_close((first[name] + second[name]) / 2, value, msg=name)
