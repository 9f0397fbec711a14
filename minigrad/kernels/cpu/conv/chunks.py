"""Partial sums of a weight gradient: threads share the work without sharing results.

Each chunk of the images or rows has a sum of its own; they are added in the order of the chunks.
"""

from __future__ import annotations

from .._jit import kernel
from .._tasks import light_tasks


def partial_sums(grad_weight, scratch, chunks):
    """(chunks, weight elements): in scratch, or in grad_weight itself if there is only one."""
    place = scratch[: chunks * grad_weight.size] if chunks > 1 else grad_weight
    return place.reshape(chunks, -1)


def add_chunks(grad_weight, partial):
    if len(partial) > 1:
        _sum(grad_weight.reshape(-1), partial)


@kernel
def _sum(span, out, partial):
    """out[i] = Σ_chunk partial[chunk, i]"""
    for i in light_tasks(span, out.size, 1):
        total = partial[0, i]
        for chunk in range(1, partial.shape[0]):
            total += partial[chunk, i]
        out[i] = total
