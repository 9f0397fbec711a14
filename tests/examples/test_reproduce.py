"""`examples.reproduce` on made-up images: every part, its page, and interruptions."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from examples import datasets, experiments, feature_maps, reproduce
from examples.report import Report
from examples.training import Run
from minigrad import nn

COUNT, HELD_OUT = 60, 20
AUGMENTED = experiments.PARTS["mnist"][2]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a MNIST and a CIFAR-10 of a few random images."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    raw = root / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (COUNT, 28, 28), np.uint8)
        labels = (np.arange(COUNT) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (raw / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    for part in ("train", "test"):
        for number in range(COUNT):
            folder = root / "cifar10" / part / f"class{number % 10}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root / "mnist", root / "cifar10"


@pytest.fixture
def run(roots: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """reproduce.main for a folder of the test's own, and that folder."""
    monkeypatch.setattr(reproduce, "HELD_OUT", HELD_OUT)
    monkeypatch.setattr(reproduce, "DIGITS", COUNT)
    monkeypatch.setattr(datasets, "CACHE", tmp_path / "cache")
    # A few of the many trials, and one layer instead of all to look into.
    monkeypatch.setattr(feature_maps, "KINDS", {nn.MaxPool2d: "pool"})
    few = {"grid": experiments.PARTS["grid"][::9], "mixed": experiments.PARTS["mixed"][1::2]}
    for name, chosen in few.items():
        monkeypatch.setitem(experiments.PARTS, name, chosen)
    mnist, cifar10 = roots
    folders = ["--mnist", str(mnist), "--cifar10", str(cifar10), "--out", str(tmp_path / "out")]

    def call(*arguments: str) -> Path:
        reproduce.main([*arguments, *folders, "--quick"])
        return tmp_path / "out"

    return call


def test_everything_ends_in_one_page(run, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run("--note", "Made up.")
    page = (out / "report.md").read_text()
    assert " Made up.\n" in page
    titles = re.findall(r"^## (.*)$", page, flags=re.MULTILINE)
    assert titles == [
        "Results",
        "MNIST",
        "MNIST in mixed resolutions",
        "CIFAR-10",
        "Inside networks A and B",
        "Settings tried one by one",
        "Every run",
    ]
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert len(pictures) >= 11
    for picture in pictures:
        assert (out / picture).read_bytes().startswith(b"\x89PNG"), picture
    assert "| 81 | 29,029 | -37 |" in page
    for row in re.findall(r"^\|.*\|$", page, flags=re.MULTILINE):
        assert "nan" not in row
    # What is done is not done again.
    monkeypatch.setattr(Run, "fit", lambda self: pytest.fail("trained again"))
    assert run("--note", "Made up.") == out
    assert (out / "report.md").read_text() == page


def test_results_are_means_of_the_seeds(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.98, 0.99, 0.994)):
        folder = tmp_path / AUGMENTED.name / f"seed{seed}"
        folder.mkdir(parents=True)
        chosen = experiments.settings(AUGMENTED, seed, quick=False)
        settings = {**asdict(chosen), "parameters": 29_066}
        metrics = {"test_accuracy": accuracy, "test_loss": 1.0, "best_val_accuracy": 0.5,
                   "seed": seed, "epochs": 10, "seconds": 60.0 * (seed + 1), "settings": settings,
                   "train_images_per_second": 1234.5}  # fmt: skip
        (folder / "metrics.json").write_text(json.dumps(metrics))
    Report(tmp_path / "page.md", tmp_path, "command").write()
    page = (tmp_path / "page.md").read_text()
    # Mean 98.8 and standard deviation √((0.8² + 0.2² + 0.6²) / 2) = 0.72.
    row = "29,066 | 99.07 % | 98.80 ± 0.72 % | -0.27 | 10 | 0, 1, 2 | 2.0 |"
    assert row in page
    settings = "AdamW, rate 0.005, one-cycle, batch 32, weight decay 0.05, crop 2, rotation 10.0 |"
    assert settings in page
    # A run with other settings is no run of the experiment.
    file = tmp_path / AUGMENTED.name / "seed1" / "metrics.json"
    metrics = json.loads(file.read_text())
    metrics["settings"]["lr"] = 0.1
    file.write_text(json.dumps(metrics))
    Report(tmp_path / "page.md", tmp_path, "command").write()
    assert "98.70 ± 0.99 % | -0.37 | 10 | 0, 2 |" in (tmp_path / "page.md").read_text()


def test_the_page_says_what_was_asked_for(run) -> None:
    page = (run("mnist", "--threads", "1", "--precision", "highest") / "report.md").read_text()
    asked = "mnist --quick --threads 1 --precision highest"
    assert f"Made by `python -m examples.reproduce {asked}` on " in page


def test_interrupted_part_goes_on(
    run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[str] = []
    epoch, fit = Run._epoch, Run.fit

    def counted(self: Run, *arguments: Any) -> Any:
        trained.append(self.out.parent.name)
        return epoch(self, *arguments)

    def interrupted(self: Run) -> bool:
        """The second run is trained, but stopped before its test."""
        return fit(self) and len(trained) < 2

    monkeypatch.setattr(Run, "_epoch", counted)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "fit", interrupted)
        with pytest.raises(SystemExit, match=r"^130$"):
            run("mnist")
    assert "The same command goes on from here" in capsys.readouterr().out
    names = [experiment.name for experiment in experiments.PARTS["mnist"]]
    assert trained == names[:2]
    out = run("mnist")
    assert trained == names  # nothing twice
    assert "MNIST: 28×28, augmented" in (out / "report.md").read_text()


def test_a_trial_that_diverged_is_done(tmp_path: Path) -> None:
    trial, final = experiments.PARTS["grid"][0], AUGMENTED
    for experiment in (trial, final):
        folder = tmp_path / experiment.name / "seed0"
        folder.mkdir(parents=True)
        chosen = experiments.settings(experiment, 0, quick=False)
        metrics = {"best_val_accuracy": None, "seed": 0, "epochs": 0, "settings": asdict(chosen),
                   "diverged": "The run diverged."}  # fmt: skip
        (folder / "metrics.json").write_text(json.dumps(metrics))
        assert reproduce._is_done(folder, chosen)
    Report(tmp_path / "page.md", tmp_path, "command").write()
    page = (tmp_path / "page.md").read_text()
    assert "| Adam, 0.1 | diverged |  |  |" in page
    assert "## MNIST" not in page


def test_other_settings_in_the_folder_are_refused(run) -> None:
    out = run("mnist")
    file = out / "mnist-fixed" / "seed0" / "metrics.json"
    metrics = json.loads(file.read_text())
    del metrics["settings"]["shift"]  # a run from before there were shifts
    file.write_text(json.dumps(metrics))
    run("mnist")
    metrics["settings"]["lr"] = 0.5
    file.write_text(json.dumps(metrics))
    with pytest.raises(SystemExit, match=r"other settings \(lr\)"):
        run("mnist")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "argument --seeds: must be at least 1, got 0"),
        (["--report", "page"], "--report must end in .md, got page"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        reproduce.main(arguments)
    assert said in capsys.readouterr().err


def test_damaged_data_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b and then nothing")
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b and then nothing")
    with pytest.raises(SystemExit, match=r"is a damaged gzip file"):
        reproduce.main(["mnist", "--mnist", str(tmp_path), "--out", str(tmp_path / "out")])


def test_unknown_part_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reproduce.main(["minst"])
    assert "no such part: minst" in capsys.readouterr().err
