"""The mixed-resolution set, made from a small MNIST that the tests write themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import minigrad as mg
import minigrad.nn.functional as F
from examples import datasets, make_mixed_mnist, networks
from examples.make_mixed_mnist import FRAMES, draw_samples, ink, load_mixed, make, mixed
from minigrad.data import BucketDataset, DataLoader, Normalize, Resize, load_mnist
from minigrad.errors import DataError
from minigrad.files import held_alone

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"train": 120, "test": 30}


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(header + array.tobytes())


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright blocks of many shapes, 20 pixels in the longer side as MNIST's digits are."""
    root = tmp_path_factory.mktemp("mnist")
    rng = np.random.default_rng(0)
    for part, count in (("train", COUNTS["train"]), ("t10k", COUNTS["test"])):
        images = np.zeros((count, 28, 28), np.uint8)
        for number, image in enumerate(images):
            height, width = (20, rng.integers(2, 21)) if number % 2 else (rng.integers(2, 21), 20)
            top, left = rng.integers(0, 29 - height), rng.integers(0, 29 - width)
            image[top : top + height, left : left + width] = rng.integers(150, 256, (height, width))
        write_idx(root / f"{part}-images-idx3-ubyte", images)
        write_idx(root / f"{part}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    return root


@pytest.fixture(scope="module")
def made(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "mixed"
    make(mnist, out, seed=0)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(file for part in COUNTS for file in (folder / part).rglob("*.png"))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def test_every_image_is_there_under_its_digit_and_number(made: Path) -> None:
    expected = {
        f"{part}/{number % 10}/{number:05d}.png"
        for part, count in COUNTS.items()
        for number in range(count)
    }
    assert set(contents(made)) == expected
    facts = json.loads((made / "mixed.json").read_text())
    assert {key: facts[key] for key in ("seed", "frames", "train", "test")} == {
        "seed": 0, "frames": [32, 48, 64], "train": 120, "test": 30,
    }  # fmt: skip


def test_the_same_seed_gives_the_same_files_and_another_seed_others(
    mnist: Path, made: Path, tmp_path: Path
) -> None:
    make(mnist, tmp_path / "again", seed=0)
    make(mnist, tmp_path / "other", seed=1)
    assert contents(tmp_path / "again") == contents(made)
    other = contents(tmp_path / "other")
    same = [name for name, raw in contents(made).items() if other[name] == raw]
    assert len(same) < 5


def test_an_image_depends_on_its_own_number_alone(mnist: Path, made: Path, tmp_path: Path) -> None:
    make(mnist, tmp_path / "few", seed=0, limit=20)
    whole, few = contents(made), contents(tmp_path / "few")
    assert len(few) == 40
    assert few == {name: whole[name] for name in few}


def test_the_two_parts_are_drawn_apart(mnist: Path) -> None:
    image = load_mnist(mnist).images[0][..., 0]
    frames = [[mixed(image, 0, part, number).size for number in range(40)] for part in (0, 1)]
    assert frames[0] != frames[1]


def test_digits_fill_between_half_and_all_of_their_frame(mnist: Path) -> None:
    digits = load_mnist(mnist)
    shares, corners, places = [], [], []
    for number in range(600):
        image = digits.images[number % len(digits)][..., 0]
        canvas = np.array(mixed(image, 7, 0, number))
        frame = canvas.shape[0]
        assert canvas.shape in {(size, size) for size in FRAMES}
        left, top, right, bottom = ink(canvas)
        longer = max(right - left, bottom - top)
        # All of the digit is inside: its ink is not cut, and keeps its proportions to a pixel.
        assert frame // 2 <= longer <= frame
        x0, y0, x1, y1 = ink(image)
        scale = longer / max(x1 - x0, y1 - y0)
        assert abs((right - left) - scale * (x1 - x0)) <= 1
        assert abs((bottom - top) - scale * (y1 - y0)) <= 1
        shares.append(longer / frame)
        places += [left / (frame - (right - left))] if right - left < frame - 8 else []
        corners.append((left, top, frame - right, frame - bottom))
    assert min(shares) == 0.5
    assert max(shares) == 1
    assert abs(np.mean(shares) - 0.75) < 0.02  # uniform
    # Places: digits touch every side of the frame, and their places are spread evenly.
    assert np.min(corners, axis=0).tolist() == [0, 0, 0, 0]
    assert abs(np.mean(places) - 0.5) < 0.05
    assert abs(np.var(places) - 1 / 12) < 0.02  # uniform


def test_frames_are_drawn_uniformly(mnist: Path) -> None:
    image = load_mnist(mnist).images[0][..., 0]
    sizes = [mixed(image, 3, 0, number).width for number in range(900)]
    for frame in FRAMES:
        assert abs(sizes.count(frame) - 300) < 60  # four standard deviations


def test_a_black_image_stays_black(mnist: Path) -> None:
    canvas = np.array(mixed(np.zeros((28, 28), np.uint8), 0, 0, 0))
    assert canvas.shape[0] in FRAMES
    assert not canvas.any()


def test_load_mixed_gives_three_sizes_with_the_pixels_of_image_folder(made: Path) -> None:
    from torchvision.datasets import ImageFolder

    for _ in range(2):  # decoded, then from the cache
        for part, mine in zip(COUNTS, load_mixed(made), strict=True):
            theirs = ImageFolder(str(made / part))
            assert isinstance(mine, BucketDataset)
            assert {bucket.size for bucket in mine.buckets} == {(size, size) for size in FRAMES}
            assert mine.classes == tuple(theirs.classes) == tuple("0123456789")
            assert mine.labels.tolist() == theirs.targets
            for i, (picture, _) in enumerate(theirs):
                np.testing.assert_array_equal(mine[i][0][..., 0], np.array(picture)[..., 0])
    assert len(list((made / "cache").iterdir())) == 2


def test_load_mixed_shrinks_with_antialiasing(made: Path) -> None:
    train, test = load_mixed(made, size=28)
    assert train.buckets[0].images.shape == (120, 28, 28, 1)
    assert test.buckets[0].images.shape == (30, 28, 28, 1)
    with Image.open(made / "test" / "0" / "00000.png") as picture:
        expected = np.array(picture.resize((28, 28), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(test[0][0][..., 0], expected)


@pytest.mark.parametrize("network", ["variable", "fixed"])
def test_the_networks_train_on_batches_of_one_resolution(made: Path, network: str) -> None:
    train, _ = load_mixed(made)
    fixed = network == "fixed"
    mg.manual_seed(0)
    model = networks.mnist_fixed() if fixed else networks.mnist_variable()
    steps = [Normalize(*train.statistics())]
    loader = DataLoader(train, 16, shuffle=True, transform=[Resize(28), *steps] if fixed else steps)
    optimizer = mg.optim.Adam(model.parameters(), 3e-3)
    losses = []

    @mg.capture
    def step(samples: mg.Tensor, labels: mg.Tensor, bucket: int) -> mg.Tensor:
        images = loader.render(samples, bucket)
        size = (28, 28) if fixed else train.buckets[bucket].size
        assert images.shape == (len(labels), 1, *size)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    means = []
    for _ in range(4):
        losses.clear()
        seen: list[int] = []
        for draw in loader.draws():
            losses.append(step(*draw).item() * len(draw.labels))
            bucket = train.buckets[draw.bucket]
            numbers = bucket.indices[np.searchsorted(bucket.rows, draw.samples.numpy()[:, 0])]
            np.testing.assert_array_equal(draw.labels.numpy(), train.labels[numbers])
            seen += numbers.tolist()
        assert sorted(seen) == list(range(len(train)))
        means.append(sum(losses) / len(train))
    assert means[-1] < means[0]


# Whole sets, and others ---------------------------------------------------------------------


def test_a_second_run_leaves_the_set_as_it_is(
    mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mixed"
    make(mnist, out, seed=0, limit=10)
    times = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
    capsys.readouterr()
    make(mnist, out, seed=0, limit=10)
    assert "is there already: 10 and 10 images" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.png")} == times


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"seed": 1}, r"holds another set \(seed is 0, not 1\); name another --out"),
        ({"limit": 30}, r"holds another set \(.*train is 120, not 30\)"),
    ],
)
def test_other_settings_are_refused_in_one_sentence(
    mnist: Path, made: Path, changes: dict[str, Any], match: str
) -> None:
    before = contents(made)
    with pytest.raises(SystemExit, match=match):
        make(mnist, made, **{"seed": 0, **changes})
    assert contents(made) == before


def test_other_digits_under_the_same_settings_are_refused(mnist: Path, tmp_path: Path) -> None:
    make(mnist, tmp_path / "mixed", limit=10)
    for file in mnist.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    images = load_mnist(mnist).images[..., 0].copy()
    images[0, 14, 14] ^= 1
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    with pytest.raises(SystemExit, match=r"holds another set \(source is"):
        make(tmp_path, tmp_path / "mixed", limit=10)


def test_a_folder_of_somebody_else_is_refused(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(SystemExit, match="was not made by this program"):
        make(mnist, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["letters.txt"]
    make(mnist, tmp_path / "new" / "mixed", limit=10)  # an absent folder is made, parents too
    (tmp_path / "empty").mkdir()
    make(mnist, tmp_path / "empty", limit=10)
    assert contents(tmp_path / "empty") == contents(tmp_path / "new" / "mixed")


def test_a_limit_that_leaves_a_digit_out_is_refused(mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="the first 7 train images hold no 7"):
        make(mnist, tmp_path / "mixed", limit=7)


def test_an_interrupted_run_leaves_no_set(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = make_mixed_mnist.mixed

    def interrupted(image: np.ndarray, seed: int, part: int, number: int) -> Any:
        if part == 1 and number == 5:
            raise KeyboardInterrupt
        return original(image, seed, part, number)

    with monkeypatch.context() as patch:
        patch.setattr(make_mixed_mnist, "mixed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(mnist, tmp_path / "mixed")
    assert not list(tmp_path.iterdir())


def test_two_at_once_are_told_apart(mnist: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "mixed.unfinished"
    unfinished.mkdir()
    (unfinished / "train").mkdir()
    arguments = ["--data-root", str(mnist), "--out", str(tmp_path / "mixed"), "--limit", "10"]
    with held_alone(unfinished), pytest.raises(SystemExit, match="in use by another process"):
        make_mixed_mnist.main(arguments)
    assert (unfinished / "train").is_dir()  # whoever is at work keeps what there is
    make_mixed_mnist.main(arguments)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mixed"]


def test_a_killed_run_is_made_anew(mnist: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixed"
    program = f"""
import os, signal
from pathlib import Path
from examples import make_mixed_mnist
rename = Path.rename
def killed(self, target):
    os.kill(os.getpid(), signal.SIGKILL)  # all is written, but for the last step
Path.rename = killed
make_mixed_mnist.make({str(mnist)!r}, {str(out)!r})
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert run.returncode == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(FileNotFoundError, match="holds no mixed-resolution MNIST; make it with"):
        load_mixed(out)
    stale = tmp_path / "mixed.unfinished"
    (stale / "test" / "3" / "99999.png").write_bytes(b"half an ima")
    make(mnist, out)
    assert contents(out) == contents(made)
    assert not stale.exists()


def test_images_that_went_missing_are_noticed(mnist: Path, tmp_path: Path) -> None:
    make(mnist, tmp_path / "mixed", limit=20)
    (tmp_path / "mixed" / "test" / "3" / "00003.png").unlink()
    with pytest.raises(DataError, match=r"test holds 19 images, mixed\.json says 20"):
        load_mixed(tmp_path / "mixed")
    (tmp_path / "mixed" / "mixed.json").write_text("{")
    with pytest.raises(DataError, match=r"mixed\.json is damaged"):
        load_mixed(tmp_path / "mixed")


def test_the_command_makes_the_set(
    mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data-root", str(mnist), "--out", str(tmp_path / "mixed"), "--limit", "20"]
    make_mixed_mnist.main(arguments)
    assert "wrote 20 training and 20 test images" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"no file train-images.*--data-root"):
        make_mixed_mnist.main(["--data-root", str(tmp_path), "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--limit", "-5"], "argument --limit: must be at least 1, got -5"),
        (["--data-root", "DAMAGED"], "is a damaged gzip file"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train-images-idx3", "train-labels-idx1"):
        (tmp_path / f"{part}-ubyte.gz").write_bytes(b"\x1f\x8b and then nothing")
    given = [str(tmp_path) if a == "DAMAGED" else a for a in arguments]
    with pytest.raises(SystemExit) as ended:
        make_mixed_mnist.main([*given, "--out", str(tmp_path / "out")])
    assert said in capsys.readouterr().err + str(ended.value)
    assert not (tmp_path / "out").exists()


def test_a_small_set_can_be_trained_on(mnist: Path, tmp_path: Path) -> None:
    make(mnist, tmp_path / "mixed", limit=20)
    data = datasets.load("mixed", tmp_path / "mixed")
    assert (len(data.train), data.validation) == (20, 3)
    with pytest.raises(FileNotFoundError, match=f"--out {tmp_path}/mixed`"):
        datasets.load("mixed", tmp_path)


def test_draw_samples_shows_every_digit_at_every_size(made: Path, tmp_path: Path) -> None:
    draw_samples(load_mixed(made)[0], tmp_path / "samples.png")
    with Image.open(tmp_path / "samples.png") as picture:
        pixels = np.array(picture.convert("L"))
    # Two pixels of paper to one of the image, black frames on white: 10 × (32² + 48² + 64²) × 4,
    # of which the digits are at most all and the labels next to nothing.
    frames = 10 * sum(size**2 for size in FRAMES) * 4
    dark = (pixels < 20).sum()
    assert 0.3 * frames < dark < frames
    assert os.path.getsize(tmp_path / "samples.png") < 300_000
