"""``Segmenter``: a trained method with its classes and preprocessing; save, publish and load this."""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from longtail.datasets.base import SegmentationDataset
from longtail.encoders import adapt_bands
from longtail.ensembles.base import Ensemble
from longtail.ensembles.build import EnsembleSpec, Experts, build_ensemble, check_reading
from longtail.errors import CheckpointError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.models.adopt import adopt
from longtail.models.pretrained import PretrainedModel, facts_of, picture_pixels
from longtail.models.segmentation_methods import SEGMENTATION_METHODS, build_method
from longtail.pixels import Upsampling, map_labels
from longtail.segmentation.encoder_decoder import EncoderDecoder
from longtail.segmentation.fitting import SURELY_FITS, fitting_window
from longtail.segmentation.models import build_model
from longtail.segmentation.tiling import expert_maps, tiled
from longtail.shapes import ClassMaps, Images
from longtail.transforms import IMAGENET_MEAN, IMAGENET_STD, segmentation_eval

#: How pictures are brought to the network where ``input`` does not say.
SEGMENTATION_INPUT: dict[str, Any] = {
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
    "short_side": None,
    "max_side": None,
    "size": None,
}


class Segmenter(
    PretrainedModel,
    library_name="longtail",
    tags=["semantic-segmentation", "long-tailed"],
    license="apache-2.0",
):
    """A segmentation method with its model, classes and preprocessing, rebuilt from plain JSON values.

    Args:
        model: ``{"name": …, option: …}`` for ``segmentation.models.build_model``.
        method: ``{"name": …, option: …}`` for ``models.build_method``.
        classes: ``{"names": [...], "palette": [[r, g, b], ...]}``.
        groups: ``{"names": [...], "members": [[class ids], ...]}``, most frequent first (lists: JSON files may sort keys).
        frequency: ``ClassFrequency.to_dict()`` of the training split.
        input: ``mean`` and ``std`` of the normalisation (of values in [0, 1]), and the pixels to which the image is scaled
            before the network, None for none: ``short_side`` and ``max_side``, or ``size`` (height, width);
            ``bands``, ``value_range`` and ``pages`` of ``PhotoFormat`` where pictures are no RGB bytes.
        ignore_index: Target value of pixels without a label.
        network: A model of your own instead of ``model``; pass it to ``from_pretrained`` again.
    """

    task = "segmentation"

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
        self._take_facts(classes, groups, frequency, SEGMENTATION_INPUT, input or {})
        self.settings = {"model": dict(model), "method": dict(method)}
        #: Height and width of a large picture -> window that it is read by.
        self._windows: dict[tuple[int, int], tuple[int, int] | None] = {}
        self._resize = segmentation_eval(**{name: self.input[name] for name in SEGMENTATION_INPUT})
        if network is None:
            if not model:
                raise CheckpointError(
                    "this is a model of your own, of which the weights alone are saved", fix="pass it as network="
                )
            options = dict(model)
            network = build_model(options.pop("name"), len(self.class_names), **options)
            adapt_bands(network.encoder, self.photos.num_bands)
        counts: dict[str, Any] = {"frequency": self.frequency, "groups": self.groups}
        self.method = build_method(dict(method), network, **counts, ignore_index=ignore_index)

    @classmethod
    def around(
        cls,
        network: EncoderDecoder,
        data: SegmentationDataset,
        frequency: ClassFrequency,
        groups: CategoryGroups,
        method: dict[str, Any] | None = None,
        input: dict[str, Any] | None = None,
    ) -> "Segmenter":
        """A segmenter of your own network: train its ``method`` in your loop, then ``save_pretrained``.

        ``from_pretrained(FOLDER, network=…)`` reads it again; the network itself is not saved, only its weights.

        Args:
            network: What ``wrap`` gives.
            data: The training data; names, colours and the ignored value are its own.
            frequency: Its counts.
            groups: Groups of its classes, most frequent first.
            method: ``{"name": …, option: …}`` for ``models.build_method``; MEDOE as it is where not given.
            input: See the class.
        """
        facts = {**facts_of(data, frequency, groups), "ignore_index": data.ignore_index}
        return cls(model={}, method=method or {"name": "medoe"}, input=input, network=network, **facts)

    @property
    def num_experts(self) -> int:
        """Number of experts that ensembles read."""
        return self._experts().num_experts

    def ensembles(self, specs: Mapping[str, EnsembleSpec]) -> dict[str, Ensemble]:
        """Ensembles of this model's experts by name, not fitted.

        Args:
            specs: Name -> ensemble and its options, see ``build_ensemble``.

        Raises:
            ConfigError: No such ensemble, or one that cannot read these experts.
        """
        experts = self._experts()
        found = {name: build_ensemble(spec, experts) for name, spec in specs.items()}
        blank = torch.zeros(experts.num_experts, 1, self.method.num_logits, 1, 1)
        check_reading(found, blank, self.method.num_classes)
        return found

    def dial(self, taus: Sequence[float]) -> dict[str, EnsembleSpec]:
        """Name -> reading for every τ: the nested chain of MEDOE's experts, the baseline's logits adjusted.

        A larger τ gives rare classes more pixels; 0 takes the experts as they are.
        """
        reading = "logit_adjustment" if self.num_experts == 1 else "nested_chain"
        return {f"tau_{tau:g}": {"name": reading, "tau": tau} for tau in taus}

    def turn(self, tau: float) -> None:
        """Predict at another τ from now on (see ``dial``); training and saving do not know of it."""
        ((name, spec),) = self.dial([tau]).items()
        self.method.read_with(self.ensembles({name: spec})[name].to(next(self.parameters()).device))
        self.settings["method"] = {**self.settings["method"], "ensemble": spec}

    def _experts(self) -> Experts:
        config = SEGMENTATION_METHODS.build(self.settings["method"])
        return config.experts(self.groups, self.frequency, self.method.ignore_index)

    def with_method(self, method: dict[str, Any]) -> "Segmenter":
        """Another method that begins with these weights: MEDOE, each of whose experts is this model's decoder.

        Labels of expert 1 are those of this model until it is trained. The two share no tensor.

        Args:
            method: ``{"name": …, option: …}`` for ``models.build_method``.

        Raises:
            ConfigError: No such method or option.
            CheckpointError: The network of the other method is not this one.
        """
        facts: Any = self._hub_mixin_config
        network = None
        if not facts["model"]:
            network = getattr(self.method, "model", None)
            if network is None:
                raise CheckpointError(
                    "this is a network of your own", fix="begin with a baseline, or with wrap(network)"
                )
        options = {**facts, "method": method, "model": self.without_initial_weights(facts["model"])}
        other = type(self)(**{**options, "network": copy.deepcopy(network)})
        adopt(
            other.method, self.method.state_dict(), "this model", [name for name, _ in other.method.named_parameters()]
        )
        return other.eval()

    def forward(self, image: Images) -> ClassMaps:
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
            image: A file, a PIL image, or uint8 RGB values as an (h, w, 3) array or a (3, h, w) tensor;
                of other bands see ``picture_pixels``.
            window: Height and width of a sliding window over large pictures, whose results are averaged; None reads the
                whole picture at once, or by the windows of ``fitting_window``.
            stride: Step of the window, two thirds of it by default.

        Returns:
            int64 (h, w) class ids.
        """
        normalised, size = self._read(image)
        if window is None and tuple(normalised.shape[-2:]) == size:
            return self._by_fitting_windows(self.method.labels, normalised)[0]
        return map_labels(self._probabilities(normalised, window, stride), Upsampling(size))[0]

    @torch.inference_mode()
    def probabilities(
        self,
        image: "str | Path | Image.Image | np.ndarray | Tensor",
        *,
        window: tuple[int, int] | None = None,
        stride: tuple[int, int] | None = None,
    ) -> Float[Tensor, "classes h w"]:
        """Class probabilities of one picture at its own size; arguments as of ``predict``."""
        normalised, size = self._read(image)
        return Upsampling(size)(self._probabilities(normalised, window, stride))[0]

    def fitting_window(self, height: int, width: int) -> tuple[int, int] | None:
        """Window by which a picture of this size is read; None where half of the device's free memory holds the whole.

        Such windows overlap by a quarter, and each pixel is of the window whose middle is nearest.
        """
        pixels = torch.empty(self.photos.num_bands, height, width, dtype=torch.uint8)
        return self._fitting(self.preprocess(pixels).unsqueeze(0))

    def _read(self, image: Any) -> tuple[Images, tuple[int, int]]:
        """The normalised picture, and its own size."""
        self.eval()
        pixels = picture_pixels(image, self.photos)
        return self.preprocess(pixels).unsqueeze(0), (pixels.shape[-2], pixels.shape[-1])

    def _probabilities(self, normalised: Images, window: Any, stride: Any) -> ClassMaps:
        if window is None:
            return self._by_fitting_windows(self.method, normalised)
        return self.method.own_probabilities(expert_maps(self.method, normalised, window, stride).logits)

    def _by_fitting_windows(self, run: Callable[[Tensor], Tensor], normalised: Images) -> Tensor:
        window = self._fitting(normalised)
        return run(normalised) if window is None else tiled(run, normalised, window)

    def _fitting(self, normalised: Images) -> tuple[int, int] | None:
        height, width = normalised.shape[-2:]
        if height * width <= SURELY_FITS:
            return None
        if (height, width) not in self._windows:
            self._windows[height, width] = fitting_window(self.method.labels, normalised)[1]
        return self._windows[height, width]
