"""Damaged and hostile files of every kind that is read: a clear error or the whole content, no
crash, and no more memory than the file's size times a small factor.

MINIGRAD_DAMAGED_FILES says how many of each kind, 100 by default.
"""

import contextlib
import gzip
import io
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import load_image_folder, read_idx
from minigrad.errors import CheckpointError, DataError, DeviceError
from minigrad.serialization import load_checkpoint, load_file, save_checkpoint, save_file
from minigrad.vision.datasets import default_loader

COUNT = int(os.environ.get("MINIGRAD_DAMAGED_FILES", "100"))
FACTOR = 40  # bytes of memory for each byte of a file; pickles are full of small objects
SPARE = 8 << 20  # what libraries keep for themselves


def tensors():
    draws = np.random.default_rng(0)
    return {f"layer{i}.weight": mg.tensor(draws.standard_normal((40, i + 1))) for i in range(20)}


def by_torch(zipped):
    import torch

    file = io.BytesIO()
    state = {name: torch.from_numpy(tensor.numpy()) for name, tensor in tensors().items()}
    state["layer0.weight"] = state["layer0.weight"].half()
    torch.save({"model": state, "epoch": 3}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def written(write):
    def make(folder):
        write(folder / "whole")
        return (folder / "whole").read_bytes()

    return make


def idx():
    array = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)
    return bytes([0, 0, 8, 3]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def picture(kind, **options):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def read_folder(path):
    load_image_folder(path.parent.parent)


# kind: (a whole file, what reads it, the ending of its name)
KINDS = {
    "pth": (lambda folder: by_torch(True), mg.load, "pth"),
    "pth before 1.6": (lambda folder: by_torch(False), mg.load, "pth"),
    "safetensors": (written(lambda path: save_file(tensors(), path)), load_file, "safetensors"),
    "checkpoint": (
        written(lambda path: save_checkpoint(path, model=mg.nn.Linear(30, 40), epoch=3)),
        load_checkpoint, "safetensors",
    ),
    "idx": (lambda folder: idx(), read_idx, "idx"),
    "idx.gz": (lambda folder: gzip.compress(idx(), mtime=0), read_idx, "gz"),
    "png": (lambda folder: picture("png"), read_folder, "png"),
    "jpeg": (lambda folder: picture("jpeg"), read_folder, "jpg"),
    "progressive jpeg": (
        lambda folder: picture("jpeg", progressive=True, optimize=True), default_loader, "jpg",
    ),
}  # fmt: skip


def damaged(whole, chance):
    """Cut, flipped, overwritten, moved: what disks, networks and malice do."""
    content = bytearray(whole)
    ways = chance.sample(["cut", "flip", "size", "zeros", "insert", "remove", "append"], 1)
    if chance.random() < 0.2:
        ways.append("flip")
    for way in ways:
        # Headers and directories, at either end, as often as what lies between.
        near = chance.choice([len(content), 64, 256, 1024])
        at = chance.randrange(min(near, len(content)))
        at = len(content) - 1 - at if chance.random() < 0.3 else at
        if way == "cut":
            del content[at:]
        elif way == "flip":
            for _ in range(chance.choice([1, 1, 8])):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        elif way == "size":
            large = chance.choice([255, 65_535, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1])
            width = chance.choice([2, 4, 8])
            order = chance.choice(["little", "big"])
            content[at : at + width] = (large % 256**width).to_bytes(width, order)
        elif way == "zeros":
            content[at : at + 16] = bytes(len(content[at : at + 16]))
        elif way == "insert":
            content[at:at] = chance.randbytes(chance.choice([1, 7, 100]))
        elif way == "remove":
            del content[at : at + chance.choice([1, 7, 100])]
        else:
            content += chance.randbytes(chance.choice([1, 1000]))
        content = content or bytearray(b"\0")
    return bytes(content)


def read_all(kind, folder, count):
    """In a process of its own: reads damaged files; how many were refused, and how much memory the
    worst took beyond what is allowed."""
    import resource
    import warnings

    _, read, ending = KINDS[kind]
    whole = (folder / "whole").read_bytes()
    path = folder / "class" / f"file.{ending}"
    path.parent.mkdir(exist_ok=True)
    chance = random.Random(kind)

    def memory(peak):
        # ru_maxrss would be that of the parent before this process was another program.
        if not Path("/proc/self/clear_refs").exists():  # no Linux
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        name = "VmHWM" if peak else "VmRSS"
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

    path.write_bytes(whole)
    read(path)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    refused, before = 0, memory(peak=False)
    largest = 0
    warnings.simplefilter("ignore")
    for number in range(count):
        content = damaged(whole, chance)
        largest = max(largest, len(content))
        path.write_bytes(content)
        try:
            read(path)
        except (CheckpointError, DataError, DeviceError) as error:
            refused += 1
            unnamed = path.name not in str(error) and not isinstance(error, DeviceError)
            if unnamed or len(str(error)) > 1000:
                raise RuntimeError("an error that is not clear") from error
        except BaseException:
            (folder / "culprit").write_bytes(content)
            print(f"file {number} of {kind}, kept as {folder / 'culprit'}", file=sys.stderr)
            raise
    taken = memory(peak=True) - before
    assert taken < FACTOR * largest + SPARE, f"{taken:,} bytes for files of {largest:,}"
    print(refused, taken, largest)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_by_name_and_take_no_memory(kind, tmp_path):
    make, *_ = KINDS[kind]
    (tmp_path / "whole").write_bytes(make(tmp_path))
    program = f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_damaged_files import read_all
        read_all({kind!r}, Path({str(tmp_path)!r}), {COUNT})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    refused, taken, largest = map(int, done.stdout.split()[-3:])
    print(f"{kind}: {refused} of {COUNT} refused, {taken:,} bytes for files of {largest:,}")
    assert refused > COUNT // 4  # what hits pixels and numbers without a checksum is not seen
