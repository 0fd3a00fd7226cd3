"""segmentation-models-pytorch: encoder, decoder and segmentation head, as the library names them."""

from longtail.checkpoints.family import Family

SMP = Family(
    "segmentation-models-pytorch",
    marks=("encoder.", "decoder.", "segmentation_head."),
    rules={
        r"encoder\.(.*)": (r"encoder.\1", r"encoder.encoder.\1"),
        r"decoder\.(.*)": (r"expert.decoder.\1", r"expert.decoder.decoder.\1"),
        r"segmentation_head\.0\.(.*)": r"expert.head.\1",
        r"segmentation_head\.head\.([0-3]\..*)": r"expert.decoder.refine.\1",
        r"segmentation_head\.head\.4\.(.*)": r"expert.head.\1",
    },
    ignored=r".*num_batches_tracked|classification_head\..*",
)
