"""Collectives: what all ranks of a group do together with a tensor each, and messages between two.

Shapes, dtypes, devices and arguments are compared before anything moves (see group.py). Tensors of
a GPU go through the host's memory, unless the group's backend is "nccl".
"""

from __future__ import annotations

import enum
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..arguments import check_int
from ..dtypes import SUPPORTED, bool_, is_floating, same_dtype
from ..engine import Tensor
from ..errors import DeviceError, DistributedError, DTypeError, ShapeError
from ..layout import contiguous
from ..ops.transfer import host, is_cuda, placed
from .group import ProcessGroup, get_group
from .mpi import Request, Transport
from .work import Work


class ReduceOp(enum.Enum):
    """How the elements of the ranks become one. AVG: the sum, divided by their number; of floats.
    BAND, BOR and BXOR work on the bits of integers, and on bool."""

    SUM = "sum"
    PRODUCT = "product"
    MIN = "min"
    MAX = "max"
    BAND = "band"
    BOR = "bor"
    BXOR = "bxor"
    AVG = "avg"


# On bool, whose sum is true where any is.
_OF_BOOL = {"sum": "bor", "product": "band", "min": "band", "max": "bor"}


class _Staged(NamedTuple):
    """A tensor's elements as a vector for the transport; `store` puts one back into the tensor."""

    vector: Any
    store: Callable[[], None]


def _transport(group: ProcessGroup, tensor: Tensor) -> Transport:
    if group.device is not None and is_cuda(tensor.device):
        return group.device
    return group.control


def _staged(group: ProcessGroup, tensor: Tensor, read: bool = True) -> _Staged:
    """read: the elements matter, not only what takes their place."""
    if group.device is not None and is_cuda(tensor.device):
        dense = contiguous(tensor.array, tensor.device)

        def put_back() -> None:
            if dense is not tensor.array:
                kernels.get(tensor.device).elementwise.copy_strided(tensor.array, dense)
            tensor.mark_changed()

        return _Staged(dense.reshape(-1), put_back)
    if is_cuda(tensor.device):
        whole = host(tensor) if read else np.empty(tensor.shape, tensor.dtype)
    else:
        whole = tensor.array
    values = whole if whole.flags.c_contiguous else np.ascontiguousarray(whole)

    def store() -> None:
        if is_cuda(tensor.device):
            moved = placed(values, tensor.device)
            kernels.get(tensor.device).elementwise.copy_strided(tensor.array, moved)
        elif values is not tensor.array:
            tensor.array[...] = values
        tensor.mark_changed()

    vector = values.reshape(-1)
    return _Staged(vector.view(np.uint8) if tensor.dtype == bool_ else vector, store)


def _empty_like(vector: Any, count: int, tensor: Tensor) -> Any:
    if isinstance(vector, np.ndarray):
        return np.empty(count, vector.dtype)
    from ..runtime.allocation import allocate

    return allocate((count,), tensor.dtype, tensor.device)


# Checks -------------------------------------------------------------------------------------------


def _check_tensor(operation: str, name: str, tensor: Any) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{operation}: {name} must be a Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in SUPPORTED:
        raise DTypeError(f"{operation}: {name} has dtype {tensor.dtype}, which no rank can send")
    if not is_cuda(tensor.device) and not tensor.array.flags.writeable:
        raise ValueError(f"{operation}: {name} of shape {tensor.shape} is read-only")


def _check_op(operation: str, op: Any, tensor: Tensor) -> str:
    if not isinstance(op, ReduceOp):
        raise ValueError(f"{operation}: op must be a ReduceOp, got {op!r}")
    if op is ReduceOp.AVG and not is_floating(tensor.dtype):
        raise DTypeError(f"{operation}: AVG needs a floating dtype, got {tensor.dtype.name}")
    if op.value.startswith("b") and is_floating(tensor.dtype):
        raise DTypeError(f"{operation}: {op.name} needs integers or bool, got {tensor.dtype.name}")
    if tensor.dtype == bool_:
        return _OF_BOOL.get(op.value, op.value)
    return op.value


def _root(operation: str, name: str, rank: Any, group: ProcessGroup) -> int:
    """The place in the group of a rank, which as in torch is counted among all."""
    if isinstance(rank, bool) or not isinstance(rank, (int, np.integer)):
        raise TypeError(f"{operation}: {name} must be an int, got {rank!r}")
    if rank not in group.ranks:
        raise ValueError(f"{operation}: {name} must be one of the ranks {group.ranks}, got {rank}")
    return group.ranks.index(int(rank))


def _kind(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)}, {tensor.dtype.name}, on {tensor.device.type}"


def _check_alike(operation: str, name: str, tensors: Any, count: int, like: Tensor) -> None:
    """A list of as many tensors as there are ranks, each like the one of this rank."""
    if not isinstance(tensors, (list, tuple)) or len(tensors) != count:
        got = len(tensors) if isinstance(tensors, (list, tuple)) else type(tensors).__name__
        raise ValueError(f"{operation}: {name} must be a list of {count} tensors, got {got}")
    for number, tensor in enumerate(tensors):
        _check_tensor(operation, f"{name}[{number}]", tensor)
        if _kind(tensor) != _kind(like):
            raise ShapeError(
                f"{operation}: {name}[{number}] must have {_kind(like)}, as this rank's tensor, "
                f"got {_kind(tensor)}"
            )


def _check_parts(operation: str, whole: Tensor, part: Tensor, names: str, count: int) -> None:
    """whole: `count` times as many elements as part."""
    large, small = names.split()
    same_dtype(operation, **{large: whole.dtype, small: part.dtype})
    if whole.device.type != part.device.type:
        raise DeviceError(
            f"{operation}: {large} on {whole.device} and {small} on {part.device}; move one "
            "with .to(device)"
        )
    if whole.numel() != count * part.numel():
        raise ShapeError(
            f"{operation}: {large} must have {count} times the elements of {small}, one part a "
            f"rank, got shapes {tuple(whole.shape)} and {tuple(part.shape)}"
        )


# Running ------------------------------------------------------------------------------------------


def _run(
    group: ProcessGroup,
    operation: str,
    start: Callable[[], Request],
    finish: Callable[[], Any],
    async_op: bool,
) -> Work | None:
    work = Work(group, operation, start(), finish)
    if async_op:
        return work
    work.wait()
    return None


def _averaged(op: Any, store: Callable[[], None], vector: Any, group: ProcessGroup, tensor: Tensor,
              mine: bool = True) -> Callable[[], None]:  # fmt: skip
    """mine: this rank has the sum."""

    def finish() -> None:
        store()
        if op is ReduceOp.AVG and mine:
            tensor.detach().div_(group.size())

    return store if op is not ReduceOp.AVG else finish


def _sum_of(name: str) -> str:
    return "sum" if name == "avg" else name


def all_reduce(
    tensor: Tensor, op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """tensor ← the sum (or what `op` says) of the tensors of all ranks, on every rank.

    async_op: return at once, with a Work to wait for. Raises DistributedError on every rank if
    shapes, dtypes, devices or `op` differ.
    """
    ranks = get_group("all_reduce", group)
    with ranks.checking("all_reduce"):
        _check_tensor("all_reduce", "tensor", tensor)
        name = _check_op("all_reduce", op, tensor)
    ranks.agree("all_reduce", f"{_kind(tensor)}, {name}")
    vector, store = _staged(ranks, tensor)
    finish = _averaged(op, store, vector, ranks, tensor)
    transport = _transport(ranks, tensor)
    return _run(
        ranks, "all_reduce", lambda: transport.all_reduce(vector, _sum_of(name)), finish, async_op
    )


def reduce(
    tensor: Tensor, dst: int, op: ReduceOp = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """As `all_reduce`, but only rank `dst` gets the result; the other tensors stay."""
    ranks = get_group("reduce", group)
    with ranks.checking("reduce"):
        _check_tensor("reduce", "tensor", tensor)
        name, root = _check_op("reduce", op, tensor), _root("reduce", "dst", dst, ranks)
    ranks.agree("reduce", f"{_kind(tensor)}, {name}, dst={dst}")
    vector, store = _staged(ranks, tensor)
    mine = ranks.rank() == root
    finish = _averaged(op, store, vector, ranks, tensor) if mine else lambda: None
    transport = _transport(ranks, tensor)
    return _run(
        ranks, "reduce", lambda: transport.reduce(vector, _sum_of(name), root), finish, async_op
    )


def broadcast(
    tensor: Tensor, src: int, group: Any = None, async_op: bool = False
) -> Work | None:  # fmt: skip
    """tensor ← that of rank `src`, on every rank."""
    ranks = get_group("broadcast", group)
    with ranks.checking("broadcast"):
        _check_tensor("broadcast", "tensor", tensor)
        root = _root("broadcast", "src", src, ranks)
    ranks.agree("broadcast", f"{_kind(tensor)}, src={src}")
    mine = ranks.rank() == root
    vector, store = _staged(ranks, tensor, read=mine)
    transport = _transport(ranks, tensor)
    finish = (lambda: None) if mine else store
    return _run(ranks, "broadcast", lambda: transport.broadcast(vector, root), finish, async_op)


def all_gather_into_tensor(
    output_tensor: Tensor, input_tensor: Tensor, group: Any = None, async_op: bool = False
) -> Work | None:
    """output_tensor ← the input tensors of all ranks, one after the other. Its shape is any that
    has `world size` times the elements: (W·N, …) or (W, N, …) for inputs (N, …)."""
    operation = "all_gather_into_tensor"
    ranks = get_group(operation, group)
    with ranks.checking(operation):
        _check_tensor(operation, "output_tensor", output_tensor)
        _check_tensor(operation, "input_tensor", input_tensor)
        names = "output_tensor input_tensor"
        _check_parts(operation, output_tensor, input_tensor, names, ranks.size())
    ranks.agree(operation, _kind(input_tensor))
    out, store = _staged(ranks, output_tensor, read=False)
    vector = _staged(ranks, input_tensor).vector
    transport = _transport(ranks, input_tensor)
    counts = [vector.size] * ranks.size()
    return _run(
        ranks, operation, lambda: transport.all_gather(out, vector, counts), store, async_op
    )


def all_gather(
    tensor_list: list[Tensor], tensor: Tensor, group: Any = None, async_op: bool = False
) -> Work | None:
    """tensor_list[r] ← the tensor of rank r, on every rank. All have one shape and dtype."""
    ranks = get_group("all_gather", group)
    with ranks.checking("all_gather"):
        _check_tensor("all_gather", "tensor", tensor)
        _check_alike("all_gather", "tensor_list", tensor_list, ranks.size(), tensor)
    ranks.agree("all_gather", _kind(tensor))
    vector = _staged(ranks, tensor).vector
    out = _empty_like(vector, vector.size * ranks.size(), tensor)
    transport = _transport(ranks, tensor)
    counts = [vector.size] * ranks.size()
    return _run(
        ranks, "all_gather", lambda: transport.all_gather(out, vector, counts),
        lambda: _deal(ranks, out, tensor_list), async_op,
    )  # fmt: skip


def _deal(group: ProcessGroup, vector: Any, tensors: Sequence[Tensor]) -> None:
    """Each tensor ← its part of the vector."""
    for part, tensor in zip(np.arange(len(tensors)), tensors, strict=True):
        count = tensor.numel()
        target, store = _staged(group, tensor, read=False)
        source = vector[int(part) * count : (int(part) + 1) * count]
        if isinstance(target, np.ndarray):
            target[...] = source
        else:
            kernels.get(tensor.device).elementwise.copy_strided(target, source)
        store()


def _joined(group: ProcessGroup, tensors: Sequence[Tensor]) -> Any:
    """One vector of all tensors."""
    vectors = [_staged(group, tensor).vector for tensor in tensors]
    if isinstance(vectors[0], np.ndarray):
        return np.concatenate(vectors)
    out = _empty_like(vectors[0], sum(vector.size for vector in vectors), tensors[0])
    start = 0
    for vector, tensor in zip(vectors, tensors, strict=True):
        place = out[start : start + vector.size]
        kernels.get(tensor.device).elementwise.copy_strided(place, vector)
        start += vector.size
    return out


def gather(
    tensor: Tensor,
    gather_list: list[Tensor] | None = None,
    dst: int = 0,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """gather_list[r] ← the tensor of rank r, on rank `dst` alone; elsewhere the list is None."""
    ranks = get_group("gather", group)
    with ranks.checking("gather"):
        _check_tensor("gather", "tensor", tensor)
        root = _root("gather", "dst", dst, ranks)
        mine = ranks.rank() == root
        if mine:
            _check_alike("gather", "gather_list", gather_list, ranks.size(), tensor)
        elif gather_list:
            raise ValueError(f"gather: gather_list must be None on ranks other than dst={dst}")
    ranks.agree("gather", f"{_kind(tensor)}, dst={dst}")
    vector = _staged(ranks, tensor).vector
    out = _empty_like(vector, vector.size * ranks.size(), tensor) if mine else None
    transport = _transport(ranks, tensor)

    def finish() -> None:
        if gather_list:
            _deal(ranks, out, gather_list)

    return _run(ranks, "gather", lambda: transport.gather(out, vector, root), finish, async_op)


def scatter(
    tensor: Tensor,
    scatter_list: list[Tensor] | None = None,
    src: int = 0,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """tensor ← scatter_list[this rank] of rank `src`; elsewhere the list is None."""
    ranks = get_group("scatter", group)
    with ranks.checking("scatter"):
        _check_tensor("scatter", "tensor", tensor)
        root = _root("scatter", "src", src, ranks)
        mine = ranks.rank() == root
        if mine:
            _check_alike("scatter", "scatter_list", scatter_list, ranks.size(), tensor)
        elif scatter_list:
            raise ValueError(f"scatter: scatter_list must be None on ranks other than src={src}")
    ranks.agree("scatter", f"{_kind(tensor)}, src={src}")
    vector, store = _staged(ranks, tensor, read=False)
    source = _joined(ranks, scatter_list) if mine and scatter_list else None
    transport = _transport(ranks, tensor)
    return _run(ranks, "scatter", lambda: transport.scatter(vector, source, root), store, async_op)


def _reduce_scatter(
    operation: str, output: Tensor, op: Any, ranks: ProcessGroup, whole: Callable[[], Any],
    async_op: bool,
) -> Work | None:  # fmt: skip
    name = _check_op(operation, op, output)
    ranks.agree(operation, f"{_kind(output)}, {name}")
    out, store = _staged(ranks, output, read=False)
    transport, vector = _transport(ranks, output), whole()
    finish = _averaged(op, store, out, ranks, output)
    return _run(
        ranks, operation, lambda: transport.reduce_scatter(out, vector, _sum_of(name)), finish,
        async_op,
    )  # fmt: skip


def reduce_scatter_tensor(
    output: Tensor,
    input: Tensor,
    op: ReduceOp = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """output ← this rank's part of the sum of the inputs, which have a part for each rank."""
    operation = "reduce_scatter_tensor"
    ranks = get_group(operation, group)
    with ranks.checking(operation):
        _check_tensor(operation, "output", output)
        _check_tensor(operation, "input", input)
        _check_op(operation, op, output)
        _check_parts(operation, input, output, "input output", ranks.size())
    whole = lambda: _staged(ranks, input).vector  # noqa: E731
    return _reduce_scatter(operation, output, op, ranks, whole, async_op)


def reduce_scatter(
    output: Tensor,
    input_list: list[Tensor],
    op: ReduceOp = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """output ← the sum over the ranks of input_list[this rank]."""
    operation = "reduce_scatter"
    ranks = get_group(operation, group)
    with ranks.checking(operation):
        _check_tensor(operation, "output", output)
        _check_op(operation, op, output)
        _check_alike(operation, "input_list", input_list, ranks.size(), output)
    whole = lambda: _joined(ranks, input_list)  # noqa: E731
    return _reduce_scatter(operation, output, op, ranks, whole, async_op)


def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """Part r of input goes to rank r, whose part for this rank becomes part r of output.

    input (N, …), output (M, …), cut along the first axis: into equal parts, or by the split sizes,
    of which each rank's output sizes must be the others' input sizes.
    """
    operation = "all_to_all_single"
    ranks = get_group(operation, group)
    W = ranks.size()
    with ranks.checking(operation):
        counts = []
        for name, tensor, sizes in (
            ("output", output, output_split_sizes), ("input", input, input_split_sizes)
        ):  # fmt: skip
            _check_tensor(operation, name, tensor)
            counts.append(_split_counts(operation, name, tensor, sizes, W))
        same_dtype(operation, input=input.dtype, output=output.dtype)
        if tuple(input.shape[1:]) != tuple(output.shape[1:]):
            raise ShapeError(
                f"{operation}: input and output must agree after the first axis, got shapes "
                f"{tuple(input.shape)} and {tuple(output.shape)}"
            )
    out_counts, in_counts = counts
    ranks.agree(operation, f"parts of shape {tuple(input.shape[1:])}, {input.dtype.name}, on "
                           f"{input.device.type}")  # fmt: skip
    arriving = np.empty(W, np.int64)
    leaving = np.array(in_counts, np.int64)
    ones = [1] * W
    ranks.wait(ranks.control.all_to_all(arriving, leaving, ones, ones), operation)
    with ranks.checking(operation):
        if arriving.tolist() != out_counts:
            raise ShapeError(
                f"{operation}: output of shape {tuple(output.shape)} has {out_counts} elements for "
                f"the ranks, which send {arriving.tolist()}"
            )
    ranks.agree(operation)
    out, store = _staged(ranks, output, read=False)
    vector, transport = _staged(ranks, input).vector, _transport(ranks, input)
    return _run(
        ranks, operation, lambda: transport.all_to_all(out, vector, out_counts, in_counts), store,
        async_op,
    )  # fmt: skip


def _split_counts(
    operation: str, name: str, tensor: Tensor, sizes: Sequence[int] | None, W: int
) -> list[int]:
    """Elements of each part of the tensor."""
    if tensor.ndim == 0:
        raise ShapeError(f"{operation}: {name} must have an axis to cut along, got shape ()")
    rows = tensor.shape[0]
    if sizes is None:
        if rows % W:
            raise ShapeError(
                f"{operation}: the first axis of {name}, of {rows}, must be a multiple of the "
                f"{W} ranks"
            )
        sizes = [rows // W] * W
    if len(sizes) != W or sum(sizes) != rows or min(sizes) < 0:
        raise ShapeError(
            f"{operation}: {name}_split_sizes must be {W} sizes that add up to {rows}, got "
            f"{list(sizes)}"
        )
    return [size * (tensor.numel() // rows if rows else 0) for size in sizes]


def barrier(group: Any = None, async_op: bool = False) -> Work | None:
    """Until every rank has come here."""
    ranks = get_group("barrier", group)
    settle = ranks.propose("barrier")
    if async_op:
        settle()
        return _run(ranks, "barrier", ranks.control.barrier, lambda: None, True)
    settle()  # which nobody leaves before all have come
    return None


# Between two ranks --------------------------------------------------------------------------------

_HEADER = 128  # bytes that say what follows


def _message(operation: str, name: str, peer: int, tensor: Tensor, tag: int, ranks: Any) -> int:
    _check_tensor(operation, "tensor", tensor)
    check_int(operation, "tag", tag, 0, 2**20)
    place = _root(operation, name, peer, ranks)
    if place == ranks.rank():
        raise ValueError(f"{operation}: {name}={peer} is this rank itself")
    return place


def isend(tensor: Tensor, dst: int, group: Any = None, tag: int = 0) -> Work:
    """Begin to send a tensor to rank `dst`, which must receive one like it with the same tag."""
    ranks = get_group("send", group)
    place = _message("send", "dst", dst, tensor, tag, ranks)
    header = np.zeros(_HEADER, np.uint8)
    kind = _kind(tensor).encode()[:_HEADER]
    header[: len(kind)] = np.frombuffer(kind, np.uint8)
    announced = Work(ranks, "send", ranks.control.send(header, place, 2 * tag), lambda: header.size)
    vector = _staged(ranks, tensor).vector
    transport = _transport(ranks, tensor)
    request = transport.send(vector, place, 2 * tag + 1)
    return Work(ranks, f"send to rank {dst}", request, lambda: (announced.wait(), vector.size))


def send(tensor: Tensor, dst: int, group: Any = None, tag: int = 0) -> None:
    """Send a tensor to rank `dst`, which must receive one like it with the same tag."""
    isend(tensor, dst, group, tag).wait()


def irecv(tensor: Tensor, src: int, group: Any = None, tag: int = 0) -> Work:
    """Begin to receive into a tensor what rank `src` sends with this tag. DistributedError, when it
    is waited for, if that has another shape or dtype."""
    ranks = get_group("recv", group)
    place = _message("recv", "src", src, tensor, tag, ranks)
    header = np.zeros(_HEADER, np.uint8)
    vector, store = _staged(ranks, tensor, read=False)
    transport = _transport(ranks, tensor)

    def check() -> None:
        said = bytes(header).rstrip(b"\0").decode()
        if said != _kind(tensor):
            raise DistributedError(
                f"recv: rank {src} sends a tensor of {said}, but this one has {_kind(tensor)}"
            )

    request = _Announced(
        ranks.control.receive(header, place, 2 * tag),
        lambda: transport.receive(vector, place, 2 * tag + 1),
        check,
    )
    return Work(ranks, f"recv from rank {src}", request, store)


class _Announced:
    """A request whose data is received once its header has been checked."""

    def __init__(self, header: Request, begin: Callable[[], Request], check: Any) -> None:
        self._header, self._begin, self._check = header, begin, check
        self._data: Request | None = None

    def Test(self) -> bool:
        if self._data is None:
            if not self._header.Test():
                return False
            self._check()
            self._data = self._begin()
        return self._data.Test()


def recv(tensor: Tensor, src: int, group: Any = None, tag: int = 0) -> int:
    """Receive into a tensor what rank `src` sends with this tag; the rank."""
    irecv(tensor, src, group, tag).wait()
    return src


# Objects ------------------------------------------------------------------------------------------


def pickled(operation: str, obj: Any) -> np.ndarray:
    try:
        return np.frombuffer(pickle.dumps(obj), np.uint8).copy()
    except Exception as error:
        raise TypeError(f"{operation}: the object cannot be pickled: {error}") from error


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """object_list[r] ← the object of rank r, pickled and unpickled. Only among ranks one trusts."""
    ranks = get_group("all_gather_object", group)
    with ranks.checking("all_gather_object"):
        if not isinstance(object_list, list) or len(object_list) != ranks.size():
            raise ValueError(f"all_gather_object: object_list must be a list of {ranks.size()}")
        data = pickled("all_gather_object", obj)
    ranks.agree("all_gather_object")
    object_list[:] = exchanged(ranks, data)


def exchanged(ranks: ProcessGroup, data: np.ndarray) -> list[Any]:
    """The objects whose pickled bytes the ranks give."""
    W = ranks.size()
    sizes = np.empty(W, np.int64)
    mine = np.array([data.size])
    ranks.wait(ranks.control.all_gather(sizes, mine, [1] * W), "all_gather_object")
    counts = sizes.tolist()
    everything = np.empty(sum(counts), np.uint8)
    ranks.wait(ranks.control.all_gather(everything, data, counts), "all_gather_object")
    parts = np.split(everything, np.cumsum(counts)[:-1])
    return [pickle.loads(part.tobytes()) for part in parts]


def gather_object(
    obj: Any, object_gather_list: list[Any] | None = None, dst: int = 0, group: Any = None
) -> None:
    """object_gather_list[r] ← the object of rank r, on rank `dst` alone."""
    ranks = get_group("gather_object", group)
    with ranks.checking("gather_object"):
        mine = ranks.rank() == _root("gather_object", "dst", dst, ranks)
        if mine and (object_gather_list is None or len(object_gather_list) != ranks.size()):
            raise ValueError(
                f"gather_object: object_gather_list must be a list of {ranks.size()} on rank {dst}"
            )
        data = pickled("gather_object", obj)
    ranks.agree("gather_object", f"dst={dst}")
    found = exchanged(ranks, data)
    if mine and object_gather_list is not None:
        object_gather_list[:] = found


def broadcast_object_list(
    object_list: list[Any], src: int = 0, group: Any = None, device: Any = None
) -> None:
    """object_list ← that of rank `src`, pickled and unpickled, on every rank."""
    ranks = get_group("broadcast_object_list", group)
    with ranks.checking("broadcast_object_list"):
        if not isinstance(object_list, list):
            raise TypeError(
                f"broadcast_object_list: expects a list, got {type(object_list).__name__}"
            )
        root = _root("broadcast_object_list", "src", src, ranks)
        mine = ranks.rank() == root
        data = pickled("broadcast_object_list", object_list if mine else None)
    ranks.agree("broadcast_object_list", f"{len(object_list)} objects, src={src}")
    size = np.array([data.size])
    ranks.wait(ranks.control.broadcast(size, root), "broadcast_object_list")
    data = data if mine else np.empty(int(size[0]), np.uint8)
    ranks.wait(ranks.control.broadcast(data, root), "broadcast_object_list")
    if not mine:
        object_list[:] = pickle.loads(data.tobytes())
