"""Operation specs, one record an operation: what to call, what to compare with, which cases to
draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Case:
    """The arguments of one call.

    NumPy arrays become tensors: floating arrays, drawn as float64, take the dtype under test and
    require gradients unless their position (an int, or a keyword) is in `constant`; integer and
    bool arrays stay as they are. A list or tuple of arrays becomes one of tensors. All other values
    are passed on.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    constant: frozenset[int | str] = frozenset()


@dataclass(frozen=True)
class ErrorCase:
    """A call that must fail before any work, with this error and a message that matches.

    NumPy arrays become tensors of their own dtype.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    error: type[Exception]
    match: str
    """A regular expression; it should name the operation and the offending values."""
    torch_raises: bool = True
    """False: torch is not asked, because minigrad is stricter on purpose (mixed dtypes, unchecked
    indices), or because torch's releases differ."""


@dataclass(frozen=True)
class OpSpec:
    """All that the checks need to know of one operation.

    name: how tests and messages call it.
    function: the public minigrad function, called as function(*args, **kwargs); it returns a
        tensor or a tuple of tensors.
    oracle: oracle(torch, *args, **kwargs) with torch tensors: the same in torch.
    cases: a Hypothesis strategy that draws a Case.
    errors: bad inputs.
    float32_ulps: how far a float32 result may be from the float64 oracle, in units in the last
        place of the result's largest magnitude, where torch's own float32 result is closer.
    differentiable: whether gradients are compared and checked.
    gradcheck: whether numerical differentiation is meaningful (not at kinks or ties).
    exact: results must equal torch's bit for bit (comparisons, indices, pooling maxima); gradients
        are compared by float32_ulps all the same.
    gradcheck_cases: cases for numerical differentiation, if those of `cases` have kinks or ties
        (see strategies.distinct).
    gradient_scale: where the backward pass subtracts numbers this many times as large as the
        upstream gradient, which may cancel (softmax: p·(g − Σ p·g), so 1), the rounding of numbers
        of that size is allowed.
    view: the result may share memory with an input.
    mutates: positions or keywords of arrays that the call updates in place; their values after the
        call are compared with torch's.
    accepts_integers: integer tensors work where the cases have floating ones, with torch's values;
        otherwise they must raise DTypeError.
    accepts_mixed_dtypes: float32 and float64 may be mixed; otherwise that must raise DTypeError.
    accepts_mixed_devices: tensors may lie on different devices; otherwise that must raise
        DeviceError.
    """

    name: str
    function: Callable[..., Any]
    oracle: Callable[..., Any]
    cases: SearchStrategy[Case]
    errors: tuple[ErrorCase, ...] = ()
    float32_ulps: float = 16.0
    differentiable: bool = True
    gradcheck: bool = True
    exact: bool = False
    gradcheck_cases: SearchStrategy[Case] | None = None
    gradient_scale: float = 0.0
    view: bool = False
    mutates: frozenset[int | str] = frozenset()
    accepts_integers: bool = False
    accepts_mixed_dtypes: bool = False
    accepts_mixed_devices: bool = False
