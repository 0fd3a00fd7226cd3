"""Common part of trained models: saved as weights with a JSON description, rebuilt without running foreign code."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NotRequired, TypedDict, TypeVar

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import tv_tensors

from longtail.components import own_code_allowed
from longtail.datasets.photographs import RGB, PhotoFormat
from longtail.errors import CheckpointError, ConfigError, DataError
from longtail.frequency import CategoryGroups, ClassFrequency
from longtail.json_files import check_kind, read_json
from longtail.models.weights_file import load_weights, recorded_phases
from longtail.transforms import normalisation

BEST = "best.safetensors"
_HUB_OPTIONS = ("revision", "cache_dir", "force_download", "local_files_only", "token")
#: Settings of ``model`` that are of no use once the trained weights are loaded.
_INITIAL_WEIGHTS = ("weights", "pretrained")

Task = Literal["segmentation", "detection"]
_LOADERS: dict[Task, str] = {
    "segmentation": "longtail.models.segmenter.Segmenter",
    "detection": "longtail.models.detector.Detector",
}

Model = TypeVar("Model", bound="PretrainedModel")


class PretrainedModel(nn.Module, PyTorchModelHubMixin):
    """A model rebuilt from plain JSON values: ``Segmenter`` and ``Detector``.

    A subclass takes ``model``, a dict with a ``name``, and ``network``, your own model instead of it.
    """

    #: Task of the subclass.
    task: ClassVar[Task]
    #: A ``PhasedMethod``, of the subclass's own kind.
    method: Any
    #: ``model`` and ``method`` as they were given.
    settings: dict[str, dict[str, Any]]
    #: From a sample with a stored image to one with the network's input.
    _resize: Any

    def _take_facts(
        self,
        classes: Mapping[str, Any],
        groups: Mapping[str, Any],
        frequency: dict[str, Any],
        usual: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        """Keep what ``facts_of`` tells, and how pictures are prepared: as ``given``, else as ``usual``."""
        self.class_names: tuple[str, ...] = tuple(classes["names"])
        self.palette: list[list[int]] = [list(colour) for colour in classes["palette"]]
        self.groups = CategoryGroups(tuple(groups["names"]), tuple(map(tuple, groups["members"])))
        self.frequency = ClassFrequency.from_dict(frequency)
        self.photos = photos_of(given)
        normalised = normalisation(self.photos.num_bands, given.get("mean"), given.get("std"))
        self.input: dict[str, Any] = {**usual, **given, **normalised}

    def preprocess(self, pixels: Tensor) -> Float[Tensor, "bands h w"]:
        """Scale, convert and normalise pixels as ``photos`` reads them, on the model's device."""
        values = self._resize({"image": tv_tensors.Image(pixels)})["image"]
        return values.as_subclass(Tensor).to(next(self.parameters()).device)

    def save_run(self, folder: str | Path, phases: Sequence[str] = ()) -> None:
        """Write ``best.safetensors`` and ``config.json`` into a run folder; each replaces the old one once it is complete.

        Args:
            folder: The run folder.
            phases: Training phases that the weights have been through; all of them where not given.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / f"{BEST}.part"
        state = _without_sharing(self.state_dict())
        save_file(state, weights, metadata={"phases": " ".join(phases or self.method.phases)})
        weights.replace(folder / BEST)
        self.save_description(folder)

    def save_description(self, folder: str | Path) -> None:
        """Write ``config.json``: the model's settings, without weights."""
        config = Path(folder) / "config.json.part"
        config.write_text(json.dumps(self._hub_mixin_config, indent=1, sort_keys=True) + "\n")
        config.replace(Path(folder) / "config.json")

    def fingerprint(self) -> str:
        """Names of model and method, and a digest of the weights and all settings, which identify predictions."""
        config: Any = self._hub_mixin_config
        told = {**config, **self.settings, "model": self.without_initial_weights(self.settings["model"])}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return f"{self.settings['model'].get('name')}/{self.settings['method'].get('name')} {digest.hexdigest()[:16]}"

    def predict_each(self, images: Iterable[Any], **options: Any) -> Iterator[Any]:
        """Predictions of pictures one after another: of a list of arrays, or of ``datasets.video.frames(PATH)``.

        Args:
            images: Pictures as ``predict`` takes them.
            options: Of ``predict``.
        """
        return (self.predict(image, **options) for image in images)  # type: ignore[operator]  # of the subclass

    @classmethod
    def from_description(cls: type[Model], folder: str | Path, *, trust_code: bool = False) -> Model:
        """The model that ``config.json`` describes, untrained.

        Raises:
            CheckpointError: There is none, it is of the other task, or it names code outside this library that is not
                trusted.
        """
        config = _read_config(Path(folder) / "config.json")
        _check_task(cls.task, config, folder)
        try:
            with own_code_allowed(trust_code, str(folder)):
                return cls(**{**config, "model": cls.without_initial_weights(config["model"])}).eval()
        except TypeError as error:
            raise CheckpointError(
                f"{Path(folder) / 'config.json'} is not of a {cls.__name__}: {error}", fix="record or train it again"
            ) from error

    @classmethod
    def from_pretrained(cls: type[Model], pretrained_model_name_or_path: "str | Path", **options: Any) -> Model:
        """Load a run folder, a folder of ``save_pretrained``, or a model of the Hub.

        Args:
            pretrained_model_name_or_path: Folder, or Hub id.
            options: Those of the Hub mixin (``revision``, ``token``, …), ``network`` for your own model, and
                ``trust_code=True`` to let the configuration name a model builder or a loss outside this library.

        Raises:
            CheckpointError: No such model, no configuration or one of the other task, weights that do not fit it, or
                code that was not trusted.
        """
        trust_code = options.pop("trust_code", False)
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            _check_folder(folder)
        else:
            # the mixin continues without a configuration
            _hub_file(folder, "config.json", **{key: options[key] for key in _HUB_OPTIONS if key in options})
        if not trust_code and "network" not in options:
            options["untrusted"] = True
        return super().from_pretrained(str(folder), **options)

    @classmethod
    def without_initial_weights(cls, model: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of ``model`` without files of initial weights, which need not be at hand for a trained model."""
        return {key: value for key, value in model.items() if key not in _INITIAL_WEIGHTS}

    @classmethod
    def _from_pretrained(
        cls: type[Model],
        *,
        model_id: str,
        map_location: str = "cpu",
        strict: bool = True,
        config: dict[str, Any] | None = None,
        **options: Any,
    ) -> Model:
        _check_task(cls.task, config or {}, model_id)
        hub = {key: options.pop(key) for key in _HUB_OPTIONS if key in options}
        untrusted = options.pop("untrusted", False)
        options["model"] = cls.without_initial_weights(options.get("model", {}))
        with own_code_allowed(not untrusted, model_id):
            trained = cls(**options)
        best = Path(model_id) / BEST
        if best.is_file():
            path = best
        elif Path(model_id).is_dir():
            path = Path(model_id) / "model.safetensors"
        else:
            path = _hub_file(Path(model_id), "model.safetensors", **hub)
        load_weights(trained, path, device=map_location)
        done = [phase for phase in recorded_phases(path) if phase in trained.method.phases]
        if done and done[-1] != trained.method.phases[-1]:
            # of a run that stopped between two phases: weights that the last phase would have trained are not read
            trained.method.start_phase(done[-1])
        return trained.to(map_location).eval()


def facts_of(data: Any, frequency: ClassFrequency, groups: CategoryGroups) -> dict[str, Any]:
    """What a model is told of its training data, as plain values: arguments of ``Segmenter`` and ``Detector``."""
    ids = getattr(data, "category_ids", None)
    return {
        "classes": {
            "names": list(data.classes.names),
            "palette": [list(map(int, colour)) for colour in data.classes.palette],
            **({} if ids is None else {"ids": [int(identity) for identity in ids]}),
        },
        "groups": {"names": list(groups.names), "members": [list(members) for members in groups.members]},
        "frequency": frequency.to_dict(),
    }


def _without_sharing(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, each with memory of its own: a safetensors file has no two names for one tensor."""
    seen: set[int] = set()
    found = {}
    for name, value in state.items():
        value = value.contiguous()
        place = value.untyped_storage().data_ptr()
        found[name] = value.clone() if place in seen and value.numel() else value
        seen.add(place)
    return found


def saved_task(source: str | Path) -> Task:
    """Task of a run folder, a folder of ``save_pretrained`` or a model of the Hub: which class loads it.

    Raises:
        CheckpointError: There is no such model, or it has no configuration of this library.
    """
    folder = Path(source)
    path = folder / "config.json" if folder.is_dir() else _hub_file(folder, "config.json")
    return _task_of(_read_config(path))


def photos_of(input: Mapping[str, Any]) -> PhotoFormat:
    """How the photographs of a model are read, by its ``input``."""
    bands, value_range = input.get("bands"), input.get("value_range")
    return PhotoFormat(
        tuple(bands) if isinstance(bands, (list, tuple)) else bands,
        None if value_range is None else (float(value_range[0]), float(value_range[1])),
        input.get("pages", "refuse"),
    )


def picture_pixels(image: "str | Path | Image.Image | np.ndarray | Tensor", photos: PhotoFormat = RGB) -> Tensor:
    """Pixels (bands, h, w) of a file, a PIL image, an (h, w, bands) array or a (bands, h, w) tensor.

    Args:
        image: Arrays and tensors hold RGB bytes; for a model of other bands or of a range of values, what
            ``photos.read`` gives: bytes, or float32 in 0 … 1.
        photos: How the model's photographs are read.

    Raises:
        ConfigError: Values or a shape that are no RGB picture, or one without pixels.
        DataError: The file cannot be read.
    """
    if isinstance(image, (str, Path)):
        return photos.read(image)
    if isinstance(image, Image.Image):
        image = np.array(image.convert("RGB"))
    channels, uint8 = (-1, np.uint8) if isinstance(image, np.ndarray) else (0, torch.uint8)
    fits = image.dtype == uint8 or (photos.value_range is not None and str(image.dtype).endswith("float32"))
    if not fits or image.ndim != 3 or image.shape[channels] != photos.num_bands or 0 in image.shape:
        n = photos.num_bands
        raise ConfigError(
            f"cannot read a picture from {image.dtype} of shape {tuple(image.shape)}",
            fix=f"pass uint8 {'RGB ' if photos == RGB else ''}of at least one pixel: (h, w, {n}) as an array, ({n}, h, w) "
            "as a tensor" + ("" if photos.value_range is None else "; or float32 in 0 … 1"),
        )
    # torch takes no arrays that run backwards, such as BGR turned with [..., ::-1]
    return torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, 0) if isinstance(image, np.ndarray) else image


class _Classes(TypedDict):
    names: list[str]
    palette: NotRequired[list[list[int]]]
    ids: NotRequired[list[int]]


class _Groups(TypedDict):
    names: list[str]
    members: list[list[int]]


class _Config(TypedDict):
    model: dict[str, Any]
    task: NotRequired[Literal["segmentation", "detection"]]
    method: NotRequired[dict[str, Any]]
    classes: NotRequired[_Classes]
    groups: NotRequired[_Groups]
    frequency: NotRequired[dict[str, Any]]
    input: NotRequired[dict[str, Any] | None]


def _read_config(path: Path) -> dict[str, Any]:
    """Content of a ``config.json``.

    Raises:
        CheckpointError: It cannot be read, lacks the model, or holds a value of another type.
    """
    fix = "give a run folder that has trained"
    try:
        return check_kind(read_json(path, "a configuration of this library", fix), _Config, path, fix)
    except DataError as error:
        raise CheckpointError(error.problem, fix=error.fix) from error


def _task_of(config: Any) -> Task:
    return "detection" if config.get("task") == "detection" else "segmentation"


def _check_task(wanted: Task, config: Mapping[str, Any], source: str | Path) -> None:
    saved = _task_of(config)
    if saved != wanted:
        raise CheckpointError(
            f"{source} is a {saved} model, not one of {wanted}", fix=f"load it with {_LOADERS[saved]}.from_pretrained"
        )


def _hub_file(model: Path, name: str, **options: Any) -> Path:
    """A file of a model of the Hub, downloaded once.

    Raises:
        CheckpointError: It cannot be a model of the Hub, or the Hub does not give the file.
    """
    _check_hub_id(model)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model.as_posix(), name, **options))
    except Exception as error:  # the client's own, those of HTTP, and of a full disk
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"there is no folder {model}, and no {name} of a model of that name was had from the Hub: {why[0]}",
            fix="give a run folder, or a Hub id such as owner/name that you may read (it needs a network the first time)",
        ) from error


def _check_hub_id(path: Path) -> None:
    """Raise an error for a path that is neither a folder nor a possible Hub model."""
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file, a model is a folder of weights with their config.json",
            fix="give the run folder; weights alone can only begin a training (--from)",
        )
    if path.is_absolute() or len(path.parts) != 2 or path.parent.is_dir():
        siblings = [folder.name for folder in path.parent.glob("*/")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        raise CheckpointError(
            f"there is no folder {path}",
            fix=f"did you mean {path.parent / close[0]}?"
            if close
            else "give a run folder or a Hub id such as owner/name",
        )


def _check_folder(folder: Path) -> None:
    _read_config(folder / "config.json")
    if not any((folder / name).is_file() for name in (BEST, "model.safetensors")):
        raise CheckpointError(
            f"{folder} has no {BEST} or model.safetensors", fix="train the run to its first evaluation"
        )
