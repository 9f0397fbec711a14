"""Sequences of several lengths as one tensor: padded, or packed without the padding, as
torch.nn.utils.rnn has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine import Tensor
from ..errors import ShapeError
from ..ops.creation import full, tensor
from ..ops.join import cat, stack
from ..ops.transfer import host

__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence",
    "pad_packed_sequence", "pad_sequence", "unpack_sequence", "unpad_sequence",
]  # fmt: skip


class PackedSequence(NamedTuple):
    """The steps of all sequences, the first steps first: data (sum of lengths, …), how many
    sequences have each step, and how they were sorted by length."""

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The numbers on another device or of another dtype."""
        return self._replace(data=self.data.to(*args, **kwargs))

    def cpu(self) -> PackedSequence:
        return self.to("cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        return self._replace(data=self.data.cuda(*args, **kwargs))


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes it."""
    return None if permutation is None else permutation.argsort()


def _cells(batch_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(step, sequence) of every row of packed data."""
    steps = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
    return steps, np.concatenate([np.arange(size) for size in batch_sizes])


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """The steps of padded sequences (L, N, …), or (N, L, …) with batch_first.

    enforce_sorted: the lengths must not increase; else the sequences are sorted by them, and what
    is made of them is given back in their order. Raises ShapeError, ValueError.
    """
    found = host(lengths) if isinstance(lengths, Tensor) else np.asarray(lengths)
    found = found.astype(np.int64)
    L, N = (input.shape[1], input.shape[0]) if batch_first else input.shape[:2]
    if found.shape != (N,):
        raise ShapeError(
            f"pack_padded_sequence: lengths must be one for each of {N} sequences, got shape "
            f"{found.shape}"
        )
    if N == 0 or found.min() < 1 or found.max() > L:
        raise ValueError(
            f"pack_padded_sequence: lengths must be from 1 to {L}, got {found.tolist()}"
        )
    order = inverse = None
    if not enforce_sorted:
        indices = np.argsort(-found, kind="stable")
        order = tensor(indices, device=input.device)
        inverse = tensor(np.argsort(indices), device=input.device)
        found = found[indices]
    elif (np.diff(found) > 0).any():
        raise ValueError(
            f"pack_padded_sequence: lengths must not increase, got {found.tolist()}; with "
            "enforce_sorted=False they may"
        )
    batch_sizes = (found[None] > np.arange(found[0])[:, None]).sum(1)
    x = input.transpose(0, 1) if batch_first else input
    if order is not None:
        x = x[:, order]
    steps, rows = (tensor(each, device=input.device) for each in _cells(batch_sizes))
    return PackedSequence(x[steps, rows], tensor(batch_sizes), order, inverse)


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor, Tensor | None]:
    """The steps padded by 0 to (L, N, …), lengths (N,), how the sequences were sorted."""
    data, sizes = packed.data, host(packed.batch_sizes)
    lengths = (sizes[:, None] > np.arange(sizes[0])[None]).sum(0)
    steps, rows = _cells(sizes)
    # Where in the packed rows each cell lies; the row of zeros behind them where there is none.
    places = np.full((len(sizes), sizes[0]), len(data))
    places[steps, rows] = np.arange(len(data))
    padding = full((1, *data.shape[1:]), 0, dtype=data.dtype, device=data.device)
    x = cat([data, padding])[tensor(places, device=data.device)]
    return x, tensor(lengths, device=data.device), packed.sorted_indices


def pack_by_lengths(x: Tensor, packed: PackedSequence) -> PackedSequence:
    """What was made of the steps of `packed`, (L, N, …) with its sequences sorted."""
    steps, rows = (tensor(e, device=x.device) for e in _cells(host(packed.batch_sizes)))
    return packed._replace(data=x[steps, rows])


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(L, N, …) of the sequences in their own order, and their lengths on the CPU."""
    x, lengths, _ = unpack(sequence)
    lengths = lengths.cpu()
    if total_length is not None and total_length < x.shape[0]:
        raise ValueError(
            f"pad_packed_sequence: total_length must be at least {x.shape[0]}, got {total_length}"
        )
    if sequence.unsorted_indices is not None:
        x, lengths = x[:, sequence.unsorted_indices], lengths[sequence.unsorted_indices.cpu()]
    return _padded(x, lengths, batch_first, padding_value, total_length), lengths


def _padded(
    x: Tensor, lengths: Tensor, batch_first: bool, value: float, total: int | None
) -> Tensor:
    if total is not None and total > x.shape[0]:
        more = (total - x.shape[0], *x.shape[1:])
        x = cat([x, full(more, 0, dtype=x.dtype, device=x.device)])
    if value:
        mask = np.arange(x.shape[0])[:, None] >= host(lengths)[None]
        mask = mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))
        x = x.masked_fill(tensor(mask, device=x.device), value)
    return x.transpose(0, 1) if batch_first else x


def pad_sequence(
    sequences: Sequence[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Tensors (L_i, …) as one, (L, N, …) or (N, L, …), with the value where some are shorter."""
    if padding_side not in ("left", "right"):
        raise ValueError(
            f"pad_sequence: padding_side must be 'left' or 'right', got {padding_side!r}"
        )
    sequences = list(sequences)
    if not sequences:
        raise ValueError("pad_sequence: expects at least one sequence")
    L = max(len(each) for each in sequences)
    rows = []
    for each in sequences:
        shape = (L - len(each), *each.shape[1:])
        padding = full(shape, padding_value, dtype=each.dtype, device=each.device)
        rows.append(cat([each, padding] if padding_side == "right" else [padding, each]))
    return stack(rows, 0 if batch_first else 1)


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (L_i, …), packed."""
    lengths = [len(each) for each in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False
) -> list[Tensor]:
    """The sequences of a padded tensor."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:length] for row, length in zip(x.unbind(0), host(lengths).tolist(), strict=True)]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed one."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))
