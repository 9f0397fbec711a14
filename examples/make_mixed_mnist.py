"""MNIST at mixed resolutions: every digit in a frame of 32, 48 or 64 pixels, as an image folder.

    python examples/make_mixed_mnist.py --data-root data --out data/mixed

Each digit is scaled so that its longer side is between half and all of its frame, and put at a
random place on black: {train,test}/<digit>/<number>.png, 60,000 and 10,000 grey images. What
becomes of an image follows from the seed, its part and its number in MNIST alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

import numpy as np
from tqdm import tqdm

from examples.command_line import plain_errors, positive, program
from minigrad.data import ArrayDataset, ImageDataset, load_image_folder, load_mnist
from minigrad.errors import DataError
from minigrad.files import held_alone

if TYPE_CHECKING:
    from PIL import Image

FRAMES = (32, 48, 64)
PARTS = ("train", "test")
MARKER = "mixed.json"  # tells how a set was made, and that it is whole


# One image ----------------------------------------------------------------------------------


def mixed(image: np.ndarray, seed: int, part: int, number: int) -> Image.Image:
    """The (H, W) uint8 digit, scaled and placed in a frame, by numbers drawn for it alone."""
    from PIL import Image

    drawn = np.random.SeedSequence([seed, part, number]).generate_state(4).tolist()
    frame = FRAMES[drawn[0] % len(FRAMES)]
    longer = frame // 2 + drawn[1] % (frame - frame // 2 + 1)  # from half the frame to all of it
    left, top, right, bottom = box = ink(image)
    scale = longer / max(right - left, bottom - top)
    width, height = (max(round(scale * side), 1) for side in (right - left, bottom - top))
    digit = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box)
    canvas = Image.new("L", (frame, frame))
    canvas.paste(digit, (drawn[2] % (frame - width + 1), drawn[3] % (frame - height + 1)))
    return canvas


def ink(image: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the pixels that are not black; the whole of a black image."""
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    if not len(rows):
        return 0, 0, image.shape[1], image.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# The set ------------------------------------------------------------------------------------


def make(
    mnist_root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    seed: int = 0,
    limit: int | None = None,
) -> None:
    """Write the set into the folder `out`, unless it is there already.

    limit: take only so many images of each part. The folder appears when all of it is written: an
    interrupted run leaves none. A folder that holds anything else is refused.
    """
    out = Path(out)
    try:
        parts = [load_mnist(mnist_root, train=part == "train") for part in PARTS]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; give the folder of MNIST with --data-root") from None
    if limit is not None:
        parts = [ArrayDataset(p.images[:limit], p.labels[:limit], p.classes) for p in parts]
    for name, dataset in zip(PARTS, parts, strict=True):
        if absent := set(range(dataset.num_classes)) - set(dataset.labels.tolist()):
            # An image folder takes its classes from the folders that hold images.
            raise SystemExit(f"the first {len(dataset)} {name} images hold no {min(absent)}")
    wanted = {
        "source": hashlib.sha256(b"".join(p.images.tobytes() for p in parts)).hexdigest()[:16],
        "seed": seed,
        "frames": list(FRAMES),
        "train": len(parts[0]),
        "test": len(parts[1]),
    }
    if (out / MARKER).exists():
        _compare(out, wanted)
        print(f"{out} is there already: {wanted['train']:,} and {wanted['test']:,} images")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SystemExit(f"{out} exists and was not made by this program; name another --out")
    unfinished = out.with_name(out.name + ".unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    with held_alone(unfinished):
        try:
            for name in PARTS:  # what a killed run has left
                if (unfinished / name).exists():
                    shutil.rmtree(unfinished / name)
            for number, (name, dataset) in enumerate(zip(PARTS, parts, strict=True)):
                _write(dataset, unfinished / name, seed, number)
            (unfinished / MARKER).write_text(json.dumps(wanted, indent=1) + "\n")
            if out.exists():
                out.rmdir()
            unfinished.rename(out)
        except BaseException:  # Ctrl-C too
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    print(f"wrote {wanted['train']:,} training and {wanted['test']:,} test images to {out}")


def _write(dataset: ArrayDataset, folder: Path, seed: int, part: int) -> None:
    for name in dataset.classes or ():
        (folder / name).mkdir(parents=True)

    def write(number: int) -> None:
        image, label = dataset[number]
        file = folder / str(label) / f"{number:05d}.png"
        mixed(image[..., 0], seed, part, number).save(file)

    show = partial(tqdm, desc=folder.name, unit="img", total=len(dataset), disable=None)
    with ThreadPoolExecutor() as pool:  # Pillow scales and packs outside Python's lock
        try:
            for _ in show(pool.map(write, range(len(dataset)))):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _compare(out: Path, wanted: dict[str, Any]) -> None:
    found = _read_marker(out)
    changed = [
        f"{name} is {found.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if changed:
        raise SystemExit(f"{out} holds another set ({', '.join(changed)}); name another --out")


def _read_marker(out: Path) -> dict[str, Any]:
    try:
        facts = json.loads((out / MARKER).read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{out / MARKER} is damaged: {error}") from error
    return facts if isinstance(facts, dict) else {}


def load_mixed(
    out: str | os.PathLike[str], size: int | None = None
) -> tuple[ImageDataset, ImageDataset]:
    """The (training, test) images that `make` wrote, grey; decoded once and kept in out/cache.

    size: shrink or enlarge all to one size, antialiased; None keeps three sizes in buckets.
    """
    out = Path(out)
    if not (out / MARKER).exists():
        free = out if not out.exists() or not any(out.iterdir()) else out / "mixed"
        raise FileNotFoundError(
            f"{out} holds no mixed-resolution MNIST; make it with "
            f"`python examples/make_mixed_mnist.py --out {free}`, and give that folder"
        )
    facts = _read_marker(out)
    train, test = (load_image_folder(out / part, size, "L", out / "cache") for part in PARTS)
    for part, dataset in zip(PARTS, (train, test), strict=True):
        if len(dataset) != facts.get(part):
            raise DataError(
                f"{out / part} holds {len(dataset)} images, {MARKER} says {facts.get(part)}; "
                "delete the folder and make it anew"
            )
    return train, test


# A picture of it ----------------------------------------------------------------------------


def draw_samples(dataset: ImageDataset, path: str | os.PathLike[str]) -> None:
    """A sheet with a row for each size and a column for each digit, all at one scale, as a PNG."""
    import matplotlib.pyplot as plt

    buckets = sorted(dataset.buckets, key=lambda bucket: bucket.size)
    gap, classes = 6, dataset.num_classes
    cell = max(max(bucket.size) for bucket in buckets) + gap
    heights = [bucket.size[0] + gap for bucket in buckets]
    width, height = cell * classes, sum(heights)
    per_inch = 80  # image pixels to an inch of paper
    figure = plt.figure(figsize=((width + 60) / per_inch, (height + 24) / per_inch))
    axes = figure.add_axes((56 / (width + 60), 2 / (height + 24), width / (width + 60),
                            height / (height + 24)))  # fmt: skip
    top = 0
    for bucket, row_height in zip(buckets, heights, strict=True):
        H, W = bucket.size
        for label in range(classes):
            mine = np.flatnonzero(dataset.labels[bucket.indices] == label)
            if len(mine):
                image = bucket.images[bucket.rows[mine[0]]]
                left = label * cell + (cell - W) / 2
                axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest",
                            extent=(left, left + W, top + H, top))  # fmt: skip
        axes.text(-4, top + H / 2, f"{H}×{W}", ha="right", va="center", fontsize=10)
        top += row_height
    names = dataset.classes or [str(label) for label in range(classes)]
    for label, name in enumerate(names):
        axes.text((label + 0.5) * cell, -5, name, ha="center", va="bottom", fontsize=10)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.set_axis_off()
    figure.savefig(path, dpi=2 * per_inch)
    plt.close(figure)


@program()
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="holds MNIST/raw")
    parser.add_argument("--out", type=Path, default=Path("data") / "mixed", help="a new folder")
    parser.add_argument("--seed", type=int, default=0, help="of sizes and places")
    parser.add_argument("--limit", type=positive, help="only so many images of each part")
    arguments = parser.parse_args(argv)
    if arguments.seed < 0:
        raise SystemExit(f"--seed must be at least 0, got {arguments.seed}")
    with plain_errors():
        make(arguments.data_root, arguments.out, arguments.seed, arguments.limit)


if __name__ == "__main__":
    main()
