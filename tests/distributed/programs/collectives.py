"""Every collective on all dtypes, against NumPy on what all ranks have."""

import numpy as np
import pytest

import minigrad as mg
import minigrad.distributed as dist
from minigrad.distributed import ReduceOp

dist.init_process_group()
rank, W = dist.get_rank(), dist.get_world_size()


def of(number: int, dtype: str, shape: tuple[int, ...] = (3, 2)) -> np.ndarray:
    """What rank `number` has."""
    values = np.random.default_rng(number).integers(0, 5, shape)
    return (values > 2) if dtype == "bool" else values.astype(dtype)


def equal(tensor: mg.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(tensor.numpy(), expected)


numpy_op = {
    ReduceOp.SUM: np.add, ReduceOp.PRODUCT: np.multiply, ReduceOp.MIN: np.minimum,
    ReduceOp.MAX: np.maximum, ReduceOp.BAND: np.bitwise_and, ReduceOp.BOR: np.bitwise_or,
    ReduceOp.BXOR: np.bitwise_xor,
}  # fmt: skip
dtypes = "float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"
for dtype in dtypes:
    everyone = [of(r, dtype) for r in range(W)]
    mine = everyone[rank]
    for op, function in numpy_op.items():
        if dtype.startswith("float") and op.name.startswith("B"):
            continue
        expected = function.reduce(everyone).astype(dtype)
        for made in (mg.tensor(mine), mg.tensor(mine.T.copy()).T):  # dense, and transposed
            dist.all_reduce(made, op)
            equal(made, expected)
        tensor = mg.tensor(mine)
        dist.reduce(tensor, W - 1, op)
        equal(tensor, expected if rank == W - 1 else mine)
        stacked = mg.tensor(np.stack([of(10 * rank + r, dtype) for r in range(W)]))
        out = mg.tensor(mine)
        dist.reduce_scatter_tensor(out, stacked, op)
        expected = function.reduce([of(10 * r + rank, dtype) for r in range(W)]).astype(dtype)
        equal(out, expected)
        out = mg.tensor(mine)
        dist.reduce_scatter(out, [stacked[r] for r in range(W)], op)
        equal(out, expected)
    tensor = mg.tensor(mine)
    dist.broadcast(tensor, W - 1)
    equal(tensor, everyone[W - 1])
    gathered = [mg.tensor(mine) for _ in range(W)]
    dist.all_gather(gathered, mg.tensor(mine))
    for tensor, expected in zip(gathered, everyone, strict=True):
        equal(tensor, expected)
    whole = mg.tensor(np.zeros((3 * W, 2), dtype))
    dist.all_gather_into_tensor(whole, mg.tensor(mine))
    equal(whole, np.concatenate(everyone))
    gathered = [mg.tensor(np.zeros_like(mine)) for _ in range(W)] if rank == 0 else None
    dist.gather(mg.tensor(mine), gathered)
    for tensor, expected in zip(gathered or (), everyone, strict=rank == 0):
        equal(tensor, expected)
    out = mg.tensor(np.zeros_like(mine))
    dist.scatter(out, [mg.tensor(of(r, dtype)) for r in range(W)] if rank == 0 else None)
    equal(out, mine)
    out = mg.tensor(np.zeros((W, 2), dtype))
    dist.all_to_all_single(
        out, mg.tensor(np.stack([of(10 * rank + r, dtype)[0] for r in range(W)]))
    )
    equal(out, np.stack([of(10 * r + rank, dtype)[0] for r in range(W)]))

# Rank r gives r rows to each of the others.
out = mg.zeros(sum(range(W)), 2)
dist.all_to_all_single(out, mg.ones(rank * W, 2) * rank, list(range(W)), [rank] * W)
equal(out, np.repeat(np.arange(W), np.arange(W))[:, None] * np.ones(2, np.float32))

tensor = mg.tensor([1.0, 3.0]) * (rank + 1)
work = dist.all_reduce(tensor, ReduceOp.AVG, async_op=True)
assert work is not None
work.wait()
assert work.is_completed()
np.testing.assert_allclose(tensor.numpy(), np.array([1, 3]) * (W + 1) / 2, rtol=1e-6)
for shape in ((), (0, 3)):
    tensor = mg.ones(*shape)
    dist.all_reduce(tensor)
    equal(tensor, np.ones(shape, np.float32) * W)

found: list[object] = [None] * W
dist.all_gather_object(found, {"rank": rank, "text": "ü" * rank})
assert found == [{"rank": r, "text": "ü" * r} for r in range(W)]
objects: list[object] = [rank, None]
dist.broadcast_object_list(objects, W - 1)
assert objects == [W - 1, None]
found = [None] * W
dist.gather_object(rank, found if rank == 0 else None)
assert rank or found == list(range(W))

# A ring of messages, of which each is as long as its sender says.
if W > 1:
    received = mg.zeros(5, dtype=mg.int64)
    sent = dist.isend(mg.arange(5) + rank, (rank + 1) % W, tag=7)
    assert dist.recv(received, (rank - 1) % W, tag=7) == (rank - 1) % W
    sent.wait()
    equal(received, np.arange(5) + (rank - 1) % W)
    if rank == 1:
        dist.send(mg.ones(3), 0)
    elif rank == 0:
        with pytest.raises(mg.DistributedError, match=r"rank 1 sends a tensor of shape \(3,\)"):
            dist.recv(mg.ones(2, 2), 1)

# Groups.
odd = dist.new_group(range(1, W, 2))
if rank % 2:
    tensor = mg.ones(1)
    dist.all_reduce(tensor, group=odd)
    assert tensor.item() == W // 2 == dist.get_world_size(odd)
    assert dist.get_global_rank(odd, dist.get_rank(odd)) == rank
else:
    assert odd is dist.GroupMember.NON_GROUP_MEMBER
    assert dist.get_rank(odd) == -1
dist.barrier()
dist.destroy_process_group()
assert not dist.is_initialized()
