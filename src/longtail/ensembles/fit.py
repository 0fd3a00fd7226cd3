"""Fit a trainable ensemble to recorded experts, without the network."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from longtail.ensembles.base import TrainableEnsemble
from longtail.errors import TrainingError


def fit_ensemble(
    ensemble: TrainableEnsemble,
    logits: Float[Tensor, "experts pixels classes"],
    target: Integer[Tensor, " pixels"],
    *,
    iterations: int = 50,
    ignore_index: int = 255,
) -> float:
    """Minimise the ensemble's own loss by L-BFGS; the experts are constants, so that nothing is random.

    Args:
        ensemble: It is changed.
        logits: Of every expert, at labelled pixels.
        target: Class of each pixel.
        iterations: Steps of L-BFGS; it stops before where nothing moves.
        ignore_index: Target value of pixels without a label.

    Returns:
        The loss at the end.

    Raises:
        TrainingError: The loss is not finite.
    """
    parameters = [parameter for parameter in ensemble.parameters() if parameter.requires_grad]
    optimiser = torch.optim.LBFGS(parameters, max_iter=iterations, line_search_fn="strong_wolfe")

    def evaluate() -> Tensor:
        optimiser.zero_grad()
        loss = ensemble.loss(logits, target, ignore_index=ignore_index)
        loss.backward()
        return loss

    optimiser.step(evaluate)
    with torch.no_grad():
        loss = float(ensemble.loss(logits, target, ignore_index=ignore_index))
    if not torch.isfinite(torch.tensor(loss)):
        raise TrainingError(f"the loss of {type(ensemble).__name__} is {loss}", fix="fit it with other options")
    return loss
