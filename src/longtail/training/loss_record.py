"""``LossRecord``: losses and counts since the last line of the log, checked on all ranks together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from longtail.distributed import all_gather_objects, all_reduce_sum, is_distributed, world_size
from longtail.errors import TrainingError
from longtail.training.run_folder import RunFolder


class LossRecord:
    """Keeps named losses where they are computed until someone asks for them: a GPU need not wait.

    Args:
        phase: The current phase, for the error.
        run: The run folder, for the error.
        accumulate: Batches of one iteration.
        iteration: Iterations that are done.
    """

    def __init__(self, phase: str, run: RunFolder, accumulate: int, iteration: int) -> None:
        self.phase = phase
        self.run = run
        self.accumulate = accumulate
        self.first = iteration + 1
        self._names: list[str] = []
        self._losses = 0
        self._values: list[Tensor] = []

    def add(self, terms: Mapping[str, Tensor], counts: Mapping[str, Tensor] | None = None) -> None:
        """Keep the losses and counts of a batch."""
        self._names, self._losses = [*terms, *(counts or {})], len(terms)
        values = [*terms.values(), *(counts or {}).values()]
        self._values.append(torch.stack([value.detach().float() for value in values]))

    def agree(self, signal: int) -> int:
        """Check the losses of all ranks; returns the largest ``signal`` of all ranks.

        Raises:
            TrainingError: A loss of any rank is not finite; names its iteration.
        """
        values = torch.stack(self._values).cpu()
        broken = (~values.isfinite()).nonzero()
        found = None
        if len(broken):
            batch, term = broken[0].tolist()
            found = (self.first + batch // self.accumulate, self._names[term], values[batch, term].item())
        agreed = all_gather_objects((found, signal))
        for problem, _ in agreed:
            if problem is not None:
                raise self._error(*problem)
        return max(received for _, received in agreed)

    def _error(self, iteration: int, name: str, value: float) -> TrainingError:
        last = self.run.last
        begin = f" or, with the weights saved before it, another one --from {last}" if last.is_file() else ""
        return TrainingError(
            f"loss {name!r} is {value} in iteration {iteration} of phase {self.phase!r}",
            fix="lower optimiser.lr, lengthen the warm-up or set hardware.gradient_clip, and begin the run again "
            f"(--overwrite){begin}; resumed, it would come to the same loss",
        )

    def take_means(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """Means over batches and ranks: of every loss, ``loss`` (their sum) first, and of every count.

        The record is empty afterwards.
        """
        means = torch.stack(self._values).cpu().mean(dim=0).tolist()
        if is_distributed():
            total = torch.tensor([sum(means[: self._losses]), *means], device=self._values[0].device)
            total, *means = (all_reduce_sum(total) / world_size()).tolist()
        else:
            total = sum(means[: self._losses])
        self._values.clear()
        self.first = iteration + 1
        named = list(zip(self._names, means, strict=True))
        return {"loss": total, **dict(named[: self._losses])}, dict(named[self._losses :])

    def state(self) -> dict:
        """State for a checkpoint: the losses of this rank, as plain tensors."""
        return {"values": torch.stack(self._values).cpu() if self._values else None, "first": self.first}

    def restore(self, state: dict, device: torch.device) -> None:
        """Inverse of ``state``."""
        self.first = state["first"]
        self._values = [] if state["values"] is None else list(state["values"].to(device))
