"""Masks of proposals: a small convolutional head that computes its last layer only for the class of each proposal."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import roi_align

from longtail.shapes import Scalar

#: Full-size masks that are converted to float at a time when targets are cropped; bounds the memory.
_TARGET_CHUNK = 16


class MaskHead(nn.Module):
    """Convolutions, one upsampling by 2, and one filter per class.

    Args:
        in_channels: Channels of the pooled map.
        channels: Width of the convolutions.
        num_convolutions: Number of 3x3 convolutions.
        num_classes: Number of foreground classes C.
        takes_previous: Whether the head reads the features of the mask head of the stage before (HTC).

    Source: Mask R-CNN (He 2017), §3; the information flow is HTC's (Chen 2019), Eq. 5.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_convolutions: int,
        num_classes: int,
        takes_previous: bool = False,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [channels] * num_convolutions
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.from_previous = nn.Conv2d(channels, in_channels, 1) if takes_previous else None
        self.upsample = nn.ConvTranspose2d(widths[-1], channels, 2, stride=2)
        self.predictor = nn.Conv2d(channels, num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        # every pixel begins at 1/2, however many classes there are
        nn.init.normal_(self.predictor.weight, std=0.001)

    def forward(
        self, pooled: Float[Tensor, "r c s s"], previous: Float[Tensor, "r d s s"] | None = None
    ) -> Float[Tensor, "r d s s"]:
        """Features before the upsampling, which the next stage's head reads as ``previous``."""
        if previous is not None and self.from_previous is not None:
            pooled = pooled + F.relu(self.from_previous(previous))
        for convolution in self.convolutions:
            pooled = F.relu(convolution(pooled))
        return pooled

    def class_logits(
        self, features: Float[Tensor, "r d s s"], labels: Int[Tensor, " q"], rows: Int[Tensor, " q"] | None = None
    ) -> Float[Tensor, "q t t"]:
        """Mask logits of one class for each proposal, at twice the resolution.

        The class's filter is gathered before the last 1x1 convolution: the same numbers as all C maps and a gather
        after it, at 1/C of the memory (1,203 classes: 483 MB for 128 proposals). The upsampling is one matrix product,
        since no two of its outputs share an input; only the map of the class is put in order after it.

        Args:
            features: What ``forward`` gives.
            labels: Class of each map.
            rows: Row of ``features`` for each class, where a proposal has several classes; one each by default.
        """
        r, d, s, _ = features.shape
        inputs = features.permute(0, 2, 3, 1).reshape(r * s * s, d)
        corners, bias = self.upsample.weight.permute(0, 2, 3, 1).flatten(1), self.upsample.bias
        upsampled = F.relu(F.linear(inputs, corners.T, None if bias is None else bias.repeat(4)))
        upsampled = upsampled.view(r, s * s * 4, corners.shape[1] // 4)
        filters = self.predictor.weight[:, :, 0, 0][labels, :, None].to(upsampled.dtype)
        logits = torch.bmm(upsampled if rows is None else upsampled[rows], filters).view(-1, s, s, 2, 2)
        logits = logits.transpose(2, 3).reshape(-1, 2 * s, 2 * s)
        if self.predictor.bias is not None:
            logits = logits + self.predictor.bias[labels].to(logits.dtype)[:, None, None]
        return logits.float()


def mask_targets(
    masks: Bool[Tensor, "g h w"], boxes: Float[Tensor, "p 4"], matched: Int[Tensor, " p"], size: int
) -> Float[Tensor, "p size size"]:
    """The part of each proposal's object that lies in the proposal, as 0 and 1 on a size x size grid.

    Args:
        masks: Masks of all objects of the image.
        boxes: Foreground proposals of the image.
        matched: Index of each proposal's object.
        size: Side of the grid.
    """
    targets = boxes.new_zeros(len(boxes), size, size)
    for used in matched.unique().split(_TARGET_CHUNK):
        mine = torch.where(torch.isin(matched, used))[0]
        rois = torch.cat([torch.searchsorted(used, matched[mine])[:, None].to(boxes), boxes[mine]], dim=1)
        cropped = roi_align(masks[used, None].float(), rois, (size, size), aligned=True)[:, 0]
        targets[mine] = (cropped >= 0.5).to(targets.dtype)
    return targets


def mask_loss(logits: Float[Tensor, "p t t"], targets: Float[Tensor, "p t t"]) -> Scalar:
    """Mean binary cross-entropy; 0, connected to the graph, where there is no foreground."""
    if len(targets) == 0:
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits, targets)


def mean_probabilities(logits: Sequence[Float[Tensor, "p t t"]]) -> Float[Tensor, "p t t"]:
    """Mean over the stages of the mask probabilities."""
    return torch.stack([each.sigmoid() for each in logits]).mean(dim=0)
