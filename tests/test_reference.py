"""The reference backend alone: NUMBA_DISABLE_JIT=1 runs everything on its plain loops."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent

STEPS = """
import sys
import numpy as np
import minigrad as mg
from minigrad import nn
import minigrad.nn.functional as F

mg.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(3), nn.MaxPool2d(2),
    nn.Dropout(0.2), nn.Flatten(), nn.Linear(3 * 3 * 3, 4),
)
optimizer = mg.optim.Adam(net.parameters(), lr=0.01)
x = mg.tensor(np.random.default_rng(0).standard_normal((5, 1, 6, 6)))
for step in range(4):
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x.float()), mg.tensor([0, 1, 2, 3, 0]))
    loss.backward()
    optimizer.step()
    print(repr(loss.item()))
print("numba" in sys.modules)
"""


def run(*arguments: str, plain: bool) -> str:
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1" if plain else "0"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=TESTS
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_network_trains_on_plain_python_as_it_does_compiled() -> None:
    *plain, plain_numba = run("-c", STEPS, plain=True).splitlines()
    *compiled, compiled_numba = run("-c", STEPS, plain=False).splitlines()
    assert (plain_numba, compiled_numba) == ("False", "True")
    assert len(plain) == 4
    for left, right in zip(plain, compiled, strict=True):
        assert abs(float(left) - float(right)) < 1e-5


def test_every_operation_matches_torch_without_a_compiler() -> None:
    wanted = "float64_values or numerical_differentiation"
    output = run(
        "-m", "pytest", "-W", "ignore", "-p", "no:cacheprovider", "test_ops.py", "-k", wanted,
        plain=True,
    )  # fmt: skip
    assert "passed" in output
