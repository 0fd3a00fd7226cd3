"""mmsegmentation: DeepLabv3+, PSPNet, OCRNet and SegFormer's head, on its ResNets and HRNets."""

from longtail.checkpoints.family import Family


def _conv(theirs: str, ours: str, groups: int = 0) -> dict[str, str]:
    """Convolution and norm of a ConvModule."""
    end = rf"\{groups + 1}"
    return {rf"{theirs}\.conv\.(.*)": rf"{ours}.0.{end}", rf"{theirs}\.bn\.(.*)": rf"{ours}.1.{end}"}


def _separable(theirs: str, ours: str, groups: int = 0) -> dict[str, str]:
    parts = (("depthwise_conv", "0"), ("pointwise_conv", "1"))
    return {k: v for part, number in parts for k, v in _conv(rf"{theirs}\.{part}", f"{ours}.{number}", groups).items()}


_HEAD, _OURS, _NUMBER = r"decode_head", "expert.decoder", r"(\d)"
_DEEPLAB = {
    **_conv(rf"{_HEAD}\.image_pool\.1", f"{_OURS}.aspp.pool"),
    **_conv(rf"{_HEAD}\.aspp_modules\.{_NUMBER}", rf"{_OURS}.aspp.branches.\1", 1),
    **_separable(rf"{_HEAD}\.aspp_modules\.{_NUMBER}", rf"{_OURS}.aspp.branches.\1", 1),
    **_conv(rf"{_HEAD}\.c1_bottleneck", f"{_OURS}.squeeze"),
    **_separable(rf"{_HEAD}\.sep_bottleneck\.{_NUMBER}", rf"{_OURS}.refine.\1", 1),
}
_PSP = _conv(rf"{_HEAD}\.psp_modules\.{_NUMBER}\.1", rf"{_OURS}.branches.\1", 1)
#: The 3x3 fusion, which is the pyramid's in DeepLabv3+ and the decoder's in PSPNet.
_FUSION = {
    rf"{_HEAD}\.bottleneck\.conv\.(.*)": (rf"{_OURS}.aspp.fuse.0.\1", rf"{_OURS}.fuse.0.\1"),
    rf"{_HEAD}\.bottleneck\.bn\.(.*)": (rf"{_OURS}.aspp.fuse.1.\1", rf"{_OURS}.fuse.1.\1"),
}
_SEGFORMER = {
    **_conv(rf"{_HEAD}\.convs\.{_NUMBER}", rf"{_OURS}.projections.\1", 1),
    **_conv(rf"{_HEAD}\.fusion_conv", f"{_OURS}.fuse"),
}
_REGIONS, _OBJECTS = rf"{_HEAD}\.0", rf"{_HEAD}\.1"
_BLOCK = rf"{_OBJECTS}\.object_context_block"
_OCR = {
    **_conv(rf"{_REGIONS}\.convs\.0", f"{_OURS}.soft_regions.0"),
    rf"{_REGIONS}\.conv_seg\.(.*)": rf"{_OURS}.soft_regions.1.\1",
    **_conv(rf"{_OBJECTS}\.bottleneck", f"{_OURS}.pixels"),
    **_conv(rf"{_BLOCK}\.query_project\.{_NUMBER}", rf"{_OURS}.attention.query.\1", 1),
    **_conv(rf"{_BLOCK}\.key_project\.{_NUMBER}", rf"{_OURS}.attention.key.\1", 1),
    **_conv(rf"{_BLOCK}\.value_project", f"{_OURS}.attention.value"),
    **_conv(rf"{_BLOCK}\.out_project", f"{_OURS}.attention.out"),
    **_conv(rf"{_BLOCK}\.bottleneck", f"{_OURS}.attention.fuse"),
    rf"{_OBJECTS}\.conv_seg\.(.*)": r"expert.head.\1",
}
_BACKBONE = {
    r"backbone\.stem\.7\.(.*)": r"encoder.body.bn1.\1",
    r"backbone\.stem\.(\d\..*)": r"encoder.body.conv1.\1",
    r"backbone\.(.*)": r"encoder.body.\1",
}
_AUXILIARY = {
    **_conv(r"auxiliary_head\.convs\.0", "auxiliary_head.conv"),
    r"auxiliary_head\.conv_seg\.(.*)": r"auxiliary_head.classifier.\1",
}

MMSEGMENTATION = Family(
    "mmsegmentation",
    marks=("backbone.", "decode_head."),
    rules={
        **_BACKBONE,
        **_AUXILIARY,
        rf"{_HEAD}\.conv_seg\.(.*)": r"expert.head.\1",
        **_DEEPLAB,
        **_PSP,
        **_FUSION,
        **_SEGFORMER,
        **_OCR,
    },
)
