"""After `python -m minigrad.warmup`, training the example networks compiles nothing.

Other tests leave kernels in the cache on disk, so what is compared is not what was compiled but
which variants of which kernels are in use: training must need none that the warm-up did not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

TRAIN = """
import json
import sys
import numpy as np
from minigrad import warmup
warmup.main([])

from numba.core.dispatcher import Dispatcher

def variants():
    return {
        f"{module}.{name} {signature}"
        for module in list(sys.modules) if module.startswith("minigrad.kernels.cpu.")
        for name, member in vars(sys.modules[module]).items()
        for kernel in [getattr(member, "kernel", member)]
        for kernel in [getattr(kernel, "func", kernel)] if isinstance(kernel, Dispatcher)
        for signature in kernel.overloads
    }

ready = variants()

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import data
from examples import networks

def train(model, optimizer, loader):
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        (logits.argmax(1) == labels).sum().item(), loss.item()
    model.eval()
    with mg.no_grad():
        F.cross_entropy(model(images), labels).item()

generator = np.random.default_rng(0)
for model, optimizer, (H, W, C) in (
    (networks.mnist_fixed(), mg.optim.Adam, (28, 28, 1)),
    (networks.cifar(), lambda p: mg.optim.SGD(p, 0.01, momentum=0.9), (32, 32, 3)),
    (networks.cifar(batch_norm=True), mg.optim.Adam, (32, 32, 3)),
):
    optimizer = optimizer(model.parameters())
    pixels = generator.integers(0, 256, (40, H, W, C), np.uint8)
    images = data.ArrayDataset(pixels, generator.integers(0, 10, 40))
    normalize = data.Normalize(0.5, 0.25)
    crop = [data.RandomCrop((H, W), padding=4), data.RandomHorizontalFlip(), normalize]
    for transform, prefetch in ((crop, 2), ([data.RandomRotation(10), normalize], 0)):
        loader = data.DataLoader(
            images, 32, shuffle=True, transform=transform, prefetch=prefetch
        )
        train(model, optimizer, loader)

print(json.dumps([sorted(ready), sorted(variants() - ready)]))
"""


def test_training_after_warmup_needs_no_other_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told, variants = done.stdout.strip().splitlines()[-2:]
    ready, missing = json.loads(variants)
    assert "compiled variants in" in told
    assert len(ready) > 50
    assert not missing
    assert "augmentation" in done.stderr
