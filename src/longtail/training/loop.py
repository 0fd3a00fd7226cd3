"""The training loop: one phase of a method, iteration by iteration, resumable to the bit."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from torch import Tensor, nn

from longtail.distributed import all_gather_objects, barrier, is_distributed
from longtail.losses.base import ClassificationLoss
from longtail.phases import PhasedMethod
from longtail.training.checkpoints import save_state, save_weights
from longtail.training.config import RunConfig
from longtail.training.console import PhaseProgress
from longtail.training.devices import begin_peak, peak_memory_gb
from longtail.training.failures import checked
from longtail.training.loading import BatchPlan, training_loader
from longtail.training.loss_record import LossRecord
from longtail.training.metrics_file import MetricsFile
from longtail.training.optimisers import build_optimiser, build_schedule
from longtail.training.randomness import generator_states, isolated_randomness, restore_generators, seed_generators
from longtail.training.run_folder import RunFolder
from longtail.training.signals import StopSignals
from longtail.training.tasks.base import Task
from longtail.training.weight_average import WeightAverage


class PhaseLoop:
    """Trains the phase that a task's method is in.

    On one CPU every loss is checked as it comes. On a GPU, and with several ranks, losses stay on the device and are
    checked together every ``log_interval`` iterations, and always before anything is written.

    Args:
        task: What is trained.
        done: Phases before this one.
        config: Settings of the run.
        run: The run folder.
        fabric: Devices, precision, ranks and loggers.
        progress: Where to show the progress.
        signals: Whether to stop.
        state: State to go on from, as ``read_state`` gives it; None to begin.
    """

    def __init__(
        self,
        task: Task,
        done: tuple[str, ...],
        config: RunConfig,
        run: RunFolder,
        fabric: Fabric,
        progress: PhaseProgress,
        signals: StopSignals,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.task, self.method, self.done = task, task.method, done
        self.phase: str = progress.phase
        self.config, self.run, self.fabric = config, run, fabric
        self.progress, self.signals = progress, signals
        self.iterations = config.iterations_of(self.phase)
        self.iteration = 0 if state is None else state["iteration"]
        self.best: float | None = None
        self.stop_signal = 0
        self.stale = 0
        self._owes_validation = False
        begin_peak(fabric.device)

        settings = config.optimiser_of(self.phase)
        self.step, self.optimiser = fabric.setup(_Step(self.method), build_optimiser(self.method, settings))
        self.schedule = build_schedule(self.optimiser.optimizer, settings, self.iterations)
        self.average = None if settings.ema_decay is None else WeightAverage(self.method, settings.ema_decay)
        self._begun = first_weights(self.method)
        self.losses = [m for m in self.method.modules() if isinstance(m, ClassificationLoss)]
        self.record = LossRecord(self.phase, run, config.hardware.accumulate, self.iteration)
        self.metrics = MetricsFile(run.metrics)
        if fabric.is_global_zero:
            self.metrics.forget_after(self.phase, self.iteration, done)
        if state is None:
            seed_generators(config.seed, self.phase, "run", fabric.global_rank)
        else:
            self._restore(state)

    def train(self) -> int:
        """Train to the end of the phase; returns the signal that stopped it before, else 0."""
        if self._owes_validation:
            self._validate()
            if self.finished:
                self._finish()
                self._save()
        batches = iter(self._loader())
        while not self.finished and not self.stop_signal:
            rate = self.optimiser.param_groups[0]["lr"]
            for part in range(self.config.hardware.accumulate):
                self._backward(checked(next(batches)), last=part + 1 == self.config.hardware.accumulate)
            if self.config.hardware.gradient_clip is not None:
                norm = self.config.hardware.gradient_clip
                self.fabric.clip_gradients(self.step, self.optimiser, max_norm=norm, error_if_nonfinite=False)
            self.optimiser.step()
            self.optimiser.zero_grad()
            self.schedule.step()
            if self.average is not None:
                self.average.update(self.method)
            self.iteration += 1
            self.progress.advance(self.iteration)
            self._look(rate)
        return self.stop_signal

    @property
    def finished(self) -> bool:
        """Whether the phase has had all its iterations, or nothing better was found for long enough."""
        patience = self.config.monitor.patience
        return self.iteration >= self.iterations or bool(patience and self.stale >= patience)

    def _backward(self, batch: Any, last: bool) -> None:
        """Add the gradient of a batch; the ranks join theirs after the ``last`` one of an iteration."""
        for loss in self.losses:
            loss.set_progress(self.iteration / self.iterations)
        inputs = partial(self.task.inputs, self.fabric.to_device(batch))
        with self.fabric.no_backward_sync(self.step, enabled=not last):
            terms: dict[str, Tensor] = self.step(inputs)
            total = torch.stack(list(terms.values())).sum()
            self.fabric.backward(total / self.config.hardware.accumulate)
        self.record.add(terms, self.method.counts() if isinstance(self.method, PhasedMethod) else None)

    def _look(self, rate: float) -> None:
        """Check, log, validate and save after an iteration, each where it is time."""
        logging, last = self.config.logging, self.iteration == self.iterations
        log = last or self.iteration % logging.log_interval == 0
        validate = bool(logging.val_interval) and (last or self.iteration % logging.val_interval == 0)
        save = last or self.iteration % logging.checkpoint_interval == 0
        every = self.fabric.device.type == "cpu" and not is_distributed()
        if not (every or log or validate or save):
            return
        self.stop_signal = self.record.agree(self.signals.received)
        if log:
            self._log(rate)
        if validate:
            if not last:  # a validation may take longer than a scheduler waits after SIGTERM
                self._owes_validation = True
                self._save()
            self._validate()
        elif last:
            share_buffers(self.method)
            with self._averaged():
                self._keep()
        if self.finished:
            self._finish()
        if save or validate or self.stop_signal:
            self._save()

    def _finish(self) -> None:
        """End the phase: its mean weights are those of the method from here on, and its last ones are kept."""
        if self.iteration < self.iterations:
            words = f"nothing better in {self.stale} validations: the phase ends at iteration {self.iteration}"
            self.progress.console.say(f"[bold]stopped[/]   {words}")
        if self.average is not None:
            self.average.swap(self.method)
        if self.fabric.is_global_zero:
            save_weights(self.method, self.run.phase_weights(self.phase), phases=" ".join((*self.done, self.phase)))

    def _averaged(self) -> AbstractContextManager[None]:
        """The mean weights in the place of the current ones, where there is a mean."""
        return nullcontext() if self.average is None else self.average.swapped(self.method)

    def _log(self, rate: float) -> None:
        means, counts = self.record.take_means(self.iteration)
        speed, memory = self.progress.speed(self.iteration), peak_memory_gb(self.fabric.device)
        self.progress.report(self.iteration, means, rate, memory)
        if self._begun and not moved(self.method, self._begun):
            words = f"no weight has changed in {self.iteration} iterations at a learning rate of {rate:.1e}"
            self.progress.console.say(f"[yellow]warning[/]   {words}; raise optimiser.lr, or shorten the warm-up")
        self._begun = {}
        loss = means.pop("loss")
        terms = {f"loss/{name}": value for name, value in means.items()}
        rates = {"lr": rate, "iterations_per_second": speed, "memory_gb": memory}
        self._write({"loss": loss, **terms, **rates, **counts})

    def _validate(self) -> None:
        share_buffers(self.method)
        self._owes_validation = False
        with self.progress.pause(), isolated_randomness(), self._averaged():
            training = [m for m in self.method.modules() if m.training]
            self.method.eval()
            outcome = self.task.validate(self.fabric.device)
            for part in training:
                part.training = True
            better = outcome is None or self.best is None or outcome.score > self.best
            if better:
                self._keep()
        self.stale = 0 if better else self.stale + 1
        if outcome is None:
            return
        self.best = outcome.score if better else self.best
        self._write({f"val/{name}": value for name, value in outcome.values.items()})
        self.fabric.log_dict({f"{self.phase}/{name}": value for name, value in outcome.classes.items()}, self.iteration)
        if outcome.shown is not None:
            self.progress.console.say(outcome.shown)

    def _keep(self) -> None:
        """Make these the run's best weights."""
        if self.fabric.is_global_zero:
            self.task.save(self.run, (*self.done, self.phase))

    def _write(self, values: dict[str, float]) -> None:
        if self.fabric.is_global_zero:
            self.metrics.append(self.phase, self.iteration, values)
        self.fabric.log_dict({logged_name(self.phase, name): value for name, value in values.items()}, self.iteration)

    def _loader(self) -> torch.utils.data.DataLoader:
        """The batches of this rank that are left."""
        plan = BatchPlan(
            order=self.task.order,
            batch_size=self.config.loading.batch_size,
            accumulate=self.config.hardware.accumulate,
            world_size=self.fabric.world_size,
            rank=self.fabric.global_rank,
            iterations=self.iterations,
            seed=self.config.seed,
            phase=self.phase,
        )
        return training_loader(
            self.task.train_data,
            plan,
            start=self.iteration,
            workers=self.config.loading.workers,
            collate=self.task.collate,
            pin_memory=torch.cuda.is_available(),
        )

    def _save(self) -> None:
        """Write all that the rest of the run depends on; ``_restore`` reads it."""
        state = {
            "phase": self.phase,
            "iteration": self.iteration,
            "finished": self.finished,
            "done": list(self.done),
            "best": self.best,
            "stale": self.stale,
            "average": None if self.average is None else self.average.state_dict(),
            "owes_validation": self._owes_validation,
            "data_fingerprint": self.task.data_fingerprint,
            "world_size": self.fabric.world_size,
            "random_states": all_gather_objects(generator_states()),
            "record": self.record.state(),
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        if self.fabric.is_global_zero:
            save_state(state, self.run.last)
        barrier()

    def _restore(self, state: dict[str, Any]) -> None:
        self.best, self.stale = state["best"], state["stale"]
        self._begun = {}
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._owes_validation = state["owes_validation"]
        self.record.restore(state["record"], self.fabric.device)
        self.method.load_state_dict(state["method"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        if self.fabric.global_rank < len(state["random_states"]):
            restore_generators(state["random_states"][self.fabric.global_rank])


class _Step(nn.Module):
    """The losses of a batch as the forward pass of a module: what mixed precision and DDP act on."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, inputs: partial[tuple]) -> dict[str, Tensor]:
        """Named losses; ``inputs`` gives the batch, which Fabric would round to the precision: boxes, too."""
        return self.method.losses(*inputs())  # type: ignore[operator]


def logged_name(phase: str, name: str) -> str:
    """Name of a curve: no name is the beginning of another one, as mlflow's files need it."""
    part, _, rest = "loss/sum".partition("/") if name == "loss" else name.partition("/")
    return "/".join(word for word in (phase, part, rest.replace("/", "_")) if word)


def first_weights(method: nn.Module, count: int = 8) -> dict[str, Tensor]:
    """Copies of some weights that are trained, to see later whether they moved."""
    trained = [(name, p) for name, p in method.named_parameters() if p.requires_grad]
    return {name: parameter.detach().clone() for name, parameter in trained[:: max(1, len(trained) // count)]}


def moved(method: nn.Module, before: dict[str, Tensor]) -> bool:
    """Whether any of the weights differs from its copy."""
    own = dict(method.named_parameters())
    return any(not torch.equal(own[name].detach(), value) for name, value in before.items())


def share_buffers(method: nn.Module) -> None:
    """Give every rank the buffers of the first one (running statistics), as DDP does before each forward pass."""
    if is_distributed():
        for buffer in method.buffers():
            dist.broadcast(buffer, src=0)
