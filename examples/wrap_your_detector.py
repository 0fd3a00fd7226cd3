"""Make your own detector multi-expert, in your own training loop: a cascade and a DETR.

    pip install longtail scipy
    python examples/wrap_your_detector.py

Four members make a detector a `MultiStageDetector`: `num_classes`, `num_stages`, `set_class_losses` and `set_ensembles`.
Detectors of transformers need none of this (`longtail.wrap_detector`), nor do torchvision's (`longtail.as_cascade`).
The data here are synthetic scenes; `longtail.Coco("path/to/data", "train")` reads yours.
"""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.ops import box_convert, box_iou, generalized_box_iou, roi_align

from longtail import CategoryGroups, LongTailScenes, make_multi_expert
from longtail.boxes import BoxCoder
from longtail.detection.config import PostprocessConfig
from longtail.detection.method import StageOutputs
from longtail.detection.postprocess import score_offline
from longtail.frequency.count_instances import count_instances
from longtail.losses.focal import FocalLoss
from longtail.losses.label_space import LabelSpace

SIDE, STAGES, WIDTH = 96, 3, 64


class OwnDetector(nn.Module):
    """The four members, and an image network."""

    def __init__(self, num_classes: int, num_logits: int) -> None:
        super().__init__()
        self.num_classes, self.num_stages = num_classes, STAGES
        widths = ((3, 32, 2), (32, 32, 2), (32, WIDTH, 2))
        layers = [[nn.Conv2d(a, b, 3, s, 1), nn.BatchNorm2d(b), nn.ReLU()] for a, b, s in widths]
        self.backbone = nn.Sequential(*(module for layer in layers for module in layer))
        self.classify = nn.ModuleList(nn.Linear(WIDTH, num_logits) for _ in range(STAGES))
        self.move = nn.ModuleList(nn.Linear(WIDTH, 4) for _ in range(STAGES))

    def set_class_losses(self, losses) -> None:
        self.class_losses = nn.ModuleList(losses)  # stage k is trained with losses[k]

    def set_ensembles(self, ensembles) -> None:
        self.ensembles = nn.ModuleDict(ensembles)  # the first is the detector's own prediction

    def outputs(self, image: Tensor) -> StageOutputs:
        """Logits of every stage and the final boxes: all that an ensemble and post-processing need."""
        logits, boxes = self(image)
        return StageOutputs(torch.stack(logits), boxes[-1], (SIDE, SIDE))


class OwnCascade(OwnDetector):
    """Stages on fixed windows: C classes and the background, each on the boxes that the stage before refined."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, num_classes + 1)
        self.shared = nn.ModuleList(nn.Linear(WIDTH * 9, WIDTH) for _ in range(STAGES))
        centres = torch.cartesian_prod(*[torch.arange(4, SIDE, 8).float()] * 2)
        self.windows = torch.cat([torch.cat([centres - s / 2, centres + s / 2], 1) for s in (12, 28)]).clamp(0, SIDE)

    def forward(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features, boxes, logits = self.backbone(image[None]), [self.windows], []
        for k in range(STAGES):
            hidden = self.shared[k](roi_align(features, [boxes[-1].detach()], 3, 1 / 8, 1, True).flatten(1)).relu()
            logits.append(self.classify[k](hidden))
            boxes.append(BoxCoder().decode(self.move[k](hidden), boxes[-1].detach()).clamp(0, SIDE))
        return logits, boxes

    def loss(self, image: Tensor, objects: Tensor, labels: Tensor) -> Tensor:
        total = image.new_zeros(())
        logits, boxes = self(image)
        for k, iou in enumerate((0.3, 0.4, 0.5)):
            overlap, match = box_iou(boxes[k].detach(), objects).max(dim=1)
            target = torch.where(overlap >= iou, labels[match], self.num_classes)
            found = target < self.num_classes
            total = total + self.class_losses[k](logits[k], target)
            total = total + F.l1_loss(boxes[k + 1][found], objects[match[found]], reduction="sum") / len(boxes[k])
        return total


class OwnDetr(OwnDetector):
    """Decoder layers on learned queries: C sigmoids, one query matched with each object."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, num_classes)
        self.queries = nn.Parameter(torch.randn(1, 20, WIDTH))
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(WIDTH, 4, 128, 0.0, batch_first=True) for _ in range(STAGES)
        )

    def forward(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        memory, states, logits, boxes = self.backbone(image[None]).flatten(2).mT, self.queries, [], []
        for k, layer in enumerate(self.layers):
            states = layer(states, memory)
            logits.append(self.classify[k](states[0]))
            boxes.append(box_convert(self.move[k](states[0]).sigmoid() * SIDE, "cxcywh", "xyxy"))
        return logits, boxes

    def loss(self, image: Tensor, objects: Tensor, labels: Tensor) -> Tensor:
        total = image.new_zeros(())
        for k, (logits, boxes) in enumerate(zip(*self(image), strict=True)):
            cost = torch.cdist(boxes, objects, p=1) / SIDE - logits.sigmoid()[:, labels]
            query, match = map(torch.as_tensor, linear_sum_assignment(cost.detach()))
            target = torch.full((len(boxes),), self.num_classes)  # no object
            target[query] = labels[match]
            overlap = generalized_box_iou(boxes[query], objects[match]).diagonal()
            total = total + self.class_losses[k](logits, target) + (1 - overlap).mean()
        return total


torch.manual_seed(0)
data = LongTailScenes("train", num_images=120, size=(SIDE, SIDE), task="detection")
frequency = count_instances(data)
groups = CategoryGroups.by_count(frequency.counts("instances"), edges=(15, 60))  # rarest first; three for three stages
print({name: [data.classes.names[c] for c in members] for name, members in groups.to_dict().items()})

cascade = make_multi_expert(OwnCascade(groups.num_classes), groups, overall_weight=0.7)
# a base loss says how many logits there are and how they are read: here C sigmoids, none for the background
labels_of_boxes = LabelSpace.of_boxes(frequency)
detr = make_multi_expert(
    OwnDetr(groups.num_classes), groups, overall_weight=0.7, base=lambda: FocalLoss(labels_of_boxes)
)

for detector, suppression in ((cascade, 0.5), (detr, 1.0)):  # a DETR needs no non-maximum suppression
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
    for step, sample in zip(range(60), data, strict=False):
        if len(sample["labels"]) == 0:
            continue
        image, objects = sample["image"].as_subclass(Tensor) / 255, sample["boxes"].as_subclass(Tensor)
        loss = detector.loss(image, objects, sample["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            print(type(detector).__name__, step, round(loss.item(), 3))
    with torch.no_grad():
        outputs = detector.eval().outputs(data[0]["image"].as_subclass(Tensor) / 255)
    for name, ensemble in detector.ensembles.items():  # "mec" first, then the others of the paper's Table 2c
        settings = PostprocessConfig(score_threshold=0.001, nms_iou=suppression)
        found = score_offline(outputs, lambda o, e=ensemble: e(o.logits), settings)
        print(name, "predicted classes:", [data.classes.names[c] for c in found.labels[:3]])
