"""Make your own multi-stage detector multi-expert, in your own training loop.

    pip install longtail
    python examples/wrap_your_detector.py

`OwnCascade` stands for your detector: three stages, each on the boxes that the one before refined. Four members make it a
`MultiStageDetector`. The data here are synthetic scenes; `longtail.Coco("path/to/data", "train")` reads yours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_iou, roi_align

from longtail import CategoryGroups, LongTailScenes
from longtail.boxes import BoxCoder
from longtail.detection.config import PostprocessConfig
from longtail.detection.method import StageOutputs
from longtail.detection.postprocess import score_offline
from longtail.frequency.count_instances import count_instances
from longtail.mec.model import MultiStageDetector, make_multi_expert

IOUS = (0.5, 0.6, 0.7)


class OwnCascade(nn.Module):
    """A cascade on fixed windows."""

    def __init__(self, num_classes: int, num_stages: int) -> None:
        super().__init__()
        self.num_classes, self.num_stages = num_classes, num_stages  # two of the four members
        strides = (2, 2, 1)
        self.backbone = nn.Sequential(
            *(layer for s in strides for layer in (nn.LazyConv2d(32, 3, s, 1), nn.LazyBatchNorm2d(), nn.ReLU()))
        )
        self.shared = nn.ModuleList(nn.Linear(32 * 25, 64) for _ in range(num_stages))
        self.classify = nn.ModuleList(nn.Linear(64, num_classes + 1) for _ in range(num_stages))
        self.move = nn.ModuleList(nn.Linear(64, 4) for _ in range(num_stages))
        self.coder = BoxCoder()

    def set_class_losses(self, losses) -> None:
        """The third: stage k is trained with losses[k]."""
        self.class_losses = nn.ModuleList(losses)

    def set_ensembles(self, ensembles) -> None:
        """The fourth: the first ensemble is the detector's own prediction."""
        self.ensembles = nn.ModuleDict(ensembles)

    def stage(self, k: int, features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and box changes of one stage."""
        pooled = roi_align(features, [boxes], 5, 1 / 4, 1, True)
        hidden = self.shared[k](pooled.flatten(1)).relu()
        return self.classify[k](hidden), self.move[k](hidden)

    def losses(self, image: Tensor, boxes: Tensor, objects: Tensor, labels: Tensor) -> Tensor:
        """Class and box losses of all stages."""
        features, total = self.backbone(image[None]), image.new_zeros(())
        for k in range(self.num_stages):
            overlap, match = box_iou(boxes, objects).max(dim=1)
            target = torch.where(overlap >= IOUS[k], labels[match], self.num_classes)
            logits, change = self.stage(k, features, boxes)
            found = target < self.num_classes
            wanted = self.coder.encode(objects[match[found]], boxes[found])
            total = (
                total
                + self.class_losses[k](logits, target)
                + F.smooth_l1_loss(change[found], wanted, reduction="sum") / len(boxes)
            )
            boxes = self.coder.decode(change.detach(), boxes).clamp(0, image.shape[-1])
        return total

    @torch.no_grad()
    def stage_outputs(self, image: Tensor, boxes: Tensor) -> StageOutputs:
        """Logits of every stage and the final boxes: all that an ensemble and post-processing need."""
        features, logits = self.backbone(image[None]), []
        for k in range(self.num_stages):
            stage_logits, change = self.stage(k, features, boxes)
            logits.append(stage_logits)
            boxes = self.coder.decode(change, boxes).clamp(0, image.shape[-1])
        return StageOutputs(torch.stack(logits), boxes, tuple(image.shape[-2:]))


def windows(side: int) -> Tensor:
    """Boxes of three sizes all over a square image."""
    places = torch.arange(4, side, 8).float()
    centres = torch.cartesian_prod(places, places)
    return torch.cat([torch.cat([centres - s / 2, centres + s / 2], dim=1) for s in (10, 18, 28)]).clamp(0, side)


torch.manual_seed(0)
data = LongTailScenes("train", num_images=120, size=(96, 96), task="detection")
frequency = count_instances(data)
groups = CategoryGroups.by_count(frequency.counts("instances"), edges=(15, 60))  # rarest first, one per stage
print({name: [data.classes.names[c] for c in members] for name, members in groups.to_dict().items()})

detector = OwnCascade(groups.num_classes, num_stages=3)
assert isinstance(detector, MultiStageDetector)
make_multi_expert(detector, groups, overall_weight=0.7, ensemble="dynamic")

proposals = windows(96)
detector.backbone(torch.zeros(1, 3, 96, 96))  # the lazy layers learn their widths
optimizer = torch.optim.AdamW(detector.parameters(), 1e-3)
for step in range(60):
    sample = data[step]
    if len(sample["labels"]) == 0:
        continue
    image, objects = sample["image"].as_subclass(Tensor) / 255, sample["boxes"].as_subclass(Tensor)
    drawn = torch.cat([proposals[torch.randperm(len(proposals))[:48]], objects.repeat(4, 1)])
    drawn = (drawn + 2 * torch.randn_like(drawn)).clamp(0, 96)
    drawn = drawn[(drawn[:, 2:] - drawn[:, :2] > 2).all(dim=1)]
    loss = detector.losses(image, drawn, objects, sample["labels"])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(step, round(loss.item(), 3))

detector.eval()
outputs = detector.stage_outputs(data[0]["image"].as_subclass(Tensor) / 255, proposals)
for name, ensemble in detector.ensembles.items():  # "mec" first, then the others of the paper's Table 2c
    found = score_offline(outputs, lambda o, e=ensemble: e(o.logits), PostprocessConfig(score_threshold=0.01))
    print(name, "predicted classes:", [data.classes.names[c] for c in found.labels[:3]])
