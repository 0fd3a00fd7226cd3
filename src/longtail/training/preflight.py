"""Checks before a run begins: what would stop it, and what makes it slow or its numbers doubtful."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longtail.checkpoints.translate import translate
from longtail.errors import ConfigError
from longtail.losses.base import ClassificationLoss
from longtail.models.adopt import Adoption, adopt, match
from longtail.phases import CLASSIFIER_PHASE, PhasedMethod
from longtail.training.checkpoints import find_weights
from longtail.training.config import RunConfig
from longtail.training.evaluation import check_same_classes
from longtail.training.run_folder import RunFolder
from longtail.training.tasks.base import Task, phases_of
from longtail.training.tasks.data_task import DataTask


def check_weights(
    method: nn.Module,
    start_from: str | Path,
    phases: Sequence[str],
    *,
    reset_classifier: bool = False,
    allow_partial: bool = False,
) -> tuple[tuple[str, ...], Adoption]:
    """Load the weights that a run begins with; return the phases that are finished, and what was loaded.

    Args:
        method: What is trained; it is left in its first unfinished phase.
        start_from: See ``find_weights``.
        phases: Phases of the method, in order.
        reset_classifier: Whether a classifier that is trained alone begins anew.
        allow_partial: Whether less than 90 % of another program's checkpoint may be used.

    Raises:
        CheckpointError: There are no weights, or they do not fit.
    """
    weights, done = find_weights(start_from, phases)
    translation = translate(weights, method, start_from, allow_partial=allow_partial)
    if translation is not None:
        weights = translation.weights
    if done is None:  # a whole method counts as trained; a part of one, such as a single decoder, does not
        done = () if match(method, weights).anew else tuple(phases)
    rest = [phase for phase in phases if phase not in done]
    if not rest:
        done, rest = tuple(phases[:-1]), [phases[-1]]
    trained = set()
    for phase in reversed(rest):
        method.start_phase(phase)  # type: ignore[operator]
        trained |= {name for name, parameter in method.named_parameters() if parameter.requires_grad}
    if isinstance(method, PhasedMethod) and method.phases == (CLASSIFIER_PHASE,):
        weights = classifier_weights(method, weights, reset=reset_classifier)
    adopted = adopt(method, weights, start_from, trained)
    return done, adopted if translation is None else replace(adopted, note=translation.words())


def check_finished_model(task: Task, start_from: str | Path | None) -> None:
    """Refuse to train a classifier or experts on parts that nothing has trained, or that were trained for other classes.

    Raises:
        ConfigError: The task trains the classifier alone, or keeps an expert as it is, and there is no finished model.
        DataError: The finished model has other classes.
    """
    alone = phases_of(task.method) == (CLASSIFIER_PHASE,)
    kept = any(name.startswith("experts.") for name in getattr(task.method, "frozen", ()))
    if not alone and not kept:
        return
    if start_from is None:
        what = "the classifier alone is trained" if alone else "an expert is frozen"
        raise ConfigError(f"{what}, without a finished model", fix="name the run of the model with --from")
    card = RunFolder(Path(start_from)).card
    if isinstance(task, DataTask) and card.is_file():
        names = json.loads(card.read_text())["classes"]["names"]
        fix = "train on a data set of the same classes in the same order"
        check_same_classes(str(start_from), names, "the data set", task.frequency.class_names, fix=fix)


def check_batch_norm(method: nn.Module, config: RunConfig, world_size: int = 1, device: str = "cpu") -> None:
    """Refuse batches of one image under batch norm, whose statistics would be other ones than those of evaluation.

    Args:
        method: In the phase that it trains in.
        config: Settings of the run.
        world_size: Number of ranks.
        device: Type of the device.

    Raises:
        ConfigError: Batch norm is trained, and each rank sees one image at a time.
    """
    size, parts = config.loading.batch_size, config.hardware.accumulate
    shared = config.hardware.sync_batch_norm and world_size > 1 and device == "cuda"
    if size != world_size * parts or shared:
        return
    layers = [m for m in method.train().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    if layers:
        raise ConfigError(
            f"{len(layers)} batch norm layers see one image at a time: loading.batch_size {size} over {world_size} ranks x "
            f"hardware.accumulate {parts}",
            fix="raise loading.batch_size, lower hardware.accumulate, or take a backbone with frozen norms",
        )


def doubts(config: RunConfig, device: str = "cpu") -> list[str]:
    """What whoever starts the run should know, with the way out.

    Args:
        config: Settings of the run.
        device: Type of the device.
    """
    hardware, found = config.hardware, []
    for phase, iterations in config.iterations.items():
        optimiser = config.optimiser_of(phase)
        warmup = optimiser.recipe("warmup_iterations")
        if iterations <= warmup:
            found.append(
                f"phase {phase} has {iterations} iterations, all of them warm-up: the learning rate stays below "
                f"{optimiser.recipe('lr'):g}; lower optimiser.warmup_iterations ({warmup})"
            )
    if device == "cpu" and hardware.accelerator in ("gpu", "cuda", "mps"):
        found.append(
            f"this machine has no device for hardware.accelerator {hardware.accelerator}: the run would be refused"
        )
    if device == "cpu" and hardware.precision.startswith("bf16") and not _computes_in_bfloat16():
        found.append(
            "this processor has no bfloat16 arithmetic, so that hardware.precision bf16-mixed may be a hundred times "
            "slower; leave it out, or compute on a GPU"
        )
    return found


def _computes_in_bfloat16() -> bool:
    if platform.machine() not in ("x86_64", "AMD64"):
        return True  # not known to be without
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def classifier_weights(method: PhasedMethod, weights: Mapping[str, Tensor], *, reset: bool) -> dict[str, Tensor]:
    """Weights of a finished model as the method begins with them.

    A classifier of other outputs takes the rows of the classes, which come first, where it has fewer, and keeps its own
    bias: focal's sigmoids know no background, and start from a bias of their own. One with more outputs (balanced group
    softmax) begins anew, and so does all that a loss has counted.

    Args:
        method: Its classifier alone is trained.
        weights: Those of the finished model.
        reset: Whether the classifier begins anew.
    """
    counted = tuple(f"{name}." for name, module in method.named_modules() if isinstance(module, ClassificationLoss))
    found = {key: value for key, value in weights.items() if not key.startswith(counted)}
    own: dict[str, Any] = method.state_dict()
    for name, source in method.classifiers().items():
        for key in (key for key in own if key.startswith(f"{name}.")):
            old, new = weights.get(key, weights.get(source + key.removeprefix(name))), own[key]
            found[key] = new if old is None or reset else _fitted(old, new)
    return found


def _fitted(old: Tensor, new: Tensor) -> Tensor:
    """The trained values as far as they fit."""
    if old.shape != new.shape and new.ndim > 1 and old.shape[1:] == new.shape[1:]:
        old = old[: len(new)]
    return old if old.shape == new.shape else new
