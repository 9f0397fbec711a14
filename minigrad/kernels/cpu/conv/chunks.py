"""Partial sums of a weight gradient: threads share the work without sharing results.

Each chunk of the images or rows has a sum of its own; they are added in the order of the chunks.
"""

from __future__ import annotations

from .._jit import kernel
from .._rows import add_to, copy_row
from .._tasks import light_tasks

_BLOCK = 1024


def partial_sums(grad_weight, scratch, chunks):
    """(chunks, weight elements): in scratch, or in grad_weight itself if there is only one."""
    place = scratch[: chunks * grad_weight.size] if chunks > 1 else grad_weight
    return place.reshape(chunks, -1)


def add_chunks(grad_weight, partial):
    if len(partial) > 1:
        _sum(grad_weight.reshape(-1), partial)


@kernel
def _sum(span, out, partial):
    """out[i] = Σ_chunk partial[chunk, i], a block of out at a time, which stays in the cache."""
    chunks, blocks = partial.shape[0], -(-out.size // _BLOCK)
    for block in light_tasks(span, blocks, _BLOCK * chunks):
        place = slice(block * _BLOCK, min((block + 1) * _BLOCK, out.size))
        total = out[place]
        copy_row(total, partial[0, place])
        for chunk in range(1, chunks):
            add_to(total, partial[chunk, place])
