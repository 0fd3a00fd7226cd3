"""Two processes that talk: what a test of a collective needs."""

import multiprocessing
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def _on_rank(rank: int, folder: str, file: str, name: str) -> None:
    torch.set_num_threads(1)
    spec = spec_from_file_location("on_rank", file)  # test modules are in no package
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    torch.save(getattr(module, name)(rank), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def run_on_two_ranks(folder: Path, function: Callable[[int], Any]) -> list[Any]:
    """What a function at the top of a test module gives on each of two gloo ranks (tensors in plain containers)."""
    context = multiprocessing.get_context("spawn")
    where = (str(folder), function.__code__.co_filename, function.__name__)
    ranks = [context.Process(target=_on_rank, args=(rank, *where)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=300)
    assert [process.exitcode for process in ranks] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
