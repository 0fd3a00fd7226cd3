"""What every wrapped detector of transformers keeps to."""

import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("transformers")

from longtail.detection.method import StageOutputs
from longtail.detection.queries import wrap_detector
from longtail.frequency import CategoryGroups
from longtail.mec.model import MultiStageDetector, make_multi_expert
from support.tiny_queries import CLASSES, CONFIGS, LAYERS, QUERIES, tiny_batch, tiny_model

pytestmark = pytest.mark.parametrize("name", CONFIGS)
GROUPS = CategoryGroups(("rare", "common", "frequent"), ((2,), (0, 3), (1, 4)))


def labelled(detector):
    """Arguments of the model itself, as the wrapped detector makes them."""
    images, targets = tiny_batch(detector.has_masks)
    pixels, mask, sizes = detector._batch(images)
    arguments = {"pixel_values": pixels, "pixel_mask": mask}
    if detector.has_masks:
        from longtail.detection.targets import clean_objects

        objects = [clean_objects(t, s, CLASSES, pixels.device) for t, s in zip(targets, sizes, strict=True)]
        return {**arguments, "output_hidden_states": True, **detector._mask_labels(objects, pixels)}
    boxes = [detector._relative(t["boxes"], s, pixels) for t, s in zip(targets, sizes, strict=True)]
    pairs = zip(targets, boxes, strict=True)
    return {**arguments, "labels": [{"class_labels": t["labels"], "boxes": b} for t, b in pairs]}


def library_loss(model, arguments) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.train()
    model.zero_grad()
    torch.manual_seed(5)
    loss = model(**arguments).loss
    torch.manual_seed(6)
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("lam", [1.0, 0.6])
def test_weight_one_is_the_detector_to_the_bit(name: str, lam: float) -> None:
    model = tiny_model(name)
    arguments = labelled(wrap_detector(model))
    plain, gradients = library_loss(model, arguments)
    detector = make_multi_expert(wrap_detector(model), GROUPS, overall_weight=lam)
    assert isinstance(detector, MultiStageDetector) and detector.num_stages == LAYERS
    ours, found = library_loss(model, arguments)
    if lam == 1.0:
        assert torch.equal(plain, ours)
        assert gradients.keys() == found.keys() and all(torch.equal(g, found[n]) for n, g in gradients.items())
    else:
        assert torch.isfinite(ours) and not torch.equal(plain, ours)


def test_the_losses_of_the_method_are_the_library_s(name: str) -> None:
    model = tiny_model(name)
    detector = wrap_detector(model)
    plain, _ = library_loss(model, labelled(detector))
    torch.manual_seed(5)
    images, targets = tiny_batch(detector.has_masks)
    losses = detector.train().losses(images, targets)
    assert torch.allclose(sum(losses.values()), plain, rtol=1e-5)


def test_outputs_stay_the_library_s(name: str) -> None:
    model = tiny_model(name).eval()
    images, _ = tiny_batch()
    detector = wrap_detector(model).eval()
    pixels, mask, sizes = detector._batch(images)
    extra = {"output_hidden_states": True} if detector.has_masks else {}
    with torch.no_grad():
        outputs = model(pixel_values=pixels, pixel_mask=mask, **extra)
    last = outputs.class_queries_logits if detector.has_masks else outputs.logits
    found = detector.stage_outputs(images)
    width = CLASSES + (not detector.reading.sigmoids)
    for image, stages in enumerate(found):
        assert stages.logits.shape == (LAYERS, QUERIES, width) and stages.boxes.shape == (QUERIES, 4)
        assert torch.equal(stages.logits[-1], last[image]) and stages.size == sizes[image]
    # each layer has its own; D-FINE's first stage differs from its second by a correction that begins at 0
    assert len({stages.sum().item() for stages in found[0].logits}) == LAYERS - (name == "d_fine")
    names = list(detector.readouts())
    assert names == ["baseline", *(f"stage_{k + 1}" for k in range(LAYERS))]
    read = detector.readouts()
    assert torch.equal(read["baseline"](found[0]), read[f"stage_{LAYERS}"](found[0]))


def test_every_reading_gives_detections(name: str) -> None:
    detector = make_multi_expert(wrap_detector(tiny_model(name)), GROUPS).eval()
    images, _ = tiny_batch()
    found = detector.predict_readouts(images, [(128, 192), (96, 64), (64, 64)])
    assert list(found)[:5] == ["mec", "dynamic_unaligned", "average_aligned", "sparse", "average"]
    for detections in (d for of in found.values() for d in of):
        height, width = detections.size
        assert (detections.scores[:-1] >= detections.scores[1:]).all()
        assert (detections.boxes >= 0).all()
        assert (detections.boxes <= torch.tensor([width, height, width, height])).all()
        assert not detector.has_masks or len(detections.masks) == len(detections)


def test_only_queries_of_the_group_change_the_loss_of_a_stage(name: str) -> None:
    """One object of a class of the first group: the first layer's loss changes, and no other."""
    model = tiny_model(name)
    detector = make_multi_expert(wrap_detector(model), GROUPS, overall_weight=0.6)
    images, targets = tiny_batch(detector.has_masks)
    seen: list[tuple[int, bool]] = []
    change = detector._change
    detector._change = lambda stage, matches: seen.append((stage, change(stage, matches) is not None)) or None
    detector.set_class_losses(list(detector.class_losses))
    for target in targets:
        target["labels"][:] = 2
    detector.train().losses(images, targets)
    assert sorted(seen) == [(0, True), (1, False), (2, False)]


def test_ensembles_read_the_logits_of_the_family(name: str) -> None:
    detector = make_multi_expert(wrap_detector(tiny_model(name)), GROUPS)
    logits = torch.full((LAYERS, 1, detector.reading.num_logits), -4.0)
    logits[:, 0, 3] = 5.0
    outputs = StageOutputs(logits, torch.tensor([[0.0, 0, 9, 9]]), (9, 9))
    for reading in detector.readouts().values():
        scores = reading(outputs)
        assert scores.shape == (1, CLASSES + 1) and scores[0].argmax() == 3
