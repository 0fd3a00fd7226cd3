import pytest
import torch

from longtail.ensembles import blockwise
from longtail.ensembles.blockwise import blocks_of, cut, sum_over_blocks


@pytest.mark.parametrize("block", [1, 40, 130, 1 << 20])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 6), (2, 7, 4)])
def test_blocks_cover_every_position_once(monkeypatch, block, shape):
    monkeypatch.setitem(blockwise._BLOCK, "cpu", block)
    logits = torch.zeros(shape)
    seen = torch.zeros(shape[1], *shape[3:])
    for piece in blocks_of(logits):
        cut(seen, piece).add_(1)
        part = cut(logits, piece, images=1)
        assert part.numel() <= max(block, shape[0] * shape[2] * shape[-1]) or len(shape) == 3
    assert (seen == 1).all()


def test_value_and_gradients_are_those_of_the_whole(monkeypatch):
    monkeypatch.setitem(blockwise._BLOCK, "cpu", 20)
    logits = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    scale = torch.randn(4, dtype=torch.float64, requires_grad=True)
    other = torch.randn(3, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    gate = other * 2  # not a leaf

    def value(z, g):
        return (z.tanh().mean(dim=0) * scale.view(1, 4, 1, 1) * g).square().sum()

    whole = value(logits, gate)
    expected = torch.autograd.grad(3 * whole, [scale, other], retain_graph=True)
    found = sum_over_blocks(
        lambda b: value(cut(logits, b, images=1), cut(gate, b)), list(blocks_of(logits)), [scale, gate]
    )
    torch.testing.assert_close(found, whole)
    for a, b in zip(torch.autograd.grad(3 * found, [scale, other]), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_double_backward_is_refused():
    x = torch.ones(3, requires_grad=True)
    total = sum_over_blocks(lambda _: (x**3).sum(), [(slice(None), slice(None))], [x])
    (gradient,) = torch.autograd.grad(total, x, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


def test_without_gradients():
    x = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        assert sum_over_blocks(lambda _: x.sum(), [(slice(None), slice(None))], [x]).item() == 3
