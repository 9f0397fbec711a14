"""The eleven operations that the course reports implement by hand, beside torch's.

    python examples/compare_with_torch.py

Each is called on one (1, 3, 32, 32) input, forward and backward with a random upstream gradient;
the table shows the largest differences of results and gradients, and the time of a call. Needs
torch and torchvision (`pip install torch torchvision`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

import numpy as np

import minigrad as mg
import minigrad.nn.functional as mF
from examples.command_line import counted, positive, program

try:
    import torch
    import torch.nn.functional as tF
    import torchvision
except ImportError as error:
    raise SystemExit(f"{error}; this comparison needs `pip install torch torchvision`") from None


@dataclass(frozen=True)
class Comparison:
    """One operation: what to call in either library on the same arrays.

    arrays: the operands after the input; floating ones receive gradients.
    constant: positions (the input is 0) that receive none.
    """

    name: str
    parameters: str
    minigrad: Callable[..., Any]
    torch: Callable[..., Any]
    arrays: tuple[np.ndarray, ...] = ()
    constant: frozenset[int] = frozenset()
    shape: tuple[int, ...] = (1, 3, 32, 32)


def comparisons(generator: np.random.Generator) -> list[Comparison]:
    """The operations with the parameters of the reports."""

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    boxes = np.array([[0, 0, 0, 6.5, 6.5]], np.float32)
    statistics_ = normal(3), np.abs(normal(3)) + 0.5
    affine = normal(3), normal(3)
    return [
        Comparison(
            "max_pool2d", "kernel 2, stride 1",
            lambda x: mF.max_pool2d(x, 2, 1),
            lambda x: tF.max_pool2d(x, 2, 1),
        ),
        Comparison(
            "avg_pool2d", "kernel 2, stride 1, padding 1, count_include_pad=False",
            lambda x: mF.avg_pool2d(x, 2, 1, 1, count_include_pad=False),
            lambda x: tF.avg_pool2d(x, 2, 1, 1, count_include_pad=False),
        ),
        Comparison(
            "avg_pool2d", "kernel 2, stride 1, divisor_override=3",
            lambda x: mF.avg_pool2d(x, 2, 1, divisor_override=3),
            lambda x: tF.avg_pool2d(x, 2, 1, divisor_override=3),
        ),
        Comparison(
            "conv2d", "3→6, kernel 3", mF.conv2d, tF.conv2d, (normal(6, 3, 3, 3), normal(6))
        ),
        Comparison(
            "conv2d", "3→6, kernel 5, stride 2, dilation 2",
            lambda x, w, b: mF.conv2d(x, w, b, stride=2, dilation=2),
            lambda x, w, b: tF.conv2d(x, w, b, stride=2, dilation=2),
            (normal(6, 3, 5, 5), normal(6)),
        ),
        Comparison(
            "conv_transpose2d", "3→4, kernel 3",
            mF.conv_transpose2d, tF.conv_transpose2d, (normal(3, 4, 3, 3), normal(4)),
        ),
        Comparison("flatten", "", mg.flatten, torch.flatten),
        Comparison("sigmoid", "", mg.sigmoid, torch.sigmoid),
        Comparison(
            "roi_pool", "boxes [[0, 0, 0, 6.5, 6.5]], output 3×3",
            lambda x, b: mF.roi_pool(x, b, 3),
            lambda x, b: torchvision.ops.roi_pool(x, b, 3),
            (boxes,), frozenset({1}),
        ),
        Comparison(
            "batch_norm", "running statistics, eps 1e-5",
            lambda x, m, v, w, b: mF.batch_norm(x, m, v, w, b, training=False),
            lambda x, m, v, w, b: tF.batch_norm(x, m, v, w, b, training=False),
            (*statistics_, *affine), frozenset({1, 2}),
        ),
        Comparison(
            "cross_entropy", "input flattened to (32, 96), class indices",
            lambda x, t: mF.cross_entropy(x.reshape(32, 96), t),
            lambda x, t: tF.cross_entropy(x.reshape(32, 96), t),
            (generator.integers(0, 96, 32),),
        ),
        Comparison("mse_loss", "", mF.mse_loss, tF.mse_loss, (normal(1, 3, 32, 32),)),
    ]  # fmt: skip


def operands(c: Comparison, arrays: list[np.ndarray], make: Callable[..., Any]) -> list[Any]:
    tensors = [make(array) for array in arrays]
    for position, tensor in enumerate(tensors):
        if arrays[position].dtype.kind == "f" and position not in c.constant:
            tensor.requires_grad = True
    return tensors


def median_time(
    function: Callable[..., Any], tensors: list[Any], upstream: Any, repetitions: int
) -> float:
    """Seconds of forward and backward, with gradients cleared as before a training step."""
    seconds = []
    for _ in range(repetitions + 1):
        for tensor in tensors:
            tensor.grad = None
        start = time.perf_counter()
        function(*tensors).backward(upstream)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])  # the first one warms up


@dataclass(frozen=True)
class Row:
    """One line of the table. Differences are the largest over all elements; times in seconds."""

    name: str
    parameters: str
    forward: float
    gradients: float
    minigrad_time: float
    torch_time: float


def compare(c: Comparison, generator: np.random.Generator, repetitions: int) -> Row:
    arrays = [generator.standard_normal(c.shape).astype(np.float32), *c.arrays]
    # Copies: batch_norm and the like must not share memory between the two libraries.
    mine = operands(c, [a.copy() for a in arrays], mg.from_numpy)
    theirs = operands(c, [a.copy() for a in arrays], torch.from_numpy)
    out, expected = c.minigrad(*mine), c.torch(*theirs)
    assert out.shape == tuple(expected.shape), f"{c.name}: {out.shape} against {expected.shape}"
    upstream = generator.standard_normal(out.shape).astype(np.float32)
    upstream_mine, upstream_torch = mg.from_numpy(upstream), torch.from_numpy(upstream)
    out.backward(upstream_mine)
    expected.backward(upstream_torch)
    forward = np.abs(out.detach().numpy() - expected.detach().numpy()).max()
    gradients = max(
        np.abs(a.grad.numpy() - b.grad.numpy()).max()
        for a, b in zip(mine, theirs, strict=True)
        if b.grad is not None
    )
    return Row(
        c.name, c.parameters, float(forward), float(gradients),
        median_time(c.minigrad, mine, upstream_mine, repetitions),
        median_time(c.torch, theirs, upstream_torch, repetitions),
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    width = max(len(row.parameters) for row in rows)
    head = (
        f"{'operation':<17} {'parameters':<{width}} {'forward':>9} {'gradients':>9} "
        f"{'minigrad':>9} {'torch':>9}"
    )
    lines = [head, "─" * len(head)]
    for row in rows:
        lines.append(
            f"{row.name:<17} {row.parameters:<{width}} {row.forward:>9.1e} {row.gradients:>9.1e} "
            f"{row.minigrad_time * 1e6:>6.0f} µs {row.torch_time * 1e6:>6.0f} µs"
        )
    return "\n".join(lines)


@program()
def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="of the arrays")
    parser.add_argument(
        "--repetitions", type=positive, default=200, help="calls timed (default 200)"
    )
    parser.add_argument("--threads", type=positive, default=1, help="of both libraries (default 1)")
    arguments = parser.parse_args(argv)
    mg.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    generator = np.random.default_rng(arguments.seed)
    rows = [compare(c, generator, arguments.repetitions) for c in comparisons(generator)]
    print(
        f"float32 on {counted(arguments.threads, 'thread')}; largest difference from torch, "
        "median time of"
    )
    print("one call forward and backward\n")
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
