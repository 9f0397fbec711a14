"""Ahead-of-time compilation: compile the kernels that networks need, ahead of the first training
step.

    python -m minigrad.warmup             # float32
    python -m minigrad.warmup --float64   # float64 too
    python -m minigrad.warmup --pack kernels.zip    # and put all into a file
    python -m minigrad.warmup --unpack kernels.zip  # from there into the cache

Kernels are specialised by element type, not by shape; some have a second form for many elements. So
tiny inputs, and a few that are not tiny, compile what training uses. The kernels stay in the cache
on disk (MINIGRAD_CACHE_DIR): run this once after an update.

A packed file serves where processor, Numba, Python and minigrad are the same; elsewhere one line
says what differs. Unpacked into a folder of its own, it can be shared: MINIGRAD_SHARED_CACHE names
a folder that processes read besides their own. Loading kernels runs code: take no such file from
people whose code you would not run, and let nobody else write to the folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import data, nn, optim
from minigrad.runtime.cache import pack, unpack

# More than two vectors of channels in any dtype, and less than one: both widths of register tile.
_MANY, _FEW = 40, 3
# Elements from which every kernel that has a parallel form uses it.
_PARALLEL = 1 << 17

Step = Callable[[Any], None]


def _train(dtype: Any, *layers: nn.Module, shape: tuple[int, ...] = (2, _FEW, 8, 8)) -> Any:
    """One forward and backward pass through `layers`; returns the model."""
    model = nn.Sequential(*layers).to(dtype=dtype)
    out = model(mg.randn(*shape, dtype=dtype, requires_grad=True))
    out.backward(mg.ones(*out.shape, dtype=dtype))
    return model


def _convolution(dtype: Any) -> None:
    _train(dtype, nn.Conv2d(_FEW, _MANY, 3, padding=1), nn.Conv2d(_MANY, 4, 3, stride=2))
    # Pixels for several partial sums; then channels and tiles for Winograd's algorithm.
    _train(dtype, nn.Conv2d(_FEW, 4, 3, padding=1), shape=(8, _FEW, 16, 16))
    # Along rows: tiles of both lengths, for one channel, three and many.
    for width, channels in ((28, 1), (32, 3), (32, 16)):
        layers = (nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, channels, 3, padding=1))
        _train(dtype, *layers, shape=(2, channels, 8, width))
    winograd = (nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 16, 3, padding=1))
    _train(dtype, *winograd, shape=(8, 16, 8, 8))
    # A weight so large that it is packed, and kept so in inference, from the second call on.
    packed = _train(dtype, nn.Conv2d(256, 1024, 1), shape=(1, 256, 2, 2))
    with mg.no_grad():
        for _ in range(2):
            packed(mg.zeros(1, 256, 2, 2, dtype=dtype))
    _train(dtype, nn.ConvTranspose2d(_FEW, 4, 3, 2, 1))
    _train(dtype, nn.Conv2d(_FEW, _FEW, 3, groups=_FEW))


def _chains(dtype: Any) -> None:
    """Layers in the order in which networks have them, for the kernels that do several at once."""
    width = _FEW
    for norm, pool in ((False, False), (False, True), (True, False), (True, True)):
        chain = [nn.Conv2d(width, _MANY, 3, padding=1), nn.ReLU()]
        chain += [nn.BatchNorm2d(_MANY)] * norm + [nn.MaxPool2d(2)] * pool
        _train(dtype, *chain, shape=(2, width, 8, 8)).eval()(mg.zeros(2, width, 8, 8, dtype=dtype))
        width = _MANY


def _linear(dtype: Any) -> None:
    _train(dtype, nn.Linear(_FEW, _MANY), nn.Linear(_MANY, 10), shape=(4, _FEW))


def _normalisation(dtype: Any) -> None:
    model = _train(dtype, nn.BatchNorm2d(_FEW), nn.GroupNorm(1, _FEW))
    model.eval()
    with mg.no_grad():
        model(mg.zeros(2, _FEW, 8, 8, dtype=dtype))


def _activations(dtype: Any) -> None:
    layers = (nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.LeakyReLU(), nn.GELU(), nn.SiLU())
    _train(dtype, *layers)


def _pooling(dtype: Any) -> None:
    for channels in (_FEW, _MANY):
        shape = (2, channels, 8, 8)
        _train(dtype, nn.MaxPool2d(2), nn.AvgPool2d(2), shape=shape)
        _train(dtype, nn.AdaptiveAvgPool2d(1), nn.Flatten(), shape=shape)
        _train(dtype, nn.AdaptiveMaxPool2d(1), nn.Dropout(0.5), nn.Flatten(), shape=shape)


def _losses(dtype: Any) -> None:
    logits = mg.randn(4, 10, dtype=dtype, requires_grad=True)
    F.cross_entropy(logits, mg.zeros(4, dtype=mg.int64)).backward()
    F.cross_entropy(logits, mg.zeros(4, dtype=mg.int64), label_smoothing=0.1).backward()
    F.mse_loss(logits, mg.zeros(4, 10, dtype=dtype)).backward()
    F.softmax(logits, 1).sum().backward()
    (logits.argmax(1) == mg.zeros(4, dtype=mg.int64)).sum().item()


def _optimizers(dtype: Any) -> None:
    for make in (
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.Adam(p),
        lambda p: optim.AdamW(p),
    ):
        parameters = [nn.Parameter(mg.zeros(n, dtype=dtype)) for n in (20, _PARALLEL)]
        for parameter in parameters:
            (parameter * parameter).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        # Small steps run on the calling thread, large ones on all of them.
        make(parameters[:1]).step()
        make(parameters).step()


def _augmentation(dtype: Any) -> None:
    normalize = data.Normalize(0.5, 0.25)
    crop = data.Compose([data.RandomCrop(12, padding=2), data.RandomHorizontalFlip(), normalize])
    for transform in (normalize, crop, data.RandomRotation(10)):
        for count in (2, _PARALLEL // (12 * 12)):
            images = np.zeros((count, 12, 12, _FEW), np.uint8)
            set_of_images = data.ArrayDataset(images, np.zeros(count, np.int64))
            for _ in data.DataLoader(set_of_images, batch_size=count, transform=transform):
                pass


# What is compiled, by the name that the progress shows; augmentation always makes float32.
STEPS: dict[str, Step] = {
    "convolution": _convolution,
    "chains of layers": _chains,
    "linear": _linear,
    "normalisation": _normalisation,
    "activations": _activations,
    "pooling": _pooling,
    "losses": _losses,
    "optimizers": _optimizers,
    "augmentation": _augmentation,
}


def warmup(dtypes: Sequence[Any] = (mg.float32,)) -> None:
    """Run every step once in each dtype, with a progress bar (tqdm's, if it is installed)."""
    work = [(name, dtype) for dtype in dtypes for name in STEPS]
    from .kernels.cpu._jit import compilations

    try:
        from tqdm import tqdm
    except ImportError:
        for place, (name, dtype) in enumerate(work, start=1):
            print(f"[{place}/{len(work)}] {name} ({dtype.name})", file=sys.stderr)
            STEPS[name](dtype)
        return
    with tqdm(work, unit="group", leave=False) as bar, compilations.shown_by(bar.set_postfix_str):
        for name, dtype in bar:
            bar.set_description(f"compiling {name} ({dtype.name})")
            STEPS[name](dtype)


def compiled_variants() -> tuple[int, str]:
    """How many compiled kernels the cache holds, and where it is."""
    from .kernels.cpu._jit import CACHE_DIR

    return sum(1 for _ in CACHE_DIR.rglob("*.nbc")), str(CACHE_DIR)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m minigrad.warmup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--float64", action="store_true", help="compile for float64 as well")
    parser.add_argument("--pack", metavar="FILE", type=Path, help="then write all kernels there")
    parser.add_argument(
        "--unpack", metavar="FILE", type=Path, help="compile nothing, but take kernels from there"
    )
    arguments = parser.parse_args(argv)
    from .kernels.cpu._jit import CACHE_DIR, made_for

    if arguments.unpack:
        try:
            count = unpack(arguments.unpack, made_for(), CACHE_DIR)
        except (OSError, ValueError) as error:
            raise SystemExit(f"minigrad: {error}") from None
        print(f"unpacked {count} compiled variants into {CACHE_DIR}")
        return
    start = time.perf_counter()
    warmup((mg.float32, mg.float64) if arguments.float64 else (mg.float32,))
    count, folder = compiled_variants()
    print(f"ready after {time.perf_counter() - start:.1f} s: {count} compiled variants in {folder}")
    if arguments.pack:
        print(f"packed {pack(CACHE_DIR, made_for(), arguments.pack)} into {arguments.pack}")


if __name__ == "__main__":
    main()
