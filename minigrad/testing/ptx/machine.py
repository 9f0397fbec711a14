"""The emulated device: PTX modules are loaded into its memory, kernels run on it, faults are told.

    memory = DeviceMemory()
    module = load(ptx, memory)
    counts = launch(module.kernels["name"], (blocks, 1, 1), (256, 1, 1), params, memory)

`launch` raises Fault for what a GPU would leave undefined (interpreter.py lists it) and for what it
refuses. It returns how often each instruction was executed; with `trace`, also the accesses to
memory, from which `Counts` tells sectors and bank conflicts.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from . import operations as op
from . import state as st
from .interpreter import run_blocks
from .memory import DeviceMemory, Fault
from .parse import parse
from .program import Param, Program, assemble, global_variables

MAX_THREADS, MAX_SHARED = 1024, 48 << 10  # of a block
MAX_GRID, MAX_BLOCK = (2**31 - 1, 65535, 65535), (1024, 1024, 64)
_MAX_STEPS = 1 << 33  # operations of a block; more than that has no end
_MAX_TRACE = 1 << 22  # accesses

_FAULTS = {
    st.OUTSIDE: "accesses {bytes} bytes at {address:#x}, outside a live allocation",
    st.MISALIGNED: "accesses {bytes} bytes at {address:#x}, which is not aligned to them",
    st.UNWRITTEN: "reads {bytes} bytes at {address:#x} of shared or local memory that nobody wrote",
    st.SHARED_RACE: "touches {bytes} bytes at {address:#x} of shared memory that {thread} touched "
    "since the last barrier, one of them writing",
    st.GLOBAL_RACE: "touches {bytes} bytes at {address:#x} that {block} touched in this launch, "
    "one of them writing",
    st.UNREACHED_BARRIER: "does not reach the barrier at which other threads wait",
    st.ENDLESS: f"has taken {_MAX_STEPS} operations without an end",
    st.DIVERGED_WARP: "is not at the instruction at which the rest of its warp is",
    st.READ_ONLY: "writes {bytes} bytes at {address:#x} of the parameters",
}


@dataclass(frozen=True)
class Kernel:
    """A program and the device that it was loaded on."""

    program: Program
    device: int

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def params(self) -> tuple[Param, ...]:
        return self.program.params


@dataclass(frozen=True)
class Module:
    kernels: dict[str, Kernel]
    allocations: tuple[int, ...]
    """Addresses of its global variables."""


def load(image: bytes, memory: DeviceMemory) -> Module:
    """The kernels of a PTX text. PtxError for what this machine does not know."""
    text = image.rstrip(b"\0").decode()
    module = parse(text)
    addresses: dict[str, int] = {}
    for variable in global_variables(module):
        address = addresses[variable.name] = memory.allocate(variable.size)
        data = np.zeros(variable.size, np.uint8)
        data[: len(variable.data)] = np.frombuffer(variable.data, np.uint8)
        memory.write(address, data.ctypes.data, variable.size)
    entries = [function for function in module.functions.values() if function.entry]
    kernels = {
        each.name: Kernel(assemble(module, each, addresses, text), memory.device)
        for each in entries
    }
    return Module(kernels, tuple(addresses.values()))


@dataclass
class Counts:
    """What a launch did. rows: executions of each row of the program. accesses: entries (row,
    thread of the grid, number of the thread's access there, address, bytes, space), the first
    millions of them."""

    program: Program
    rows: np.ndarray
    blocks: int
    accesses: np.ndarray = field(default_factory=lambda: np.zeros((0, 6), np.int64))
    pages: int = 0
    """How many pages of memory it wrote to."""

    @property
    def instructions(self) -> int:
        """PTX instructions executed, over all threads."""
        return int(self.rows[self.program.primary].sum())

    def by_opcode(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for row in np.flatnonzero(self.program.primary & (self.rows > 0)):
            found[self.program.opcodes[row]] += int(self.rows[row])
        return found

    def requests(self, space: int = op.GLOBAL) -> tuple[int, int, int]:
        """(requests, 32-byte sectors that they move, the fewest sectors for as many distinct
        bytes). A request is what a warp's threads access by one instruction at a time."""
        groups = self._groups(space)
        sectors = ideal = 0
        for addresses, sizes in groups:
            pieces = {a // 32 + i for a, n in zip(addresses, sizes, strict=True)
                      for i in range((a % 32 + n + 31) // 32)}  # fmt: skip
            distinct = dict(zip(addresses, sizes, strict=True))
            sectors += len(pieces)
            ideal += -(-sum(distinct.values()) // 32)
        return len(groups), sectors, ideal

    def bank_conflicts(self) -> tuple[int, int]:
        """(requests to shared memory, further passes that they take because two threads need
        different words of one bank). Accesses of 8 and 16 bytes go by halves and quarters of a
        warp."""
        groups = self._groups(op.SHARED)
        extra = 0
        for addresses, sizes in groups:
            lanes = max(1, 32 * 4 // max(max(sizes), 4))
            for start in range(0, len(addresses), lanes):
                banks: Counter[int] = Counter()
                words = {a // 4 + i for a, n in zip(addresses[start : start + lanes],
                                                     sizes[start : start + lanes], strict=True)
                         for i in range(-(-n // 4))}  # fmt: skip
                for word in words:
                    banks[word % 32] += 1
                extra += max(banks.values()) - 1
        return len(groups), extra

    def _groups(self, space: int) -> list[tuple[list[int], list[int]]]:
        """Addresses and sizes of each request."""
        groups: dict[tuple[int, int, int], tuple[list[int], list[int]]] = {}
        for row, thread, number, address, nbytes, where in self.accesses.tolist():
            if where == space:
                addresses, sizes = groups.setdefault((row, thread // 32, number), ([], []))
                addresses.append(address)
                sizes.append(nbytes)
        return list(groups.values())


_lock = threading.Lock()


@dataclass
class Totals:
    """Of all launches of this process."""

    launches: int = 0
    blocks: int = 0
    instructions: int = 0


_totals = Totals()


def totals() -> Totals:
    return _totals


def orders(order: str, count: int) -> np.ndarray:
    """0 … count − 1 "forward" (first for "both"), in "reverse", or shuffled by a number: "7"."""
    numbers = np.arange(count, dtype=np.int64)
    if order in ("forward", "both"):
        return numbers
    if order == "reverse":
        return numbers[::-1].copy()
    if not order.isdecimal():
        raise ValueError(f"order must be 'forward', 'reverse', 'both' or a number, got {order!r}")
    return np.random.default_rng(int(order)).permutation(numbers)


def launch(
    kernel: Kernel,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    params: bytes,
    memory: DeviceMemory,
    order: str = "forward",
    blocks: Iterable[int] | None = None,
    trace: bool = False,
    dynamic_shared: int = 0,
) -> Counts:
    """Run the grid, or only the `blocks` of it. params: the kernel's parameter buffer.

    order: of blocks, warps and lanes; "both": forward, then from the same memory in reverse, which
    must give the same bits. Raises Fault; what was written before stays.
    """
    _check(kernel, grid, block, params, memory, dynamic_shared)
    if order != "both":
        return _run(kernel, grid, block, params, memory, order, blocks, trace, dynamic_shared)
    found = _run(kernel, grid, block, params, memory, "forward", blocks, trace, dynamic_shared)
    pages, written = memory.written_pages(found.pages)
    memory.undo(found.pages)
    again = _run(kernel, grid, block, params, memory, "reverse", blocks, False, dynamic_shared)
    others, result = memory.written_pages(again.pages)
    if not np.array_equal(pages, others) or not np.array_equal(written, result):
        raise Fault(f"{kernel.name}: its results depend on the order of blocks and threads")
    return found


def _run(
    kernel: Kernel,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    params: bytes,
    memory: DeviceMemory,
    order: str,
    blocks: Iterable[int] | None,
    trace: bool,
    dynamic_shared: int,
) -> Counts:
    program = kernel.program
    threads, total = math.prod(block), math.prod(grid)
    chosen = orders(order, total) if blocks is None else np.array(list(blocks), np.int64)
    stride = len(program.constants)
    registers = np.tile(program.constants, (threads, 1))
    counts = np.zeros(len(program.code), np.int64)
    shared_bytes = program.shared_bytes + dynamic_shared
    granules = program.granules
    shared = np.full(max(shared_bytes, 1), 0xFF, np.uint8)
    marks = np.zeros((3, shared_bytes + 8), np.int64)
    local = np.full(threads * program.local_bytes + 8, 0xFF, np.uint8)
    filled = np.zeros(threads * program.local_bytes + 8, np.uint8)
    given = np.frombuffer(params + bytes(8), np.uint8)
    accesses = np.zeros((_MAX_TRACE if trace else 0, 6), np.int64)
    numbers = np.zeros((threads, len(program.code)) if trace else (1, 1), np.int64)

    state = st.State()
    state[st.GLOBAL_BASE], state[st.GLOBAL_HOST] = memory.base, memory.host
    state[st.GLOBAL_BYTES] = memory.total_bytes
    state[st.GLOBAL_ENDS] = memory.ends.ctypes.data
    state[st.GLOBAL_WRITTEN] = memory.written.ctypes.data
    state[st.GLOBAL_READ] = memory.read_by.ctypes.data
    state[st.PAGE_STAMPS] = memory.page_stamps.ctypes.data
    state[st.PAGES] = memory.pages.ctypes.data
    state[st.OLD_PAGES] = memory.old_pages.ctypes.data
    state[st.GLOBAL_SHIFT] = granules[0].bit_length() - 1
    state[st.SHARED_HOST], state[st.SHARED_BYTES] = shared.ctypes.data, shared_bytes
    for place, each in zip(
        (st.SHARED_WRITTEN, st.SHARED_READ, st.SHARED_FILLED), marks, strict=True
    ):
        state[place] = each.ctypes.data
    state[st.SHARED_SHIFT] = granules[1].bit_length() - 1
    state[st.LOCAL_HOST], state[st.LOCAL_FILLED] = local.ctypes.data, filled.ctypes.data
    state[st.LOCAL_BYTES] = program.local_bytes
    state[st.PARAM_HOST], state[st.PARAM_BYTES] = given.ctypes.data, len(params)
    if trace:
        state[st.TRACE], state[st.TRACE_LENGTH] = accesses.ctypes.data, len(accesses)
        state[st.TRACE_NUMBERS], state[st.TRACE_ROWS] = numbers.ctypes.data, len(program.code)
    pcs, waits = np.zeros(threads, np.int64), np.zeros(threads, np.int64)
    warps, lanes = orders(order, -(-threads // 32)), orders(order, 32)
    with _lock:  # one launch after the other, as on a stream
        state[st.FIRST_STAMP], state[st.MANY_STAMP] = memory.stamp, memory.stamp + total
        memory.stamp += total + 1
        run_blocks(
            state.address, program.code.ctypes.data, program.lists.ctypes.data,
            registers.ctypes.data, 8 * stride, counts.ctypes.data, grid, block, chosen, warps,
            lanes, pcs, waits, _MAX_STEPS,
        )  # fmt: skip
        traced = accesses[: state[st.TRACE_COUNT]]
        found = Counts(program, counts, len(chosen), traced, state[st.PAGE_COUNT])
        _totals.launches += 1
        _totals.blocks += len(chosen)
        _totals.instructions += found.instructions
    if state[st.FAULT] != st.NONE:
        raise Fault(_describe(kernel, grid, block, state, pcs))
    return found


def _check(
    kernel: Kernel,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    params: bytes,
    memory: DeviceMemory,
    dynamic_shared: int,
) -> None:
    program = kernel.program
    if len(params) != program.param_bytes:
        raise Fault(
            f"{kernel.name}: {len(params)} bytes of parameters were passed, its .param list has "
            f"{program.param_bytes}"
        )
    if kernel.device != memory.device:
        raise Fault(
            f"{kernel.name}: loaded on device {kernel.device}, launched on device {memory.device}"
        )
    limits = [
        all(1 <= n <= most for n, most in zip(grid, MAX_GRID, strict=True)),
        all(1 <= n <= most for n, most in zip(block, MAX_BLOCK, strict=True)),
        math.prod(block) <= MAX_THREADS,
        program.shared_bytes + dynamic_shared <= MAX_SHARED,
    ]
    if not all(limits):
        raise Fault(
            f"{kernel.name}: a grid of {grid} with blocks of {block} and "
            f"{program.shared_bytes + dynamic_shared} bytes of shared memory is beyond the limits "
            f"(grid {MAX_GRID}, block {MAX_BLOCK} with {MAX_THREADS} threads, {MAX_SHARED} bytes)"
        )


def _place(number: int, size: tuple[int, int, int]) -> str:
    x, y, _ = size
    return f"({number % x}, {number // x % y}, {number // (x * y)})"


def _describe(
    kernel: Kernel,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    state: st.State,
    pcs: np.ndarray,
) -> str:
    program, thread, other = kernel.program, state[st.THREAD], state[st.FAULT_OTHER]
    row = int(pcs[thread])
    line = program.lines[row]
    source = program.text[line - 1].strip() if 0 < line <= len(program.text) else ""
    what = _FAULTS[state[st.FAULT]].format(
        bytes=state[st.FAULT_BYTES],
        address=state[st.FAULT_ADDRESS],
        thread="other threads" if other == st.MANY_THREADS else f"thread {_place(other, block)}",
        block="other blocks" if other < 0 else f"block {_place(other, grid)}",
    )
    return (
        f"{kernel.name}, line {line} ({source}): thread {_place(thread, block)} of block "
        f"{_place(state[st.BLOCK], grid)} {what}"
    )
