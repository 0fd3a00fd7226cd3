import json
import multiprocessing
import socket
from dataclasses import replace

import pytest
import torch
from PIL import Image

from longtail.datasets.coco import Coco
from longtail.datasets.longtail_scenes import LongTailScenes
from longtail.detection.drawing import from_record
from longtail.detection.recording import rescore
from longtail.ensembles.average import Average
from longtail.errors import ConfigError, DataError
from longtail.metrics.detection_arrays import DetectionArrays
from longtail.metrics.detection_scorer import detection_prediction
from longtail.metrics.detection_truth import DetectionTruth
from longtail.models.detector import Detector
from longtail.training.evaluate_detection import evaluate_detection
from longtail.transforms import detection_eval
from support.masks import decode_mask
from support.tiny_detection import (
    GROUPS,
    SeesTheTruth,
    detector_arguments,
    scenes,
    score_on_rank,
    scores_of_truth,
    write_coco,
)


@pytest.fixture(scope="module")
def truthful() -> SeesTheTruth:
    return SeesTheTruth(scenes())


def test_the_truth_scores_one_and_the_wrong_classes_nothing(truthful):
    results = evaluate_detection(truthful, scenes(transform=detection_eval(100, None)), groups=GROUPS)
    assert results.task == "detection" and results.method == "right" and results.data["images"] == 8
    for metric in ("AP", "AP50", "AP_fixed", "mask_AP", "mask_AP_fixed"):
        assert results.own.overall[metric] == pytest.approx(1), metric
        assert results.own.groups["frequent"][metric] == pytest.approx(1), metric
    assert results.predictions["wrong"].overall["AP"] < 0.1
    assert results.groups == GROUPS.to_dict()


def test_a_file_keeps_its_ids_and_an_image_without_objects(tmp_path):
    write_coco(tmp_path, "val")
    dataset = Coco(tmp_path, "val", transform=detection_eval(60))
    method = SeesTheTruth(Coco(tmp_path, "val"))
    results = evaluate_detection(method, dataset, readouts=["right"])
    assert list(results.predictions) == ["right"]
    assert results.own.overall["AP"] == pytest.approx(1) and "mask_AP" not in results.own.overall
    assert results.groups == {"rare": [0], "common": [1, 2], "frequent": []}  # by the file's image counts


@pytest.mark.parametrize("keep_empty", [True, False])
def test_a_limit_takes_the_truth_along(tmp_path, keep_empty):
    write_coco(tmp_path, "val", federated=True)
    plain = Coco(tmp_path, "val", keep_empty=keep_empty)
    truth = DetectionTruth.from_dataset(plain, 2)
    assert truth.image_ids.tolist() == ([100, 101] if keep_empty else [100, 102])
    assert truth.federated and truth.category_ids.tolist() == [2, 3, 20]
    dataset = Coco(tmp_path, "val", keep_empty=keep_empty, transform=detection_eval(60))
    results = evaluate_detection(SeesTheTruth(plain), dataset, limit=2)
    assert results.own.overall["AP"] == pytest.approx(1) and results.settings["federated"]
    assert DetectionTruth.from_dataset(scenes(), 3).image_ids.tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(1)
    made = Detector(**detector_arguments())
    for stage in made.method.heads.stages:
        torch.nn.init.normal_(stage.classifier.weight, std=2.0)
    return made.eval()


def six_classes(**options) -> LongTailScenes:
    data = scenes(4, num_classes=6, **options)
    data.classes = type(data.classes)(tuple(f"class {c}" for c in range(6)), data.classes.palette)
    return data


def test_every_readout_is_scored_as_if_alone(detector):
    data = six_classes()
    results = evaluate_detection(detector, data, batch_size=2)
    assert list(results.predictions) == list(detector.method.readouts())
    assert {"mec", "sparse", "average", "stage_1", "stage_3"} <= set(results.predictions)
    truth = DetectionTruth.from_dataset(data)
    for name in ("mec", "stage_2"):
        found = [
            detector.method.predict_readouts([detector.preprocess(data[i]["image"])], [(48, 64)], [name])[name][0]
            for i in range(4)
        ]
        alone = detection_prediction(
            truth, DetectionArrays.collect(range(4), found), detector.groups, iou_types=("bbox", "segm")
        )
        for metric in (name for name in alone.overall if "fixed" not in name and "pool" not in name):
            value = alone.overall[metric]
            assert results.predictions[name].overall[metric] == pytest.approx(value, nan_ok=True, abs=1e-6), metric
        assert results.predictions[name].extra["detections"] == alone.extra["detections"] > 0


def test_ap_fixed_is_of_all_detections():
    data = scenes(transform=detection_eval(100, None))
    assert max(len(scenes()[i]["labels"]) for i in range(8)) > 1
    scores = evaluate_detection(SeesTheTruth(scenes(), limit=1), data, groups=GROUPS).own.overall
    for metric in ("AP_fixed", "AP_pool", "mask_AP_fixed"):
        assert scores[metric] == pytest.approx(1), metric
    assert scores["AP"] < 0.9 and scores["mask_AP"] < 0.9


def test_the_limit_of_the_cascade_does_not_reach_ap_fixed(detector):
    data, own, calibration = six_classes(), detector.method.config, []
    for limit in (3, 0):
        detector.method.config = replace(own, postprocess=replace(own.postprocess, max_detections=limit))
        prediction = evaluate_detection(detector, data, readouts=["mec"]).own
        calibration.append(prediction.extra["calibration"])
        assert "AP_fixed" in prediction.overall and "mask_AP_fixed" not in prediction.overall
        assert (prediction.extra["detections"] == 3 * 4) == (limit == 3)
    detector.method.config = own
    assert calibration[0] == calibration[1]


def test_a_recording_gives_the_boxes_again(detector, tmp_path):
    results = evaluate_detection(detector, six_classes(), recording=tmp_path / "stages", iou_types=("bbox",))
    images = rescore(tmp_path / "stages", {"average": Average("logits")}, detector.method.config.postprocess)
    ids, found = zip(*((image, own["average"]) for image, own in images), strict=True)
    again = detection_prediction(
        DetectionTruth.from_dataset(six_classes()), DetectionArrays.collect(ids, found), detector.groups
    )
    expected = results.predictions["average"]
    assert again.extra["detections"] == expected.extra["detections"]
    assert again.overall["AR"] == pytest.approx(expected.overall["AR"], abs=1e-6)


def test_pictures_show_the_images_with_most_of_the_rarest(truthful, tmp_path):
    data = scenes(transform=detection_eval(48))
    evaluate_detection(truthful, data, groups=GROUPS, pictures=2, pictures_dir=tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    labels = {f"{i:06d}": scenes()[i]["labels"].tolist() for i in range(8)}
    rare = {name: [c for c in classes if c >= 6] for name, classes in labels.items()}
    ranked = sorted(rare, key=lambda name: (-len(set(rare[name])), -len(rare[name]), name))
    best = [n for i, n in enumerate(ranked) if set(labels[n]) not in [set(labels[m]) for m in ranked[:i]]][:2]
    assert index["images"] == best and index["readouts"] == ["right", "wrong"]
    assert {c for c in index["classes"][best[0]] if c >= 6} == set(rare[best[0]])
    for part in ("input", "truth", "right", "wrong"):
        assert Image.open(tmp_path / f"{best[0]}.{part}.jpg").size == (64, 48)


def test_objects_of_further_images_are_kept_for_comparison(truthful, tmp_path):
    evaluate_detection(truthful, scenes(transform=detection_eval(48)), groups=GROUPS, pictures=1, pictures_dir=tmp_path)
    kept = json.loads((tmp_path / "objects.json").read_text())
    shown = [i for i in range(8) if len(scenes()[i]["labels"])]
    assert list(kept) == [f"{i:06d}" for i in shown] and len(kept) > 1
    for i, (name, record) in zip(shown, kept.items(), strict=True):
        assert (tmp_path / f"{name}.input.jpg").is_file() and list(record) == ["truth", "right"]
        sample, truth, found = scenes()[i], from_record(record["truth"]), from_record(record["right"])
        assert truth.labels.tolist() == sample["labels"].tolist() == found.labels.tolist()
        assert torch.allclose(truth.boxes, sample["boxes"].as_subclass(torch.Tensor), atol=0.05)
        masks = torch.stack([torch.from_numpy(decode_mask(mask)) for mask in truth.masks])
        assert torch.equal(masks, sample["masks"].as_subclass(torch.Tensor).bool())
        assert truth.scores.isnan().all() and found.scores[0] == 1 and found.size == (48, 64)


def test_what_cannot_be_is_refused(truthful, detector):
    with pytest.raises(ConfigError, match="readout is 'rihgt'"):
        evaluate_detection(truthful, scenes(transform=detection_eval()), readouts=["rihgt"])
    with pytest.raises(ConfigError, match="not normalised"):
        evaluate_detection(truthful, scenes())
    with pytest.raises(DataError, match="12 classes"):
        evaluate_detection(detector, scenes())


def test_training_mode_and_generators_are_left_alone(truthful):
    truthful.train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    evaluate_detection(truthful, scenes(2, transform=detection_eval(48)), groups=GROUPS)
    assert truthful.training and torch.equal(torch.rand(2), expected)


def test_ranks_share_the_images_and_agree(truthful, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")  # the evaluator's threads do not live on in a fork
    ranks = [context.Process(target=score_on_rank, args=(r, port, str(tmp_path)), daemon=True) for r in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(300)
        assert process.exitcode == 0
    alone = scores_of_truth(tmp_path / "alone")
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == pytest.approx(alone)
    names = sorted(p.name for p in (tmp_path / "alone").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "shared").iterdir())
