"""Scripts written for torch, unmodified, beside torch: the same losses from the same weights."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minigrad import as_torch

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "torch_scripts"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """{size: a folder of images}."""
    draws = np.random.default_rng(0)
    folders = {}
    for size, shape in ((28, (28, 28)), (32, (32, 32, 3))):
        folders[size] = tmp_path_factory.mktemp(f"pictures{size}")
        for label in range(4):
            folder = folders[size] / str(label)
            folder.mkdir()
            for i in range(40):
                pixels = draws.normal(60 + 40 * label, 30, shape).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return folders


def losses(arguments, *prefix):
    command = [sys.executable, *prefix, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "minigrad lacks" not in done.stderr
    found = re.findall(r"(?:loss|accuracy|correct) ([\d.]+)", done.stdout)
    return np.array([float(number) for number in found])


CASES = {
    "mnist": lambda p: ["--fake", "--data", p[28], "--batch-size", "8", "--dropout", "0",
                        "--no-shuffle", "--lr", "0.1", "--workers", "1"],
    "cifar10_tutorial": lambda p: ["--fake", "--data", p[32], "--steps", "20"],
    "vae": lambda p: ["--steps", "20", "--numpy-noise"],
    "unet_shapes": lambda p: ["--steps", "20", "--workers", "2"],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_scripts_have_torchs_losses(name, pictures, tmp_path):
    script = SCRIPTS / f"{name}.py"
    # In double precision: in single, Adam's first steps take the sign of what rounding left.
    arguments = [script, "--double", *CASES[name](pictures)]
    expected = losses([*arguments, "--save-initial", tmp_path / "w.pt"])
    got = losses([*arguments, "--load-initial", tmp_path / "w.pt"], "-m", "minigrad.as_torch")
    assert len(expected) >= 20
    assert np.allclose(got, expected, rtol=1e-8), np.abs(got / expected - 1).max()
    assert as_torch.check(script) == {}


def test_chance_follows_the_seed(pictures):
    arguments = [SCRIPTS / "mnist.py", "--fake", "--data", pictures[28], "--batch-size", "32"]
    first = losses([*arguments, "--seed", "3"], "-m", "minigrad.as_torch")
    assert np.array_equal(first, losses([*arguments, "--seed", "3"], "-m", "minigrad.as_torch"))
    assert not np.array_equal(first, losses([*arguments, "--seed", "4"], "-m", "minigrad.as_torch"))
