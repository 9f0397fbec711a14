"""What is made of a weight and kept for the next call: repacked, or with batch norm folded into it.

Only where nothing requires a gradient: in training, weights change from step to step. Launchers
look at each call whether all is as it was (`conv2d_repack` in kernels/protocol.py), so weights may
change in any way. What is kept lives as long as its owner, the weight or a batch norm's running
mean; a form takes one to five times the weight's memory, and there are few of them (_MOST). Threads
may share it: they make the same bits of it, and it is noted as made when that is done.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import Any

import numpy as np

from ..dtypes import float32
from ..engine import Tensor
from ..runtime.allocation import allocate, lasting

_MOST = 4  # forms of one weight: images of other sizes and other precisions may want other ones

_Arrays = tuple[list[np.ndarray], list[np.ndarray]]
# By the id of a tensor, as long as it lives. It is empty for one that was used once.
_kept: dict[int, tuple[weakref.ref[Tensor], dict[Hashable, _Arrays]]] = {}


def kept(
    ctx: Any, owner: Tensor, form: Hashable, sizes: tuple[int, ...], notes: int
) -> _Arrays | None:
    """(vectors of so many float32 elements, a `seen` for each of so many things that are made),
    which are kept for the owner under this form; all 0 at first.

    None if gradients will be asked for, for other dtypes, and for an owner that is here for the
    first time: it may have been made for this one call.
    """
    if owner.array.dtype != float32 or True in ctx.needs_input_grad:
        return None
    place = id(owner)
    known, forms = _kept.get(place, (None, {}))
    if known is None or known() is not owner:
        _kept[place] = weakref.ref(owner, lambda gone: _forget(place, gone)), {}
        return None
    arrays = forms.get((form, sizes))
    if arrays is None:
        with lasting(owner.device):
            arrays = (
                [allocate((size,), float32, owner.device) for size in sizes],
                [allocate((1,), np.dtype(np.uint64), owner.device) for _ in range(notes)],
            )
        for each in (*arrays[0], *arrays[1]):
            each[...] = 0
        if len(forms) >= _MOST:
            forms.clear()
        forms[form, sizes] = arrays
    return arrays


def _forget(place: int, gone: Any) -> None:
    known, _ = _kept.get(place, (None, None))
    if known is gone:
        _kept.pop(place, None)
