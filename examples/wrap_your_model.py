"""Make your own segmentation model multi-expert, in your own training loop.

    pip install longtail[smp]
    python examples/wrap_your_model.py

The data here are synthetic scenes; `SegmentationFolder("path/to/data", "train")` reads yours.
"""

import segmentation_models_pytorch as smp
import torch
from torch.utils.data import DataLoader

from longtail import CategoryGroups, LongTailScenes, build_method, count_pixels, wrap
from longtail.transforms import segmentation_train

data = LongTailScenes("train", num_images=64, transform=segmentation_train(crop=(96, 96)))
frequency = count_pixels(data, progress=False)  # how often each class occurs: what everything else follows from
groups = CategoryGroups.by_share(frequency)  # head >= 1 %, body 0.1-1 %, tail < 0.1 % of the labelled pixels
print({name: [data.classes.names[c] for c in members] for name, members in groups.to_dict().items()})

model = smp.Unet("mobilenet_v2", encoder_weights=None, classes=frequency.num_classes)
method = build_method("medoe", wrap(model), frequency=frequency, groups=groups)

loader = DataLoader(data, batch_size=8, shuffle=True, collate_fn=lambda samples: samples)
for phase in method.phases:  # the experts, then their ensemble on top of the frozen experts
    method.train().start_phase(phase)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 1e-3)
    for step, samples in zip(range(4), loader, strict=False):
        image = torch.stack([sample["image"] for sample in samples])
        target = torch.stack([sample["mask"] for sample in samples])
        losses = method.losses(image, target)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        print(phase, step, {name: round(value.item(), 3) for name, value in losses.items()})

method.eval()
labels = method(image).argmax(dim=1)
print("predicted classes:", labels.unique().tolist())
