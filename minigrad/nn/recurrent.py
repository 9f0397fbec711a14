"""Recurrent layers, composed of operations: RNN, LSTM and GRU, and their cells.

The products with the input are one matrix product for all steps; each step then multiplies the
state. Sequences of several lengths come as a `PackedSequence` (nn/packed.py): of those that have
ended, the state is kept by a mask.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..device import Device
from ..engine import Tensor
from ..errors import ShapeError
from ..ops.compare import where
from ..ops.creation import arange, zeros
from ..ops.join import cat, stack
from ..ops.unary import tanh
from . import functional as F
from . import init
from .layers import _LINEAR_ORDER, _parameter, _positive
from .module import Module
from .packed import PackedSequence, pack_by_lengths, unpack

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell", "RNNCellBase"]

State = tuple[Tensor, ...]
# (what the input gives, (h,) or (h, c), W_hh, b_hh) → the next state
Step = Callable[[Tensor, State, Tensor, Tensor | None], State]


def _plain(activation: Callable[[Tensor], Tensor]) -> Step:
    def step(given: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
        return (activation(given + F.linear(state[0], weight, bias)),)

    return step


def _lstm(given: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    i, f, g, o = (given + F.linear(state[0], weight, bias)).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(given: Tensor, state: State, weight: Tensor, bias: Tensor | None) -> State:
    r, z, n = given.chunk(3, -1)
    r_h, z_h, n_h = F.linear(state[0], weight, bias).chunk(3, -1)
    n = (n + (r + r_h).sigmoid() * n_h).tanh()
    return (n + (z + z_h).sigmoid() * (state[0] - n),)


# By torch's name of the mode: the step, gates, parts of the state.
_MODES: dict[str, tuple[Step, int, int]] = {
    "RNN_TANH": (_plain(tanh), 1, 1),
    "RNN_RELU": (_plain(F.relu), 1, 1),
    "LSTM": (_lstm, 4, 2),
    "GRU": (_gru, 3, 1),
}


def _mode(name: str, nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{name}: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
    return f"RNN_{nonlinearity.upper()}"


class _Recurrent(Module):
    hidden_size: int

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _make(
        self, inputs: int, hidden: int, gates: int, bias: bool, suffix: str, device: Any, dtype: Any
    ) -> None:
        rows = gates * hidden
        for kind, columns in (("ih", inputs), ("hh", hidden)):
            weight = _parameter((rows, columns), device, dtype, _LINEAR_ORDER)
            self.register_parameter(f"weight_{kind}{suffix}", weight)
        for kind in ("ih", "hh") if bias else ():
            self.register_parameter(f"bias_{kind}{suffix}", _parameter((rows,), device, dtype))


class RNNBase(_Recurrent):
    """Layers over a sequence.  input (L, N, input_size), with batch_first (N, L, input_size),
    without a batch (L, input_size), or a PackedSequence → output of the same kind with
    D·hidden_size numbers, and the last state (D·num_layers, N, hidden_size), for LSTM two of them;
    D is 2 if bidirectional, else 1.

    mode: "RNN_TANH", "RNN_RELU", "LSTM" or "GRU". The first state is 0 unless one is given. dropout
    is applied to the outputs of all layers but the last. The names, order and gates of parameters
    are torch's. Raises ShapeError, ValueError.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if mode not in _MODES:
            raise ValueError(f"{name}: mode must be of {list(_MODES)}, got {mode!r}")
        _positive(name, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must be from 0 to 1, got {dropout}")
        if proj_size:
            raise ValueError(
                f"{name}: proj_size must be 0, there is no projection, got {proj_size}"
            )
        if dropout and num_layers == 1:
            warnings.warn(
                f"{name}: dropout acts between layers, and there is one only", stacklevel=3
            )
        self.mode, self.bias, self.batch_first = mode, bias, batch_first
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.dropout, self.bidirectional, self.proj_size = float(dropout), bidirectional, 0
        directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            inputs = hidden_size * len(directions) if layer else input_size
            for way in directions:
                gates = _MODES[mode][1]
                self._make(inputs, hidden_size, gates, bias, f"_l{layer}{way}", device, dtype)
        self._ways = directions
        self.reset_parameters()

    def flatten_parameters(self) -> None:
        """Nothing: torch moves its weights to one block."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction."""
        return [
            [value for key, value in self.named_parameters() if key.endswith(f"_l{layer}{way}")]
            for layer in range(self.num_layers)
            for way in self._ways
        ]

    def extra_repr(self) -> str:
        shown = f"{self.input_size}, {self.hidden_size}"
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
                    "bidirectional": False}  # fmt: skip
        for name, default in defaults.items():
            if getattr(self, name) != default:
                shown += f", {name}={getattr(self, name)}"
        return shown

    def forward(self, input: Any, hx: Any = None) -> Any:
        packed = input if isinstance(input, PackedSequence) else None
        x, lengths, order = unpack(packed) if packed is not None else (input, None, None)
        if not isinstance(x, Tensor):
            raise TypeError(f"{type(self).__name__}: expects a tensor, got {type(x).__name__}")
        single = x.ndim == 2
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: input must be (L, N, {self.input_size}), or (L, "
                f"{self.input_size}) without a batch, got {x.shape}"
            )
        if single:
            x = x.unsqueeze(1)
        elif self.batch_first and packed is None:
            x = x.transpose(0, 1)
        states = self._first(x, hx, single, order)
        masks = None
        if lengths is not None:
            steps = arange(x.shape[0], device=x.device)
            masks = (steps.view(-1, 1) < lengths.view(1, -1)).unsqueeze(2)
        last: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for way in self._ways:
                state = tuple(part[len(last)] for part in states)
                output, state = self._run(x, state, f"_l{layer}{way}", way != "", masks)
                outputs.append(output)
                last.append(state)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, 2)
            if self.dropout and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        found = [stack(list(parts)) for parts in zip(*last, strict=True)]
        if packed is not None:
            if packed.unsorted_indices is not None:
                found = [part[:, packed.unsorted_indices] for part in found]
            result: Any = pack_by_lengths(x, packed)
        elif single:
            result, found = x.squeeze(1), [part.squeeze(1) for part in found]
        else:
            result = x.transpose(0, 1) if self.batch_first else x
        return result, tuple(found) if len(found) == 2 else found[0]

    def _first(self, x: Tensor, hx: Any, single: bool, order: Tensor | None) -> State:
        """The first state, a row for each layer and direction."""
        parts = _MODES[self.mode][2]
        shape = (self.num_layers * len(self._ways), x.shape[1], self.hidden_size)
        if hx is None:
            return (zeros(*shape, dtype=x.dtype, device=x.device),) * parts
        given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if single:
            given = tuple(part.unsqueeze(1) for part in given)
        if len(given) != parts or any(part.shape != shape for part in given):
            raise ShapeError(
                f"{type(self).__name__}: hx must be {parts} of shape {shape}, got "
                f"{[tuple(part.shape) for part in given]}"
            )
        return given if order is None else tuple(part[:, order] for part in given)

    def _run(
        self, x: Tensor, state: State, suffix: str, backwards: bool, masks: Tensor | None
    ) -> tuple[Tensor, State]:
        """All steps of a layer in one direction: outputs (L, N, hidden_size), the last state."""
        step = _MODES[self.mode][0]
        bias_ih, bias_hh = (
            getattr(self, f"bias_{kind}{suffix}") if self.bias else None for kind in ("ih", "hh")
        )
        weight = getattr(self, f"weight_hh{suffix}")
        # (L·N, inputs) @ (inputs, gates·hidden): all steps at once
        given = F.linear(x, getattr(self, f"weight_ih{suffix}"), bias_ih).unbind(0)
        outputs: list[Any] = [None] * len(given)
        for t in range(len(given))[:: -1 if backwards else 1]:
            after = step(given[t], state, weight, bias_hh)
            if masks is not None:
                after = tuple(
                    where(masks[t], new, old) for new, old in zip(after, state, strict=True)
                )
            state = after
            outputs[t] = state[0]
        return stack(outputs), state


class RNN(RNNBase):
    """h ← tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it. See RNNBase.

    RNN(input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, …)
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh",
        bias: bool = True, batch_first: bool = False, dropout: float = 0.0,
        bidirectional: bool = False, device: Device | str | None = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            _mode("RNN", nonlinearity), input_size, hidden_size, num_layers, bias, batch_first,
            dropout, bidirectional, 0, device, dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """c ← σ(f)·c + σ(i)·tanh(g), h ← σ(o)·tanh(c); (i, f, g, o) = W_ih x + b_ih + W_hh h + b_hh.

    hx and the last state are pairs (h, c). See RNNBase. Source: Hochreiter and Schmidhuber 1997.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


class GRU(RNNBase):
    """h ← n + σ(z)·(h − n) with n = tanh(n_x + σ(r)·n_h), where (r, z) = W x + b + W h + b, and n_x
    and n_h are the third parts of both. See RNNBase. Source: Cho et al. 2014."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("GRU", *args, **kwargs)


class RNNCellBase(_Recurrent):
    """One step of a layer.  (N, input_size) or (input_size,), and the state → the next state."""

    _mode = "RNN_TANH"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *,
        device: Device | str | None = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        _positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self._make(input_size, hidden_size, _MODES[self._mode][1], bias, "", device, dtype)
        self.reset_parameters()

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        step, _, parts = _MODES[self._mode]
        shape = (*input.shape[:-1], self.hidden_size)
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: input must be (N, {self.input_size}) or "
                f"({self.input_size},), got {input.shape}"
            )
        state: Sequence[Tensor]
        if hx is None:
            state = [zeros(*shape, dtype=input.dtype, device=input.device)] * parts
        else:
            state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(state) != parts or any(part.shape != shape for part in state):
            raise ShapeError(
                f"{type(self).__name__}: hx must be {parts} of shape {shape}, got "
                f"{[tuple(part.shape) for part in state]}"
            )
        bias_ih, bias_hh = (self.bias_ih, self.bias_hh) if self.bias else (None, None)
        given = F.linear(input, self.weight_ih, bias_ih)
        found = step(given, tuple(state), self.weight_hh, bias_hh)
        return found if parts == 2 else found[0]


class RNNCell(RNNCellBase):
    """A step of RNN."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
        device: Device | str | None = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        self._mode = _mode("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity


class LSTMCell(RNNCellBase):
    """A step of LSTM: the state is (h, c)."""

    _mode = "LSTM"


class GRUCell(RNNCellBase):
    """A step of GRU."""

    _mode = "GRU"
