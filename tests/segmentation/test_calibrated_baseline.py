"""A baseline whose logits are also read calibrated."""

import pytest
import torch

from longtail.errors import ConfigError
from longtail.models.segmentation_methods import build_method
from longtail.segmentation.method import ExpertMaps
from support.tiny_segmentation import FREQUENCY, GROUPS, NUM_CLASSES, batch, tiny_model


def method(comparisons, **options):
    torch.manual_seed(0)
    found = build_method(
        "baseline", tiny_model(), frequency=FREQUENCY, groups=GROUPS, comparisons=comparisons, **options
    )
    return found.eval()


def test_logit_adjustment_takes_the_prior_from_the_logits():
    baseline = method({"adjusted": {"name": "logit_adjustment"}, "as_it_is": {"name": "norcal", "gamma": 0.0}})
    maps = ExpertMaps(3 * torch.randn(1, 2, NUM_CLASSES, 8, 8))
    readouts = baseline.readouts()
    assert list(readouts) == ["baseline", "adjusted", "as_it_is"]
    prior = torch.from_numpy(FREQUENCY.share("pixels")).float().log().view(1, -1, 1, 1)
    assert torch.equal(readouts["adjusted"](maps, None), (maps.logits[0] - prior).argmax(1))
    assert torch.equal(readouts["as_it_is"](maps, None), readouts["baseline"](maps, None))
    assert not torch.equal(readouts["adjusted"](maps, None), readouts["baseline"](maps, None))
    assert list(baseline.state_dict()) == list(method(None).state_dict())


def test_the_loss_reads_the_logits_first():
    baseline = method({"adjusted": {"name": "norcal", "unit": "images"}}, loss={"name": "focal", "kind": "sigmoid"})
    maps = baseline.expert_maps(batch()[0])
    # one image of each class: all are divided by one
    readouts = baseline.readouts()
    assert torch.equal(readouts["adjusted"](maps, None), readouts["baseline"](maps, None))


@pytest.mark.parametrize(
    "comparisons, message",
    [
        ({"baseline": {"name": "norcal"}}, "another name"),
        ({"a": {"tau": 2}}, "no ensemble ''"),
        ({"a": {"name": "norcal", "power": 2}}, "no option 'power'"),
        ({"a": {"name": "norcal", "unit": "instances"}}, "no instances"),
        ({"a": {"name": "norcal", "unit": "image"}}, "unit is 'image'\n  fix: did you mean 'images'"),
        ({"a": {"name": "norcal", "tau": 9.0}}, "no option 'tau'"),
        ({"a.b": {"name": "norcal"}}, "another name, without a point"),
    ],
)
def test_refusals(comparisons, message):
    with pytest.raises(ConfigError, match=message):
        method(comparisons)
