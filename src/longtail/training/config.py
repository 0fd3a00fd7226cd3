"""What a training run is, in numbers: the settings that every task shares. This module does not import torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

from longtail.errors import ConfigError
from longtail.settings import from_dict, one_of, to_dict
from longtail.training.ranges import not_negative, positive, within

#: Iterations of a phase that the configuration does not name. Source: MEDOE §A.2 (80K; 1.6K for the ensemble).
DEFAULT_ITERATIONS = 80_000
PHASE_ITERATIONS = {"ensemble": 1_600}
#: Recipe of a phase that the configuration says nothing of, whatever the recipe of the others: of the ensemble's 1.6K
#: iterations the transformers' warm-up would take 1.5K. Source: SPEC M18.
PHASE_OPTIMISERS: dict[str, Literal["sgd", "adamw"]] = {"ensemble": "sgd"}

#: The two recipes of the field (mmsegmentation's, which the papers build on). Source: MEDOE §A.2; PEERS §3.
RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {
        "lr": 0.01,
        "weight_decay": 5e-4,
        "schedule": "poly",
        "power": 0.9,
        "warmup_iterations": 0,
        "warmup_start": 1e-6,
        "head_lr_factor": 1.0,
        "decay_norms": True,
    },
    "adamw": {
        "lr": 6e-5,
        "weight_decay": 0.01,
        "schedule": "poly",
        "power": 1.0,
        "warmup_iterations": 1_500,
        "warmup_start": 1e-6,
        "head_lr_factor": 10.0,
        "decay_norms": False,
    },
}


@dataclass
class OptimiserConfig:
    """Optimiser and learning-rate schedule. What is not given takes the value of the recipe of that name.

    Args:
        name: sgd (convolutional recipe) or adamw (transformer recipe)
        lr: base learning rate [sgd 0.01, adamw 6e-5]
        momentum: momentum of sgd
        betas: moment decays of adamw
        weight_decay: weight decay [sgd 5e-4, adamw 0.01]
        schedule: poly, a polynomial decay over the whole phase, or step, a fall to a tenth at each of steps [poly]
        power: power of the polynomial decay [sgd 0.9, adamw 1.0]
        steps: where schedule = step falls: iterations, or shares of the phase below 1; at 0.8 and 0.9 of it when not
            given (epochs 16 and 18 of 20)
        min_lr: learning rate at the end of the decay (mmsegmentation's sgd recipe: 1e-4)
        warmup_iterations: iterations of linear warm-up before the decay [sgd 0, adamw 1500]
        warmup_start: fraction of the learning rate at which the warm-up starts [1e-6]
        head_lr_factor: learning rate of all that is not encoder, relative to lr [sgd 1, adamw 10]
        decay_norms: whether normalisation layers have weight decay [sgd true, adamw false]
        layer_decay: factor on the learning rate from each block of the encoder to the one before it, such as 0.9 for
            transformers; 1 changes nothing
        ema_decay: share of the old mean in a running mean of the weights, such as 0.999, which is validated and kept;
            no mean when not given
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float | None = None
    schedule: Literal["poly", "step"] | None = None
    power: float | None = None
    steps: tuple[int | float, ...] | None = None
    min_lr: float = 0.0
    warmup_iterations: int | None = None
    warmup_start: float | None = None
    head_lr_factor: float | None = None
    decay_norms: bool | None = None
    layer_decay: float = 1.0
    ema_decay: float | None = None

    #: Optimiser -> values of what is not given.
    recipes: ClassVar[dict[str, dict[str, Any]]] = RECIPES

    def __post_init__(self) -> None:
        one_of("optimiser.name", self.name, tuple(self.recipes))
        one_of("optimiser.schedule", self.recipe("schedule"), ("poly", "step"))
        positive("optimiser.lr", self.lr)
        positive("optimiser.head_lr_factor", self.head_lr_factor)
        positive("optimiser.power", self.power)
        not_negative("optimiser.weight_decay", self.weight_decay)
        not_negative("optimiser.min_lr", self.min_lr)
        not_negative("optimiser.warmup_iterations", self.warmup_iterations)
        within("optimiser.momentum", self.momentum, 0, 1)
        within("optimiser.warmup_start", self.warmup_start, 0, 1)
        positive("optimiser.layer_decay", self.layer_decay)
        within("optimiser.layer_decay", self.layer_decay, 0, 1)
        within("optimiser.ema_decay", self.ema_decay, 0, 1)
        steps = list(self.steps or ())
        if steps != sorted(set(steps)) or (steps and not (steps[0] > 0 and (steps[0] >= 1) == (steps[-1] >= 1))):
            raise ConfigError(
                f"optimiser.steps is {steps}",
                fix="give ascending iterations >= 1, or ascending shares of the phase below 1",
            )

    def recipe(self, setting: str) -> Any:
        """Value of a setting: as given, else the recipe's."""
        value = getattr(self, setting)
        return self.recipes[self.name][setting] if value is None else value

    def resolved(self) -> "OptimiserConfig":
        """The same settings with every value of the recipe written out."""
        return replace(self, **{setting: self.recipe(setting) for setting in self.recipes[self.name]})


@dataclass
class LoadingConfig:
    """How samples become batches.

    Args:
        batch_size: images of one optimiser step, over all ranks and accumulated batches together
        workers: worker processes of each rank that load images; they never change the result
    """

    batch_size: int = 16
    workers: int = 4

    def __post_init__(self) -> None:
        positive("loading.batch_size", self.batch_size)
        not_negative("loading.workers", self.workers)


@dataclass
class HardwareConfig:
    """Where and in what precision to compute; the words are Lightning's.

    Args:
        accelerator: auto, cpu, gpu, mps …
        devices: number of devices of each node, or auto
        num_nodes: number of machines
        strategy: auto (DDP on more than one device), ddp or ddp_find_unused_parameters_true
        precision: 32-true, bf16-mixed or 16-mixed
        accumulate: batches whose gradients are summed into one step; divides batch_size
        gradient_clip: largest norm of the gradient; not clipped when not given
        sync_batch_norm: whether batch norm takes its statistics over all GPUs (as the papers do)
        deterministic: deterministic kernels where there are any, a warning where there are none
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    accumulate: int = 1
    gradient_clip: float | None = None
    sync_batch_norm: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        # Lightning's others keep the weights in other types than the inputs, or exchange the layers
        one_of("hardware.precision", self.precision, ("32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16"))
        positive("hardware.num_nodes", self.num_nodes)
        positive("hardware.accumulate", self.accumulate)
        positive("hardware.gradient_clip", self.gradient_clip)


LoggerName = Literal["tensorboard", "wandb", "mlflow", "none"]


@dataclass
class LoggingConfig:
    """What is written while training. metrics.csv is always written.

    Args:
        logger: other logs, one or a list: tensorboard (in the run folder), wandb, mlflow, or none
        project: project of wandb, experiment of mlflow
        log_interval: iterations between two lines of metrics
        val_interval: iterations between two validations, and one at the end of each phase; 0 validates nothing while training
        checkpoint_interval: iterations between two saves of last.ckpt
    """

    logger: LoggerName | tuple[LoggerName, ...] = "tensorboard"
    project: str = "longtail"
    log_interval: int = 50
    val_interval: int = 8_000
    checkpoint_interval: int = 1_000

    def __post_init__(self) -> None:
        for name in self.loggers:
            one_of("logging.logger", name, get_args(LoggerName))
        positive("logging.log_interval", self.log_interval)
        not_negative("logging.val_interval", self.val_interval)
        positive("logging.checkpoint_interval", self.checkpoint_interval)

    @property
    def loggers(self) -> tuple[str, ...]:
        """The logs as a tuple."""
        return (self.logger,) if isinstance(self.logger, str) else tuple(self.logger)


@dataclass
class MonitorConfig:
    """What the best weights are chosen by, and when a phase ends before its time.

    Args:
        metric: a number of results.json, such as groups.tail.mIoU, overall.mAcc, harmonic.mIoU (harmonic mean of the groups)
            or per_class.IoU.person [mIoU; of detection evaluation.metric]
        patience: validations without a better score after which a phase ends; 0 for none
    """

    metric: str | None = None
    patience: int = 0

    def __post_init__(self) -> None:
        not_negative("monitor.patience", self.patience)


@dataclass
class RunConfig:
    """The settings of a training run that every task shares.

    Args:
        optimiser: Optimiser and learning-rate schedule of every phase
        phase_optimisers: differences of single phases, such as {experts: {lr: 0.02}}; the phase ensemble has the sgd
            recipe where it is not named
        iterations: optimiser steps of each phase by name [80000; ensemble 1600]
        epochs: length of a phase in passes over the training data instead, such as {train: 12}
        loading: How samples become batches
        hardware: Where and in what precision to compute
        logging: What is written while training
        monitor: What the best weights are chosen by, and when a phase ends before its time
        train_only: classifier, to train the classifier of a finished model alone (see --from), in one phase of that name
        reset_classifier: begin that classifier with random weights instead of the finished model's
        allow_partial: begin (--from) with a checkpoint of another program of which less than 90 % fits the model
        seed: seed of everything random in the run
    """

    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    phase_optimisers: dict[str, dict[str, Any]] = field(default_factory=dict)
    iterations: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, float] = field(default_factory=dict)
    loading: LoadingConfig = field(default_factory=LoadingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    train_only: Literal["classifier"] | None = None
    reset_classifier: bool = False
    allow_partial: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        not_negative("seed", self.seed)
        if self.monitor.patience and not self.logging.val_interval:
            raise ConfigError(
                "monitor.patience without validations", fix="set logging.val_interval above 0, or monitor.patience to 0"
            )
        if self.train_only is not None:
            one_of("train_only", self.train_only, ("classifier",))
        elif self.reset_classifier:
            raise ConfigError(
                "reset_classifier without train_only", fix="set train_only to classifier, or leave it out"
            )
        for phase, iterations in self.iterations.items():
            positive(f"iterations.{phase}", iterations)
        for phase, epochs in self.epochs.items():
            positive(f"epochs.{phase}", epochs)
            if phase in self.iterations:
                raise ConfigError(f"both iterations.{phase} and epochs.{phase} are given", fix="give one of them")
        for phase in self.phase_optimisers:
            self.optimiser_of(phase)
        if self.loading.batch_size % self.hardware.accumulate:
            raise ConfigError(
                f"loading.batch_size {self.loading.batch_size} is not a multiple of hardware.accumulate "
                f"{self.hardware.accumulate}",
                fix="make the batch size a multiple of the batches accumulated",
            )

    def iterations_of(self, phase: str) -> int:
        """Number of optimiser steps of a phase.

        Raises:
            ConfigError: It is given in epochs and was not resolved.
        """
        if phase in self.epochs:
            raise ConfigError(f"epochs.{phase} is of data that are not known", fix="resolve the settings with the data")
        return self.iterations.get(phase, PHASE_ITERATIONS.get(phase, DEFAULT_ITERATIONS))

    def length_of(self, phase: str) -> str:
        """Length of a phase, in words."""
        return f"{self.epochs[phase]:g} epochs" if phase in self.epochs else str(self.iterations_of(phase))

    def optimiser_of(self, phase: str) -> OptimiserConfig:
        """Optimiser settings of a phase: the run's, with the differences of the phase.

        The phase ``ensemble`` has the sgd recipe unless ``phase_optimisers`` names it.
        """
        changes = self.phase_optimisers.get(phase)
        if changes is None:
            name = PHASE_OPTIMISERS.get(phase, self.optimiser.name)
            return self.optimiser if name == self.optimiser.name else type(self.optimiser)(name)
        base = {} if changes.get("name", self.optimiser.name) != self.optimiser.name else to_dict(self.optimiser)
        return from_dict(type(self.optimiser), {**base, **changes}, where=f"phase_optimisers.{phase}")

    def resolved(self, phases: Sequence[str], samples: int = 0) -> "RunConfig":
        """The same run with everything written out that its phases take from recipes, epochs as iterations.

        Args:
            phases: Phases of the method.
            samples: Samples of one pass over the training data; needed where there are epochs.

        Raises:
            ConfigError: A setting names a phase that is none of ``phases``.
        """
        for name in ("iterations", "epochs", "phase_optimisers"):
            for key in getattr(self, name):
                if key not in phases:
                    raise ConfigError(
                        f"{name} names phase {key!r}, which the method does not have",
                        fix=f"its phases are {', '.join(phases)}",
                    )
        given = {phase: math.ceil(e * samples / self.loading.batch_size) for phase, e in self.epochs.items() if samples}
        known = replace(
            self,
            iterations={**self.iterations, **given},
            epochs={phase: epochs for phase, epochs in self.epochs.items() if phase not in given},
        )
        return replace(
            known,
            optimiser=self.optimiser.resolved(),
            iterations={phase: known.iterations_of(phase) for phase in phases},
        )
