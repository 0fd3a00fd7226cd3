"""The few collective operations that the library needs; each is the identity in a single process."""

import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether a process group of more than one rank is running."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """Number of ranks, 1 outside a process group."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Index of this process, 0 outside a process group."""
    return dist.get_rank() if is_distributed() else 0


def is_main_process() -> bool:
    """Whether this process should print and write."""
    return rank() == 0


def all_reduce_sum(value: Tensor) -> Tensor:
    """Sum of ``value`` over all ranks, without gradient; the value itself in a single process.

    Args:
        value: A tensor of the same shape and dtype on every rank. It is not changed.
    """
    if not is_distributed():
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def sum_over_ranks(value: Tensor) -> Tensor:
    """Sum of ``value`` over all ranks; its gradient is right once averaged over the ranks, as data-parallel training does.

    Args:
        value: As of ``all_reduce_sum``.
    """
    if not is_distributed():
        return value
    own = value - value.detach()  # zero, with the gradient of this rank's share
    return all_reduce_sum(value) + world_size() * own


def barrier() -> None:
    """Wait for all ranks."""
    if is_distributed():
        dist.barrier()


def all_gather_objects(value: object) -> list:
    """The value of every rank, in rank order (small Python objects only)."""
    if not is_distributed():
        return [value]
    gathered: list = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def broadcast_object(value: object, source: int = 0) -> object:
    """The value of rank ``source`` on every rank (small Python objects only)."""
    if not is_distributed():
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=source)
    return holder[0]
