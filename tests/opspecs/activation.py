"""Activations, at kinks, at both ends of the range, and at NaN and the infinities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minigrad import DTypeError, ShapeError
from minigrad.ops import activation
from minigrad.testing import Case, ErrorCase, OpSpec
from minigrad.testing.strategies import distinct, floats, shapes

SIDES: dict[str, Any] = {"max_dims": 4, "max_side": 5, "min_side": 0}
# Kinks; numbers beyond which the functions are straight lines; and such as overflow a careless
# exponential.
WIDE = (
    0.0, -0.0, 1e-30, -1e-30, 1e-4, -1e-4, 3.0, -3.0, 19.9, 20.1, -20.0, 88.5, -88.5, 1e3, -1e3,
)  # fmt: skip


# Their gradient at NaN depends in torch on where in the array it is.
NO_NAN = (
    "elu", "celu", "selu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "relu6",
    "softshrink",
)  # fmt: skip


@st.composite
def wide(draw: st.DrawFn, nan: bool) -> np.ndarray:
    """Numbers of every size that a float32 holds, some of them from the list."""
    nan = nan and draw(st.booleans())
    x = draw(floats(draw(shapes(**SIDES)), nan=nan, kinds=("normal", "ties")))
    x = np.asarray(np.array(x) * draw(st.sampled_from((1.0, 1.0, 5.0, 30.0))))
    for place in range(x.size):
        if draw(st.integers(0, 9)) == 0:
            x.reshape(-1)[place] = np.float32(draw(st.sampled_from(WIDE)))
    return x


def exact_gelu(torch: Any, x: Any, approximate: str = "none") -> Any:
    """torch's own adds 1 to an erf or tanh near −1, and so loses the left tail even in float64."""
    if approximate == "tanh":
        u = (8 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)
        return x * torch.where(x > 0, 1 - torch.sigmoid(-u), torch.sigmoid(u))
    return x * 0.5 * torch.special.erfc(-x * 0.5**0.5)


def hardswish(torch: Any, x: Any, inplace: bool = False) -> Any:
    """What torch's own gradient is at −3 and 3 depends on its release; here it is 0 and 1."""
    return x * torch.nn.functional.relu6(x + 3) / 6


def hardsigmoid(torch: Any, x: Any) -> Any:
    """torch's own gradient is 1/6 in float32, for float64 too."""
    return torch.nn.functional.relu6(x + 3) / 6


def spec(
    name: str,
    parameters: dict[str, st.SearchStrategy[Any]] | None = None,
    errors: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (),
    oracle: Any = None,
) -> OpSpec:
    options = st.fixed_dictionaries({}, optional=parameters or {})
    smooth = shapes(**SIDES).flatmap(distinct)
    zeros = np.zeros((2, 3))
    return OpSpec(
        name=name,
        function=getattr(activation, name),
        oracle=oracle or (lambda torch, x, **kw: getattr(torch.nn.functional, name)(x, **kw)),
        cases=st.builds(lambda x, kw: Case((x,), kw), wide(name not in NO_NAN), options),
        gradcheck_cases=st.builds(lambda x, kw: Case((x,), kw), smooth, options),
        errors=(
            ErrorCase((np.zeros(3, np.int64),), {}, DTypeError, f"{name}: ", torch_raises=False),
            ErrorCase((None,), {}, TypeError, f"{name}: input must be a Tensor, got NoneType"),
            *(
                ErrorCase((zeros,), kw, error, f"{name}: {match}", torch_raises=False)
                for kw, error, match in errors
            ),
        ),
    )


def number(*values: float) -> st.SearchStrategy[float]:
    return st.sampled_from(values)


# The layers of these functions, made by either library; tests/nn/test_layers.py compares them.
LAYERS: list[Callable[[Any], Any]] = [
    lambda nn: nn.ReLU(),
    lambda nn: nn.ReLU6(),
    lambda nn: nn.LeakyReLU(),
    lambda nn: nn.LeakyReLU(0.2),
    lambda nn: nn.ELU(0.5),
    lambda nn: nn.CELU(2.0),
    lambda nn: nn.SELU(),
    lambda nn: nn.GELU(),
    lambda nn: nn.GELU("tanh"),
    lambda nn: nn.SiLU(),
    lambda nn: nn.Hardswish(),
    lambda nn: nn.Softplus(2, 1),
    lambda nn: nn.Softplus(),
    lambda nn: nn.Hardtanh(-0.5, 0.7),
    lambda nn: nn.LogSigmoid(),
    lambda nn: nn.Sigmoid(),
    lambda nn: nn.Tanh(),
    lambda nn: nn.Mish(),
    lambda nn: nn.PReLU(),
    lambda nn: nn.PReLU(6, init=0.1),
    lambda nn: nn.Threshold(0.1, -20),
    lambda nn: nn.Hardshrink(0.3),
    lambda nn: nn.Softshrink(0.3),
    lambda nn: nn.Tanhshrink(),
    lambda nn: nn.Softsign(),
    lambda nn: nn.GLU(1),
]


@st.composite
def prelu_cases(draw: st.DrawFn) -> Case:
    x = draw(wide(nan=True))
    channels = draw(st.sampled_from((1, x.shape[1] if x.ndim > 1 else 1)))
    shape = (channels,) if channels != 1 or draw(st.booleans()) else ()
    return Case((x, draw(floats(shape))))


def glu_cases(values: Callable[..., Any]) -> st.SearchStrategy[Case]:
    axes = st.integers(-3, 2)
    return st.builds(
        lambda x, axis: Case((np.concatenate([x, 2 * x[::-1]], axis % 3), axis)),
        shapes(min_dims=3, max_dims=3, max_side=4, min_side=0).flatmap(values),
        axes,
    )


SPECS: list[OpSpec] = [
    spec(
        "leaky_relu",
        {"negative_slope": number(0.01, 0.2, 0, 1, -0.5), "inplace": st.just(False)},
        (({"negative_slope": "0.1"}, TypeError, "negative_slope must be a number"),),
    ),
    spec("elu", {"alpha": number(1.0, 0.5, 2)}, (({"alpha": None}, TypeError, "alpha must be"),)),
    spec("celu", {"alpha": number(1.0, 0.5, 2.0)}, (({"alpha": 0}, ValueError, "alpha must not"),)),
    spec("selu"),
    spec(
        "gelu",
        {"approximate": st.sampled_from(("none", "tanh"))},
        (({"approximate": "erf"}, ValueError, "approximate must be 'none' or 'tanh', got 'erf'"),),
        exact_gelu,
    ),
    spec("silu"),
    spec("hardswish", {"inplace": st.just(False)}, oracle=hardswish),
    spec(
        "softplus",
        {"beta": number(1, 0.5, 3.0), "threshold": number(20, 1.0, 5.5)},
        (({"beta": 0}, ValueError, "beta must not be 0"),),
    ),
    spec("logsigmoid"),
    spec(
        "hardtanh",
        {"min_val": number(-1.0, -2, -0.5), "max_val": number(1.0, 0.5, 2)},
        (({"min_val": 2.0}, ValueError, "min_val must not exceed max_val, got 2.0 and 1.0"),),
    ),
    spec("relu6"),
    spec("hardsigmoid", oracle=hardsigmoid),
    spec("mish"),
    spec("hardshrink", {"lambd": number(0.5, 0, 1.0)}),
    spec(
        "softshrink",
        {"lambd": number(0.5, 0, 1.0)},
        (({"lambd": -1}, ValueError, "lambd must be at least 0"),),
    ),
    spec("tanhshrink"),
    spec("softsign"),
    OpSpec(
        name="prelu",
        function=activation.prelu,
        oracle=lambda torch, *args: torch.nn.functional.prelu(*args),
        cases=prelu_cases(),
        gradcheck_cases=st.builds(
            lambda x, w: Case((x, w)),
            distinct((2, 3, 2)),
            st.sampled_from(((1,), (3,))).flatmap(distinct),
        ),
        errors=(
            ErrorCase((np.ones((2, 3)), np.ones(2)), {}, ShapeError, r"^prelu: weight must hold 1"),
            ErrorCase((np.ones((2, 3)), np.ones((1, 3))), {}, ShapeError, r"^prelu: .*\(1, 3\)"),
        ),
    ),
    OpSpec(
        name="glu",
        function=activation.glu,
        oracle=lambda torch, *args: torch.nn.functional.glu(*args),
        cases=glu_cases(floats),
        errors=(
            ErrorCase((np.ones((2, 3)),), {}, ShapeError, "^glu: axis -1 must have an even size"),
            ErrorCase((np.ones(()),), {}, ShapeError, "^glu: the tensor must have at least one"),
        ),
    ),
]
