import sys

import numpy as np
import pytest
import torch

from longtail.training.devices import begin_peak, peak_memory_gb


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_the_peak_of_a_process_grows_with_what_it_holds():
    cpu = torch.device("cpu")
    begin_peak(cpu)
    before = peak_memory_gb(cpu)
    assert before > 0.05
    held = np.ones(int(before * 1e9 / 8) + 25_000_000)  # as much again, and 0.2 GB more
    assert peak_memory_gb(cpu) > before + 0.1
    del held
    assert peak_memory_gb(cpu) > before + 0.1
