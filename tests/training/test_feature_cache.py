"""Features of a frozen encoder, kept on disk."""

import pytest
import torch
from lightning.fabric import Fabric

from longtail.errors import ConfigError
from longtail.samplers.shuffled import Shuffled
from longtail.training import feature_cache
from longtail.training.checkpoints import read_state
from longtail.training.feature_cache import CachedFeatures, ViewOrder, Views, fill_cache, plan_cache
from longtail.training.run import build_task, fit
from support.tiny_runs import tiny_config


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def config(**changes):
    return tiny_config(freeze="encoder", cache={"views": 2}, **changes)


def test_a_pass_shows_every_image_once_in_a_random_view():
    order = ViewOrder(Shuffled(7), 7, 3)
    rows = order(torch.Generator().manual_seed(0))
    assert sorted(row // 3 for row in rows) == list(range(7))
    seen = {row % 3 for seed in range(5) for row in order(torch.Generator().manual_seed(seed))}
    assert seen == {0, 1, 2} and order(torch.Generator().manual_seed(0)) == rows


def test_cached_features_are_those_of_the_encoder(tmp_path):
    task = build_task(config())
    task.method.eval()
    views = Views(task.train_data, task.train_data.sampled, 2, seed=0)
    cache = plan_cache(tmp_path / "features", views, task.method, torch.device("cpu"))
    fabric = Fabric(accelerator="cpu", devices=1)
    arguments = {"batch_size": 4, "workers": 0, "progress": False}
    assert not fill_cache(cache, views, task.method, "facts", fabric, **arguments)
    assert sum(file.stat().st_size for file in cache.folder.glob("*.bin")) == cache.bytes
    for row in (0, 5, len(views) - 1):
        with torch.no_grad():
            expected = task.method.features(views[row]["image"].unsqueeze(0))
        found = cache[row]
        assert torch.equal(found["mask"].long(), views[row]["mask"].long())
        for own, level, shape in zip(found["features"], expected, cache.shapes, strict=True):
            if own.numel():
                torch.testing.assert_close(own, level[0], rtol=1e-4, atol=1e-5)
            else:
                assert shape == (0,)
    assert not torch.equal(views[0]["image"], views[1]["image"])  # two views of one image
    # the same again, and other weights or data
    assert fill_cache(cache, views, task.method, "facts", fabric, **arguments)
    assert not fill_cache(cache, views, task.method, "other facts", fabric, **arguments)
    with torch.no_grad():
        next(task.method.encoder.parameters()).add_(1.0)
    assert not fill_cache(cache, views, task.method, "other facts", fabric, **arguments)


def test_levels_that_nothing_reads_are_not_kept(tmp_path):
    task = build_task(config())
    views = Views(task.train_data, 6, 2, seed=0)
    cache = plan_cache(tmp_path, views, task.method, torch.device("cpu"))
    with torch.no_grad():
        features = task.method.features(views[0]["image"].unsqueeze(0))
    kept = [level for level, shape in enumerate(cache.shapes) if shape != (0,)]
    assert len(features) == len(cache.shapes) > len(kept) == 2
    for level, values in enumerate(features):
        if level not in kept:
            values.fill_(torch.nan)
    assert task.method.eval().first_logits(features).isfinite().all()


def test_losses_of_a_step_are_those_without_a_cache(tmp_path):
    task = build_task(config())
    views = Views(task.train_data, 6, 2, seed=0)
    cache = plan_cache(tmp_path / "f", views, task.method, torch.device("cpu"))
    fabric = Fabric(accelerator="cpu", devices=1)
    task.method.train()
    fill_cache(cache, views, task.method, "", fabric, batch_size=3, workers=0, progress=False)
    assert task.method.training and not task.method.encoder.training
    image, target = (torch.stack([views[row][key] for row in (1, 4)]) for key in ("image", "mask"))
    features = [torch.stack(level) for level in zip(*(cache[row]["features"] for row in (1, 4)), strict=True)]
    torch.manual_seed(1)  # dropout
    expected = task.method.losses(image, target.long())
    torch.manual_seed(1)
    found = task.method.losses(features, target.long())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_a_run_with_a_cache_resumes_to_the_same_weights(tmp_path):
    settings = config(logging={"logger": "none", "log_interval": 1, "val_interval": 0, "checkpoint_interval": 1})
    whole = fit(settings, tmp_path / "whole", quiet=True)
    assert (whole.path / "features" / "complete.json").is_file()
    # stopped in the middle: the state of its second iteration
    stopped = tmp_path / "stopped"
    saved = {}

    class Stop(Exception):
        pass

    task = build_task(settings)
    losses = task.method.losses

    def two_steps(*batch):
        if saved.setdefault("steps", 0) == 2:
            raise Stop
        saved["steps"] += 1
        return losses(*batch)

    task.method.losses = two_steps
    with pytest.raises(Stop):
        fit(settings, stopped, task=task, quiet=True)
    resumed = fit(settings, stopped, resume=True, quiet=True)
    one, other = read_state(whole.last)["method"], read_state(resumed.last)["method"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_cached(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"cache\.views without a frozen encoder"):
        tiny_config(cache={"views": 2})
    with pytest.raises(ConfigError, match="drawn for a class"):
        config(data={"dataset": "longtail-scenes", "sampling": {"name": "rare_class"}})
    cache = CachedFeatures(tmp_path, 10, [(1000, 10, 10)], (8, 8), torch.float32)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda _: type("", (), {"free": 1000})())
    with pytest.raises(ConfigError, match=r"10 views need 0\.0 GB in .*, where 0\.0 GB are free"):
        feature_cache._make_room(cache)
