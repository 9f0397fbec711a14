"""A sum whose bits do not depend on how many ranks take part.

Floating-point addition is not associative, so an all-reduce gives other bits for other numbers of
ranks. Here `shards` terms are always added along the same binary tree. A rank has neighbouring
terms; it adds up those subtrees of which it has all leaves. The ranks exchange what is left piece
by piece (all-to-all), each adds its piece along the upper part of the tree, and an all-gather makes
the pieces whole again: reduce-scatter and all-gather, in fixed order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

from .. import kernels
from ..arguments import check_int
from ..device import Device
from ..runtime.allocation import allocate
from .group import ProcessGroup, get_group
from .mpi import Request, Transport

Node = tuple[int, int]  # the terms low … high − 1


def cut(length: int, parts: int, part: int) -> Node:
    """Where one of `parts` nearly equal parts of `length` begins and ends."""
    return length * part // parts, length * (part + 1) // parts


def shard_range(
    length: int, shards: int, rank: int | None = None, world_size: int | None = None
) -> tuple[int, int]:
    """Which samples of a batch of all ranks, start … stop − 1, this rank computes if the batch is
    cut into shards. The parts of all ranks are one batch, in the order of the ranks, for any
    number of ranks up to that of the shards."""
    if rank is None or world_size is None:
        group = get_group("shard_range")
        rank, world_size = group.rank(), group.size()
    check_int("shard_range", "length", length, 0)
    check_int(
        "shard_range", "shards", shards, check_int("shard_range", "world_size", world_size, 1)
    )
    low, high = cut(shards, world_size, check_int("shard_range", "rank", rank, 0, world_size - 1))
    return length * low // shards, length * high // shards


def _children(node: Node) -> tuple[Node, Node] | None:
    low, high = node
    if high - low == 1:
        return None
    middle = low + (1 << (high - low - 1).bit_length() - 1)
    return (low, middle), (middle, high)


@cache
def subtrees(shards: int, low: int, high: int) -> tuple[Node, ...]:
    """The largest nodes of the tree whose leaves all lie in low … high − 1, from left to right."""
    found: list[Node] = []

    def visit(node: Node) -> None:
        if node[1] <= low or high <= node[0]:
            return
        children = _children(node)
        if low <= node[0] and node[1] <= high:
            found.append(node)
        elif children is not None:
            visit(children[0])
            visit(children[1])

    visit((0, shards))
    return tuple(found)


@cache
def _parents(shards: int) -> dict[tuple[Node, Node], Node]:
    found: dict[tuple[Node, Node], Node] = {}
    pending = [(0, shards)]
    while pending:
        node = pending.pop()
        if (children := _children(node)) is not None:
            found[children] = node
            pending += children
    return found


def _add(left: Any, right: Any, device: Device) -> None:
    """left ← left + right."""
    kernels.get(device).elementwise.add_forward(left, left, right, 1)


class Terms:
    """Vectors of neighbouring terms, added up along the tree as far as their neighbours are there.
    They belong to it, and change."""

    def __init__(self, shards: int, device: Device) -> None:
        self._parents, self._device = _parents(shards), device
        self.nodes: list[Node] = []
        self.vectors: list[Any] = []

    def push(self, node: Node, vector: Any) -> None:
        """The node must begin where the last one ends."""
        self.nodes.append(node)
        self.vectors.append(vector)
        while len(self.nodes) > 1:
            parent = self._parents.get((self.nodes[-2], self.nodes[-1]))
            if parent is None:
                return
            right = self.vectors.pop()
            _add(self.vectors[-1], right, self._device)
            self.nodes[-2:] = [parent]


class TreeSum:
    """The sum over all ranks of a vector for each shard. Rank r of W has the shards of
    cut(shards, W, r), whose sums are in `terms`.

    `exchange` begins the all-to-all; `collect`, once that is done, adds and begins the all-gather.
    Both must be called in one order on all ranks. `result` is complete when that is done.
    """

    def __init__(
        self, group: ProcessGroup, transport: Transport, shards: int, terms: Terms, device: Device
    ) -> None:
        self.group, self.transport, self.shards, self.device = group, transport, shards, device
        self.length = terms.vectors[0].size
        self.dtype = terms.vectors[0].dtype
        self.result: Any = None
        W, rank = group.size(), group.rank()
        if W == 1:
            self.result = terms.vectors[0]
            return
        self._nodes = [subtrees(shards, *cut(shards, W, r)) for r in range(W)]
        self._pieces = [cut(self.length, W, r) for r in range(W)]
        low, high = self._pieces[rank]
        self._mine = high - low
        sizes = [high - low for low, high in self._pieces]
        counts = [len(terms.vectors) * size for size in sizes]
        out_counts = [len(nodes) * self._mine for nodes in self._nodes]
        self._sent = self._empty(sum(counts))
        start = 0
        for low, high in self._pieces:
            for vector in terms.vectors:
                self._copy(self._sent[start : start + high - low], vector[low:high])
                start += high - low
        self._received = self._empty(sum(out_counts))
        self.request = transport.all_to_all(self._received, self._sent, out_counts, counts)

    def _empty(self, length: int) -> Any:
        return allocate((length,), self.dtype, self.device)

    def _copy(self, out: Any, data: Any) -> None:
        if out.size:
            kernels.get(self.device).elementwise.copy_strided(out, data)

    def collect(self) -> Request | None:
        """After the all-to-all; None if there is nothing to wait for."""
        if self.result is not None:
            return None
        self.group.wait(self.request, "reproducible sum")
        terms = Terms(self.shards, self.device)
        nodes = [node for nodes in self._nodes for node in nodes]
        bounds = accumulate([self._mine] * len(nodes), initial=0)
        for node, (start, stop) in zip(nodes, pairwise(bounds), strict=True):
            terms.push(node, self._received[start:stop])
        self.result = self._empty(self.length)
        sizes = [high - low for low, high in self._pieces]
        self._sent = terms.vectors[0]  # which lives until all have it
        return self.transport.all_gather(self.result, self._sent, sizes)


def tree_sums(sums: Sequence[TreeSum]) -> list[Any]:
    """Their results, when the exchange of each has begun."""
    requests: Iterable[Request | None] = [each.collect() for each in sums]
    for each, request in zip(sums, requests, strict=True):
        if request is not None:
            each.group.wait(request, "reproducible sum")
    return [each.result for each in sums]
