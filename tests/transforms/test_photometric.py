import pytest
import torch
from torchvision import tv_tensors

from longtail.errors import ConfigError
from longtail.transforms.photometric import DistortAndNormalise, PhotometricDistortion, hue_matrix, saturation_matrix


def image(*shape: int) -> tv_tensors.Image:
    return tv_tensors.Image(torch.rand(3, *(shape or (5, 7))))


def test_a_third_of_a_turn_of_hue_permutes_the_channels():
    colour = torch.tensor([0.9, 0.2, 0.1])
    assert torch.allclose(hue_matrix(120) @ colour, torch.tensor([0.1, 0.9, 0.2]), atol=1e-6)
    assert torch.allclose(hue_matrix(0), torch.eye(3))
    assert torch.allclose(hue_matrix(50) @ hue_matrix(-50), torch.eye(3), atol=1e-6)


def test_saturation_by_hand():
    colour = torch.tensor([1.0, 0.5, 0.0])
    luma = 0.299 + 0.5 * 0.587
    assert torch.allclose(saturation_matrix(0) @ colour, torch.full((3,), luma))
    assert torch.allclose(saturation_matrix(2) @ colour, 2 * colour - luma)


@pytest.mark.parametrize("matrix", [hue_matrix(33), saturation_matrix(0.5), saturation_matrix(1.5)])
def test_grey_stays_grey(matrix):
    assert torch.allclose(matrix @ torch.full((3,), 0.4), torch.full((3,), 0.4))


def test_without_ranges_nothing_changes():
    still = PhotometricDistortion(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0, p=1)
    before = image()
    assert torch.allclose(still(before), before)
    before = image()
    assert torch.equal(PhotometricDistortion(p=0)(before), before)


def test_each_step_by_hand():
    before = tv_tensors.Image(torch.full((3, 2, 2), 0.4))
    factor = PhotometricDistortion(brightness=0, contrast=(1.5, 1.5), saturation=(1, 1), hue=0, p=1)(before)
    assert torch.allclose(factor, torch.full((3, 2, 2), 0.6))
    offsets = [float(PhotometricDistortion(brightness=0.1, contrast=(1, 1), p=1)(before)[0, 0, 0]) for _ in range(300)]
    assert 0.3 <= min(offsets) < 0.31 and 0.49 < max(offsets) <= 0.5 + 1e-6


def test_the_result_is_an_image_in_range_and_the_source_is_kept():
    before = image(40, 50)
    kept = before.clone()
    for _ in range(20):
        after = PhotometricDistortion(p=1)(before)
        assert isinstance(after, tv_tensors.Image) and after.dtype == torch.float32
        assert after.min() >= 0 and after.max() <= 1 and not torch.equal(after, before)
    assert torch.equal(before, kept)


def test_randomness_is_that_of_torch():
    before = image()
    torch.manual_seed(3)
    first = PhotometricDistortion()(before)
    torch.manual_seed(3)
    assert torch.equal(PhotometricDistortion()(before), first)


def test_label_maps_pass_and_bytes_are_refused():
    mask = tv_tensors.Mask(torch.ones(4, 4, dtype=torch.uint8))
    assert PhotometricDistortion(p=1)({"image": image(4, 4), "mask": mask})["mask"] is mask
    with pytest.raises(ConfigError, match="uint8"):
        PhotometricDistortion(p=1)(tv_tensors.Image(torch.zeros(3, 4, 4, dtype=torch.uint8)))


@pytest.mark.parametrize("seed", range(8))
def test_distorting_and_normalising_together_is_both_in_turn(seed):
    from torchvision.transforms import v2

    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    bytes_ = tv_tensors.Image(torch.randint(0, 256, (3, 9, 11), dtype=torch.uint8))
    bytes_[:, 0, :2] = torch.tensor([0, 255], dtype=torch.uint8)  # what a distortion takes out of the range
    distortion = PhotometricDistortion(p=1.0)
    in_turn = v2.Compose([v2.ToDtype(torch.float32, scale=True), distortion, v2.Normalize(mean, std)])
    torch.manual_seed(seed)
    expected = in_turn(bytes_)
    torch.manual_seed(seed)
    found = DistortAndNormalise(distortion, mean, std)(bytes_)
    assert type(found) is tv_tensors.Image and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_floats_of_any_bands_are_distorted_as_bytes_are(bands):
    bytes_ = tv_tensors.Image(torch.randint(0, 256, (bands, 9, 11), dtype=torch.uint8))
    both = DistortAndNormalise(PhotometricDistortion(p=1.0), (0.4,) * bands, (0.2,) * bands)
    torch.manual_seed(0)
    expected = both(bytes_)
    torch.manual_seed(0)
    found = both(tv_tensors.Image(bytes_.float() / 255))
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    if bands != 3:  # one factor and one offset for all bands
        plain = (bytes_.float() / 255 - 0.4) / 0.2
        inside = (found > found.min()) & (found < found.max())
        columns = torch.stack([plain[inside], torch.ones_like(plain[inside])], dim=1)
        line = torch.linalg.lstsq(columns, found[inside][:, None]).solution
        torch.testing.assert_close((columns @ line)[:, 0], found[inside].as_subclass(torch.Tensor), atol=1e-4, rtol=0)


def test_only_bytes_and_floats_are_normalised_with_the_distortion():
    with pytest.raises(ConfigError, match=r"float64"):
        DistortAndNormalise(PhotometricDistortion(), (0.5,) * 3, (0.5,) * 3)(tv_tensors.Image(image().double()))
