import pytest
import torch

from longtail.ensembles.labels import most_probable


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
