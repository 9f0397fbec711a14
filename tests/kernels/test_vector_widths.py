"""The register tiles compute the same on machines with narrower vectors."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
import minigrad as mg
import minigrad.nn.functional as F
from minigrad.kernels.cpu import _simd

assert _simd.VECTOR_BITS == {bits}
rng = np.random.default_rng(0)
shapes = ((9, 5, 7, 6), (18, 5, 3, 3), (18,))
arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def run(device):
    x, w, b = (mg.tensor(array, device=device, requires_grad=True) for array in arrays)
    y = F.conv2d(x, w, b, stride=(2, 1), padding=1)
    y.backward(y.detach())
    return [t.numpy() for t in (y.detach(), x.grad, w.grad, b.grad)]


for ours, definition in zip(run("cpu"), run("reference"), strict=True):
    np.testing.assert_allclose(ours, definition, rtol=1e-4, atol=1e-4 * abs(definition).max())
"""


@pytest.mark.parametrize("bits", [128, 256])
def test_convolution_with_narrow_vectors_matches_its_definition(bits: int) -> None:
    environment = {**os.environ, "MINIGRAD_VECTOR_BITS": str(bits)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(bits=bits)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
