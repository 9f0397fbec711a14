"""Loading data: a DataLoader's batches of a data set with steps in Python, by the process itself
and by four workers, and of MNIST and CIFAR-like images item by item and by kernels.

    python -m bench.loading           # a minute

The workers' gain is on the clock, so nothing else may run; processor time tells what they cost. The
kernels' gain is of processor time.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.data import DataLoader, Dataset, default_collate
from minigrad.vision import datasets, transforms

from .load import Watch, load_note
from .measure import cores, disturbed

REPEATS = 3
WORKERS = 4
_NORMALIZE = transforms.Normalize((0.5,), (0.25,))


class Pictures(Dataset[Any]):
    """Images of PIL with steps that take Python and Pillow about two milliseconds each."""

    def __init__(self, count: int) -> None:
        self.pixels = np.random.default_rng(0).integers(0, 256, (64, 160, 160, 3), np.uint8)
        self.count = count
        self.steps = transforms.Compose([
            transforms.RandomResizedCrop(128), transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.4, 0.4, 0.4), transforms.ToTensor(), _NORMALIZE,
        ])  # fmt: skip

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.steps(Image.fromarray(self.pixels[index % 64])), index


class Pixels(datasets.CIFAR10):
    """CIFAR10 with random pixels, of which there is no file."""

    def __init__(self, shape: tuple[int, ...], transform: Any) -> None:
        self.shape = shape
        super().__init__("", transform=transform)

    def _load(self) -> tuple[Any, Any]:
        return np.random.default_rng(0).integers(0, 256, self.shape, np.uint8), [0] * self.shape[0]


def _pass(loader: DataLoader) -> Callable[[], None]:
    def run() -> None:
        for _ in loader:
            pass

    return run


def _medians(clock: Callable[[], float], *runs: Callable[[], None]) -> list[float]:
    """Of several in turns."""
    for run in runs:
        run()  # starts what stays, compiles what must be
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(REPEATS):
        for run, taken in zip(runs, seconds, strict=True):
            begin = clock()
            run()
            taken.append(clock() - begin)
    return [statistics.median(taken) for taken in seconds]


def _cpu() -> float:
    """Processor time of this process and of those that it has seen ending."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _items(samples: list[Any]) -> Any:
    return default_collate(samples)


def _line(label: str, before: float, after: float) -> str:
    return f"{label:<58}{before:>9.3f}{after:>9.3f}{before / after:>8.2f}"


def main() -> None:
    print(f"{cores()} cores; load before: {os.getloadavg()[0]:.2f}; {load_note()}")
    print(f"{'seconds of a pass':<58}{'plain':>9}{'new':>9}{'ratio':>8}")
    data = Pictures(1000)
    helped = DataLoader(data, 50, num_workers=WORKERS, persistent_workers=True)
    alone = DataLoader(data, 50)
    _pass(helped)()
    watch = Watch([process.pid for process in multiprocessing.active_children() if process.pid])
    line = _line(f"Python steps, {WORKERS} workers (clock)",
                 *_medians(time.perf_counter, _pass(alone), _pass(helped)))  # fmt: skip
    others = watch.others()
    print(line + (f"   not a result: others used {others:.2f} cores" if disturbed(others) else ""))
    del helped
    # What the workers cost: two free cores give at most twice this ratio.
    passing = DataLoader(data, 50, num_workers=WORKERS)
    print(_line("the same, CPU of all processes", *_medians(_cpu, _pass(alone), _pass(passing))))
    plain = [transforms.ToTensor(), _NORMALIZE]
    moved = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *plain]
    for label, shape, steps in (
        ("MNIST's shape, ToTensor and Normalize, kernels (CPU)", (10_000, 28, 28), plain),
        ("CIFAR's shape, crops and flips as well, kernels (CPU)", (10_000, 32, 32, 3), moved),
    ):
        pictures = Pixels(shape, transforms.Compose(steps))
        loaders = DataLoader(pictures, 128, collate_fn=_items), DataLoader(pictures, 128)
        print(_line(label, *_medians(time.process_time, *map(_pass, loaders))))


if __name__ == "__main__":
    main()
