"""Take a plain training of segmentation-models-pytorch, add experts, export, and run the ONNX file without this library.

    pip install longtail[smp,export]
    python examples/add_experts_and_deploy.py [FOLDER_OF_THE_DATA] [STEPS]

The first part knows nothing of longtail's models: it is anybody's training. Without a folder (`images/` and `masks/`, such as
ccp51) the data are synthetic scenes.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.utils.data import DataLoader

from longtail import CategoryGroups, LongTailScenes, SegmentationFolder, Segmenter, count_pixels, wrap
from longtail.checkpoints.translate import translate
from longtail.encoders import read_state_dict
from longtail.export.write import export
from longtail.models.adopt import adopt
from longtail.transforms import segmentation_train

STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 4
transform = segmentation_train(crop=(96, 96))
if len(sys.argv) > 1:
    data = SegmentationFolder(sys.argv[1], "train", transform=transform)
else:
    data = LongTailScenes("train", num_images=64, transform=transform)
loader = DataLoader(data, batch_size=8, shuffle=True, collate_fn=lambda samples: samples)
num_classes = len(data.classes.names)


def network() -> nn.Module:
    """The network of both trainings."""
    return smp.Unet("mobilenet_v2", encoder_weights=None, classes=num_classes)


def batches(steps: int):
    """Images and labels of so many steps."""
    done = 0
    while done < steps:
        for samples in loader:
            yield torch.stack([s["image"] for s in samples]), torch.stack([s["mask"] for s in samples]).long()
            done += 1
            if done == steps:
                return


def plain_training(path: Path) -> None:
    """Anybody's loop; it leaves a checkpoint."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for image, target in batches(STEPS):
        loss = nn.functional.cross_entropy(model(image), target, ignore_index=data.ignore_index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save({"state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}}, path)


with tempfile.TemporaryDirectory() as folder:
    checkpoint, exported = Path(folder) / "plain.ckpt", Path(folder) / "model.onnx"
    plain_training(checkpoint)

    frequency = count_pixels(data, progress=False)
    groups = CategoryGroups.by_share(frequency)
    segmenter = Segmenter.around(wrap(network()), data, frequency, groups, method={"name": "medoe"})
    method = segmenter.method
    found = translate(read_state_dict(checkpoint), method, checkpoint)
    print(found.words())
    adopt(method, found.weights, checkpoint, [name for name, _ in method.named_parameters()])

    method.freeze("encoder")  # the finished encoder stays to the bit: only the experts are trained
    for phase in method.phases:
        method.train().start_phase(phase)
        optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 1e-3)
        for image, target in batches(STEPS):
            losses = method.losses(image, target)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
        print(phase, {name: round(value.item(), 3) for name, value in losses.items()})

    written = export(segmenter, exported, labels_only=True, normalise=True)
    print("differences from the model:", written.differences)

    session = onnxruntime.InferenceSession(exported)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 120, 88), dtype=np.uint8)
    (labels,) = session.run(None, {"image": pixels})
    own = np.stack([segmenter.predict(torch.from_numpy(picture)).numpy() for picture in pixels])
    print("labels:", labels.shape, "equal to the model's:", float((labels == own).mean()))
