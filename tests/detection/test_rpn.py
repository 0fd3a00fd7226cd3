import torch

from longtail.detection.config import ProposalConfig
from longtail.detection.rpn import ProposalNetwork
from longtail.detection.targets import Objects

STRIDES = (4, 8, 16, 32, 64)


def network(**changes) -> ProposalNetwork:
    return ProposalNetwork(8, STRIDES, ProposalConfig(**changes), crowd_overlap=0.5)


def pyramid(height: int, width: int) -> list[torch.Tensor]:
    sizes = [(-(-height // s), -(-width // s)) for s in STRIDES]
    return [torch.randn(1, 8, *size) for size in sizes]


def anchors_of(rpn, height, width):
    from torchvision.models.detection.image_list import ImageList

    image = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    return rpn.anchor_generator(image, pyramid(height, width))[0]


def test_anchors_keep_their_strides_whatever_the_padding():
    """96 px are no multiple of 64: torchvision's own generator would place the coarsest anchors 48 px apart."""
    coarsest = anchors_of(network(), 96, 160)[-2 * 3 * 3 :]
    centres = (coarsest[:, :2] + coarsest[:, 2:]) / 2
    assert sorted(set(map(tuple, centres.tolist()))) == [(x, y) for x in (0, 64, 128) for y in (0, 64)]


def test_anchor_shapes():
    first = anchors_of(network(), 64, 64)[:3]
    sides = first[:, 2:] - first[:, :2]
    ratios = sides[:, 1] / sides[:, 0]
    torch.testing.assert_close(ratios, torch.tensor([0.5, 1.0, 2.0]), rtol=0.05, atol=0)
    torch.testing.assert_close(sides.prod(1).sqrt(), torch.full((3,), 32.0), rtol=0.05, atol=0)


def test_anchors_in_a_crowd_are_not_negatives():
    rpn = network(anchor_sizes=(16, 32, 64, 128, 256))
    anchors = anchors_of(rpn, 128, 128)
    one = torch.tensor([[8.0, 8.0, 24.0, 24.0]])
    crowd = torch.tensor([[64.0, 64.0, 128.0, 128.0]])
    free, _ = rpn.assign_targets_to_anchors([anchors], [{"boxes": one, "crowd": crowd[:0]}])
    labels, _ = rpn.assign_targets_to_anchors([anchors], [{"boxes": one, "crowd": crowd}])
    changed = labels[0] != free[0]
    assert changed.any() and (labels[0][changed] == -1).all() and (free[0][changed] == 0).all()
    assert torch.equal(labels[0] == 1, free[0] == 1)
    centres = (anchors[changed][:, :2] + anchors[changed][:, 2:]) / 2
    assert (centres >= 64).all()


def test_proposals_lie_in_the_image_and_are_limited():
    rpn = network(kept_test=7).eval()
    proposals, losses = rpn.propose(torch.zeros(1, 3, 128, 128), [(100, 120)], pyramid(128, 128))
    assert losses == {} and proposals[0].shape == (7, 4)
    assert proposals[0].min() >= 0 and proposals[0][:, 2].max() <= 120 and proposals[0][:, 3].max() <= 100


def test_losses_have_the_librarys_names_and_float32():
    rpn = network()
    objects = Objects(torch.tensor([[8.0, 8.0, 60.0, 60.0]]), torch.tensor([0]), torch.zeros(0, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        proposals, losses = rpn.propose(torch.zeros(1, 3, 128, 128), [(128, 128)], pyramid(128, 128), [objects])
    assert set(losses) == {"proposal_objectness", "proposal_box"}
    assert proposals[0].dtype == torch.float32 and not proposals[0].requires_grad
