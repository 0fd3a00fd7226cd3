"""Three decoders on one set of features, against the same decoders as their papers write them."""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from harness import measure, measure_each
from torch import Tensor, nn

from longtail.segmentation.models.deeplabv3plus import DeepLabV3PlusDecoder
from longtail.segmentation.models.ocrnet import OCRDecoder
from longtail.segmentation.models.pspnet import PyramidPoolingDecoder
from longtail.segmentation.models.segformer import MLPDecoder

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.plain_decoders import as_written

RESNET = ((256, 64), (2048, 16))  # channels and side of each map, of images of 256x256
MIT = ((64, 64), (128, 32), (320, 16), (512, 8))
HRNET = ((48, 64), (96, 32), (192, 16), (384, 8))
DECODERS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, int], ...]]] = {
    "pspnet": (lambda: PyramidPoolingDecoder(2048, 512), ((2048, 32),)),
    "deeplabv3plus": (
        lambda: DeepLabV3PlusDecoder(
            (256, 2048), 0, channels=256, low_level_channels=48, dilations=(1, 6, 12, 18), dropout=0.1
        ),
        RESNET,
    ),
    "segformer": (lambda: MLPDecoder((64, 128, 320, 512), 768), MIT),
    "segformer_conv": (lambda: MLPDecoder((64, 128, 320, 512), 256, "conv"), MIT),
    "ocrnet": (lambda: OCRDecoder(720, 150, 512, 256), HRNET),
}
K = 3


def run(name: str, options: argparse.Namespace) -> None:
    """Inference and training of one decoder; experts 2 and 3 read detached features."""
    torch.manual_seed(0)
    build, sizes = DECODERS[name]
    experts = [build().to(options.device) for _ in range(K)]
    drawn = [torch.randn(2, channels, side, side).relu() for channels, side in sizes]
    maps = [z.to(options.device).requires_grad_() for z in drawn]
    detached = [m.detach() for m in maps]
    for expert in experts:
        for part in expert.modules():
            if isinstance(part, nn.Dropout | nn.Dropout2d):
                part.p = 0.0

    def outputs(form: str) -> list[Tensor]:
        with as_written() if form == "written" else nullcontext():
            found = [expert(detached if i else maps) for i, expert in enumerate(experts)]
        return [decoded[0] if isinstance(decoded, tuple) else decoded for decoded in found]

    def training(form: str) -> Callable[[], Tensor]:
        def step() -> Tensor:
            loss = sum(decoded.square().mean() for decoded in outputs(form))
            loss.backward()
            for tensor in (*maps, *(p for expert in experts for p in expert.parameters())):
                tensor.grad = None
            return loss.detach()

        return step

    def inference(form: str) -> Callable[[], list[Tensor]]:
        return torch.no_grad()(lambda: outputs(form))

    torch.testing.assert_close(training("folded")(), training("written")())
    for mode, side in (("training", training), ("inference", inference)):
        for expert in experts:
            expert.train(mode == "training")
        measure(
            f"decoders_{name}_{mode}",
            {"as the paper writes it": side("written"), "longtail, folded": side("folded")},
            options,
            note=f"{K} decoders on features of 2 images of 256x256, experts 2 and 3 detached, {mode}, equal values",
        )


if __name__ == "__main__":
    measure_each(__doc__, DECODERS, run)
