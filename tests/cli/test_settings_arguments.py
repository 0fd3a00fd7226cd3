"""Options of the components that the command line names."""

from typing import Any

import pytest

from longtail.cli.parser import Parser
from longtail.cli.training_command import add_training_arguments, config_of
from longtail.settings import from_dict, to_dict
from longtail.training.detection_config import DetectionConfig
from longtail.training.segmentation_config import SegmentationConfig

CONFIGS = {"segmentation": SegmentationConfig, "detection": DetectionConfig}


def parser_of(task: str, *words: str) -> Parser:
    parser = Parser(words, prog=f"longtail train {task}")
    add_training_arguments(parser, task, CONFIGS[task])
    return parser


def config(task: str, *words: str) -> Any:
    parser = parser_of(task, *words)
    return config_of(parser.parse_args(parser.words), CONFIGS[task])


def refusal(capsys, task: str, *words: str) -> str:
    with pytest.raises(SystemExit):
        config(task, *words)
    return capsys.readouterr().err


def test_help_shows_the_options_of_the_method_once():
    shown = parser_of("segmentation", "--help").format_help()
    for option in ("alpha", "overlap", "initialise"):
        assert shown.count(f"--method.{option} ") == 1
    assert "--model.encoder" not in shown
    assert parser_of("detection", "--help").format_help().count("--method.overall_weight ") == 1
    assert "--method.loss" in parser_of("segmentation", "--method.name", "baseline", "--help").format_help()
    assert "--model.bins" in parser_of("segmentation", "--model", "pspnet", "--help").format_help()


@pytest.mark.parametrize(
    "words",
    [
        ["--method", "mcn", "--method.alpha", "0.3"],
        ["--method.name=mcn", "--method.alpha=0.3"],
        ["--method", "{name: mcn, alpha: 0.3}"],
    ],
    ids=str,
)
def test_three_ways_to_give_an_option(words):
    method = config("segmentation", *words).method
    assert (method.name, method.alpha, method.overlap) == ("mcn", 0.3, "nested")


def test_options_of_every_section_from_words_and_files(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "model: {backbone: {name: mit_b0, frozen_stages: 2}, postprocess: {max_detections: 5}}\n"
        "data: {dataset: longtail-scenes, size: [48, 64], sampling: {name: repeat_factor, threshold: 0.5}}\n"
    )
    words = ["--model.backbone.norm", "trained", "--model.samples", "32", "--data.seed=3"]
    found = config("detection", "--config", str(tmp_path / "run.yaml"), *words, "--model.postprocess", "{nms_iou: 0.2}")
    assert found.model.backbone.to_dict() == {"name": "mit_b0", "frozen_stages": 2, "norm": "trained"}
    assert found.model.options == {"samples": 32, "postprocess": {"max_detections": 5, "nms_iou": 0.2}}
    assert found.data.options == {"size": [48, 64], "seed": 3}
    assert found.data.sampling.to_dict() == {"name": "repeat_factor", "threshold": 0.5}
    assert from_dict(DetectionConfig, to_dict(found)) == found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--method.name", "baseline", "--method.alpha", "1"],
            "'baseline' has no option 'alpha'\n  fix: alpha is an option",
        ),
        (["--method.alfa", "1"], "unknown setting --method.alfa\n  fix: did you mean --method.alpha?"),
        (["--encoder.name", "resnet50"], "unknown setting --encoder.name\n  fix: did you mean --model.encoder?"),
        (["--model.encoder.name", "resnet50"], "--model.encoder.name\n  fix: did you mean --model.encoder?"),
        (["--backbone.name", "resnet50"], "unknown setting --backbone.name\n  fix: `"),
        (["--metod.name", "medoe"], "did you mean --method.name?"),
        (["--method", "medo"], "no segmentation method 'medo'\n  fix: did you mean 'medoe'?"),
        (["--model", "pspnet", "--model.low_level_channels", "4"], "is an option of deeplabv3plus"),
        (["--data.sampling", "class_aware", "--data.sampling.threshold", "4"], "is an option of repeat_factor"),
        (["--data", "longtail-scenes", "--data.num_image", "4"], "did you mean --data.num_images?"),
        (["--method.alpha", "much"], "method.alpha is 'much'\n  fix: give a number"),
        (
            ["--data", "folder:x", "--data.names", "[1, 2]"],
            "fix: give a list of words (in quotes: numbers, yes and no)",
        ),
        (["--data", "folder:x", "--data.ignored_classes", "[a]"], "did you mean --data.ignore_classes?"),
    ],
    ids=str,
)
def test_an_option_that_does_not_apply_is_refused_with_the_name_of_its_owner(words, said, capsys):
    try:
        found = refusal(capsys, "segmentation", *words)
    except Exception as error:  # a name that there is not
        found = str(error)
    assert said in found


def test_options_of_a_library_pass_through():
    assert config("segmentation", "--model", "torchvision", "--model.aux_loss", "true").model.options == {
        "aux_loss": True
    }
    # data that are elsewhere are not looked at
    assert config("segmentation", "--data", "no/such/folder", "--data.image_dir", "a").data.options == {
        "image_dir": "a"
    }
