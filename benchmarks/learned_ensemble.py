"""The learned ensemble, fitted and read at the image's size, against the same equations written straight down."""

import torch
import torch.nn.functional as F
from harness import arguments, measure
from torch import Tensor

from longtail.ensembles.learned import LearnedEnsemble
from longtail.ensembles.nested_chain import NestedChain
from longtail.pixels import Upsampling, ensemble_labels, ensemble_loss

EXPERTS, CLASSES, LOW, SIZE = 3, 150, 128, 512


def straightforward(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Eq. 7-8 in the default reading, as stock PyTorch calls over whole maps (experts, n, classes, h, w)."""
    shape = (EXPERTS, 1, CLASSES, 1, 1)
    calibrated = (weight.view(shape) * maps.log_softmax(dim=2) + bias.view(shape)).softmax(dim=2)
    final = (weight.view(shape) * calibrated).mean(dim=0)
    return final / final.sum(dim=1, keepdim=True)


def main() -> None:
    options = arguments(__doc__, gpu=True).parse_args()
    generator = torch.Generator().manual_seed(0)
    low = 3 * torch.randn(EXPERTS, 1, CLASSES, LOW, LOW, generator=generator).to(options.device)
    target = torch.randint(0, CLASSES, (1, SIZE, SIZE), generator=generator).to(options.device)
    upsampling = Upsampling((SIZE, SIZE))
    ensemble = LearnedEnsemble(EXPERTS, CLASSES)
    with torch.no_grad():
        ensemble.raw_weight.normal_(0, 0.3, generator=generator)
        ensemble.bias.normal_(0, 0.1, generator=generator)
    ensemble.to(options.device)

    def maps() -> Tensor:
        return torch.stack([F.interpolate(z, (SIZE, SIZE), mode="bilinear") for z in low])

    def their_step() -> Tensor:
        ensemble.zero_grad()
        loss = F.nll_loss(straightforward(maps(), ensemble.weight, ensemble.bias).log(), target)
        loss.backward()
        return loss

    def our_step() -> Tensor:
        ensemble.zero_grad()
        loss = ensemble_loss(ensemble, low, target, upsampling)
        loss.backward()
        return loss

    @torch.no_grad()
    def their_labels() -> Tensor:
        return straightforward(maps(), ensemble.weight, ensemble.bias).argmax(dim=1)

    def our_labels() -> Tensor:
        return ensemble_labels(ensemble, low, upsampling)

    torch.testing.assert_close(our_step(), their_step())
    if (our_labels() == their_labels()).float().mean() < 0.9999:
        raise AssertionError("the two label maps differ")
    note = f"{EXPERTS} experts, {CLASSES} classes, {LOW}x{LOW} -> {SIZE}x{SIZE}"
    for name, what, theirs, ours in (
        ("learned_ensemble_step", "forward and backward, equal values", their_step, our_step),
        ("learned_ensemble_labels", "argmax at the image's size, equal labels", their_labels, our_labels),
    ):
        measure(
            name,
            {"stock composition": theirs, "longtail, in bands": ours},
            options,
            note=f"{note}; {what}",
        )
    sets = torch.arange(CLASSES).expand(EXPERTS, -1) >= torch.tensor([[0], [21], [76]])
    chain = NestedChain(sets, torch.full((CLASSES,), 1 / CLASSES)).to(options.device)
    measure(
        "nested_chain_labels",
        {
            "learned ensemble, in bands": our_labels,
            "nested chain, in bands": lambda: ensemble_labels(chain, low, upsampling),
        },
        options,
        note=f"{note}; labels of groups of 21, 55 and 74 classes",
    )


if __name__ == "__main__":
    main()
