"""A run: open the data, count, group, build the method, train its phases, score and save."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from longtail.distributed import barrier
from longtail.errors import CheckpointError, ConfigError, DataError
from longtail.metrics.results import Results
from longtail.models.adopt import Adoption
from longtail.models.weights_file import load_weights
from longtail.settings import differences, from_dict, read_yaml, to_dict, write_yaml
from longtail.training.checkpoints import finished_phases, read_state
from longtail.training.config import RunConfig
from longtail.training.console import Console, table
from longtail.training.devices import build_loggers, launch, share_batch_statistics
from longtail.training.loading import pass_length
from longtail.training.loop import PhaseLoop
from longtail.training.metrics_file import measured
from longtail.training.optimisers import count_parameters
from longtail.training.preflight import check_batch_norm, check_finished_model, check_weights, doubts
from longtail.training.randomness import seed_generators
from longtail.training.run_folder import RunFolder, environment_rank
from longtail.training.signals import StopSignals
from longtail.training.tasks import task_class
from longtail.training.tasks.base import Task, phases_of
from longtail.training.tasks.data_task import DataTask

#: Settings that may differ on resume: they do not change the weights.
_FREE_ON_RESUME = (
    "loading.workers",
    "logging.",
    "hardware.deterministic",
    "data.val_split",
    "evaluation.",
    "cache.folder",
)
#: Settings that may differ in the run's own evaluation: the scores are the same.
_FREE_IN_SCORING = ("loading.", "evaluation.pictures", "evaluation.taus")


def build_task(config: Any) -> DataTask:
    """Data and method of a configuration, the method initialised from the configured seed."""
    kind = task_class(config.task)
    seed_generators(config.seed, "model")
    return kind(config)


def fit(
    config: RunConfig,
    run_dir: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    start_from: str | Path | None = None,
    task: Task | None = None,
    quiet: bool = False,
) -> RunFolder:
    """Train all phases of a method.

    Args:
        config: Settings, such as a ``SegmentationConfig``.
        run_dir: Folder of the run.
        resume: Continue the run in ``run_dir`` where it was last saved; begin it where it was not.
        overwrite: Replace a run that is there.
        start_from: Run folder, Segmenter folder or checkpoint with the weights to begin with; phases that they
            have been through are not run again.
        task: Method and data; built from ``config`` where not given.
        quiet: Print nothing.

    Returns:
        The run folder, with ``best.safetensors``, ``metrics.csv`` and ``checkpoints/``.

    Raises:
        ConfigError: A setting cannot work, the folder is not empty, or settings changed on resume.
        DataError: Data are not what they should be, or the training data changed on resume.
        CheckpointError: Weights or state do not fit.
        TrainingError: A loss is not finite, or nothing can be written.
        SystemExit: SIGTERM (143) or Ctrl-C (130) ended the run; its state is saved.
    """
    run = RunFolder(Path(run_dir))
    run.prepare(resume=resume, overwrite=overwrite)
    state = read_state(run.last) if resume and run.last.is_file() else None
    task = build_task(config) if task is None else task
    phases = phases_of(task.method)
    config = config.resolved(phases, pass_length(task.order))
    if state is None:
        check_finished_model(task, start_from)
    if state is not None:
        _check_unchanged(config, run)
        _check_same_data(task, state, run)
    fabric = launch(config.hardware, build_loggers(config.logging, run))
    share_batch_statistics(task.method, config.hardware, fabric)
    done, adopted = _begin(task, config, state, start_from)
    for phase in phases:
        if phase not in done:
            task.method.start_phase(phase)  # type: ignore[operator]
            check_batch_norm(task.method, config, fabric.world_size, fabric.device.type)
    if overwrite:
        run.clear()
    first = fabric.is_global_zero
    if first:
        write_yaml(config, run.settings)
    with ExitStack() as stack:
        console = stack.enter_context(closing(Console(speak=first and not quiet, log=run.log if first else None)))
        for logger in fabric.loggers:
            stack.callback(logger.finalize, "success")
        for subject, words in task.describe():
            console.say(f"[bold]{subject:<9}[/] {words}")
        for doubt in doubts(config, fabric.device.type):
            console.say(f"[yellow]warning[/]   {doubt}")
        if adopted is not None:
            console.say(table("", [f"from {start_from}", "tensors", "origin"], adopted.rows()))
            if adopted.note:
                console.say(adopted.note)
        elif state is not None and not state["finished"]:
            console.say(f"[bold]resume[/]    {run.last}: {state['phase']} {state['iteration']}")
        task.prepare(fabric, run, console)
        for phase in phases:
            if phase in done:
                console.say(f"[bold]phase[/]     {phase}: already trained")
                continue
            current = state if state and state["phase"] == phase else None
            _run_phase(task, phase, done, config, run, fabric, current, console)
            done = (*done, phase)
        console.say(f"[bold]weights[/]   {run.weights}")
    return run


def _begin(
    task: Task, config: RunConfig, state: dict[str, Any] | None, start_from: str | Path | None
) -> tuple[tuple[str, ...], Adoption | None]:
    """Load the initial weights or those of the run to resume; return the finished phases, and what became of the weights."""
    method, phases = task.method, phases_of(task.method)
    if state is not None:
        method.load_state_dict(state["method"])
        return finished_phases(state), None
    if start_from is None:
        return (), None
    return check_weights(
        method, start_from, phases, reset_classifier=config.reset_classifier, allow_partial=config.allow_partial
    )


def _run_phase(
    task: Task,
    phase: str,
    done: tuple[str, ...],
    config: RunConfig,
    run: RunFolder,
    fabric: Fabric,
    state: dict[str, Any] | None,
    console: Console,
) -> None:
    method, iterations = task.method, config.iterations_of(phase)
    method.start_phase(phase)  # type: ignore[operator]
    method.train()
    total, trainable = count_parameters(method)
    console.say(
        f"[bold]phase[/]     {phase}: {iterations} iterations of {config.loading.batch_size} images, "
        f"{trainable / 1e6:.2f} M of {total / 1e6:.2f} M parameters"
    )
    if state and state["world_size"] != fabric.world_size:
        console.say(
            f"[yellow]warning[/]   the run was saved on {state['world_size']} ranks and resumes on "
            f"{fabric.world_size}: batches stay the same, dropout and batch statistics do not"
        )
    start = state["iteration"] if state else 0
    with StopSignals() as signals, console.progress(phase, iterations, start) as progress:
        loop = PhaseLoop(task, done, config, run, fabric, progress, signals, state)
        if stop := loop.train():
            console.say(f"[yellow]stopped[/]   at {phase} {loop.iteration}; continue with --resume")
            raise SystemExit(128 + stop)


def _check_unchanged(config: RunConfig, run: RunFolder) -> None:
    if not run.settings.is_file():
        raise CheckpointError(f"{run.settings} is missing", fix="put it back, or start again with --overwrite")
    # settings that are newer than the run have their defaults
    before = to_dict(from_dict(type(config), read_yaml(run.settings)))
    changed = differences(before, to_dict(config)).items()
    listed = "; ".join(
        f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed if not key.startswith(_FREE_ON_RESUME)
    )
    if listed:
        raise ConfigError(
            f"settings differ from those of the run to resume: {listed}",
            fix="resume with the settings of the run, or give another folder",
        )


def _check_same_data(task: Task, state: dict[str, Any], run: RunFolder) -> None:
    if state["data_fingerprint"] != task.data_fingerprint:
        raise DataError(
            f"the training data are not those that {run.path} has been trained on so far",
            fix="restore images, labels and classes, or begin a run in another folder, with these weights where you "
            f"add --from {run.last}",
        )


def score_run(
    run_dir: str | Path,
    *,
    split: str | None = None,
    device: str | torch.device = "cpu",
    last: bool = False,
    out: str | Path | None = None,
    progress: bool = True,
    changes: dict[str, Any] | None = None,
    trust_code: bool = False,
    **arguments: Any,
) -> Results:
    """Evaluate the best weights of a run with every readout; writes ``results.json`` and ``pictures/``.

    Args:
        run_dir: Run folder.
        split: Split to score; the validation split where not given.
        device: Where to compute.
        last: Score the last weights of training instead of the best.
        out: Folder to write into; the run folder where not given, which takes no scores of another split or with other
            settings than the run's: reports compare what lies there.
        progress: Show a bar on a terminal.
        changes: Settings to evaluate with other than those of the run, as nested values.
        trust_code: Whether the run may name code outside this library, such as a model builder or a loss.
        arguments: Further ones of the task's evaluation, such as ``recording`` of ``evaluate_detection``.

    Raises:
        ConfigError: No split is named and the run has no validation split, or the run folder is to take scores that
            are not its own.
    """
    run, target = RunFolder(Path(run_dir)), RunFolder(Path(out or run_dir))
    settings = read_yaml(run.settings)
    kind = task_class(settings.get("task", ""))
    config: Any = from_dict(kind.settings, {**settings, **(changes or {})})
    chosen = split or config.data.val_split
    if not chosen:
        raise ConfigError("the run has no validation split", fix="name the split to evaluate on")
    if target.path.resolve() == run.path.resolve():
        _check_own_scores(from_dict(kind.settings, settings), config, chosen, run, last)
    model = kind.model_class.from_pretrained(run.path, trust_code=trust_code).to(device)
    if last:
        phase = model.method.phases[-1]
        model.method.start_phase(phase)
        load_weights(model.method, run.phase_weights(phase), device=str(device))
    results = kind.evaluate(
        config,
        model,
        kind.open_validation(config, chosen),
        progress=progress,
        pictures=config.evaluation.pictures,
        pictures_dir=target.pictures,
        limit=config.data.limit,
        data={"name": config.data.dataset, "split": chosen},
        settings=to_dict(config),
        seed=config.seed,
        **arguments,
    )
    results.training = measured(run.metrics)
    if environment_rank() == 0:
        results.save(target.results)
    barrier()
    return results


def _check_own_scores(own: Any, config: Any, split: str, run: RunFolder, last: bool) -> None:
    """Refuse scores of another split, other weights or with other settings for the run's own folder."""
    changed = differences(to_dict(own), to_dict(config))
    other = [f"{key} {new}" for key, (_, new) in changed.items() if not key.startswith(_FREE_IN_SCORING)]
    if own.data.val_split and split != own.data.val_split:
        other.insert(0, f"split {split}")
    if last:
        other.insert(0, "the last weights")
    if other:
        raise ConfigError(
            f"{run.results} is for the run's own validation, not for scores with {', '.join(other)}",
            fix="name a folder for these scores with --out (out=)",
        )
