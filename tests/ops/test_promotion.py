"""Type promotion as torch's: the common dtype, values, gradients; and integers of few bits."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
import minigrad.nn.functional as F
from minigrad.dtypes import NARROW, SUPPORTED
from minigrad.errors import DTypeError
from minigrad.ops.promotion import operands
from minigrad.testing.checks import DEVICES

NAMES = [dtype.name for dtype in SUPPORTED]
PAIRS = list(itertools.product(NAMES, NAMES))


def both(values: Any, dtype: str, device: str = "cpu") -> tuple[mg.Tensor, torch.Tensor]:
    return (
        mg.tensor(values, dtype=getattr(mg, dtype if dtype != "bool" else "bool_"), device=device),
        torch.tensor(values, dtype=getattr(torch, dtype)),
    )


def same(mine: Any, theirs: Any) -> None:
    if isinstance(theirs, torch.Tensor):
        mine, theirs = mine.detach().cpu().numpy(), theirs.detach().numpy()
        np.testing.assert_array_equal(mine, theirs, strict=True)
    elif isinstance(theirs, tuple):
        for one, other in zip(mine, theirs, strict=True):
            same(one, other)
    else:
        assert mine == theirs


def name_of(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def test_common_dtype_of_tensors_and_numbers_is_torchs() -> None:
    categories: list[tuple[Any, Any]] = [(True, True), (2, 2), (1.5, 1.5)]
    for name in NAMES:
        categories += [both([1, 0], name), both(1, name)]
    for (mine, theirs), (other, their_other) in itertools.product(categories, categories):
        expected = name_of(torch.result_type(theirs, their_other))
        assert mg.result_type(mine, other).name == expected, (theirs, their_other)
        if isinstance(mine, mg.Tensor) or isinstance(other, mg.Tensor):
            left, right = operands("add", mine, other)
            assert (left.dtype.name, right.dtype.name) == (expected, expected)
    for a, b in PAIRS:
        assert mg.promote_types(a, b).name == name_of(
            torch.promote_types(getattr(torch, a), getattr(torch, b))
        )
        assert mg.can_cast(a, b) == torch.can_cast(getattr(torch, a), getattr(torch, b))


@pytest.mark.parametrize("value", [[2.5, 1.0], [2.5], 2.5, True])
@pytest.mark.parametrize("target", ["float32", "int64"])
def test_what_is_written_at_an_index_is_converted_where_torch_does(target: str, value: Any) -> None:
    def written(lib: Any, index: Any) -> Any:
        x = lib.zeros(2, dtype=getattr(lib, target))
        given = lib.tensor(value, dtype=None if value is True else lib.float64)
        try:
            x[lib.tensor(index) if isinstance(index, list) else index] = given
        except (RuntimeError, TypeError, ValueError):
            return None
        return x.tolist()

    for index in (slice(0, 2), ..., 0, [0, 1], [True, True]):
        assert written(mg, index) == written(torch, index), index


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "kl_div",
                                  "binary_cross_entropy_with_logits"])  # fmt: skip
@pytest.mark.parametrize("dtypes", [("float64", "float32"), ("float32", "float64"),
                                    ("float32", "int64")])  # fmt: skip
def test_losses_of_two_dtypes_are_torchs(name: str, dtypes: tuple[str, str]) -> None:
    found = []
    for lib in (mg, torch):
        x = lib.tensor([0.25, 0.5, 1.0], dtype=getattr(lib, dtypes[0]), requires_grad=True)
        t = lib.tensor([1, 0, 1], dtype=getattr(lib, dtypes[1]))
        try:
            loss = getattr(lib.nn.functional, name)(x, t, reduction="sum")
            loss.backward()
            found.append((name_of(loss.dtype), name_of(x.grad.dtype), loss.item(), x.grad.numpy()))
        except (RuntimeError, TypeError):
            found.append(None)
    mine, theirs = found
    assert (mine is None) == (theirs is None)
    if theirs is not None:
        assert mine[:2] == theirs[:2]
        np.testing.assert_allclose(mine[2], theirs[2], rtol=1e-6)
        np.testing.assert_allclose(mine[3], theirs[3], rtol=1e-6)


@pytest.mark.parametrize(
    "apply",
    [
        operator.add, operator.mul, operator.truediv, operator.lt, operator.eq,
        lambda a, b: a.where(a > b, b), lambda a, b: a.minimum(b),
    ],
    ids=["add", "mul", "div", "lt", "eq", "where", "minimum"],
)  # fmt: skip
def test_operations_on_two_dtypes_give_torchs_values(apply: Callable[..., Any]) -> None:
    pairs = [
        ("int32", "float32"), ("int8", "uint8"), ("bool", "int16"), ("int64", "float64"),
        ("float32", "float64"), ("uint8", "int64"),
    ]  # fmt: skip
    for a, b in pairs:
        for first, second in ((a, b), (b, a)):
            (x, their_x), (y, their_y) = both([1, 0, 7], first), both([[3, 2, 1]], second)
            same(apply(x, y), apply(their_x, their_y))
            same(apply(x, y[0, 0]), apply(their_x, their_y[0, 0]))


def test_joined_tensors_have_the_common_dtype() -> None:
    for a, b in (("int64", "float32"), ("uint8", "int8"), ("bool", "float64")):
        (x, their_x), (y, their_y) = both([1, 0], a), both([3, 2], b)
        same(mg.cat([x, y]), torch.cat([their_x, their_y]))
        same(mg.stack([y, x]), torch.stack([their_y, their_x]))


def test_each_operand_gets_its_gradient_in_its_own_dtype() -> None:
    def run(lib: Any) -> list[Any]:
        x = lib.tensor([[1.0, -2.0, 3.0]], dtype=lib.float32, requires_grad=True)
        y = lib.tensor([[2.0], [0.5]], dtype=lib.float64, requires_grad=True)
        s = lib.tensor(4.0, dtype=lib.float64, requires_grad=True)
        counts = lib.tensor([1, 2, 3])
        product = x * y + x * counts - s * x + x / y + lib.maximum(x, y) + x * (x > 0)
        joined = lib.cat([product, x, lib.where(x > 0, x, y[:1])])
        joined.sum().backward()
        return [joined, x.grad, y.grad, s.grad]

    for mine, theirs in zip(run(mg), run(torch), strict=True):
        assert mine.dtype.name == name_of(theirs.dtype)
        np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "fix"),
    [
        (lambda image, w: F.conv2d(image, w), "convert input with .to(minigrad.float32)"),
        (lambda image, w: F.conv2d(w.double(), w), "convert input with .to(minigrad.float32)"),
        (lambda image, w: F.linear(image[0, 0], w[0, 0]), "convert input with .to(minigrad.float"),
        (lambda image, w: w @ w.double(), "convert other with .to(minigrad.float32)"),
        (lambda image, w: F.max_pool2d(image, 2), "convert with .to(minigrad.float32)"),
    ],
)
def test_where_torch_refuses_a_mix_the_error_says_what_to_convert(call, fix: str) -> None:
    image, weight = mg.ones(1, 1, 3, 3, dtype=mg.uint8), mg.ones(1, 1, 3, 3)
    with pytest.raises(DTypeError) as caught:
        call(image, weight)
    assert fix in str(caught.value)


# Integers of few bits -----------------------------------------------------------------------

NARROW_OPERATIONS: list[Callable[..., Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / 2,
    lambda a, b: a**3,
    lambda a, b: (a & b, a | b, a ^ b, ~a),
    lambda a, b: (a < b, a >= b, a == b, a != 5),
    lambda a, b: (-a, abs(a), a.sign(), a.square()),
    lambda a, b: (a.sum(), a.sum(0), a.prod(0), a.cumsum(1), a.all(), a.any(1)),
    lambda a, b: (a.max(), a.min(), a.amax(1), a.argmax(), a.argmin(0), tuple(a.max(1))),
    lambda a, b: tuple(a.sort(dim=1, stable=True)),
    lambda a, b: (a.clamp(-3, 5), a.clamp(min=b), a.maximum(b), a.where(a > b, b)),
    lambda a, b: (a[:, 1], a[0, ::2], a[a > 0], a.t().reshape(-1)),
    lambda a, b: a.sum(dtype=a.dtype),
    lambda a, b: a.float().mean(dtype=None),
    lambda a, b: (a.tolist(), a[0, 0].item(), a.element_size(), a.nbytes, a.itemsize),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", sorted(d.name for d in NARROW))
def test_integers_of_few_bits_wrap_around_and_reduce_as_torchs(dtype: str, device: str) -> None:
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    a, their_a = both([[most, least, 5], [-7, 0, most]], dtype, device)
    b, their_b = both([[1, -1, 3], [most, -7, most]], dtype, device)
    for apply in NARROW_OPERATIONS:
        same(apply(a, b), apply(their_a, their_b))


def test_integers_of_few_bits_are_shared_with_numpy_and_torch() -> None:
    for dtype in NARROW:
        array = np.arange(-3, 3, dtype=dtype)
        x, y = mg.from_numpy(array), mg.from_dlpack(torch.from_numpy(array))
        array[0] = 7
        same(x, torch.from_dlpack(y))
        assert (x.dtype, x[0].item(), np.asarray(y).dtype) == (dtype, 7, dtype)


@pytest.mark.parametrize("device", DEVICES)
def test_an_int32_tensor_is_an_index_and_smaller_integers_are_not(device: str) -> None:
    x, their_x = both([[1.0, 2.0], [3.0, 4.0]], "float32", device)
    i, their_i = both([1, 0, -1], "int32", device)
    same(x[i], their_x[their_i])
    same(x.index_select(1, i[:2]), their_x.index_select(1, their_i[:2]))
    same(x.gather(0, i[None, :2]), their_x.gather(0, their_i[None, :2]))
    with pytest.raises(DTypeError, match=r"index tensor must be int64, int32 or bool, got int16"):
        x[i.short()]


def test_half_precision_is_refused_with_the_way_out() -> None:
    x = mg.ones(2)
    for call in (
        x.half, x.bfloat16, lambda: mg.zeros(2, dtype=mg.bfloat16),
        lambda: x.to(mg.half), lambda: mg.tensor(np.ones(2, np.float16)),
        lambda: x + np.ones(2, np.float16),
    ):  # fmt: skip
        with pytest.raises(DTypeError, match=r"float16.*float32 and float64.*float32"):
            call()
    for dtype in (mg.complex64, mg.complex128):
        with pytest.raises(DTypeError, match=r"must be one of float32.*got dtype.'complex"):
            x.to(dtype)
    assert x.dtype not in (mg.float16, mg.half, mg.bfloat16, mg.complex64)


# Dtypes -------------------------------------------------------------------------------------


def test_conversions_and_names_of_types_are_torchs() -> None:
    x, theirs = both([[1.0, -2.7], [300.0, 40000.0]], "float32")
    for name in ("int", "short", "char", "long", "byte", "bool", "double", "float"):
        same(getattr(x, name)(), getattr(theirs, name)())
        assert getattr(x, name)().type() == getattr(theirs, name)().type()
    same(x.type(mg.int16), theirs.type(torch.int16))
    same(x.type("torch.IntTensor"), theirs.type("torch.IntTensor"))
    assert (x.is_floating_point(), mg.is_floating_point(x.int())) == (True, False)
    assert (mg.is_tensor(x), mg.is_tensor(x.array)) == (True, False)
    assert (mg.int, mg.short, mg.long) == (mg.int32, mg.int16, mg.int64)


def test_limits_are_torchs_and_python_numbers() -> None:
    for name in ("float32", "float64"):
        mine, theirs = mg.finfo(name), torch.finfo(getattr(torch, name))
        for limit in ("bits", "eps", "max", "min", "tiny", "smallest_normal"):
            assert getattr(mine, limit) == getattr(theirs, limit)
        assert isinstance(mine.max, float)
    for name in ("int8", "uint8", "int32"):
        mine, theirs = mg.iinfo(name), torch.iinfo(getattr(torch, name))
        assert (mine.min, mine.max, mine.bits) == (theirs.min, theirs.max, theirs.bits)
    with pytest.raises(TypeError, match=r"finfo: .*int32; see iinfo"):
        mg.finfo(mg.int32)
    with pytest.raises(TypeError, match=r"iinfo: .*bool"):
        mg.iinfo(mg.bool_)


def test_the_default_dtype_is_that_of_floats_and_parameters() -> None:
    with pytest.raises(DTypeError, match=r"set_default_dtype: .*int32"):
        mg.set_default_dtype(mg.int32)
    assert mg.get_default_dtype() == mg.float32
    mg.set_default_dtype(mg.float64)
    try:
        made = [
            mg.tensor([1.5]), mg.zeros(2), mg.rand(2), mg.full((1,), 0.5), mg.arange(0.5),
            mg.tensor([1]) * 0.5, mg.tensor([1]) / 2, mg.tensor([1]).exp(),
            mg.nn.Linear(2, 3).weight, mg.nn.BatchNorm2d(2).running_mean,
        ]  # fmt: skip
        assert {t.dtype for t in made} == {mg.float64}
        assert mg.tensor([1]).dtype == mg.int64
        assert mg.tensor(np.ones(2, np.float32)).dtype == mg.float32
    finally:
        mg.set_default_dtype(mg.float32)


# Seen from NumPy ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "apply",
    [
        np.sum, np.mean, np.prod, np.any, lambda x: np.sum(x, axis=1), np.exp, np.argmax, np.sort,
        lambda x: np.mean(x, axis=0, keepdims=True), lambda x: np.cumsum(x, axis=1), np.median,
        lambda x: np.clip(x, 1, 2), lambda x: np.add(x, np.ones(2, np.float32)), np.transpose,
        lambda x: np.repeat(x, 2), lambda x: np.where(x > 1), np.matmul, np.squeeze, np.round,
    ],
)  # fmt: skip
def test_numpys_functions_take_a_tensor_for_its_array(apply: Callable[..., Any]) -> None:
    array = np.array([[1.4, 2.0], [3.0, 5.0]], np.float32)
    arguments = (array, array) if apply is np.matmul else (array,)
    mine = apply(*map(mg.tensor, arguments))
    np.testing.assert_allclose(np.asarray(mine), apply(*arguments), rtol=1e-6)


@pytest.mark.parametrize("apply", [np.max, np.min, np.std, np.var])
def test_numpys_functions_that_would_mean_something_else_are_refused(apply) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        apply(mg.ones(2, 2))


def test_numpys_names_of_arguments_are_those_of_torch() -> None:
    x, theirs = both([[1.0, 2.0], [3.0, 5.0]], "float32")
    for apply in (
        lambda t: t.sum(axis=(0, 1), keepdims=True), lambda t: t.mean(axis=0),
        lambda t: tuple(t.max(axis=1)), lambda t: t.argmax(axis=1, keepdims=True),
        lambda t: t.unsqueeze(axis=0), lambda t: t.all(axis=0), lambda t: t.cumsum(axis=0),
    ):  # fmt: skip
        same(apply(x), apply(theirs))
    same(mg.cat((x, x), axis=1), torch.cat((theirs, theirs), axis=1))
    with pytest.raises(TypeError, match="axis"):
        x.exp(axis=0)


# The rest -----------------------------------------------------------------------------------


def test_dtype_of_a_reduction_is_that_of_its_result() -> None:
    x, theirs = both([[1.9, 2.0], [3.0, 200.0]], "float32")
    for apply in (
        lambda t, lib: t.sum(dtype=lib.int32), lambda t, lib: t.sum(0, dtype=lib.uint8),
        lambda t, lib: t.prod(dtype=lib.int8), lambda t, lib: t.cumsum(0, dtype=lib.int16),
        lambda t, lib: t.int().mean(dtype=lib.float64), lambda t, lib: t.sum(dtype=lib.bool),
    ):  # fmt: skip
        same(apply(x, mg), apply(theirs, torch))


def test_standard_deviation_of_numbers_whose_square_overflows_is_finite() -> None:
    for scale in (1e30, 1e-30):
        x = mg.tensor([scale, -scale, 3 * scale], requires_grad=True)
        theirs = torch.tensor(x.tolist(), dtype=torch.float64, requires_grad=True)
        for t in (x, theirs):
            t.std().backward()
        np.testing.assert_allclose(x.std().item(), theirs.std().item(), rtol=1e-6)
        np.testing.assert_allclose(x.grad.numpy(), theirs.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_a_large_exponent_stays_odd() -> None:
    for base in (-1.0, 1.0):
        x = mg.tensor([base], requires_grad=True)
        y = x**16777217
        y.backward()
        assert (y.dtype, y.item(), x.grad.item()) == (mg.float32, base, 16777217.0 // 1 - 1)
    assert ((-1) ** mg.tensor([16777217])).tolist() == [-1]


def test_a_format_applies_to_the_number_of_one_element() -> None:
    assert f"{mg.tensor(2.0):.2f} {mg.tensor([[3]]):d} {mg.tensor(1.5)}" == "2.00 3 1.5"
    assert f"{mg.tensor([1.0])}" == "tensor([1.])"
    with pytest.raises(TypeError, match=r"format: '.1f' .*\(2,\)"):
        f"{mg.ones(2):.1f}"


def test_a_negative_step_is_refused_with_the_name_of_flip() -> None:
    with pytest.raises(ValueError, match="step of a slice must be positive, got -1; flip"):
        mg.ones(3)[::-1]
