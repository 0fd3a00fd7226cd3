"""Parameter groups, optimisers and learning-rate schedules of the usual recipes."""

import math
from collections.abc import Callable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from longtail.errors import ConfigError
from longtail.training.config import OptimiserConfig

_ENCODER_NAMES = {"encoder", "backbone"}


def parameter_groups(model: nn.Module, config: OptimiserConfig) -> list[dict]:
    """Trainable parameters by learning rate and weight decay.

    A parameter with a component ``encoder`` or ``backbone`` in its name has the base learning rate, every other one
    ``head_lr_factor`` times that. With ``layer_decay`` the encoder's learning rate falls from its last block to its
    first. Parameters of normalisation layers have no weight decay unless ``decay_norms``.

    Args:
        model: Its parameters without gradient are left out.
        config: Settings of the phase.

    Returns:
        Groups with ``name``, ``params``, ``lr`` and ``weight_decay``; only those that hold something.

    Raises:
        ConfigError: Nothing is trainable.
    """
    decay, factor = config.recipe("weight_decay"), config.recipe("head_lr_factor")
    norms = set() if config.recipe("decay_norms") else _norm_parameters(model)
    layers = layers_below_the_head(model) if config.layer_decay != 1 else {}
    groups: dict[str, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        encoder = bool(_ENCODER_NAMES & set(name.split(".")))
        plain = id(parameter) in norms
        below = layers.get(name, 0)
        key = ("encoder" if encoder else "head") + (f"_{below}" if below else "") + ("_norms" if plain else "")
        group = groups.setdefault(
            key,
            {
                "name": key,
                "params": [],
                "lr": config.recipe("lr") * (config.layer_decay**below if encoder else factor),
                "weight_decay": 0.0 if plain else decay,
            },
        )
        group["params"].append(parameter)
    if not groups:
        raise ConfigError("no parameter of the model is trainable", fix="check what the phase freezes")
    return list(groups.values())


def layers_below_the_head(model: nn.Module) -> dict[str, int]:
    """Parameter of an encoder -> number of blocks between it and the head, as layer-wise decay counts them.

    The blocks are the modules of the class that has the most instances among those that hold half of the encoder's
    parameters. What stands outside the blocks belongs to the first block of its stage, the first number in its name;
    without one to the input where it comes before the blocks, else to the head.

    Raises:
        ConfigError: The model has no encoder that is made of blocks.

    Source: BEiT (Bao et al. 2022) §A; ELECTRA (Clark et al. 2020).
    """
    found: dict[str, int] = {}
    for root, encoder in model.named_modules():
        if root.rpartition(".")[2] in _ENCODER_NAMES and not any(name.startswith(f"{root}.") for name in found):
            blocks = _blocks(encoder)
            if not blocks:
                raise ConfigError(
                    f"layer_decay, and {root} is not made of blocks", fix="set optimiser.layer_decay to 1"
                )
            names = [name for name, _ in encoder.named_parameters()]
            first = next(i for i, name in enumerate(names) if name.startswith(f"{blocks[0]}."))
            for place, name in enumerate(names):
                depth = _depth(name, blocks, before=place < first)
                found[f"{root}.{name}" if root else name] = len(blocks) + 1 - depth
    return found


def _blocks(encoder: nn.Module) -> list[str]:
    """Names of the blocks of an encoder, in order."""
    total = sum(p.numel() for p in encoder.parameters())
    classes: dict[type, dict[str, int]] = {}
    for name, module in encoder.named_modules():
        kind = type(module)
        nested = any(name.startswith(f"{outer}.") for outer in classes.get(kind, ()))
        if name and not nested and any(module.children()) and kind not in (nn.ModuleList, nn.Sequential, nn.ModuleDict):
            classes.setdefault(kind, {})[name] = sum(p.numel() for p in module.parameters())
    large = [(len(own), sum(own.values()), own) for own in classes.values() if 2 * sum(own.values()) >= total]
    return list(max(large, key=lambda entry: entry[:2])[2]) if large else []


def _depth(name: str, blocks: list[str], before: bool) -> int:
    """0 for the input, 1 … for the blocks, their number + 1 for what follows them."""
    for number, block in enumerate(blocks, start=1):
        if name.startswith(f"{block}."):
            return number
    stage = next((word for word in name.split(".") if word.isdigit()), None)
    if stage is not None:
        for number, block in enumerate(blocks, start=1):
            if next((word for word in block.split(".") if word.isdigit()), None) == stage:
                return number if block.count(".") > 1 else 0 if before else len(blocks) + 1
    return 0 if before else len(blocks) + 1


def _norm_parameters(model: nn.Module) -> set[int]:
    """Ids of the parameters that normalisation layers of any library hold themselves."""
    return {
        id(parameter)
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
    }


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> Optimizer:
    """Optimiser over the trainable parameters of ``model``.

    Source: MEDOE §A.2 (SGD, weight decay 5e-4; AdamW 6e-5, 0.01); momentum, warm-up and factors: PEERS §3.
    """
    groups = parameter_groups(model, config)
    if config.name == "sgd":
        return SGD(groups, lr=config.recipe("lr"), momentum=config.momentum)
    return AdamW(groups, lr=config.recipe("lr"), betas=config.betas)


def build_schedule(optimiser: Optimizer, config: OptimiserConfig, iterations: int) -> LambdaLR:
    """Linear warm-up, then the decay of the phase, never below ``min_lr``; stepped every iteration.

    ``poly`` decays over the rest of the phase, ``step`` falls to a tenth at each of ``steps``.

    Source: MEDOE §A.2, ``lr (1 - iteration / total) ** power``; MEC §A; warm-up and floor: PEERS §3.
    """
    warmup = min(config.recipe("warmup_iterations"), iterations)
    start = config.recipe("warmup_start")
    decay = _step_decay(config, iterations) if config.recipe("schedule") == "step" else _poly_decay(config, iterations)

    def factor_of(base: float) -> Callable[[int], float]:
        floor = config.min_lr / base

        def factor(iteration: int) -> float:
            if iteration < warmup:
                return start + (1 - start) * iteration / warmup
            return floor + (1 - floor) * decay(iteration)

        return factor

    return LambdaLR(optimiser, [factor_of(group["lr"]) for group in optimiser.param_groups])


def _poly_decay(config: OptimiserConfig, iterations: int) -> Callable[[int], float]:
    warmup = min(config.recipe("warmup_iterations"), iterations)
    return lambda i: (1 - min((i - warmup) / max(iterations - warmup, 1), 1.0)) ** config.recipe("power")


def _step_decay(config: OptimiserConfig, iterations: int) -> Callable[[int], float]:
    given = (0.8, 0.9) if config.steps is None else config.steps
    # a share of 0.9 is a little above or below nine tenths: 1e-6 of an iteration keeps it from costing a whole one
    steps = [step if step >= 1 else math.floor(step * iterations + 1e-6) for step in given]
    return lambda i: 0.1 ** sum(i >= step for step in steps)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Number of all and of trainable parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trainable in sizes if trainable)


__all__ = ["build_optimiser", "build_schedule", "count_parameters", "parameter_groups"]
