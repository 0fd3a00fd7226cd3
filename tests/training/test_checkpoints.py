import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from longtail.errors import CheckpointError, TrainingError
from longtail.training.checkpoints import find_weights, read_state, save_weights, write_whole

PHASES = ("experts", "ensemble")


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemError('code of a stranger ran')",))


def test_a_state_with_code_is_refused_unexecuted(tmp_path):
    torch.save({"longtail": Evil()}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"cannot read .*last\.ckpt"):
        read_state(tmp_path / "last.ckpt")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="no training state"):
        read_state(tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="there is no"):
        read_state(tmp_path / "missing.ckpt")


def test_weights_say_which_phases_they_have_been_through(tmp_path):
    model = nn.Linear(2, 2)
    save_weights(model, tmp_path / "w.safetensors", phases="experts")
    weights, done = find_weights(tmp_path / "w.safetensors", PHASES)
    assert done == ("experts",) and torch.equal(weights["weight"], model.weight)


def test_published_weights_do_not_say_their_phases(tmp_path):
    save_file({"method.weight": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    weights, done = find_weights(tmp_path, PHASES)
    assert done is None and list(weights) == ["weight"]


def test_what_holds_no_weights(tmp_path):
    with pytest.raises(CheckpointError, match="holds no weights"):
        find_weights(tmp_path, PHASES)
    (tmp_path / "x.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot read weights"):
        find_weights(tmp_path / "x.safetensors", PHASES)
    torch.save({"a": 1}, tmp_path / "y.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        find_weights(tmp_path / "y.pth", PHASES)


@pytest.mark.parametrize("name", ["x.pth", "epoch_12.ckpt"])
def test_files_of_other_programs_are_read_as_plain_tensors(name, tmp_path):
    for old_format in (False, True):
        content = {"state_dict": {"a": torch.ones(1)}, "epoch": 12}
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=not old_format)
        weights, done = find_weights(tmp_path / name, PHASES)
        assert done is None and list(weights) == ["a"]
    torch.save({"a": Evil()}, tmp_path / name)
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
        find_weights(tmp_path / name, PHASES)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match="No space left"):
        write_whole(path, fail)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
