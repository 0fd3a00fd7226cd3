"""Shapes that many signatures share. The tests check them, as all shapes in annotations."""

from collections.abc import Sequence

from jaxtyping import Float, Integer
from torch import Tensor

#: Outputs of a classifier. Pixels have a grid, ``(n, logits, h, w)``; boxes have none.
Logits = Float[Tensor, "n logits *grid"]
#: Class id of every position, or the value that stands for no label.
Target = Integer[Tensor, "n *grid"]
#: Factor of every position; None for 1.
PositionWeight = Float[Tensor, "n *grid"] | None
#: Probabilities of the classes at every position.
Probabilities = Float[Tensor, "n classes *grid"]
#: One number.
Scalar = Float[Tensor, ""]
#: Name -> loss, already weighted.
Losses = dict[str, Scalar]

#: Outputs of every expert's classifier.
ExpertLogits = Float[Tensor, "experts n logits *grid"]
#: The same, one logit for each class.
ExpertScores = Float[Tensor, "experts n classes *grid"]
#: Inputs of every expert's classifier, on their own grid; None where nobody reads them.
ExpertFeatures = Float[Tensor, "experts n channels *coarse"] | None

#: Normalised images of one size.
Images = Float[Tensor, "n bands h w"]
#: Class scores or probabilities of every pixel.
ClassMaps = Float[Tensor, "n classes h w"]
#: Class id of every pixel.
LabelMaps = Integer[Tensor, "n h w"]
#: Normalised images of any sizes.
ImageList = Sequence[Float[Tensor, "_bands _h _w"]]
