"""Any image model of timm as an encoder."""

from pathlib import Path
from typing import Any

from torch import Tensor

from longtail.encoders.base import Encoder
from longtail.encoders.weights import load_encoder_weights
from longtail.errors import ConfigError
from longtail.shapes import Images


class TimmEncoder(Encoder):
    """Any timm model with ``features_only``, its maps always in (n, c, h, w).

    Args:
        name: timm's name, with or without a weights tag (``resnet50c``, ``convnext_tiny.fb_in1k``).
        output_stride: 8 or 16 where the model can be dilated; 32 does not change it.
        pretrained: Take timm's published weights.
        options: Other arguments of ``timm.create_model`` (``out_indices``, ``drop_path_rate`` …).

    Raises:
        ConfigError: timm has no such model, or it cannot be built so.
    """

    def __init__(self, name: str, output_stride: int = 32, pretrained: bool = False, **options: Any) -> None:
        super().__init__()
        import timm

        self._arguments = {"name": name, "output_stride": output_stride, **options}

        if not timm.is_model(name.split(".")[0]):
            close = timm.list_models(f"*{name.split('.')[0]}*")[:5]
            raise ConfigError(
                f"timm has no model {name!r}",
                fix=f"did you mean one of {close}?" if close else "see timm.list_models()",
            )
        if output_stride != 32:
            options["output_stride"] = output_stride
        try:
            self.body = timm.create_model(name, pretrained=pretrained, features_only=True, **options)
        except (AssertionError, TypeError, RuntimeError, NotImplementedError) as error:
            raise ConfigError(
                f"timm cannot build {name!r} as a feature extractor with {options}: {error or type(error).__name__}",
                fix="try output_stride 32 and fewer encoder options; not every model can be dilated",
            ) from error
        info: Any = self.body.feature_info
        self.channels, self.reductions = tuple(info.channels()), tuple(info.reduction())
        # HRNet adds maps that it upsamples by fixed factors; plain vision transformers cut the image into patches.
        rigid = name.startswith("hrnet") or len(set(self.reductions)) == 1
        self.size_divisor = max(32 if name.startswith("hrnet") else 1, self.reductions[-1]) if rigid else 1
        self._channels_last = str(getattr(self.body, "output_fmt", "NCHW")).upper().endswith("NHWC")

    def forward(self, image: Images) -> list[Tensor]:
        """Feature maps, shallow to deep."""
        maps = self.body(image)
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self._channels_last else list(maps)

    def load_published(self) -> None:
        """See ``Encoder``; the weights that timm publishes."""
        self.body = TimmEncoder(pretrained=True, **self._arguments).body

    def load_file(self, path: str | Path) -> None:
        """See ``Encoder``; the names are timm's."""
        load_encoder_weights(self.body, path)
