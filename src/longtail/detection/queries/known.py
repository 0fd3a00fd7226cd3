"""Which detectors of transformers are known."""

from longtail.detection.queries.families import ConditionalDetr, DeformableDetr, Detr, DFine, Family, RtDetr
from longtail.detection.queries.mask_families import MaskFamily, MaskFormer

#: Model type of transformers -> class of the detector, and its family.
FAMILIES: dict[str, tuple[str, type[Family]]] = {
    "rt_detr": ("RTDetrForObjectDetection", RtDetr),
    "rt_detr_v2": ("RTDetrV2ForObjectDetection", RtDetr),
    "d_fine": ("DFineForObjectDetection", DFine),
    "deformable_detr": ("DeformableDetrForObjectDetection", DeformableDetr),
    "detr": ("DetrForObjectDetection", Detr),
    "conditional_detr": ("ConditionalDetrForObjectDetection", ConditionalDetr),
    "mask2former": ("Mask2FormerForUniversalSegmentation", MaskFamily),
    "maskformer": ("MaskFormerForInstanceSegmentation", MaskFormer),
}
