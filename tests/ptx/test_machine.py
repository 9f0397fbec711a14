"""The machine runs blocks, warps and calls as a GPU does; what a GPU leaves open is a Fault."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from minigrad.testing.ptx import Fault, PtxError, machine
from minigrad.testing.ptx.parse import parse

from .ptx_text import HEADER, Arrays, kernel_text

_OUT = ".param .u64 out"
_SHARED = ".shared .align 16 .b8 tile[1024];"
# %r1 = the thread's number, %rd1 = out + 4 · the thread's number of the grid
_INDEX = """
mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
mad.lo.s32 %r4, %r2, %r3, %r1;
ld.param.u64 %rd1, [out]; mul.wide.u32 %rd2, %r4, 4; add.s64 %rd1, %rd1, %rd2;
mul.wide.u32 %rd4, %r1, 4; mov.u64 %rd5, tile; add.s64 %rd6, %rd5, %rd4;
"""


def _run(
    body: str, grid: int = 1, block: int = 32, order: str = "forward", size: int | None = None
) -> np.ndarray:
    arrays = Arrays(np.zeros(grid * block if size is None else size, np.uint32))
    arrays.launch(kernel_text(_INDEX + body, _OUT, _SHARED), grid, block, order)
    return arrays.read(0)


# Blocks and threads --------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["forward", "reverse", "5"])
def test_threads_meet_at_barriers(order: str) -> None:
    """Each thread reads what its neighbour wrote before the barrier."""
    body = """
    st.shared.u32 [%rd6], %r4; bar.sync 0;
    add.s32 %r5, %r1, 1; rem.u32 %r5, %r5, %r3; mul.wide.u32 %rd7, %r5, 4;
    add.s64 %rd8, %rd5, %rd7; ld.shared.u32 %r6, [%rd8]; st.global.u32 [%rd1], %r6;
    """
    found = _run(body, grid=3, block=96, order=order)
    expected = np.roll(np.arange(288).reshape(3, 96), -1, 1).ravel()
    np.testing.assert_array_equal(found, expected)


def test_special_registers() -> None:
    body = """
    mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %tid.z; mov.u32 %r4, %ctaid.y;
    mov.u32 %r5, %nctaid.x; mov.u32 %r6, %ntid.y; mov.u32 %r7, %ctaid.x;
    mad.lo.s32 %r8, %r3, 10, %r2; mad.lo.s32 %r8, %r8, 10, %r1; mad.lo.s32 %r8, %r4, 1000, %r8;
    mad.lo.s32 %r8, %r7, 10000, %r8;
    mad.lo.s32 %r9, %r4, %r5, %r7; mul.lo.s32 %r9, %r9, 24;
    mad.lo.s32 %r10, %r3, %r6, %r2; mad.lo.s32 %r10, %r10, 2, %r1; add.s32 %r9, %r9, %r10;
    ld.param.u64 %rd1, [out]; mul.wide.u32 %rd2, %r9, 4; add.s64 %rd1, %rd1, %rd2;
    st.global.u32 [%rd1], %r8;
    """
    arrays = Arrays(np.zeros(2 * 3 * 24, np.uint32))
    module = machine.load(kernel_text(body, _OUT).encode(), arrays.memory)
    params = arrays.addresses[0].to_bytes(8, "little")
    machine.launch(module.kernels["test"], (2, 3, 1), (2, 3, 4), params, arrays.memory)
    expected = [
        10000 * bx + 1000 * by + 100 * z + 10 * y + x
        for by, bx, z, y, x in itertools.product(range(3), range(2), range(4), range(3), range(2))
    ]
    np.testing.assert_array_equal(arrays.read(0), expected)


def test_functions_are_called_with_their_own_registers_and_local_memory() -> None:
    function = """
    .func (.param .b32 result) twice_plus_one(.param .b32 x)
    {
    .local .align 4 .b8 depot[8]; .reg .b64 %SPL; .reg .b32 %r<4>; .reg .pred %p<2>;
    mov.u64 %SPL, depot; ld.param.u32 %r1, [x]; st.local.u32 [%SPL+4], %r1;
    setp.eq.u32 %p1, %r1, 3; @%p1 bra three;
    ld.local.u32 %r2, [%SPL+4]; shl.b32 %r2, %r2, 1; add.s32 %r2, %r2, 1;
    st.param.b32 [result+0], %r2; ret;
    three: mov.u32 %r2, 333; st.param.b32 [result+0], %r2; ret;
    }
    """
    body = "\n".join(
        f"""{{ .param .b32 p0; st.param.b32 [p0+0], %r{1 if i == 0 else 7}; .param .b32 back;
        call.uni (back), twice_plus_one, (p0); ld.param.b32 %r7, [back+0]; }}"""
        for i in range(2)
    )
    text = kernel_text(_INDEX + body + "st.global.u32 [%rd1], %r7;", _OUT, _SHARED, function)
    arrays = Arrays(np.zeros(32, np.uint32))
    arrays.launch(text, 1, 32)

    def once(x: int) -> int:
        return 333 if x == 3 else 2 * x + 1

    assert arrays.read(0).tolist() == [once(once(x)) for x in range(32)]


def test_generic_addresses_lead_to_every_memory() -> None:
    body = """
    cvta.shared.u64 %rd7, %rd6; st.u32 [%rd7], %r4; cvta.to.shared.u64 %rd8, %rd7;
    ld.shared.u32 %r5, [%rd8]; cvta.to.global.u64 %rd9, %rd1; st.global.u32 [%rd9], %r5;
    ld.u32 %r6, [%rd1]; add.s32 %r6, %r6, 5; st.u32 [%rd1], %r6;
    """
    np.testing.assert_array_equal(_run(body), np.arange(32) + 5)


def test_predicates_guard_any_instruction() -> None:
    body = """
    setp.lt.u32 %p1, %r1, 9; setp.gt.and.u32 %p2, %r1, 3, %p1; mov.u32 %r5, 1;
    @%p2 mov.u32 %r5, 2; @!%p1 mov.u32 %r5, 3; st.global.u32 [%rd1], %r5;
    """
    expected = [2 if 3 < i < 9 else 3 if i >= 9 else 1 for i in range(32)]
    assert _run(body).tolist() == expected


def test_carries_make_long_additions_and_products() -> None:
    body = """
    mov.u32 %r5, 0xFFFFFFF0; mul.lo.u32 %r6, %r1, %r1;
    add.cc.u32 %r7, %r5, %r6; addc.u32 %r8, 7, 0;
    mad.lo.cc.u32 %r9, %r5, %r1, 0xFFFFFFFF; madc.hi.u32 %r10, %r5, %r1, 0;
    sub.cc.u32 %r11, %r1, 5; subc.u32 %r12, 9, 0;
    mad.lo.u32 %r13, %r8, 1000, %r10; mad.lo.u32 %r13, %r13, 10, %r12; st.global.u32 [%rd1], %r13;
    """
    a = 0xFFFFFFF0
    expected = [
        ((7 + (a + i * i >> 32)) * 1000 + (a * i + 0xFFFFFFFF >> 32)) * 10 + 9 - (i < 5)
        for i in range(32)
    ]
    assert _run(body).tolist() == expected


def test_halves_are_split_and_joined() -> None:
    body = """
    mul.wide.u32 %rd7, %r1, 0x10001; shl.b64 %rd7, %rd7, 20; mov.b64 {%r5, %r6}, %rd7;
    mov.b64 %rd8, {%r6, %r5}; shr.u64 %rd9, %rd8, 20; cvt.u32.u64 %r7, %rd9;
    mov.b32 {%rs1, %rs2}, %r7; mov.b32 %r8, {%rs2, %rs1}; st.global.u32 [%rd1], %r8;
    """

    def swapped(i: int) -> int:
        x = i * 0x10001 << 20
        y = ((x >> 32) | (x & 0xFFFFFFFF) << 32) >> 20 & 0xFFFFFFFF
        return y >> 16 | (y & 0xFFFF) << 16

    assert _run(body).tolist() == [swapped(i) for i in range(32)]


def test_atomic_minimum_of_all_threads() -> None:
    body = """
    ld.param.u64 %rd9, [out]; sub.s32 %r5, 50, %r4; atom.global.min.s32 %r6, [%rd9], %r5;
    """
    arrays = Arrays(np.full(1, 100, np.int32))
    arrays.launch(kernel_text(_INDEX + body, _OUT, _SHARED), 4, 32)
    assert arrays.read(0)[0] == 50 - 127


def test_matrix_fragments_of_a_warp() -> None:
    """mma.m16n8k8 on fragments laid out by the tables of the ISA, of two warps."""
    rng = np.random.default_rng(0)
    A = rng.integers(-8, 8, (2, 16, 8)).astype(np.float32)
    B = rng.integers(-8, 8, (2, 8, 8)).astype(np.float32)
    C = rng.integers(-8, 8, (2, 16, 8)).astype(np.float32)
    fragments = np.zeros((64, 14), np.float32)
    for thread in range(64):
        warp, group, within = thread // 32, thread % 32 // 4, thread % 4
        rows, cols = (group, group + 8, group, group + 8), (within, within, within + 4, within + 4)
        fragments[thread, :4] = A[warp, rows, cols]
        fragments[thread, 4:6] = B[warp, (within, within + 4), group]
        rows, cols = (group, group, group + 8, group + 8), (2 * within, 2 * within + 1) * 2
        fragments[thread, 6:10] = C[warp, rows, cols]
    loads = "".join(f"ld.global.f32 %f{i + 1}, [%rd3+{4 * i}];" for i in range(10))
    stores = "".join(f"st.global.f32 [%rd3+{40 + 4 * i}], %f{11 + i};" for i in range(4))
    words = "".join(f"mov.b32 %r{10 + i}, %f{i + 1};" for i in range(6))
    body = f"""
    mov.u32 %r1, %tid.x; ld.param.u64 %rd1, [out]; mul.wide.u32 %rd2, %r1, 56;
    add.s64 %rd3, %rd1, %rd2; {loads} {words}
    mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {{%f11, %f12, %f13, %f14}},
    {{%r10, %r11, %r12, %r13}}, {{%r14, %r15}}, {{%f7, %f8, %f9, %f10}}; {stores}
    """
    arrays = Arrays(fragments)
    arrays.launch(kernel_text(body, _OUT), 1, 64)
    found = arrays.read(0)
    for thread in range(64):
        warp, group, within = thread // 32, thread % 32 // 4, thread % 4
        D = A[warp] @ B[warp] + C[warp]
        rows, cols = (group, group, group + 8, group + 8), (2 * within, 2 * within + 1) * 2
        np.testing.assert_array_equal(found[thread, 10:], D[rows, cols])


# Faults --------------------------------------------------------------------------------------


def test_accesses_outside_an_allocation() -> None:
    with pytest.raises(
        Fault,
        match=r"test, line \d+ \(.*st\.global\.u32 \[%rd1\], %r4;\): thread \(31, 0, 0\) of block "
        r"\(0, 0, 0\) accesses 4 bytes at 0x[0-9a-f]+, outside a live allocation",
    ):
        _run("st.global.u32 [%rd1], %r4;", size=31)
    with pytest.raises(Fault, match="outside a live allocation"):
        _run("ld.shared.u32 %r5, [%rd6+1024];")
    with pytest.raises(Fault, match="accesses 1 bytes at 0x7, outside"):
        _run("mov.u64 %rd9, 4; st.global.u8 [%rd9+3], %r4;", block=1)


def test_accesses_to_freed_memory() -> None:
    arrays = Arrays(np.zeros(32, np.uint32))
    arrays.memory.free(arrays.addresses[0])
    with pytest.raises(Fault, match="outside a live allocation"):
        arrays.launch(kernel_text(_INDEX + "st.global.u32 [%rd1], %r4;", _OUT, _SHARED), 1, 32)


def test_misaligned_accesses() -> None:
    with pytest.raises(Fault, match=r"accesses 8 bytes at .* not aligned"):
        _run("ld.global.u64 %rd9, [%rd1+4];", size=64)
    with pytest.raises(Fault, match=r"accesses 16 bytes at .* not aligned"):
        _run("ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd1];", size=64)


def test_reads_of_what_nobody_wrote() -> None:
    with pytest.raises(Fault, match="reads 4 bytes at 0x0 of shared or local memory that nobody"):
        _run("ld.shared.u32 %r5, [%rd6];")
    local = ".local .align 4 .b8 depot[8];"
    body = "mov.u64 %rd9, depot; st.local.u32 [%rd9], %r1; ld.local.u32 %r5, [%rd9+4];"
    with pytest.raises(Fault, match="reads 4 bytes at 0x4 of shared or local memory"):
        _run(local + body)
    # What the block before left there does not count.
    body = "setp.ne.u32 %p1, %r2, 0; @%p1 bra read; st.shared.u32 [%rd6], %r1; read: "
    with pytest.raises(Fault, match=r"of block \(1, 0, 0\) reads"):
        _run(body + "bar.sync 0; ld.shared.u32 %r5, [%rd6];", grid=2)


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_races_between_barriers(order: str) -> None:
    with pytest.raises(Fault, match=r"thread .* touched since the last barrier, one of them writ"):
        _run("st.shared.u32 [%rd5], %r1;", order=order)
    fill = "st.shared.u32 [%rd6], %r1; bar.sync 0;"
    neighbour = fill + "st.shared.u32 [%rd6], %r1; {} ld.shared.u32 %r5, [%rd5+4];"
    with pytest.raises(Fault, match="touched since the last barrier"):
        _run(neighbour.format(""), order=order)
    _run(neighbour.format("bar.sync 0;"), order=order)
    last = 31 if order == "forward" else 0
    write = f"setp.eq.u32 %p1, %r1, {last}; @%p1 st.shared.u32 [%rd5+4], %r1;"
    with pytest.raises(Fault, match="that other threads touched since the last barrier"):
        _run(neighbour.format("bar.sync 0;") + write, order=order)


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_races_between_blocks(order: str) -> None:
    with pytest.raises(Fault, match=r"that block \(\d, 0, 0\) touched in this launch"):
        _run("ld.param.u64 %rd9, [out]; st.global.u32 [%rd9], %r1;", 2, 1, order)
    with pytest.raises(Fault, match="touched in this launch"):
        _run("ld.param.u64 %rd9, [out]; ld.global.u32 %r5, [%rd9]; st.global.u32 [%rd1], %r5;",
             2, 1, order)  # fmt: skip
    # The next launch begins anew, and all may read.
    arrays = Arrays(np.zeros(64, np.uint32))
    body = "ld.param.u64 %rd9, [out]; ld.global.u32 %r5, [%rd9]; {}"
    for last in ("", "", "setp.eq.u32 %p1, %r4, 0; @%p1 st.global.u32 [%rd9], 7;"):
        arrays.launch(kernel_text(_INDEX + body.format(last), _OUT, _SHARED), 1, 1, order)


def test_results_that_depend_on_the_order() -> None:
    """Each thread counts on; what it finds is its place in the order."""
    count = "ld.param.u64 %rd9, [out]; atom.global.add.u32 %r6, [%rd9], 1;"
    text = kernel_text(_INDEX + count + "st.global.u32 [%rd1+4], %r6;", _OUT, _SHARED)
    with pytest.raises(Fault, match="results depend on the order of blocks"):
        Arrays(np.zeros(65, np.uint32)).launch(text, 2, 32, "both")
    arrays = Arrays(np.zeros(65, np.uint32))
    arrays.launch(kernel_text(_INDEX + count, _OUT, _SHARED), 2, 32, "both")
    assert arrays.read(0)[0] == 64


def test_barriers_that_not_all_reach() -> None:
    body = "setp.eq.u32 %p1, %r1, 7; @%p1 bra end; bar.sync 0; end:"
    with pytest.raises(Fault, match=r"thread \(7, 0, 0\).*does not reach the barrier"):
        _run(body)
    two = "setp.eq.u32 %p1, %r1, 0; @%p1 bra other; bar.sync 0; ret; other: bar.sync 0;"
    with pytest.raises(Fault, match="does not reach the barrier"):
        _run(two)


def test_loops_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_MAX_STEPS", 10_000)
    with pytest.raises(Fault, match="operations without an end"):
        _run("again: bra again;", block=1)


def test_launch_limits_and_parameters() -> None:
    arrays = Arrays(np.zeros(8, np.uint32))
    kernel = machine.load(kernel_text("", _OUT).encode(), arrays.memory).kernels["test"]
    for grid, block in (((1, 1, 1), (1025, 1, 1)), ((1, 70000, 1), (1, 1, 1)),
                        ((1, 1, 1), (32, 1, 65)), ((0, 1, 1), (1, 1, 1))):  # fmt: skip
        with pytest.raises(Fault, match="is beyond the limits"):
            machine.launch(kernel, grid, block, bytes(8), arrays.memory)
    with pytest.raises(Fault, match=r"12 bytes of parameters were passed, its \.param list has 8"):
        machine.launch(kernel, (1, 1, 1), (1, 1, 1), bytes(12), arrays.memory)
    large = kernel_text("", _OUT, ".shared .align 4 .b8 much[50000];")
    kernel = machine.load(large.encode(), arrays.memory).kernels["test"]
    with pytest.raises(Fault, match="50000 bytes of shared memory is beyond"):
        machine.launch(kernel, (1, 1, 1), (1, 1, 1), bytes(8), arrays.memory)


def test_unknown_instructions_are_named() -> None:
    with pytest.raises(PtxError, match=r"line \d+ of test: vote\.sync\.any\.pred: the machine doe"):
        _run("vote.sync.any.pred %p1, %p2, -1;")
    with pytest.raises(PtxError, match="unknown name %nothing"):
        _run("add.s32 %r1, %r1, %nothing;")
    with pytest.raises(PtxError, match="has no label nowhere"):
        _run("bra nowhere;")
    with pytest.raises(PtxError, match=r"line 4: unknown directive"):
        parse(HEADER + ".surface x;")


# Counts --------------------------------------------------------------------------------------


def test_instructions_are_counted() -> None:
    body = """
    mov.u32 %r5, 0; again: add.s32 %r5, %r5, 1; setp.lt.u32 %p1, %r5, 10; @%p1 bra again;
    st.global.u32 [%rd1], %r5;
    """
    arrays = Arrays(np.zeros(64, np.uint32))
    before = machine.totals().launches
    counts = arrays.launch(kernel_text(_INDEX + body, _OUT, _SHARED), 2, 32)
    found = counts.by_opcode()
    assert found["setp.lt.u32"] == found["bra"] == 640
    assert found["st.global.u32"] == 64
    assert counts.instructions == sum(found.values()) == 64 * (10 + 1 + 30 + 1 + 1)
    assert machine.totals().launches == before + 1


def test_sectors_and_bank_conflicts() -> None:
    def traced(body: str) -> machine.Counts:
        arrays = Arrays(np.zeros(32 * 32, np.uint32))
        return arrays.launch(kernel_text(_INDEX + body, _OUT, _SHARED), 1, 32, trace=True)

    assert traced("ld.global.u32 %r5, [%rd1];").requests() == (1, 4, 4)
    strided = "mul.wide.u32 %rd9, %r1, 32; ld.param.u64 %rd8, [out]; add.s64 %rd9, %rd9, %rd8;"
    assert traced(strided + "ld.global.u32 %r5, [%rd9];").requests() == (1, 32, 4)
    assert traced("ld.param.u64 %rd9, [out]; ld.global.u32 %r5, [%rd9];").requests() == (1, 1, 1)
    assert traced("st.shared.u32 [%rd6], %r1;").bank_conflicts() == (1, 0)
    two = "shl.b64 %rd9, %rd4, 1; add.s64 %rd9, %rd9, %rd5; st.shared.u32 [%rd9], %r1;"
    assert traced(two).bank_conflicts() == (1, 1)
    wide = "shl.b64 %rd9, %rd4, 2; add.s64 %rd9, %rd9, %rd5; "
    wide += "st.shared.v4.u32 [%rd9], {%r1, %r1, %r1, %r1};"
    assert traced(wide).bank_conflicts() == (1, 0)
