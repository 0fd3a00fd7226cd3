"""What alignment and the dynamic ensemble do to sigmoid logits: three linear stages on boxes of a long-tailed data set.

    python scripts/sigmoid_ensembles.py DATA WEIGHTS

DATA is a COCO folder with splits train and val (tinyin200_lt), WEIGHTS a file of MobileNetV2.

Every stage sees boxes that overlap the objects more, as decoder layers do, and is a linear classifier of C sigmoids on
features of an ImageNet network, trained with focal loss, or with focal loss and the multi-expert loss. Validation boxes
are objects and background. Prints the level of a group's mean and LSE on objects of the group, other objects and
background, and the AP of classifying boxes with every ensemble.
"""

import argparse

import numpy as np
import torch
from pages import say
from torchvision.ops import roi_align

from longtail import CategoryGroups, Coco, count_instances
from longtail.detection.backbones.pyramid import build_extractor
from longtail.ensembles.build import EnsembleSpec
from longtail.losses.focal import FocalLoss
from longtail.losses.label_space import LabelSpace
from longtail.mec.losses import MultiExpertLoss
from longtail.mec.model import named_ensembles
from longtail.transforms import IMAGENET_MEAN, IMAGENET_STD

SIDE, WIDTH, STEPS, SHIFTS = 48, 128, 150, (0.25, 0.15, 0.05)
ENSEMBLES: dict[str, EnsembleSpec] = {"average": {"name": "average", "average": "logits"}}
for align in (False, True):
    ENSEMBLES |= {f"sparse{', aligned' * align}": {"name": "sparse", "align": align}}
    for tau in (1, 5):
        for scaled in (False, True):
            name = f"dynamic{', aligned' * align}{', scaled' * scaled}, tau {tau}"
            ENSEMBLES[name] = {"name": "dynamic", "align": align, "temperature": tau, "lse_scaled": scaled}
ENSEMBLES["average, aligned"] = {"name": "average", "average": "logits", "align": True}
ENSEMBLES["average, aligned to 0"] = {"name": "average", "average": "logits", "align": True, "keep_level": False}
ENSEMBLES["dynamic, aligned to 0, tau 1"] = {"name": "dynamic", "keep_level": False}


def boxes_of(data: Coco, each: int, background: int) -> tuple[list[tuple[int, torch.Tensor]], torch.Tensor]:
    """Some boxes of every class, as (image, box), and of the background, label C; rare images first."""
    rng = np.random.default_rng(0)
    found, labels, seen = [], [], np.zeros(data.classes.num_classes, int)
    for index in rng.permutation(len(data)):
        sample = data[int(index)]
        height, width = sample["image"].shape[-2:]
        for box, label in zip(sample["boxes"].tolist(), sample["labels"].tolist(), strict=True):
            if seen[label] < each:
                seen[label] += 1
                found.append((int(index), torch.tensor(box)))
                labels.append(label)
        if (np.array(labels) == len(seen)).sum() < background:
            size = rng.uniform(0.2, 0.4) * min(height, width)
            x, y = rng.uniform(0, width - size), rng.uniform(0, height - size)
            found.append((int(index), torch.tensor([x, y, x + size, y + size])))
            labels.append(len(seen))
    return found, torch.tensor(labels)


@torch.no_grad()
def features_of(
    data: Coco, boxes: list[tuple[int, torch.Tensor]], network: torch.nn.Module, shift: float
) -> torch.Tensor:
    """Pooled features of the boxes, moved by a part of their size."""
    torch.manual_seed(0)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    by_image: dict[int, list[int]] = {}
    for place, (index, _) in enumerate(boxes):
        by_image.setdefault(index, []).append(place)
    found = torch.zeros(len(boxes), network.channels[-1])
    for index, places in by_image.items():
        image = (data[index]["image"].as_subclass(torch.Tensor).float() / 255 - mean) / std
        own = torch.stack([boxes[place][1] for place in places])
        size = (own[:, 2:] - own[:, :2]).repeat(1, 2)
        moved = own + shift * size * (torch.rand(len(own), 1) - 0.5) * torch.tensor([1.0, -1.0, 1.0, -1.0])
        crops = roi_align(image[None], [moved], (SIDE, SIDE), 1.0, 1, True)
        found[places] = network(crops)[-1].mean((2, 3))
    return found


def classifiers(features: list[torch.Tensor], labels: torch.Tensor, losses: list) -> list[torch.nn.Linear]:
    """A linear classifier for every stage."""
    found = []
    for own, loss in zip(features, losses, strict=True):
        torch.manual_seed(0)
        layer = torch.nn.Linear(WIDTH, loss.num_logits)
        torch.nn.init.normal_(layer.weight, std=0.01)
        layer.bias.data.copy_(loss.initial_bias)
        optimizer = torch.optim.Adam(layer.parameters(), 0.01)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss(layer(own), labels).backward()
            optimizer.step()
        found.append(layer)
    return found


def average_precision(scores: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """AP of every class over all boxes."""
    found = []
    for c in range(scores.shape[1]):
        right = (labels[scores[:, c].argsort(descending=True, stable=True)] == c).double()
        precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
        found.append(float((precision * right).sum() / right.sum().clamp(min=1)))
    return np.array(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("weights")
    arguments = parser.parse_args()
    train, val = Coco(arguments.data, "train"), Coco(arguments.data, "val")
    frequency = count_instances(train)
    groups = CategoryGroups.by_count(frequency.counts("instances"), (10, 100))
    network = build_extractor("torchvision/mobilenet_v2", weights=arguments.weights).eval()
    sets = [boxes_of(train, 40, 900), boxes_of(val, 5, 500)]
    features = [[features_of(d, b, network, s) for s in SHIFTS] for d, (b, _) in zip((train, val), sets, strict=True)]
    labels, truth = sets[0][1], sets[1][1]
    projected: list[list[torch.Tensor]] = [[], []]
    for stage in range(len(SHIFTS)):
        centre = features[0][stage].mean(0)
        basis = torch.linalg.svd(features[0][stage] - centre, full_matrices=False).Vh[:WIDTH].T
        scale = ((features[0][stage] - centre) @ basis).std()
        for part in (0, 1):
            projected[part].append((features[part][stage] - centre) @ basis / scale)
    space = LabelSpace.of_boxes(frequency)
    plain = [FocalLoss(space) for _ in SHIFTS]
    experts = [MultiExpertLoss(m, groups.num_classes + 1, base=FocalLoss(space)) for m in groups.members]
    group_of = torch.full((groups.num_classes + 1,), -1)
    for group, members in enumerate(groups.members):
        group_of[list(members)] = group
    say(f"{len(labels)} boxes to train on, {len(truth)} to score, {(truth == groups.num_classes).sum()} background")
    for name, losses in (("focal", plain), ("focal + MEC", experts)):
        stages = classifiers(projected[0], labels, losses)
        logits = torch.stack([layer(own) for layer, own in zip(stages, projected[1], strict=True)]).detach()
        say(f"\n{name}: level of a group's mean / LSE by stage, on its objects | other objects | background")
        for group, members in enumerate(groups.members):
            own = logits[:, :, list(members)]
            rows = [
                group_of[truth] == group,
                (group_of[truth] >= 0) & (group_of[truth] != group),
                truth == len(group_of) - 1,
            ]
            cells = [
                " ".join(f"{own[k, r].mean():.2f}/{own[k, r].logsumexp(1).mean():.2f}" for k in range(len(own)))
                for r in rows
            ]
            say(f"  {groups.names[group]:10s} {' | '.join(cells)}")
        found = named_ensembles(ENSEMBLES, groups, losses[0], frequency)
        stage_names = {f"stage {k + 1}": layer.sigmoid() for k, layer in enumerate(logits)}
        read = {**stage_names, **{n: e(logits)[:, :-1] for n, e in found.items()}}
        say(f"  {'AP of boxes':36s} {'all':>6s} " + " ".join(f"{n:>9s}" for n in groups.names))
        for reading, scores in read.items():
            each = 100 * average_precision(scores, truth)
            say(
                f"  {reading:36s} {each.mean():6.1f} "
                + " ".join(f"{each[list(m)].mean():9.1f}" for m in groups.members)
            )


if __name__ == "__main__":
    main()
