import copy

import pytest
import torch

from longtail.ensembles.average import Average
from longtail.ensembles.base import TrainableEnsemble
from longtail.errors import ConfigError, DataError
from longtail.losses.base import ClassificationLoss
from longtail.losses.cross_entropy import cross_entropy
from longtail.medoe.model import Medoe
from longtail.models.segmentation_methods import build_method
from longtail.segmentation.baseline import Baseline
from longtail.segmentation.method import SegmentationMethod
from support.surroundings import Surroundings
from support.tiny_segmentation import FREQUENCY, GROUPS, NUM_CLASSES, batch, tiny_model


def build(name: str = "medoe", model=None, **options) -> SegmentationMethod:
    return build_method(name, model or tiny_model(), frequency=FREQUENCY, groups=GROUPS, **options)


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


METHODS = [
    ("baseline", {}),
    ("medoe", {}),
    ("medoe", {"overlap": "disjoint_tail", "initialise": "reset"}),
    ("medoe", {"ensemble": "average", "comparisons": []}),
    ("medoe", {"ensemble": {"name": "learned", "objective": "scores"}, "comparisons": {"other": "learned"}}),
    ("medoe", {"label_sets": [[0, 1, 2, 3, 4], [2, 4]]}),
    ("mcn", {"gradient": "all"}),
    ("mcn", {}),
    ("model_ensemble", {"members": 2}),
]


@pytest.mark.parametrize(("name", "options"), METHODS, ids=str)
def test_contract_of_every_method(name, options):
    method = build(name, **options)
    image, target = batch(size=18)  # not a multiple of the size divisor
    for phase in method.phases:
        method.train().start_phase(phase)
        terms = method.losses(image, target)
        total(terms).backward()
        for key, parameter in method.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, f"{phase}: {key}"
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), key
        method.zero_grad(set_to_none=True)
    method.eval()
    with torch.no_grad():
        probabilities = method(image)
        maps = method.expert_maps(image)
        readouts = method.readouts()
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 18, 18))
        labels = {key: read(maps, target) for key, read in readouts.items()}
    assert next(iter(readouts)) == method.name if isinstance(method, Medoe) else name in readouts
    assert torch.equal(labels[next(iter(readouts))], probabilities.argmax(dim=1))
    assert torch.equal(method.labels(image), probabilities.argmax(dim=1))
    assert all(label.shape == target.shape for label in labels.values())


def test_encoder_gradient_is_that_of_the_first_expert_alone():
    image, target = batch()
    method = build(alpha=0.2).train()
    torch.manual_seed(7)
    total(method.losses(image, target)).backward()
    together = {k: p.grad.clone() for k, p in method.encoder.named_parameters()}

    alone = build(label_sets=[[0, 1, 2, 3, 4]], ensemble="average", comparisons=[], alpha=0.2).train()
    torch.manual_seed(7)
    total(alone.losses(image, target)).backward()
    for key, parameter in alone.encoder.named_parameters():
        torch.testing.assert_close(together[key], parameter.grad)


def test_one_expert_with_alpha_zero_is_the_baseline():
    image, target = batch()
    plain = build("baseline").train()
    single = build(label_sets=[[0, 1, 2, 3, 4]], alpha=0, comparisons=[]).train()
    for method in (plain, single):
        torch.manual_seed(3)
        total(method.losses(image, target)).backward()
    expected = dict(plain.model.encoder.named_parameters()) | {
        f"expert.{k}": p for k, p in plain.model.expert.named_parameters()
    }
    found = dict(single.encoder.named_parameters()) | {
        f"expert.{k}": p for k, p in single.experts.experts[0].named_parameters()
    }
    assert expected.keys() == found.keys()
    for key in expected:
        torch.testing.assert_close(found[key].grad, expected[key].grad)
    torch.testing.assert_close(single.eval()(image), plain.eval()(image))


def test_identical_experts_make_every_readout_the_expert():
    method = build().eval()  # experts start as copies
    image, target = batch()
    with torch.no_grad():
        maps = method.expert_maps(image)
        expert = maps.logits[0].argmax(dim=1)
        for name, read in method.readouts().items():
            agreement = (read(maps, target) == expert).float().mean().item()
            assert agreement == 1.0, name


def test_ensemble_phase_trains_the_ensemble_and_nothing_else():
    method = build().train()
    image, target = batch()
    optimizer = torch.optim.SGD(method.parameters(), 0.1)
    total(method.losses(image, target)).backward()
    optimizer.step()

    method.start_phase("ensemble")
    before = copy.deepcopy(method.state_dict())
    trained = [p for p in method.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 2 * 3 * NUM_CLASSES
    optimizer = torch.optim.SGD(trained, 0.1)
    for _ in range(2):
        method.train()  # as an engine does after every validation
        assert not method.encoder.training
        assert not method.experts.training
        assert method.ensemble.training
        optimizer.zero_grad()
        total(method.losses(image, target)).backward()
        optimizer.step()
    changed = {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"ensemble.raw_weight", "ensemble.bias"}


def test_an_image_without_a_label_for_an_expert_gives_finite_gradients():
    method = build(model=tiny_model(auxiliary=True, auxiliary_head=True)).train()
    image, target = batch()
    target[:] = 0  # a head class: nothing is left for the body and tail experts
    terms = method.losses(image, target)
    for expert in (2, 3):
        assert terms[f"expert_{expert}.ce"].item() == 0
        assert terms[f"expert_{expert}.kl"].item() == 0
        assert terms[f"expert_{expert}.auxiliary"].item() == 0
    total(terms).backward()
    gradients = {k: p.grad for k, p in method.named_parameters() if p.requires_grad}
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())

    target[:] = 255
    method.zero_grad()
    terms = method.losses(image, target)
    assert total(terms).item() == 0
    total(terms).backward()
    assert all((g == 0).all() for g in (p.grad for p in method.parameters() if p.grad is not None))


def test_auxiliary_losses_of_the_recipe():
    model = tiny_model(auxiliary=True, auxiliary_head=True).train()
    method = build(model=model).train()
    image, target = batch()
    terms = method.losses(image, target)
    assert {"expert_1.auxiliary", "expert_2.auxiliary", "expert_3.auxiliary", "auxiliary"} <= terms.keys()
    features = method.encoder(image)
    regions = method.experts.experts[2].decoder.regions(features[1])
    up = torch.nn.functional.interpolate(regions, (16, 16), mode="bilinear")
    tail = torch.tensor([255, 255, 2, 255, 4])[target.where(target != 255, 0)].where(target != 255, 255)
    torch.testing.assert_close(terms["expert_3.auxiliary"], 0.4 * cross_entropy(up, tail))
    assert method.experts.experts[1].decoder.regions is not method.experts.experts[0].decoder.regions


def test_what_was_frozen_stays_frozen():
    model = tiny_model()
    model.encoder.first.requires_grad_(False)
    method = build(model=model)
    for phase in ("experts", "ensemble", "experts"):
        method.start_phase(phase)
        assert not any(p.requires_grad for p in method.encoder.first.parameters())
    assert all(p.requires_grad for p in method.encoder.second.parameters())
    assert not any(p.requires_grad for p in method.ensemble.parameters())


def test_shared_decoder_of_mcn():
    method = build("mcn").train()
    assert sum(1 for _ in method.experts.decoder.parameters()) == sum(
        1 for _ in tiny_model().expert.decoder.parameters()
    )
    image, target = batch()
    torch.manual_seed(5)
    total({k: v for k, v in method.losses(image, target).items() if not k.startswith("expert_1")}).backward()
    assert all(p.grad is None for p in method.experts.decoder.parameters())
    everyone = build("mcn", gradient="all").train()
    terms = everyone.losses(image, target)
    terms["expert_3.ce"].backward()
    assert all(p.grad is not None for p in everyone.experts.decoder.parameters())


def test_model_ensemble_is_the_mean_of_its_members():
    method = build("model_ensemble").eval()
    image, _ = batch()
    with torch.no_grad():
        members = torch.stack([m.model(image).softmax(dim=1) for m in method.members])
        torch.testing.assert_close(method(image), members.mean(dim=0))
    assert not torch.equal(members[0], members[1])


def test_model_ensemble_reads_its_members_as_their_loss_does():
    method = build("model_ensemble", members=2, loss={"name": "focal", "kind": "sigmoid"}).eval()
    image, target = batch()
    with torch.no_grad():
        members = torch.stack([m.loss.probabilities(m.model(image)) for m in method.members])
        torch.testing.assert_close(method(image), members.mean(dim=0))
    own = method.readouts()["expert_2"](method.expert_maps(image), None)
    assert torch.equal(own, members[1].argmax(dim=1))
    assert set(method.losses(image, target)) == {"model_1.class", "model_2.class"}


def test_an_ensemble_may_read_the_decoded_features():
    method = build().eval()
    method.ensemble = Surroundings()
    image, target = batch(size=18)
    with torch.no_grad():
        maps = method.expert_maps(image)
        assert maps.features.shape == (3, 2, 8, 10, 10)
        torch.testing.assert_close(method(image), method.ensemble(*maps))
        assert torch.equal(method.readouts()["medoe"](maps, target), method(image).argmax(dim=1))


def test_custom_experts_and_ensemble_need_no_builder():
    class Doubtful(TrainableEnsemble):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, logits, features=None):
            p = logits.softmax(dim=2)
            return self.first * p[0] + (1 - self.first) * p[1]

        def loss(self, logits, target, features=None, *, ignore_index=255):
            return cross_entropy(self(logits).log(), target, ignore_index=ignore_index)

    method = build(label_sets=[[0, 1, 2, 3, 4], [2, 4]], ensemble="average", comparisons=[])
    method.ensemble = Average()
    assert method.phases == ("experts",)
    other = build(label_sets=[[0, 1, 2, 3, 4], [2, 4]])
    other.ensemble = Doubtful()
    image, target = batch()
    other.train().start_phase("ensemble")
    total(other.losses(image, target)).backward()
    assert other.ensemble.first.grad is not None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("medo", {}, "did you mean 'medoe'"),
        ("medoe", {"overlapp": "nested"}, "did you mean 'overlap'"),
        ("medoe", {"ensemble": "lerned"}, "did you mean 'learned'"),
        ("medoe", {"ensemble": {"name": "learned", "input": "logits"}}, "did you mean 'inputs'"),
        ("medoe", {"alfa": 1}, "did you mean 'alpha'"),
        ("medoe", {"initialise": "random"}, "copy, reset"),
        ("baseline", {"ensemble": "average"}, "it takes loss, normalizer"),
        ("medoe", {"gradient": "all"}, "no option 'gradient'"),
    ],
)
def test_unknown_names_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build(name, **options)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"overlap": "nestd"}, "method 'medoe': overlap is 'nestd'\n  fix: did you mean 'nested'"),
        ({"overlap": "disjoint"}, "disjoint_tail"),
        ({"initialise": "cpy"}, "'copy'"),
        ({"restrict_oracle": "never"}, "true or false"),
        ({"penalty": "cube"}, r"penalty is 'cube'"),
        ({"penalty_pixels": "experts"}, "'expert'"),
        ({"divergence": "pixels"}, "'pixel'"),
        ({"divergence_softmax": "al"}, "'all'"),
        ({"softmax": "sett"}, "'set'"),
        ({"prior": "rw"}, "'raw'"),
        ({"normalizer": "al"}, "'all'"),
        ({"alpha": "high"}, r"alpha is 'high'\n  fix: give a number"),
        ({"alpha": float("nan")}, "alpha nan"),
        ({"loss": 3}, "no option 'loss'"),
        ({"ensemble": {"name": "learned", "objective": "likelyhood"}}, "did you mean 'likelihood'"),
        ({"ensemble": {"name": "learned", "inputs": "prob"}}, "inputs is 'prob'"),
        ({"ensemble": {"name": "learned", "positive": "never"}}, "positive is 'never'"),
        ({"ensemble": {"name": "learned", "num_experts": 2}}, "no option 'num_experts'"),
        ({"ensemble": {"name": "softmax_threshold", "order": "tail"}}, "order is 'tail'"),
        ({"ensemble": {"name": "softmax_threshold", "threshold": 3}}, "threshold is 3"),
        ({"ensemble": {"name": "softmax_threshold", "threshold": "high"}}, "threshold is 'high'"),
        ({"ensemble": {"name": "group_average", "of": "logit"}}, "'logits'"),
        ({"ensemble": 3}, "ensemble is 3"),
        ({"comparisons": {"more": {"name": "average", "average": "logit"}}}, "average is 'logit'"),
        ({"label_sets": [[0, 1, 2, 3, 4], []]}, r"label sets of experts \[2\] are empty"),
        ({"label_sets": []}, "no label sets"),
    ],
)
def test_values_that_do_not_fit_are_refused(option, message):
    with pytest.raises(ConfigError, match=message):
        build(**option)


def test_mcn_takes_no_switch_for_itself():
    with pytest.raises(ConfigError, match="no option 'shared_decoder'"):
        build("mcn", shared_decoder=False)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("baseline", {"loss": {"name": "focal", "gamma": "two"}}, "loss 'focal': gamma is 'two'"),
        ("baseline", {"loss": {"name": "focal", "kind": "softmx"}}, "did you mean 'softmax'"),
        ("baseline", {"loss": {"name": "focal", "normalizer": "al"}}, "foreground"),
        ("baseline", {"loss": {"name": "class_balanced", "unit": "pixel"}}, "did you mean 'pixels'"),
        ("baseline", {"normalizer": "al"}, "did you mean 'all'"),
        ("model_ensemble", {"members": "two"}, "members is 'two'"),
    ],
)
def test_values_of_other_methods_that_do_not_fit_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build(name, **options)


@pytest.mark.parametrize("taken", ["medoe", "oracle", "expert_1", "a.b", "", "keys"])
def test_names_of_comparisons_that_are_taken_are_refused(taken):
    with pytest.raises(ConfigError, match="give it another name"):
        build(comparisons={taken: "learned"})
    assert "medoe" in build("mcn", comparisons={"medoe": "average"}).readouts()


@pytest.mark.parametrize(("name", "options"), METHODS, ids=str)
@pytest.mark.parametrize("wrong", [-1, NUM_CLASSES, 200])
def test_labels_that_are_no_class_are_refused(name, options, wrong):
    method = build(name, **options).train()
    image, target = batch()
    target[1, 5, 7] = wrong
    for phase in method.phases:
        method.start_phase(phase)
        with pytest.raises(DataError, match=rf"\[{wrong}\], but classes are 0 … {NUM_CLASSES - 1} and 255"):
            method.losses(image, target)


@pytest.mark.parametrize("name", ["baseline", "medoe"])
def test_an_ignored_class_is_refused(name):
    for ignored in (0, NUM_CLASSES - 1):
        with pytest.raises(ConfigError, match=f"ignore_index {ignored} is the id of a class"):
            build(name, ignore_index=ignored)
    image, target = batch()
    for ignored in (NUM_CLASSES, -100):
        method = build(name, ignore_index=ignored).train()
        assert torch.isfinite(total(method.losses(image, target.where(target != 255, ignored))))


def test_the_auxiliary_head_is_the_first_experts():
    method = build(model=tiny_model(auxiliary_head=True), overlap="fully_disjoint").train()
    image, target = batch()
    target = torch.where(target < 255, NUM_CLASSES - 1, target)  # the rarest class alone
    terms = method.losses(image, target)
    assert terms["auxiliary"].item() == terms["expert_1.ce"].item() == 0
    terms["auxiliary"].backward()
    assert all((p.grad == 0).all() for p in method.encoder.parameters() if p.grad is not None)


def test_numbers_of_classes_must_agree():
    model = tiny_model()
    model.num_classes = 6
    with pytest.raises(ConfigError, match="know 5 classes, the model 6"):
        build(model=model)
    with pytest.raises(ConfigError, match="no training phase 'moe'"):
        build().start_phase("moe")


def test_baseline_with_another_loss_reads_its_logits_as_the_loss_does():
    class Doubled(ClassificationLoss):
        def forward(self, logits, target):
            return cross_entropy(2 * logits, target)

        def probabilities(self, logits):
            return (2 * logits).softmax(dim=1)

    method = Baseline(tiny_model(), Doubled(NUM_CLASSES)).eval()
    image, _ = batch()
    with torch.no_grad():
        torch.testing.assert_close(method(image), (2 * method.model(image)).softmax(dim=1))


@pytest.mark.parametrize("objective", ["likelihood", "scores"])
def test_the_ensembles_loss_without_maps_is_that_of_the_maps(objective):
    method = build(ensemble={"name": "learned", "objective": objective}, comparisons=[])
    method.start_phase("ensemble")
    image, target = batch(size=18)
    parameters = list(method.ensemble.parameters())
    with torch.no_grad():
        maps = method.expert_maps(image)
    values = (total(method.losses(image, target)), method.ensemble.loss(maps.logits, target))
    torch.testing.assert_close(*values)
    for found, expected in zip(*(torch.autograd.grad(v, parameters) for v in values), strict=True):
        torch.testing.assert_close(found, expected)
