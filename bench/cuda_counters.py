"""Instruction counts of the CUDA convolutions, without a GPU.

    python -m bench.cuda_counters --json bench/results/cuda_counters.json

Each convolution of networks A and B runs on the emulated GPU, forward and both gradients; of its
grid a few blocks, evenly spaced, are executed and counted. A row tells

    blocks, threads, warps   of the largest launch; 132 multiprocessors × 16 warps are 2112
    useful                   multiply-adds of the convolution, of all instructions of all launches
    inner loop               multiply-adds among the instructions of the innermost loop
    sectors                  32-byte sectors moved by the blocks, over the fewest possible
    conflicts                further passes that a request to shared memory takes because of banks

An instruction is one of PTX and one thread's. ptxas merges and adds some on the way to the machine.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.device import as_device
from minigrad.kernels.protocol import POSITIVE
from minigrad.testing import ptx
from minigrad.testing.ptx import machine

LAYERS = ((3, 16, 32), (16, 16, 32), (16, 32, 16), (32, 32, 16), (32, 64, 8), (64, 64, 8),
          (64, 128, 4), (128, 128, 4))  # fmt: skip
"""C_in, C_out, side of the image; 3×3 with padding 1."""
_SAMPLED = 3  # blocks of a launch
_MULTIPLY_ADDS = {"fma.rn.f32": 1, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32": 32}


@dataclass
class Launched:
    """A launch of which some blocks were counted."""

    blocks: int
    threads: int
    counts: machine.Counts

    @property
    def instructions(self) -> float:
        """Of the whole grid, all threads."""
        return self.counts.instructions / self.counts.blocks * self.blocks


@dataclass
class Row:
    batch: int
    layer: str
    direction: str
    launches: int
    blocks: int
    threads: int
    warps: int
    useful: float
    inner_loop: float
    sectors: float
    conflicts: float


class Counter:
    """Stands in for the machine's launch: a few blocks of each grid, counted and traced."""

    def __init__(self) -> None:
        self.launched: list[Launched] = []
        self._launch = machine.launch

    def __call__(self, kernel: Any, grid: Any, block: Any, *args: Any, **options: Any) -> Any:
        blocks = math.prod(grid)
        chosen = np.unique(np.linspace(0, blocks - 1, min(blocks, _SAMPLED) + 2).astype(int)[1:-1])
        params, memory, _ = args
        counts = self._launch(
            kernel, grid, block, params, memory, blocks=chosen, trace=True, **options
        )
        self.launched.append(Launched(blocks, math.prod(block), counts))
        return counts


def inner_loop(counts: machine.Counts) -> float:
    """The share of multiply-adds among the instructions of the loop that executes most of them:
    all rows that are executed at least half as often as its most frequent one."""
    program = counts.program
    adds = np.array([_MULTIPLY_ADDS.get(opcode, 0) for opcode in program.opcodes])
    adds *= program.primary
    if not (adds * counts.rows).any():
        return 0.0
    often = counts.rows[adds > 0].max() / 2
    inside = program.primary & (counts.rows >= often)
    return float((counts.rows * (adds > 0))[inside].sum() / counts.rows[inside].sum())


def measure(batch: int, layer: tuple[int, int, int], direction: str, counter: Counter) -> Row:
    import minigrad as mg
    from minigrad import kernels
    from minigrad.geometry import conv2d_dims
    from minigrad.runtime.cuda import memory

    C_in, C_out, side = layer
    dims = conv2d_dims(
        (batch, C_in, side, side), (C_out, C_in, 3, 3), None, (1, 1), (1, 1), (1, 1), 1
    )

    def array(*shape: int) -> Any:
        return memory.empty(shape, np.dtype(np.float32))

    input, weight = array(batch, side, side, C_in), array(3, 3, C_in, C_out)
    output, bias = array(batch, side, side, C_out), array(C_out)
    backend: Any = kernels.get(as_device("cuda"))
    counter.launched.clear()
    if direction == "forward":
        workspace = array(backend.conv.conv2d_forward_workspace(dims))
        backend.conv.conv2d_forward(output, input, weight, bias, None, workspace, dims, POSITIVE)
    elif direction == "backward_input":
        workspace = array(backend.conv.conv2d_backward_input_workspace(dims))
        backend.conv.conv2d_backward_input(input, output, weight, workspace, dims)
    else:
        workspace = array(backend.conv_weight.conv2d_backward_weight_workspace(dims))
        backend.conv_weight.conv2d_backward_weight(weight, output, input, workspace, dims)
    mg.cuda.synchronize()
    largest = max(counter.launched, key=lambda each: each.instructions)
    total = sum(each.instructions for each in counter.launched)
    requests, sectors, ideal = largest.counts.requests()
    shared, extra = largest.counts.bank_conflicts()
    return Row(
        batch, f"{C_in}→{C_out}, {side}²", direction, len(counter.launched), largest.blocks,
        largest.threads, largest.blocks * -(-largest.threads // 32), dims.flops / 2 / total,
        inner_loop(largest.counts), sectors / max(ideal, 1) if requests else 0.0,
        extra / max(shared, 1),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 512])
    options = parser.parse_args()
    ptx.install()
    counter = Counter()
    machine.launch = counter  # type: ignore[assignment]
    rows = [
        measure(batch, layer, direction, counter)
        for batch in options.batches
        for layer in LAYERS
        for direction in ("forward", "backward_input", "backward_weight")
    ]
    names = list(asdict(rows[0]))
    print("| " + " | ".join(name.replace("_", " ") for name in names) + " |")
    print("|" + " --- |" * len(names))
    for row in rows:
        cells = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in asdict(row).values()]
        print("| " + " | ".join(cells) + " |")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
