"""Random states go through a checkpoint."""

import random

import numpy as np
import torch

from anomalib_memmc.resuming import random_states, restore_random_states


def draw():
    return random.gauss(0, 1), float(np.random.standard_normal()), float(torch.randn(()))  # noqa: NPY002


def test_the_numbers_after_a_state_are_the_same_again(tmp_path):
    draw()  # Python and NumPy keep the second of two normal numbers
    torch.save(random_states(), tmp_path / "states.pt")
    expected = [draw() for _ in range(3)]
    restore_random_states(torch.load(tmp_path / "states.pt", weights_only=True))
    assert [draw() for _ in range(3)] == expected
