"""Mix Transformer (MiT-B0 … B5), SegFormer's encoder, on the transformers library."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from longtail.encoders.base import Encoder
from longtail.encoders.weights import published_weights, read_state_dict
from longtail.errors import CheckpointError, ConfigError, MissingDependencyError
from longtail.shapes import Images

#: Size -> (channels, blocks) of its four stages.
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "mit_b0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "mit_b2": ((64, 128, 320, 512), (3, 4, 6, 3)),
    "mit_b3": ((64, 128, 320, 512), (3, 4, 18, 3)),
    "mit_b4": ((64, 128, 320, 512), (3, 8, 27, 3)),
    "mit_b5": ((64, 128, 320, 512), (3, 6, 40, 3)),
}


class MixTransformer(Encoder):
    """Four maps at strides 4, 8, 16 and 32 of an image of any size.

    Args:
        name: ``mit_b0`` … ``mit_b5``.
        drop_path: Stochastic depth of the last block, growing from 0 in the first.
        options: Other fields of ``transformers.SegformerConfig``.

    Raises:
        ConfigError: No such size.
        MissingDependencyError: transformers is not installed.

    Source: Xie et al., "SegFormer", Table 6.
    """

    def __init__(self, name: str = "mit_b3", drop_path: float = 0.1, **options: Any) -> None:
        super().__init__()
        if name not in SIZES:
            raise ConfigError(f"there is no Mix Transformer {name!r}", fix=f"choose one of {', '.join(SIZES)}")
        try:
            from transformers import SegformerConfig, SegformerModel
        except ImportError as error:
            raise MissingDependencyError(
                f"{name} needs the transformers library", fix="pip install 'longtail[transformers]'"
            ) from error
        channels, depths = SIZES[name]
        fields = {
            "hidden_sizes": list(channels),
            "depths": list(depths),
            "num_attention_heads": [1, 2, 5, 8],
            "drop_path_rate": drop_path,
            **options,
        }
        self.name = name
        self.body = SegformerModel(SegformerConfig(**fields))
        self.channels = tuple(fields["hidden_sizes"])
        self.reductions = (4, 8, 16, 32)

    def forward(self, image: Images) -> list[Tensor]:
        """Feature maps, shallow to deep."""
        return list(self.body(image, output_hidden_states=True).hidden_states)

    def load_file(self, path: str | Path) -> None:
        """Fill it from a local file with the names of any version of transformers (``nvidia/mit-b3`` on the hub).

        Raises:
            CheckpointError: The file does not hold exactly this encoder.
        """
        state = {k: v for k, v in read_state_dict(path).items() if not k.startswith(("decode_head.", "classifier."))}
        state = {k if k.startswith("segformer.") else f"segformer.{k}": v for k, v in state.items()}
        self._take(str(path), None, config=self.body.config, state_dict=state)

    def load_published(self) -> None:
        """Fill it with NVIDIA's ImageNet weights from the hub, whose licence forbids commercial use."""
        with published_weights(self.name):
            self._take(self.name, f"nvidia/{self.name.replace('_', '-')}", config=self.body.config)

    def _take(self, what: str, *arguments: Any, **options: Any) -> None:
        with quiet_transformers():
            loader: Any = type(self.body)
            body, report = loader.from_pretrained(
                *arguments, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
        wrong = [*report["missing_keys"], *report["mismatched_keys"]]
        unknown = [k for k in report["unexpected_keys"] if "classifier" not in k and "decode_head" not in k]
        if wrong or unknown:
            named = [str(k) for k in (*wrong, *unknown)]
            raise CheckpointError(
                f"{what} does not fit {self.name}: {len(wrong)} parameters missing or of another shape, "
                f"{len(unknown)} unknown ({', '.join(named[:4])} …)",
                fix=f"give weights of {self.name} as transformers saves them",
            )
        self.body.load_state_dict(body.state_dict())


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and load reports off the terminal within this block."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
