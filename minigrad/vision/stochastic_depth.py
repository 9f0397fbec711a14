"""Stochastic depth: residual branches left out at random. Source: Huang et al. 2016, "Deep networks
with stochastic depth"."""

from __future__ import annotations

from ..arguments import check_number
from ..engine import Tensor
from ..nn.layer import Layer
from ..ops.creation import ones
from ..ops.random import dropout


def stochastic_depth(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """In training, zero the input with probability p and scale it by 1/(1 − p) otherwise.

    mode: 'batch' decides once, 'row' for every input[i]. Raises ValueError.
    """
    check_number("stochastic_depth", "p", p, low=0, high=1)
    if mode not in ("batch", "row"):
        raise ValueError(f"stochastic_depth: mode must be 'batch' or 'row', got {mode!r}")
    if not training or p == 0:
        return input
    rows = input.shape[:1] if mode == "row" else (1,) * min(input.ndim, 1)
    shape = (*rows, *(1,) * (input.ndim - 1))
    return input * dropout(ones(shape, dtype=input.dtype, device=input.device), p)


class StochasticDepth(Layer):
    """Leave a branch out at random. See `stochastic_depth`."""

    p: float
    mode: str

    def forward(self, input: Tensor) -> Tensor:
        return stochastic_depth(input, self.p, self.mode, self.training)
