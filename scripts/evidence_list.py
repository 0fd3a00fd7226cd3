"""Which runs the evidence consists of: ``configs/evidence/*.yaml``, and what some runs have otherwise."""

from dataclasses import dataclass, field
from typing import Any

from pages import ROOT

CONFIGS = ROOT / "configs" / "evidence"


@dataclass(frozen=True)
class Run:
    """One training run, for any seed.

    Args:
        dataset: Data set, the first part of the configuration's name.
        name: Name of the run.
        config: Second part of the configuration's name, ``DATASET_CONFIG.yaml``.
        changes: Settings other than the configuration's.
        start_from: Name of the run whose weights it begins with, of the same data set and seed.
    """

    dataset: str
    name: str
    config: str = ""
    changes: dict[str, Any] = field(default_factory=dict, hash=False)
    start_from: str | None = None

    def settings(self, seed: int) -> dict[str, Any]:
        """All settings of the run."""
        from longtail.reproduce.catalogue import merged
        from longtail.settings import read_yaml

        settings = read_yaml(CONFIGS / f"{self.dataset}_{self.config or self.name}.yaml")
        settings = merged(settings, self.changes, {"seed": seed})
        settings["method"] = {name: value for name, value in settings["method"].items() if value is not None}
        if settings.get("train_only"):
            del settings["iterations"]["train"]
        return settings


#: AdamW in the place of SGD, for the same number of iterations.
_ADAMW = {"optimiser": {"name": "adamw", "lr": 0.0003, "head_lr_factor": 3.0, "warmup_iterations": 100}}


def _plain(name: str, method: dict[str, Any] | None = None, **others: Any) -> Run:
    """A cascade on tinyin200_lt without other ensembles."""
    changes = {"method": {"comparisons": None, **(method or {})}, **others}
    return Run("tinyin200_lt", name, "baseline", changes)


def _second(name: str, method: dict[str, Any], sampling: str = "shuffled", **optimiser: Any) -> Run:
    """The cascade's classifier trained anew, for a third of its iterations."""
    changes: dict[str, Any] = {
        "train_only": "classifier",
        "method": {"comparisons": None, **method},
        "data": {"sampling": {"name": sampling}},
        "iterations": {"classifier": 600},
    }
    if optimiser:
        changes["phase_optimisers"] = {"classifier": {"name": "sgd", "schedule": "step", **optimiser}}
    return Run("tinyin200_lt", name, "baseline", changes, start_from="baseline")


def _added(dataset: str, iterations: int) -> Run:
    """Experts added to the finished baseline, whose encoder and decoder stand still."""
    changes = {"freeze": "encoder+expert_1", "iterations": {"experts": iterations}}
    return Run(dataset, "medoe_added", "medoe", changes, start_from="baseline")


def _pixels(dataset: str, name: str, config: str = "baseline", **options: Any) -> Run:
    """A method on pixels with other options."""
    return Run(dataset, name, config, {"method": options})


#: What BAGS and SimCal have in their own configurations.
_SECOND_RECIPE = {"lr": 0.01, "warmup_iterations": 50, "warmup_start": 0.3333}
_RARE = {"name": "repeat_factor", "threshold": 0.05}

EVIDENCE: dict[str, tuple[str, list[Run]]] = {
    "a": (
        "the cascade and the multi-expert loss on 200 classes",
        [Run("tinyin200_lt", "baseline"), Run("tinyin200_lt", "mec")],
    ),
    "b": ("MEDOE on 51 classes", [Run("ccp51", "baseline"), Run("ccp51", "medoe")]),
    "c": ("MEDOE on 11 classes", [Run("camvid11", "baseline"), Run("camvid11", "medoe")]),
    "d": ("experts added to the finished baselines of b and c", [_added("ccp51", 750), _added("camvid11", 450)]),
    "e": (
        "optimiser and number of classes",
        [
            *(Run("trashcan_lt", name) for name in ("baseline", "mec")),
            *(
                Run(dataset, f"{name}_adamw", name, _ADAMW)
                for dataset in ("tinyin200_lt", "trashcan_lt")
                for name in ("baseline", "mec")
            ),
        ],
    ),
    "f": (
        "Table 2a of MEC on 200 classes",
        [
            _plain("repeat_factor", data={"sampling": _RARE}),
            *(
                _plain(loss, {"loss": loss})
                for loss in ("focal", "equalization", "equalization_v2", "seesaw", "federated")
            ),
            _plain("cosine", model={"classifier": "cosine"}),
            _plain("seesaw_cosine", {"loss": "seesaw"}, model={"classifier": "cosine"}),
            _plain("deconfound", model={"classifier": "deconfound"}),
            _second("repeat_factor_classifier", {}, "repeat_factor"),
            _second("focal_classifier", {"loss": "focal"}),
            _second("calibration_head", {"name": "calibration_head"}, "two_level", **_SECOND_RECIPE),
            _second("balanced_groups", {"loss": "balanced_group_softmax"}, steps=[0.6667, 0.9167], **_SECOND_RECIPE),
        ],
    ),
    "g": (
        "Tables 2 and 8 of MEDOE on 51 classes",
        [
            *(_pixels("ccp51", loss, loss=loss) for loss in ("focal", "ldam", "seesaw", "under_sampling")),
            _pixels("ccp51", "medoe_disjoint", "medoe", overlap="disjoint_tail", comparisons=None),
            _pixels("ccp51", "medoe_fully_disjoint", "medoe", overlap="fully_disjoint", comparisons=None),
        ],
    ),
    "h": (
        "few classes and a huge background",
        [
            run
            for dataset in ("ccp51shoes", "ccp51eight")
            for run in (
                Run(dataset, "baseline"),
                _pixels(dataset, "class_balanced", loss="class_balanced"),
                *(_pixels(dataset, loss, loss=loss) for loss in ("focal", "dice", "tversky")),
                Run(dataset, "rare_class", "baseline", {"data": {"sampling": {"name": "rare_class"}}}),
                Run(dataset, "medoe"),
            )
        ],
    ),
    "i": (
        "RT-DETR with and without MEC on 200 classes",
        [Run("tinyin200_lt", "rt_detr_baseline"), Run("tinyin200_lt", "rt_detr_mec")],
    ),
}

#: Data sets made of ccp51 by putting its classes together: new class -> ids in ccp51. What is named nowhere is the first.
MAPPED: dict[str, dict[str, tuple[int, ...]]] = {
    "ccp51shoes": {"all else": (), "shoes": (33,)},
    "ccp51eight": {
        "background": (),
        "skin": (35,),
        "hair": (16,),
        "upper body": (4, 5, 10, 19, 21, 32, 40, 42, 43, 44, 47, 48, 9, 11),
        "lower body": (20, 22, 25, 34, 36),
        "whole body": (6, 12, 29),
        "shoes": (7, 13, 18, 23, 26, 30, 33, 37),
        "accessories": (1, 2, 3, 8, 14, 15, 17, 24, 27, 28, 31, 38, 39, 41, 45, 46, 49, 50),
    },
}
