"""``Segmenter``: a trained method with all that it needs to read a picture; the thing to save, publish and load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as v2

from longtail.errors import CheckpointError, ConfigError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.medoe.build import build_method
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.models import build_model

IMAGENET_INPUT = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "short_side": None}
_BEST = "best.safetensors"
_HUB_OPTIONS = ("revision", "cache_dir", "force_download", "local_files_only", "token")


class Segmenter(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="longtail",
    tags=["semantic-segmentation", "long-tailed"],
    license="apache-2.0",
):
    """A segmentation method with its model, classes and preprocessing, rebuilt from plain JSON values.

    Args:
        model: ``{"name": …, option: …}`` for ``segmentation.models.build_model``.
        method: ``{"name": …, option: …}`` for ``medoe.build_method``.
        classes: ``{"names": [...], "palette": [[r, g, b], ...]}``.
        groups: ``{"names": [...], "members": [[class ids], ...]}``, most frequent first (lists: JSON files may sort keys).
        frequency: ``ClassFrequency.to_dict()`` of the training split.
        input: ``mean`` and ``std`` of the normalisation (of values in [0, 1]), and ``short_side``: pixels to which the
            image's shorter side is scaled before the model, None for none.
        ignore_index: Target value of pixels without a label.
        network: A model of your own instead of ``model``; pass it to ``from_pretrained`` again.
    """

    def __init__(
        self,
        model: dict[str, Any],
        method: dict[str, Any],
        classes: dict[str, Any],
        groups: dict[str, Any],
        frequency: dict[str, Any],
        input: dict[str, Any] | None = None,
        ignore_index: int = 255,
        network: EncoderDecoder | None = None,
    ) -> None:
        super().__init__()
        self.class_names: tuple[str, ...] = tuple(classes["names"])
        self.palette: list[list[int]] = [list(colour) for colour in classes["palette"]]
        self.groups = CategoryGroups(tuple(groups["names"]), tuple(map(tuple, groups["members"])))
        self.frequency = ClassFrequency.from_dict(frequency)
        self.input = IMAGENET_INPUT | dict(input or {})
        self.settings = {"model": dict(model), "method": dict(method)}
        if network is None:
            options = dict(model)
            network = build_model(options.pop("name"), len(self.class_names), **options)
        options = dict(method)
        self.method = build_method(
            options.pop("name"),
            network,
            frequency=self.frequency,
            groups=self.groups,
            ignore_index=ignore_index,
            **options,
        )

    def forward(self, image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes h w"]:
        """Class probabilities of normalised images, at their size."""
        return self.method(image)

    @torch.inference_mode()
    def predict(
        self,
        image: "str | Path | Image.Image | np.ndarray | Tensor",
        *,
        window: tuple[int, int] | None = None,
        stride: tuple[int, int] | None = None,
    ) -> Tensor:
        """Label map of one picture at its own size.

        Args:
            image: A file, a PIL image, or uint8 RGB values as an (h, w, 3) array or a (3, h, w) tensor.
            window: Height and width of a sliding window over large pictures; None reads the whole picture at once.
            stride: Step of the window, two thirds of it by default.

        Returns:
            int64 (h, w) class ids.
        """
        self.eval()
        pixels = _as_tensor(image)
        size = (pixels.shape[-2], pixels.shape[-1])
        normalised = self.preprocess(pixels).unsqueeze(0)
        if window is None:
            probabilities = self.method(normalised)
        else:
            from longtail.segmentation.tiling import sliding_window

            step = stride or (max(1, window[0] * 2 // 3), max(1, window[1] * 2 // 3))
            probabilities = sliding_window(self.method, normalised, window, step)
        if tuple(probabilities.shape[-2:]) != size:
            probabilities = v2.resize(probabilities, list(size), antialias=False)
        return probabilities[0].argmax(dim=0)

    def preprocess(self, pixels: Tensor) -> Float[Tensor, "3 h w"]:
        """Scale, convert and normalise uint8 (3, h, w) RGB pixels, on the model's device."""
        device = next(self.parameters()).device
        if self.input["short_side"]:
            pixels = v2.resize(pixels, [int(self.input["short_side"])], antialias=True)
        values = v2.to_dtype(pixels.to(device), torch.float32, scale=True)
        return v2.normalize(values, self.input["mean"], self.input["std"])

    def save_run(self, folder: str | Path) -> None:
        """Write ``best.safetensors`` and ``config.json`` into a run folder; each replaces the old one when it is whole."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / f"{_BEST}.part"
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, weights)
        weights.replace(folder / _BEST)
        config = folder / "config.json.part"
        config.write_text(json.dumps(self._hub_mixin_config, indent=1, sort_keys=True) + "\n")
        config.replace(folder / "config.json")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: "str | Path", **options: Any) -> "Segmenter":
        """Load a run folder, a folder of ``save_pretrained``, or a model of the Hub.

        Args:
            pretrained_model_name_or_path: Folder, or Hub id.
            options: Those of the Hub mixin (``revision``, ``token``, …), ``network`` for a model of your own, and
                ``trust_code=True`` to let the configuration name a model builder outside this library.

        Raises:
            CheckpointError: No configuration, weights that do not fit it, or code that was not trusted.
        """
        trust_code = options.pop("trust_code", False)
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            _check_folder(folder, trusted=trust_code or "network" in options)
        elif folder.is_absolute() or len(folder.parts) > 2:
            raise CheckpointError(
                f"there is no folder {folder}", fix="give a run folder or a Hub id such as owner/name"
            )
        elif not trust_code and "network" not in options:
            options["untrusted"] = True
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **options: Any
    ) -> "Segmenter":
        hub = {
            k: options.pop(k)
            for k in ("revision", "cache_dir", "force_download", "local_files_only", "token")
            if k in options
        }
        if options.pop("untrusted", False):
            _refuse_foreign_code(model_id, options.get("model", {}))
        # The file of initial encoder weights is not needed, nor at hand, once the trained weights are loaded.
        options["model"] = {k: v for k, v in options.get("model", {}).items() if k not in ("weights", "pretrained")}
        segmenter = cls(**options)
        best = Path(model_id) / _BEST
        if best.is_file():
            path = best
        elif Path(model_id).is_dir():
            path = Path(model_id) / "model.safetensors"
        else:
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(model_id, "model.safetensors", **hub))
        load_weights(segmenter, path, device=map_location)
        return segmenter.to(map_location).eval()


def load_weights(module: nn.Module, path: Path, device: str = "cpu") -> None:
    """Load a safetensors file into a module, every tensor of both accounted for.

    Raises:
        CheckpointError: Missing or corrupt file, or tensors that do not fit.
    """
    try:
        state = load_file(path, device=device)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot read weights from {path}: {error}", fix="give a complete safetensors file"
        ) from error
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit the model: {error}", fix="load it with its own config.json"
        ) from error


def _check_folder(folder: Path, *, trusted: bool) -> None:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        model: Mapping[str, Any] = config["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a configuration of this library: {error!r}", fix="give a run folder that has trained"
        ) from error
    if not any((folder / name).is_file() for name in (_BEST, "model.safetensors")):
        raise CheckpointError(
            f"{folder} has no {_BEST} or model.safetensors", fix="train the run to its first evaluation"
        )
    if not trusted:
        _refuse_foreign_code(str(folder), model)


def _refuse_foreign_code(source: str, model: Mapping[str, Any]) -> None:
    name = str(model.get("name", ""))
    if "." in name and not name.startswith("longtail."):
        raise CheckpointError(
            f"{source} asks to run {name}, code outside this library",
            fix="pass trust_code=True if you trust it, or build the model yourself and pass network=",
        )


def _as_tensor(image: "str | Path | Image.Image | np.ndarray | Tensor") -> Tensor:
    if isinstance(image, (str, Path)):
        from longtail.datasets.image_files import read_image

        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return v2.pil_to_tensor(image.convert("RGB"))
    pixels = torch.from_numpy(image).movedim(-1, 0) if isinstance(image, np.ndarray) else image
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ConfigError(
            f"cannot read a picture from {pixels.dtype} of shape {tuple(pixels.shape)}",
            fix="pass uint8 RGB: (h, w, 3) as an array, (3, h, w) as a tensor",
        )
    return pixels
