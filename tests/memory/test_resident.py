"""The peak of a process's memory."""

import subprocess
import sys

import numpy as np
import pytest

from anomalib_memmc.memory import resident

ALONE = f"import runpy; print(runpy.run_path({resident.__file__!r})['peak_memory_mb']())"  # without torch: small


def test_it_holds_what_the_process_had_at_its_largest():
    held = np.ones(40_000_000)
    del held
    assert 320 < resident.peak_memory_mb() < 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process does not start with another's peak")
def test_it_does_not_hold_what_the_process_had_that_started_it():
    held = np.ones(40_000_000)
    started = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, check=True)
    assert held.nbytes == 320e6
    assert 1 < float(started.stdout) < 160


def test_without_proc_the_system_is_asked(monkeypatch):
    by_proc = resident.peak_memory_mb()
    monkeypatch.setattr(resident, "_peak_by_proc", lambda: None)
    assert resident.peak_memory_mb() >= 0.9 * by_proc
