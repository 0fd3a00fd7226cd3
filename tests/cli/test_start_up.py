"""Commands start without the libraries that they do not need."""

import subprocess
import sys

import pytest

from support.fake_runs import make_detection_results, write_run
from support.tiny_detection import write_coco

_SLOW = ("torch", "torchvision", "torchmetrics", "transformers", "timm", "lightning", "matplotlib")
_IMPORTED = """
import sys

import pytest
from longtail.cli import main
main(sys.argv[2:])
print("imported:", *[name for name in sys.argv[1].split() if name in sys.modules], file=sys.stderr)
"""


def slow_imports(*words: str) -> list[str]:
    """Slow libraries that a command imports."""
    ran = subprocess.run(
        [sys.executable, "-c", _IMPORTED, " ".join(_SLOW), *words], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stderr.strip().splitlines()[-1].split()[1:]


def test_counting_needs_no_torch(tmp_path):
    write_coco(tmp_path, "train")
    assert slow_imports("count", str(tmp_path)) == []
    assert slow_imports("count", "longtail-scenes", "--options", "{num_images: 4, size: [32, 32]}") == []


def test_a_report_needs_no_torch(tmp_path):
    run = write_run(tmp_path / "run", make_detection_results("mec"))
    assert slow_imports("report", str(run), "--out", str(tmp_path / "report.html")) == ["matplotlib"]


def test_threads_wait_passively_unless_the_environment_says_otherwise(monkeypatch):
    script = "from longtail.cli import main; main(['info']); import torch; torch.ones(4).sum()"
    monkeypatch.setenv("OMP_DISPLAY_ENV", "true")  # OpenMP then prints its settings when torch loads it
    for given, used in ((None, "PASSIVE"), ("active", "ACTIVE")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if given:
            monkeypatch.setenv("OMP_WAIT_POLICY", given)
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        if "OMP_WAIT_POLICY" not in ran.stderr:
            pytest.skip("torch uses no OpenMP that shows its settings")
        assert f"OMP_WAIT_POLICY = '{used}'" in ran.stderr
