"""Every in-place method against torch: values and gradients, of tensors and of views with gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
import minigrad.nn as nn
import minigrad.nn.functional as F
from minigrad import Tensor
from minigrad.ops.inplace import FUNCTIONS, InPlace

X = np.linspace(0.1, 0.9, 12).reshape(3, 4)
Y = np.linspace(0.4, 1.6, 12)[::-1].reshape(3, 4).copy()
PICKS, MASK = np.array([2, 0]), X > 0.5
INDEX = np.array([[0, 2, 1, 1], [2, 0, 0, 2]])

# Arguments by name; without an entry, a method of one value. Two entries share a line.
NUMBER_OR_TENSOR = (
    "add", "sub", "mul", "div", "divide", "true_divide", "multiply", "subtract", "pow", "eq", "ne",
    "lt", "le", "gt", "ge", "floor_divide", "fmod", "remainder", "xlogy", "clamp_min", "clamp_max",
    "not_equal", "less", "less_equal", "greater", "greater_equal",
)  # fmt: skip
ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {
    **{name: [(Y,), (0.5,), (Y[0],)] for name in NUMBER_OR_TENSOR},
    **{name: [(Y,)] for name in ("atan2", "arctan2", "hypot", "logical_and", "logical_or",
                                 "logical_xor", "copy", "heaviside")},
    "addcmul": [(Y, Y)], "addcdiv": [(Y, Y)], "lerp": [(Y, 0.3), (Y, Y)], "fill": [(2.0,)],
    "clamp": [(0.3, 0.7), (None, 0.6), (Y, None)], "clip": [(0.3, 0.7)],
    "masked_fill": [(MASK, 3.0), (MASK[0], -1.0)], "masked_scatter": [(MASK, Y)],
    "index_put": [((PICKS,), Y[:2]), ((PICKS, PICKS[::-1].copy()), Y[0, :2], True)],
    "index_add": [(0, PICKS, Y[:2]), (1, PICKS, Y[:, :2])], "index_copy": [(0, PICKS, Y[:2])],
    "index_fill": [(1, PICKS, 5.0)], "put": [(PICKS, Y[0, :2]), (PICKS, Y[0, :2], True)],
    "scatter": [(0, INDEX, Y[:2]), (0, INDEX, 2.0)], "scatter_add": [(0, INDEX, Y[:2])],
    "scatter_reduce": [(0, INDEX, Y[:2], "mean")], "tril": [(), (1,)], "triu": [()],
    **{f"bitwise_{name}": [(INDEX + 3,)]
       for name in ("and", "or", "xor", "left_shift", "right_shift")},
    "addmm": [(Y[:, :2], Y[:2])], "addr": [(Y[:, 0], Y[0])],
    "addbmm": [(Y.reshape(2, 3, 2), Y[:2].reshape(2, 1, 4).repeat(2, 1))],
    "cumsum": [(0,)], "cumprod": [(1,)], "renorm": [(2, 0, 0.5)], "copysign": [(Y - 1,)],
    "float_power": [(2.0,)], "index_reduce": [(0, PICKS, Y[:2], "amax")],
    "fill_diagonal": [(2.0,), (2.0, True)], "unsqueeze": [(1,)], "as_strided": [((4, 2), (3, 1))],
    **{name: [(0, 1)] for name in ("transpose", "swapaxes", "swapdims")},
}  # fmt: skip
INTEGERS = tuple(
    f"bitwise_{name}" for name in ("and", "or", "xor", "not", "left_shift", "right_shift")
)
# torch forgets that the first are not differentiable, and has no derivative of the others in place.
UNRECORDED = (
    "logical_and", "logical_or", "logical_xor", "logical_not", "floor_divide", "acosh", "arccosh",
    "asinh", "arcsinh", "atanh", "arctanh", "heaviside",
)  # fmt: skip
LARGE = ("acosh", "arccosh")
OTHER_SHAPES = ("addmv_", "baddbmm_")
NAMES = sorted(
    name for name in vars(InPlace) if name.endswith("_") and name[-2] != "_"
    if name not in OTHER_SHAPES
)  # fmt: skip


def as_tensors(value: Any, make: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(as_tensors(each, make) for each in value)
    return make(value.copy()) if isinstance(value, np.ndarray) else value


def changed(make: Any, name: str, args: tuple[Any, ...], gaps: bool) -> list[Any]:
    """What the method returns is the tensor; its values, those of its base, and all gradients."""
    start = X + 1 if name.rstrip("_") in LARGE else X
    if name.rstrip("_") in INTEGERS:
        x = base = make(INDEX.copy())
        assert getattr(x, name)(*as_tensors(args, make)) is x
        return [x]
    recorded = name.rstrip("_") not in UNRECORDED
    leaf = make(start.copy()).requires_grad_(recorded)
    operands = as_tensors(args, make)
    # None of them may be saved and change: each is used once.
    wanted = [t for t in operands if hasattr(t, "requires_grad_") and "float64" in str(t.dtype)]
    for operand in wanted:
        operand.requires_grad_(recorded)
    base = leaf.reshape(3, 4, 1).expand(3, 4, 2).clone() if gaps else leaf * 1
    x = base[..., 1] if gaps else base
    assert getattr(x, name)(*operands) is x
    if not recorded:
        return [x, base]
    (base * base).sum().backward()
    return [x, base, leaf.grad, *[operand.grad for operand in wanted]]


CASES = [(name, args) for name in NAMES for args in ARGUMENTS.get(name.rstrip("_"), [()])]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(("name", "args"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_in_place_method_matches_torch(name: str, args: tuple[Any, ...], gaps: bool) -> None:
    if name == "detach_" or (name == "as_strided_" and gaps):
        return
    ours = changed(Tensor, name, args, gaps)
    theirs = changed(torch.from_numpy, name, args, gaps)
    for mine, torchs in zip(ours, theirs, strict=True):
        if torchs is None:  # torch knows that the gradient is 0 and leaves it out
            assert mine is None or not mine.array.any()
            continue
        got = np.zeros(torchs.shape) if mine is None else mine.detach().array
        np.testing.assert_allclose(got, torchs.detach().numpy(force=True), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torchs_functions_are_the_methods(name: str) -> None:
    assert getattr(mg, name) is getattr(Tensor, name)
    assert hasattr(torch, name)


@pytest.mark.parametrize("name", OTHER_SHAPES)
def test_products_are_added_in_place(name: str) -> None:
    shapes = {"addmv_": ((3,), (3, 4), (4,)), "baddbmm_": ((2, 3, 2), (2, 3, 1), (2, 1, 2))}[name]
    results = []
    for make in (Tensor, torch.from_numpy):
        x, left, right = (make(np.resize(X, shape)) for shape in shapes)
        results.append(getattr(x, name)(left, right, beta=0.5, alpha=2).numpy())
    np.testing.assert_allclose(*results, rtol=1e-12)


@pytest.mark.parametrize("mode", ["floor", "trunc"])
def test_rounded_division_in_place(mode: str) -> None:
    x, theirs = Tensor(X * 7), torch.from_numpy(X * 7)
    np.testing.assert_array_equal(
        x.div_(-2, rounding_mode=mode).array, theirs.div_(-2, rounding_mode=mode).numpy()
    )


def test_detach_leaves_the_graph_and_keeps_the_memory() -> None:
    x = mg.ones(3, requires_grad=True) * 2
    array = x.array
    assert x.detach_() is x
    assert x.is_leaf
    assert not x.requires_grad
    assert x.array is array


# Functions and layers with `inplace` --------------------------------------------------------

FUNCTIONS: list[tuple[str, tuple[Any, ...]]] = [
    ("relu", ()), ("relu6", ()), ("leaky_relu", (0.2,)), ("leaky_relu", (-0.2,)), ("elu", (0.7,)),
    ("celu", (0.7,)), ("selu", ()), ("silu", ()), ("mish", ()), ("hardtanh", (-0.2, 0.3)),
    ("hardswish", ()), ("hardsigmoid", ()), ("threshold", (0.1, 3.0)), ("rrelu", ()),
]  # fmt: skip
WIDE = np.linspace(-4.1, 7.3, 24).reshape(2, 3, 4)


@pytest.mark.parametrize(("name", "args"), FUNCTIONS)
def test_activation_in_place_equals_the_one_beside(name: str, args: tuple[Any, ...]) -> None:
    gradients = []
    for inplace in (False, True):
        leaf = Tensor(WIDE.copy(), requires_grad=True)
        x = leaf * 1
        out = getattr(F, name)(x, *args, inplace=inplace)
        assert (out is x) is inplace
        (out * out).sum().backward()
        gradients.append((out.array, leaf.grad.array))
    np.testing.assert_array_equal(gradients[0], gradients[1])


@pytest.mark.parametrize("name", ["relu_", "leaky_relu_", "elu_", "celu_", "selu_", "hardtanh_"])
def test_functional_names_that_end_in_an_underscore(name: str) -> None:
    x, theirs = Tensor(WIDE.copy()), torch.from_numpy(WIDE.copy())
    assert getattr(F, name)(x) is x
    np.testing.assert_allclose(x.array, getattr(torch.nn.functional, name)(theirs).numpy())


@pytest.mark.parametrize(
    "make",
    [
        nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.Mish, nn.Hardtanh,
        nn.Hardswish, nn.Hardsigmoid, nn.Dropout, nn.Dropout1d, nn.AlphaDropout,
        lambda inplace: nn.Threshold(0.1, 2.0, inplace),
    ],
)  # fmt: skip
def test_layer_in_place_returns_its_input(make: Any) -> None:
    x = Tensor(WIDE.copy(), requires_grad=True) * 1
    assert make(inplace=True)(x) is x
    assert x._version.value == 1
    x.sum().backward()


def test_a_residual_block_as_torchvision_writes_it_has_torchs_gradients() -> None:
    def block(lib: Any, layers: Any, x: Any) -> Any:
        conv, norm = layers
        relu = lib.nn.ReLU(inplace=True)
        out = relu(norm(conv(x)))
        out = norm(conv(out))
        out += x
        return relu(out)

    theirs = torch.nn.Conv2d(3, 3, 3, padding=1).double(), torch.nn.BatchNorm2d(3).double()
    ours = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
    for mine, torchs in zip(ours, theirs, strict=True):
        mine.to(mg.float64)
        mine.load_state_dict({k: Tensor(v.numpy().copy()) for k, v in torchs.state_dict().items()})
    image = np.random.default_rng(0).standard_normal((2, 3, 5, 5))
    results = []
    for lib, layers, x in ((mg, ours, Tensor(image)), (torch, theirs, torch.from_numpy(image))):
        out = block(lib, layers, x)
        (out * out).sum().backward()
        results.append(
            [np.asarray(p.grad.detach()) for layer in layers for p in layer.parameters()]
        )
    for mine, torchs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, torchs, rtol=1e-8, atol=1e-9)


def test_elements_that_share_memory_do_not_change_in_place() -> None:
    """Whoever has made them: expand, or NumPy, which may have left them writable."""
    repeated = np.lib.stride_tricks.as_strided(np.zeros(1), (3,), (0,))
    for x in (mg.from_numpy(repeated), mg.zeros(1).expand(3)):
        for change in (lambda x: x.add_(1), lambda x: x.__setitem__(0, 1)):
            with pytest.raises(ValueError, match=r"of shape \(3,\) share memory"):
                change(x)
    one = mg.from_numpy(np.lib.stride_tricks.as_strided(np.zeros(1), (1, 1), (0, 8)))
    assert one.add_(1).tolist() == [[1]]
