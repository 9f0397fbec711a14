"""Making tensors, and looking at them from Python: numbers, lists, arrays, text, copies."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad.errors import DTypeError, GraphError, ShapeError, TargetError

DTYPES = {mg.float32: torch.float32, mg.float64: torch.float64, mg.int64: torch.int64,
          mg.int32: torch.int32, mg.int16: torch.int16, mg.int8: torch.int8,
          mg.uint8: torch.uint8, mg.bool_: torch.bool}  # fmt: skip
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
every_device = pytest.mark.parametrize("device", ["cpu", "reference"])


def same(mine: mg.Tensor, theirs: torch.Tensor) -> None:
    assert DTYPES[mine.dtype] == theirs.dtype
    np.testing.assert_array_equal(mine.detach().numpy(), theirs.detach().numpy(), strict=True)


# From data ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        1, 1.5, True, [], [[], []], [1, 2], [1, 2.5], [True, False], [True, 1], (1.0, 2.0),
        [[1, 2], [3, 4]], [[[1.5]]], np.float64(1.5), np.float32(1.5), np.int64(3), np.bool_(True),
        [np.float32(1), np.float32(2)], [np.float64(1)], np.arange(6.0).reshape(2, 3),
        np.arange(6, dtype=np.uint8)[::2], np.zeros((2, 0), np.float32), np.array(2.5),
        np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
    ],
    ids=repr,
)  # fmt: skip
@every_device
def test_tensor_has_torchs_values_and_dtype(data, device) -> None:
    mine = mg.tensor(data, device=device)
    # Old releases of torch do not know the bool of NumPy 2.
    same(mine, torch.tensor(bool(data) if isinstance(data, np.bool_) else data))
    assert mine.device.type == device


@every_dtype
def test_tensor_converts_to_the_dtype_asked_for(dtype) -> None:
    for data in ([0, 1, 2], [0.5, 1.5], [True, False], np.arange(3, dtype=np.int32)):
        same(mg.tensor(data, dtype=dtype), torch.tensor(data, dtype=DTYPES[dtype]))


def test_tensor_copies_and_from_numpy_shares() -> None:
    array = np.arange(4.0)
    copied, shared, viewed = mg.tensor(array), mg.from_numpy(array), mg.as_tensor(array)
    array[0] = 9
    assert (copied[0], shared[0], viewed[0]) == (0, 9, 9)
    assert mg.as_tensor(shared) is shared
    assert mg.tensor(shared).array is not shared.array
    converted = mg.as_tensor(np.zeros(2, np.float32), dtype=mg.float64)
    assert converted.dtype == mg.float64


def test_from_numpy_copies_what_it_must_not_share() -> None:
    constant = np.frombuffer(bytes(16), np.float32)
    x = mg.from_numpy(constant)
    x[0] = 1
    assert constant[0] == 0
    unaligned = np.frombuffer(bytes(17), np.uint8)[1:].view(np.float64)
    assert mg.from_numpy(unaligned).array.flags.aligned


def test_tensor_of_a_tensor_is_a_leaf_of_its_own() -> None:
    x = mg.ones(3, requires_grad=True)
    y = mg.tensor(x * 2, requires_grad=True)
    assert y.is_leaf
    assert mg.tensor([mg.tensor(1.0), mg.tensor(2.0)]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ([[1], [1, 2]], ShapeError, "tensor: nested lists must have equal lengths"),
        (np.arange(3, dtype=np.uint16), DTypeError, "uint16 is not one of float32.*dtype="),
        (np.zeros(2, np.float16), DTypeError, "float16 is not one of .*minigrad.float32"),
        (np.zeros(2, ">f4"), DTypeError, "is not one of"),
        ([1j], DTypeError, "complex128"),
        ("text", DTypeError, "is not one of"),
        (None, DTypeError, "object"),
        ([2**70], DTypeError, "tensor: "),
    ],
)
def test_data_that_is_no_tensor_is_refused(data, error, match) -> None:
    with pytest.raises(error, match=match):
        mg.tensor(data)


@pytest.mark.parametrize("data", ["text", [1j], None, [[None]]])
def test_data_that_is_no_numbers_is_refused_for_every_dtype(data) -> None:
    with pytest.raises(DTypeError, match="tensor: data must be numbers"):
        mg.tensor(data, dtype=mg.float32)


def test_from_numpy_refuses_what_is_no_array_of_a_supported_dtype() -> None:
    with pytest.raises(TypeError, match="from_numpy: expects a NumPy array, got list"):
        mg.from_numpy([1.0])
    with pytest.raises(DTypeError, match=r"from_numpy: dtype float16.*astype\(np.float32\)"):
        mg.from_numpy(np.zeros(2, np.float16))


# Constants and ranges -----------------------------------------------------------------------


@every_dtype
@every_device
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3, 4)])
def test_constants(shape, dtype, device) -> None:
    kind, like = {"dtype": dtype, "device": device}, {"dtype": DTYPES[dtype]}
    same(mg.zeros(shape, **kind), torch.zeros(shape, **like))
    same(mg.ones(*shape, **kind), torch.ones(shape, **like))
    same(mg.full(shape, 1, **kind), torch.full(shape, 1, **like))
    x = mg.empty(shape, **kind)
    assert (x.shape, x.dtype, x.device) == (shape, dtype, device)
    for function in (mg.zeros_like, mg.ones_like, mg.empty_like):
        y = function(x)
        assert (y.shape, y.dtype, y.device) == (shape, dtype, device)
        assert function(x, dtype=mg.float64).dtype == mg.float64
    same(mg.full_like(x, 1), torch.full(shape, 1, **like))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0), (2, 3, 0, 1)])
@pytest.mark.parametrize("name", ["empty", "zeros", "ones", "rand", "randn", "full", "randint"])
def test_what_is_made_like_a_tensor_lies_in_memory_as_it_does(name, order) -> None:
    arguments = {"full": [2], "randint": [5]}.get(name, [])

    def strides(library: Any, change: Any = None, **options: Any) -> tuple[int, ...]:
        x = library.zeros(2, 3, 4, 5).permute(*order)
        like = getattr(library, f"{name}_like")(change(x) if change else x, *arguments, **options)
        # Where an axis of one element would go on, says nothing.
        return tuple([s for s, n in zip(like.stride(), like.shape, strict=True) if n > 1])

    assert strides(mg) == strides(torch)
    assert strides(mg, dtype=mg.float64) == strides(torch, dtype=torch.float64)
    for change in (lambda x: x[:1], lambda x: x[:, :, 1:3], lambda x: x[..., ::2].unsqueeze(1)):
        assert strides(mg, change) == strides(torch, change)
    if name != "randint":
        contiguous = [strides(lib, memory_format=lib.contiguous_format) for lib in (mg, torch)]
        assert contiguous[0] == contiguous[1]


def test_the_constructor_takes_sizes_numbers_arrays_and_tensors() -> None:
    assert mg.Tensor(np.int64(2), 3).shape == mg.Tensor(2, np.int64(3)).shape == (2, 3)
    assert mg.Tensor(np.ones(2)).dtype == mg.float64
    tensor = mg.ones(2)
    same = mg.Tensor(tensor)
    tensor[0] = 5
    assert same.tolist() == [5, 1]
    for bad in ("abc", None, {1: 2}):
        with pytest.raises(TypeError, match=f"Tensor: expects sizes, .* got {type(bad).__name__}"):
            mg.Tensor(bad)


@pytest.mark.parametrize("name", ["empty", "zeros", "ones", "rand", "randn"])
def test_the_shape_may_be_named(name) -> None:
    for library in (mg, torch):
        assert getattr(library, name)(size=(2, 3), dtype=library.float64).shape == (2, 3)
        if hasattr(library.Tensor, f"new_{name}"):
            assert getattr(library.ones(1), f"new_{name}")(size=(2, 3)).shape == (2, 3)
    with pytest.raises(TypeError, match=rf"{name}: got size twice, \(2,\) and \(3,\)"):
        getattr(mg, name)(2, size=(3,))


@pytest.mark.parametrize("value", [1, 1.5, True, float("nan"), float("-inf")])
def test_full_takes_its_dtype_from_the_value(value) -> None:
    same(mg.full((2, 3), value), torch.full((2, 3), value))


@pytest.mark.parametrize("sizes", [(0,), (1,), (3,), (3, 5), (5, 3), (0, 4), (4, 0), (1, 3)])
@every_device
def test_eye(sizes, device) -> None:
    same(mg.eye(*sizes, device=device), torch.eye(*sizes))


@pytest.mark.parametrize(
    "arguments",
    [(5,), (0,), (2, 7), (7, 2, -2), (7, 2, -1), (0, 1, 0.25), (0.5,), (1, 2, 0.3), (5, 0, -0.5),
     (-3,  3), (2.5, 2.5), (0, 10, 3)],
)  # fmt: skip
@every_device
def test_arange(arguments, device) -> None:
    mine, theirs = mg.arange(*arguments, device=device), torch.arange(*arguments)
    assert DTYPES[mine.dtype] == theirs.dtype
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-6, strict=True)


def test_arange_of_whole_numbers_is_exact_in_every_dtype() -> None:
    for dtype in (mg.float32, mg.float64, mg.int64, mg.uint8):
        same(mg.arange(3, 250, 7, dtype=dtype), torch.arange(3, 250, 7, dtype=DTYPES[dtype]))


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 50])
@every_device
def test_linspace(steps, device) -> None:
    for dtype in (mg.float32, mg.float64):
        mine = mg.linspace(-1.3, 2.7, steps, dtype=dtype, device=device)
        theirs = torch.linspace(-1.3, 2.7, steps, dtype=DTYPES[dtype])
        np.testing.assert_allclose(
            mine.numpy(), theirs.numpy(), rtol=0, atol=2 * np.finfo(dtype).eps, strict=True
        )


def test_ranges_have_the_same_bits_on_every_device() -> None:
    for make, arguments in ((mg.arange, (-1.3, 2.7, 0.0037)), (mg.linspace, (-1.3, 2.7, 999))):
        for dtype in (mg.float32, mg.float64):
            here, there = (
                make(*arguments, dtype=dtype, device=d).numpy() for d in ("cpu", "reference")
            )
            np.testing.assert_array_equal(here, there, strict=True)


@pytest.mark.parametrize("source", [mg.float32, mg.float64], ids=str)
@every_device
def test_conversion_to_integers_wraps_and_has_one_value_for_what_does_not_fit(
    source, device
) -> None:
    least = -(2**63)
    values = {
        np.nan: least, np.inf: least, -np.inf: least, 1e30: least, -1e30: least, 2.0**63: least,
        -(2.0**63): least, 2.0**62: 2**62, -0.75: 0, -1.5: -1, 300.9: 300, 2.0**31: 2**31,
    }  # fmt: skip
    if source == mg.float64:
        values[2.0**40 - 3] = 2**40 - 3
    # Longer than a piece that the CPU converts at once; and with a stride.
    many = mg.tensor(list(values) * 1000, dtype=source, device=device)
    strided = mg.tensor([[v, 0.0] for v in values], dtype=source, device=device)[:, 0]
    for tensor, times in ((many, 1000), (strided, 1)):
        expected = np.array(list(values.values()) * times)
        np.testing.assert_array_equal(tensor.long().numpy(), expected, strict=True)
        np.testing.assert_array_equal(tensor.byte().numpy(), expected.astype(np.uint8), strict=True)
        np.testing.assert_array_equal(tensor.short().numpy(), expected.astype(np.int16))
        fits = (expected >= -(2**31)) & (expected < 2**31)
        narrow = np.where(fits, expected, -(2**31)).astype(np.int32)
        np.testing.assert_array_equal(tensor.int().numpy(), narrow, strict=True)


def test_created_tensors_can_require_gradients() -> None:
    for x in (mg.zeros(2, requires_grad=True), mg.arange(2.0, requires_grad=True),
              mg.eye(2, requires_grad=True), mg.tensor([1.0], requires_grad=True)):  # fmt: skip
        assert x.requires_grad
        assert x.is_leaf
    with pytest.raises(DTypeError, match="int64"):
        mg.zeros(2, dtype=mg.int64, requires_grad=True)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: mg.zeros(-1), ShapeError, r"zeros: sizes must be at least 0, got \(-1,\)"),
        (lambda: mg.zeros(2**40, 2**40), ShapeError, "zeros: sizes .* more than memory can be"),
        (lambda: mg.arange(1e30), ShapeError, "arange: sizes"),
        (lambda: mg.ones(1).expand(2**62, 2), ShapeError, "expand: sizes"),
        (lambda: mg.ones(2, 2).tril(0.5), DTypeError, "tril: diagonal must be an int, got 0.5"),
        (lambda: mg.zeros(2.0), DTypeError, "zeros: sizes must be ints"),
        (lambda: mg.zeros("ab"), DTypeError, "zeros: sizes must be ints"),
        (lambda: mg.zeros(2, dtype=np.uint32), DTypeError, "dtype must be one of float32"),
        (lambda: mg.full((2,), "x"), DTypeError, "full: fill_value must be a number, got 'x'"),
        (lambda: mg.full((2,), 300, dtype=mg.uint8), DTypeError, "full: 300 does not fit"),
        (lambda: mg.full((2,), float("nan"), dtype=mg.int64), DTypeError, "full: nan does not"),
        (lambda: mg.eye(-1), ShapeError, "sizes must be at least 0"),
        (lambda: mg.arange(0, 5, -1), ValueError, "arange: step must lead from start to end"),
        (lambda: mg.arange(0, 5, 0), ValueError, "arange: step .*step=0"),
        (lambda: mg.arange(float("inf")), ValueError, "arange: end must be finite, got inf"),
        (lambda: mg.arange(300, dtype=mg.uint8), DTypeError, "arange: 299 does not fit"),
        (lambda: mg.arange(2, dtype=mg.bool_), DTypeError, "arange: dtype must not be bool"),
        (lambda: mg.linspace(0, 1, -1), ShapeError, "linspace: sizes must be at least 0"),
        (lambda: mg.linspace(0, 1, 3, dtype=mg.int64), DTypeError, "linspace: dtype .*int64"),
    ],
)  # fmt: skip
def test_bad_sizes_and_values_are_refused(call, error, match) -> None:
    with pytest.raises(error, match=match):
        call()


def test_the_default_device_is_where_tensors_are_made() -> None:
    mg.set_default_device("reference")
    try:
        assert mg.zeros(2).device == mg.tensor([1]).device == mg.rand(2).device == "reference"
    finally:
        mg.set_default_device("cpu")
    assert mg.get_default_device() == "cpu"


# Values seen from Python --------------------------------------------------------------------


def test_one_element_is_a_number() -> None:
    for data in (1.5, [2], [[True]]):
        x, t = mg.tensor(data), torch.tensor(data)
        assert x.item() == t.item()
        assert type(x.item()) is type(t.item())
        assert (float(x), int(x), bool(x)) == (float(t), int(t), bool(t))
    assert list(range(5))[mg.tensor(3)] == 3
    with pytest.raises(DTypeError, match="only integer tensors"):
        range(mg.tensor(1.0))
    for function in (float, int, bool, mg.Tensor.item):
        for x in (mg.zeros(2), mg.zeros(0)):
            with pytest.raises(ShapeError, match=r"\((2|0),\)"):
                function(x)


def test_facts() -> None:
    x = mg.zeros(2, 3, 4, dtype=mg.float64)
    assert (x.size(), x.size(-1), x.dim(), x.ndim, x.numel()) == ((2, 3, 4), 4, 3, 3, 24)
    assert (x.element_size(), x.stride(), len(x)) == (8, (12, 4, 1), 2)
    assert x.is_contiguous()
    assert not x.permute(2, 0, 1).is_contiguous()
    with pytest.raises(TypeError, match=r"len\(\) of a 0-d tensor"):
        len(mg.tensor(1.0))
    with pytest.raises(ShapeError, match="size: dim"):
        x.size(3)


def test_tolist_iteration_and_membership() -> None:
    x = mg.arange(6.0).reshape(2, 3)
    assert x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert [row.tolist() for row in x] == x.tolist()
    assert 5 in x
    assert 6 not in x
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        iter(mg.tensor(1.0))


def test_gradients_flow_through_iteration() -> None:
    x = mg.arange(3.0, requires_grad=True)
    first, _, last = x
    (first * 2 + last * 5).backward()
    assert x.grad.tolist() == [2.0, 0.0, 5.0]


def test_numpy_shares_memory_and_refuses_tensors_with_a_gradient() -> None:
    x = mg.zeros(3)
    x.numpy()[1] = 7
    assert x.tolist() == [0.0, 7.0, 0.0]
    assert np.shares_memory(np.asarray(x), x.array)
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x), x.array)
    assert np.add(x, 1).tolist() == [1.0, 8.0, 1.0]
    with pytest.raises(ValueError, match="would need a copy"):
        np.asarray(x, dtype=np.float64, copy=False)
    with pytest.raises(GraphError, match=r"use .detach\(\).numpy\(\)"):
        np.asarray(mg.zeros(2, requires_grad=True))


# Views and writing in place -----------------------------------------------------------------


def test_views_share_memory_and_version() -> None:
    x = mg.arange(12.0).reshape(3, 4)
    views = (x[1:], x[0], x.T, x.reshape(4, 3), x.unsqueeze(0), x.expand(2, 3, 4), x[..., ::2],
             x.split(2)[0], x.unbind()[1], x.flatten(), x.narrow(1, 1, 2))  # fmt: skip
    for view in views:
        assert np.shares_memory(view.array, x.array)
        assert view._version is x._version
    x[0, 0] = 100
    assert x.flatten()[0] == 100


def test_a_saved_tensor_changed_through_a_view_is_noticed() -> None:
    weight, x = mg.ones(2, 2, requires_grad=True), mg.ones(2, 2)
    y = (x * weight).sum()
    x[0][1] = 5
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()


def test_writing_in_place_is_refused_where_it_would_be_lost() -> None:
    x = mg.zeros(3, requires_grad=True)
    with pytest.raises(GraphError, match=r"__setitem__: .*view of a leaf that requires"):
        x[0] = 1
    with mg.no_grad():
        x[0] = 1
    assert x.tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"share memory .*clone it first"):
        mg.zeros(1).expand(3)[0] = 1
    with pytest.raises(DTypeError, match=r"__setitem__: .*float32.*int64"):
        mg.zeros(3)[[0]] = mg.tensor(1)
    with pytest.raises(TargetError, match="index 3 is out of range for axis 0 of size 3"):
        mg.zeros(3)[3] = 1


def test_overlapping_and_repeated_positions() -> None:
    x = mg.arange(9.0).reshape(3, 3)
    x[...] = x.T
    assert x.tolist() == [[0.0, 3.0, 6.0], [1.0, 4.0, 7.0], [2.0, 5.0, 8.0]]
    x = mg.arange(5.0)
    x[1:] = x[:-1]
    assert x.tolist() == [0.0, 0.0, 1.0, 2.0, 3.0]
    x[[0, 0, 0]] = mg.tensor([1.0, 2.0, 3.0])
    assert x[0] == 3
    x = mg.zeros(4, 6)
    x[:, ::2][[0, 2]] = 1  # positions of a view with gaps
    assert x.sum() == 6
    assert x[2].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64], ids=str)
def test_gradient_of_repeated_positions_is_summed_without_loss(dtype) -> None:
    x = mg.zeros(3, 2, dtype=dtype, requires_grad=True)
    index = mg.zeros(100_000, dtype=mg.int64)
    upstream = np.random.default_rng(0).random((100_000, 2)).astype(dtype)
    x[index].backward(mg.from_numpy(upstream))
    expected = upstream.astype(np.float64).sum(0)
    rtol = 2 * np.finfo(dtype).eps if dtype == mg.float32 else 1e-12
    np.testing.assert_allclose(x.grad.numpy()[0], expected, rtol=rtol)
    assert x.grad[1:].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_flatten_of_channels_last_memory_takes_torchs_order_and_gives_back_channels_last() -> None:
    for shape in ((2, 3, 4, 5), (2, 33, 17, 16), (3, 1, 4, 4), (3, 4, 1, 1), (0, 3, 2, 2)):
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        stored = np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        x = mg.from_numpy(stored).requires_grad_()
        y = x.flatten(1)
        np.testing.assert_array_equal(y.detach().numpy(), torch.tensor(values).flatten(1).numpy())
        upstream = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
        y.backward(mg.from_numpy(upstream))
        np.testing.assert_array_equal(x.grad.numpy(), upstream.reshape(shape))
        assert x.grad.array.transpose(0, 2, 3, 1).flags.c_contiguous
        shares = 1 in (shape[1], shape[2] * shape[3]) or 0 in shape
        assert np.may_share_memory(y.array, x.array) == (shares and 0 not in shape)


# Text ---------------------------------------------------------------------------------------

TEXTS = [
    1.0, 1.5, 3, True, [], [1.0, 2.0], [1.5, -2.25], [1, -20, 300], [True, False], [0.0, -0.0],
    [1e-5, 1.0], [1.0, 1e5], [1e10], [float("nan"), float("inf"), 1.0], [float("nan")],
    [[1.0, 2.0], [3.0, 4.5]], [[[1, 2]], [[3, 4]]], [0.00012, 0.5], [123456.0, 1.5], [100.5, 0.25],
]  # fmt: skip


@pytest.mark.parametrize("data", TEXTS, ids=repr)
def test_text_is_torchs(data) -> None:
    assert repr(mg.tensor(data)) == repr(torch.tensor(data))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(30.0), np.arange(30), np.arange(2000), np.arange(2000.0).reshape(20, 100),
        np.linspace(0, 1, 24).reshape(2, 3, 4), np.zeros((11, 12, 13)), np.zeros((2, 0)),
        np.zeros(0, np.int64), np.zeros(0, bool), np.arange(3, dtype=np.uint8),
        np.arange(-3, 3, dtype=np.int32), np.zeros(0, np.int8), np.zeros((1, 2), np.int16),
        np.linspace(-1, 1, 40, dtype=np.float32), np.zeros((3, 2, 2, 2), np.float32),
        np.array(2.5), np.arange(1001) % 7 == 0,
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)  # fmt: skip
def test_text_of_arrays_is_torchs(array) -> None:
    theirs = repr(torch.from_numpy(array)).replace("torch.", "minigrad.")
    assert repr(mg.from_numpy(array)) == theirs


def test_text_tells_gradient_and_device() -> None:
    x = mg.tensor([[1.0, 2.0]], requires_grad=True)
    assert repr(x) == "tensor([[1., 2.]], requires_grad=True)"
    assert repr(x * 2) == "tensor([[2., 4.]], grad_fn=<Mul>)"
    assert repr(mg.tensor([1], device="reference")) == "tensor([1], device='reference')"
    assert str(mg.zeros(2, dtype=mg.float64)) == "tensor([0., 0.], dtype=minigrad.float64)"


@pytest.mark.parametrize(
    "options",
    [{"precision": 2}, {"threshold": 5, "edgeitems": 1}, {"linewidth": 30}, {"sci_mode": True},
     {"sci_mode": False}, {"profile": "short"}, {"profile": "full"}],
    ids=str,
)  # fmt: skip
def test_text_follows_the_options_as_torchs(options) -> None:
    array = np.linspace(0, 1e4, 40, dtype=np.float32).reshape(4, 10)
    try:
        for lib in (mg, torch):
            lib.set_printoptions(**options)
        theirs = repr(torch.from_numpy(array)).replace("torch.", "minigrad.")
        assert repr(mg.from_numpy(array)) == theirs
    finally:
        for lib in (mg, torch):
            lib.set_printoptions(profile="default")
    with pytest.raises(ValueError, match="profile must be one of default, short, full"):
        mg.set_printoptions(profile="long")


# Copies -------------------------------------------------------------------------------------


def test_deepcopy_of_a_leaf_has_its_own_values_and_gradient() -> None:
    x = mg.from_numpy(np.ones((2, 3, 4, 5), np.float32).transpose(0, 3, 1, 2)).requires_grad_()
    (x * 3).sum().backward()
    y, z = copy.deepcopy([x, x])
    assert y is z
    assert y.requires_grad
    assert y.array.strides == x.array.strides
    with mg.no_grad():
        y[...] = 0
        y.grad[...] = 0
    assert x.sum() == 120
    assert x.grad.sum() == 360
    with pytest.raises(GraphError, match="deepcopy: a tensor computed by Mul"):
        copy.deepcopy(x * 2)


def test_pickle_keeps_values_and_requires_grad() -> None:
    x = mg.tensor([[1.0, 2.0]], requires_grad=True)
    y = pickle.loads(pickle.dumps(x))
    assert y.tolist() == x.tolist()
    assert y.requires_grad
    (y * 2).sum().backward()
    assert y.grad.tolist() == [[2.0, 2.0]]


# The package --------------------------------------------------------------------------------


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_public_name_exists() -> None:
    for name in mg.__all__:
        assert getattr(mg, name) is not None
    assert set(mg.__all__) == set(dir(mg))
    with pytest.raises(AttributeError, match="module 'minigrad' has no attribute 'nothing'"):
        mg.nothing  # noqa: B018


def test_numba_is_imported_with_the_first_kernel_and_not_before() -> None:
    code = (
        "import minigrad as mg, sys\n"
        "x = mg.empty(2, 3).T\n"
        "print('numba' in sys.modules)\n"
        "mg.zeros(3)\n"
        "print('numba' in sys.modules, 'torch' in sys.modules, 'matplotlib' in sys.modules)\n"
    )
    assert run(code).split() == ["False", "True", "False", "False"]


def test_the_number_of_threads_can_be_set() -> None:
    code = "import minigrad as mg; mg.set_num_threads(1); print(mg.get_num_threads())"
    assert run(code).split() == ["1"]


@pytest.mark.parametrize(
    "arguments",
    [(), (2, 3), ((2, 3),), ([1.5, 2.5],), (np.int64(3),), (np.ones(2, np.float32),), ("size",)],
)
def test_torchs_old_constructors(arguments):
    found = []
    for library in (torch, mg):
        like = library.ones(3, 2)
        given = [like.shape if isinstance(each, str) else each for each in arguments]
        made = [library.FloatTensor(*given), like.new(*given), like.double().new(*given)]
        if not any(isinstance(each, (np.generic, np.ndarray)) for each in given):
            made.append(library.Tensor(*given))
        found.append([(tuple(each.shape), str(each.numpy().dtype)) for each in made])
    assert found[0] == found[1]
