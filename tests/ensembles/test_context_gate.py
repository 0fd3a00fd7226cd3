import pytest
import torch

from longtail.ensembles.context_gate import ContextGate

GROUPS = torch.tensor([[True, True, False, False], [False, False, True, True]])


def gate(**options) -> ContextGate:
    return ContextGate(2, 4, channels=6, groups=GROUPS, expert_of=torch.tensor([0, 0, 1, 1]), hidden=8, **options)


def maps():
    return torch.randn(2, 3, 4, 8, 8), torch.randn(2, 3, 6, 4, 4)


def test_starts_as_the_plain_average():
    logits, features = maps()
    torch.testing.assert_close(gate()(logits, features), logits.softmax(dim=2).mean(dim=0), atol=1e-6, rtol=1e-5)


def test_learns_to_trust_the_expert_that_the_surroundings_name():
    # The experts disagree everywhere; only the features tell who is right, which no weight per category can express.
    torch.manual_seed(0)
    ensemble = gate(selection_weight=0.1)
    optimizer = torch.optim.Adam(ensemble.parameters(), 0.02)
    right = torch.randint(0, 2, (8, 4, 4)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    logits = torch.zeros(2, 8, 4, 8, 8)
    logits[0, :, 0] = 4
    logits[1, :, 2] = 4
    features = right[:, ::2, ::2].float().unsqueeze(1).expand(2, 8, 6, 4, 4) * 2 - 1
    target = right * 2
    before = ensemble.loss(logits, target, features).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = ensemble.loss(logits, target, features)
        loss.backward()
        optimizer.step()
    accuracy = (ensemble(logits, features).argmax(dim=1) == target).float().mean().item()
    assert loss.item() < before / 2
    assert accuracy > 0.9


def test_probabilities_gate_and_ignored_pixels():
    logits, features = maps()
    ensemble = gate(selection_weight=1.0)
    torch.nn.init.normal_(ensemble.decide.weight)
    torch.testing.assert_close(ensemble(logits, features).sum(dim=1), torch.ones(3, 8, 8))
    weights = ensemble.gate(logits, features)
    assert weights.shape == (3, 2, 8, 8)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3, 8, 8))
    nothing = ensemble.loss(logits, torch.full((3, 8, 8), 255), features)
    nothing.backward()
    assert nothing.item() == 0
    assert torch.isfinite(ensemble.from_features.weight.grad).all()


def test_extreme_logits_are_finite_and_features_are_asked_for():
    logits, features = maps()
    assert torch.isfinite(gate()(logits.sign() * 100, features)).all()
    with pytest.raises(TypeError, match="features"):
        gate()(logits)
