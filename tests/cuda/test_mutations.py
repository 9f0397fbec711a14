"""The checks see faults: each mutation of a compiled kernel makes a comparison with the CPU fail.

A mutation edits the PTX of one kernel before it is loaded. It is caught if the emulated GPU reports
a fault or the operation's result differs from the CPU's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import DeviceError
from minigrad.kernels.cuda import _compile, _launch
from minigrad.testing import ptx

pytestmark = pytest.mark.skipif(not ptx.installed(), reason="a GPU does not report faults")

Edit = Callable[[str], str]
Run = Callable[[str], mg.Tensor]


def _operand(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _product(device: str) -> mg.Tensor:
    return mg.tensor(_operand(70, 150), device=device) @ mg.tensor(_operand(150, 90), device=device)


def _sum(device: str) -> mg.Tensor:
    return mg.tensor(_operand(3, 5000), device=device).sum(1)


def _softmax(device: str) -> mg.Tensor:
    return mg.tensor(_operand(5, 700), device=device).softmax(1)


def _convolution(device: str) -> mg.Tensor:
    input, weight = (mg.tensor(_operand(*s), device=device) for s in ((2, 8, 9, 7), (16, 8, 3, 3)))
    return mg.nn.functional.conv2d(input, weight, padding=2, dilation=2)


def _direct_operands(device: str) -> list[mg.Tensor]:
    """Two portions of channels, several tiles of pixels."""
    return [
        mg.tensor(_operand(*shape), device=device, requires_grad=True)
        for shape in ((30, 12, 18, 8), (16, 12, 3, 3))
    ]


def _direct_convolution(device: str) -> mg.Tensor:
    return mg.nn.functional.conv2d(*_direct_operands(device), padding=1).detach()


def _direct_weight_gradient(device: str) -> mg.Tensor:
    input, weight = _direct_operands(device)
    mg.nn.functional.conv2d(input.detach(), weight, padding=1).square().sum().backward()
    return weight.grad * 1e-3


def _addition(device: str) -> mg.Tensor:
    return mg.tensor(_operand(1000), device=device) + 1.5


def _transposition(device: str) -> mg.Tensor:
    return mg.tensor(_operand(70, 50), device=device).T.contiguous()


def _caught(monkeypatch: pytest.MonkeyPatch, kernel: str, edit: Edit, run: Run) -> bool:
    """Whether running the operation with the edited kernel differs from the CPU. AssertionError if
    the edit changes nothing or the kernel is not used."""
    (found,) = [k for k in _launch.KERNELS if f"{k.module}.{k.name}" == kernel]
    edited: list[str] = []
    original = _compile.cached_image

    def image(variant: Any, *args: Any) -> tuple[bytes, str]:
        code, entry = original(variant, *args)
        if variant.kernel is found:
            text = edit(code.decode())
            assert text != code.decode(), "the edit finds nothing to change"
            edited.append(text)
            code = text.encode()
        return code, entry

    expected = run("cpu").numpy()
    with monkeypatch.context() as patch:
        patch.setattr(found, "variants", {})
        patch.setattr(_compile, "cached_image", image)
        try:
            result = run("cuda").cpu().numpy()
            ptx.raise_faults()
        except (ptx.Fault, DeviceError):
            result = None
            with suppress(ptx.Fault):
                ptx.raise_faults()
    assert edited, "the kernel was not launched"
    return result is None or not np.allclose(result, expected, rtol=1e-4, atol=1e-4)


def _replaced(pattern: str, number: int, by: str | Callable[[re.Match[str]], str]) -> Edit:
    """An edit of the pattern's occurrence of that number."""

    def edit(text: str) -> str:
        places = list(re.finditer(pattern, text))
        if number >= len(places):
            return text
        match = places[number]
        new = by if isinstance(by, str) else by(match)
        return text[: match.start()] + new + text[match.end() :]

    return edit


def _count(kernel: str, pattern: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the pattern occurs in the kernel that the operation uses."""
    counts: list[int] = []

    def look(text: str) -> str:
        counts.append(len(re.findall(pattern, text)))
        return text + "\n"

    assert not _caught(monkeypatch, kernel, look, run), "the kernel itself is wrong"
    return counts[0]


@pytest.mark.parametrize(
    ("kernel", "run", "spare"),
    [
        ("matmul.product", _product, 0), ("reduce.sums", _sum, 1), ("softmax.softmax", _softmax, 1),
        ("conv.convolve", _convolution, 0), ("_direct.convolve", _direct_convolution, 0),
        ("_direct_weight.correlate", _direct_weight_gradient, 0),
        ("_copy.transpose", _transposition, 0),
    ],
)  # fmt: skip
def test_every_removed_barrier_is_caught(
    kernel: str, run: Run, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """spare: barriers that a kernel's last `fold` ends with, for a next one that there is not."""
    barriers = _count(kernel, r"bar\.sync\s+0;", run, monkeypatch)
    assert barriers > 0
    missed = [
        number for number in range(barriers - spare)
        if not _caught(monkeypatch, kernel, _replaced(r"bar\.sync\s+0;", number, ""), run)
    ]  # fmt: skip
    assert not missed, f"removing barriers {missed} of {barriers} was not noticed"


def test_a_swapped_fragment_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def swap(match: re.Match[str]) -> str:
        a, b, c, d = match[2].split(",")
        return f"{match[1]}{{{a},{c},{b},{d}}}"

    edit = _replaced(r"(mma\.sync\S+ \{[^}]*\}, )\{([^}]*)\}", 0, swap)
    monkeypatch.setattr(mg.backends.cuda, "allow_tf32", True)

    def whole_numbers(device: str) -> mg.Tensor:
        left, right = (
            mg.tensor(np.round(_operand(*s)), device=device) for s in ((64, 64), (64, 32))
        )
        return left @ right

    assert not _caught(monkeypatch, "matmul.product_tf32", lambda text: text + "\n", whole_numbers)
    assert _caught(monkeypatch, "matmul.product_tf32", edit, whole_numbers)


@pytest.mark.parametrize("off", [1, -1])
def test_a_bound_that_is_off_by_one_is_caught(off: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last parameter is the number of elements."""

    def shift(match: re.Match[str]) -> str:
        width = "64" if "rd" in match[1] else "32"
        return f"{match[0]}\n\tadd.s{width} {match[1]}, {match[1]}, {off};"

    edit = _replaced(r"ld\.param\.[us]\d\d\s+(%\w+), \[\w+_param_7\];", 0, shift)
    assert _caught(monkeypatch, "elementwise.add", edit, _addition)


def test_a_shifted_shared_index_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def shift(match: re.Match[str]) -> str:
        return f"{match[1]}+{int(match[2] or 0) + 4}]"

    for number in range(2):
        edit = _replaced(r"(st\.shared\.f32\s+\[%\w+)(?:\+(\d+))?\]", number, shift)
        assert _caught(monkeypatch, "matmul.product", edit, _product)


def test_a_dropped_argument_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel is compiled, and, if it came from elsewhere, when it is launched."""
    variant = next(k for k in _launch.KERNELS if k.name == "add")("float32", 3)
    scalar = ("float32", "none")
    types = ("float32*", "float32*", "int32", *scalar, *scalar, "int32")
    _compile.compile_ptx(variant, types, (9, 0))
    monkeypatch.setitem(_launch._FORMATS, "none", "")
    with pytest.raises(DeviceError, match=r"passes parameters of .* takes parameters of"):
        _compile.compile_ptx(variant, types, (9, 0))


def test_a_parameter_that_the_launch_does_not_pass_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if Numba had compiled a parameter more than the launch knows."""

    def more(text: str) -> str:
        return re.sub(r"(\.visible \.entry \w+\()", r"\1.param .u64 another,", text)

    assert _caught(monkeypatch, "elementwise.add", more, _addition)
