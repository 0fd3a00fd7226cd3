"""How the evaluated images show each class."""

import numpy as np
from jaxtyping import Bool, Float


def shown_classes(
    there: Bool[np.ndarray, "images classes"], side: Float[np.ndarray, "classes"]
) -> dict[str, list[float]]:
    """Facts on every class for ``Prediction.extra["shown"]``.

    Args:
        there: Whether each image shows each class.
        side: Median side of the class in pixels: the root of its area.

    Returns:
        ``images`` that show the class, ``side``, and ``contexts``: other classes in the same images.
    """
    together = there.T.astype(np.float32) @ there.astype(np.float32) > 0
    contexts = together.sum(axis=1) - together.diagonal()
    return {"images": there.sum(axis=0).tolist(), "side": side.tolist(), "contexts": contexts.tolist()}
