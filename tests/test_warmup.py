"""After `python -m minigrad.warmup`, training the example networks compiles nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

TRAIN = """
import json
import numpy as np
from numba.core import event

compiled = []

class Listener(event.Listener):
    def on_start(self, e):
        compiled.append(str(e.data["dispatcher"].py_func.__qualname__))

    def on_end(self, e):
        pass

from minigrad import warmup
warmup.main([])

event.register("numba:compile", Listener())
import minigrad as mg
import minigrad.nn.functional as F
from examples import networks

for model, shape in (
    (networks.mnist_fixed(), (4, 1, 28, 28)),
    (networks.cifar(batch_norm=True), (2, 3, 32, 32)),
):
    optimizer = mg.optim.Adam(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(mg.randn(*shape)), mg.zeros(shape[0], dtype=mg.int64))
        loss.backward()
        optimizer.step()
        loss.item()
print(json.dumps(compiled))
"""


def test_training_after_warmup_compiles_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ready, compiled = done.stdout.strip().splitlines()[-2:]
    assert "compiled variants in" in ready
    assert json.loads(compiled) == []
    assert "augmentation" in done.stderr
