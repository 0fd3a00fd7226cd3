import pytest
import torch

from longtail.ensembles.average import Average
from longtail.pixels import Upsampling, bands, ensemble_labels, labels, map_labels, most_probable, upsampled_labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 7, 5, 6), (3, 5), (1, 1, 4), (2, 300, 9), (2, 3, 0)])
def test_is_argmax(shape, dtype):
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(most_probable(scores), scores.argmax(dim=1))


def test_the_first_of_equal_scores_and_scores_that_are_no_numbers():
    scores = torch.randint(0, 3, (2, 6, 50), generator=torch.Generator().manual_seed(0)).float()
    scores[0, 2, :5] = torch.inf
    scores[0, :, 5] = -torch.inf
    scores[1, 3, :5] = torch.nan
    scores[1, [1, 4], 6] = torch.inf
    assert torch.equal(most_probable(scores), scores.argmax(dim=1))


def test_any_layout_and_no_change_of_the_scores():
    scores = torch.randn(2, 5, 6, 7).movedim(1, -1).contiguous().movedim(-1, 1)
    before = scores.clone()
    assert torch.equal(most_probable(scores), scores.argmax(dim=1))
    assert torch.equal(most_probable(scores[..., 1:, :]), scores[..., 1:, :].argmax(dim=1))
    assert torch.equal(scores, before)


@pytest.mark.parametrize("elements", [1, 400, 1 << 18])
@pytest.mark.parametrize("geometry", [((4, 6), (16, 24)), ((5, 3), (17, 11)), ((8, 8), (5, 6)), ((6, 7), (6, 7))])
def test_labels_in_bands_are_the_argmax_of_the_map(monkeypatch, geometry, elements):
    monkeypatch.setitem(bands.BAND_ELEMENTS, "cpu", elements)
    low, size = geometry
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(3, 2, 5, *low, generator=generator, dtype=torch.float64)
    upsampling = Upsampling(size)
    wide = torch.stack([upsampling(own) for own in z])
    assert torch.equal(upsampled_labels(lambda v: v, z[0], upsampling), wide[0].argmax(dim=1))
    assert torch.equal(ensemble_labels(Average(), z, upsampling), Average()(wide).argmax(dim=1))
    chosen = torch.randint(0, 3, (2, *size), generator=generator)  # an expert for each pixel, as the oracle has

    def read(values, expert):
        return values.gather(0, expert[None, :, None].expand(1, -1, 5, -1, -1))[0]

    assert torch.equal(upsampled_labels(read, z, upsampling, chosen), read(wide, chosen).argmax(dim=1))


def test_labels_of_half_precision_are_those_of_float32():
    z, upsampling = torch.randn(1, 4, 5, 6).bfloat16(), Upsampling((9, 11))
    found = upsampled_labels(lambda v: v, z, upsampling)
    assert torch.equal(found, upsampled_labels(lambda v: v, z.float(), upsampling))
    assert torch.equal(map_labels(z, upsampling), map_labels(z.float(), upsampling))


@pytest.mark.parametrize("blobs", [False, True])
@pytest.mark.parametrize(
    ("low", "upsampling"),
    [
        ((4, 6), Upsampling((16, 24))),
        ((4, 6), Upsampling((13, 21), 8)),
        ((5, 3), Upsampling((17, 11), 1, True)),
        ((8, 8), Upsampling((5, 6))),
        ((8, 8), Upsampling((6, 5), 8)),
        ((1, 1), Upsampling((4, 4))),
    ],
    ids=str,
)
def test_labels_of_a_map_are_its_argmax(monkeypatch, low, upsampling, blobs):
    monkeypatch.setitem(labels.BAND_ELEMENTS, "cpu", 100)
    z = torch.randn(2, 5, *low, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    if blobs:  # two halves, each of one class
        z[:, 0, :, : low[1] // 2] += 20
        z[:, 3, :, low[1] // 2 :] += 20
    assert torch.equal(map_labels(z, upsampling), upsampling(z).argmax(dim=1))


def test_labels_of_a_map_interpolate_mixed_cells_alone(monkeypatch):
    z = torch.zeros(1, 2, 4, 8)
    z[:, 0, :, :4] = z[:, 1, :, 4:] = 1
    seen = []
    scores_at = Upsampling.scores_at
    monkeypatch.setattr(
        Upsampling,
        "scores_at",
        lambda own, v, pixels, step: seen.append(pixels.sum()) or scores_at(own, v, pixels, step),
    )
    found = map_labels(z, Upsampling((16, 32)))
    assert torch.equal(found[0, 0], torch.arange(32) // 16)
    assert sum(seen) == 16 * 4  # between columns 3 and 4 of the map, and no others
