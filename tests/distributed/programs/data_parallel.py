"""DistributedDataParallel, against one process on the whole batch."""

import numpy as np

import minigrad as mg
import minigrad.distributed as dist
import minigrad.nn as nn
import minigrad.nn.functional as F
from minigrad.nn.parallel import DistributedDataParallel

dist.init_process_group()
rank, W = dist.get_rank(), dist.get_world_size()
mg.set_default_dtype(mg.float64)
rng = np.random.default_rng(0)
images = rng.standard_normal((12, 3, 6, 6))
labels = rng.integers(0, 5, 12)


def made(norm: bool = False) -> nn.Module:
    norms = [nn.SyncBatchNorm(8)] if norm else []
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *norms, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)
    )


def same(left: list[mg.Tensor], right: list[mg.Tensor]) -> None:
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)


def equal_on_all_ranks(module: nn.Module) -> None:
    states: list[object] = [None] * W
    dist.all_gather_object(states, [t.numpy().tobytes() for t in module.state_dict().values()])
    assert all(state == states[0] for state in states)


for norm in (False, True):
    mg.manual_seed(rank)  # other models, until rank 0's are everybody's
    model = DistributedDataParallel(made(norm), bucket_cap_mb=0.005)
    equal_on_all_ranks(model)
    whole = made()
    if norm:
        whole = nn.Sequential(*list(whole)[:1], nn.BatchNorm2d(8), *list(whole)[1:])
    whole.load_state_dict(
        {name.removeprefix("module."): t for name, t in model.state_dict().items()}
    )
    optimizers = [mg.optim.SGD(m.parameters(), 0.1, momentum=0.9) for m in (model, whole)]
    for _ in range(4):
        loss = F.cross_entropy(model(mg.tensor(images[rank::W])), mg.tensor(labels[rank::W]))
        every = F.cross_entropy(whole(mg.tensor(images)), mg.tensor(labels))
        for optimizer, each in zip(optimizers, (loss, every), strict=True):
            optimizer.zero_grad()
            each.backward()
        same([p.grad for p in model.parameters()], [p.grad for p in whole.parameters()])
        for optimizer in optimizers:
            optimizer.step()
    same(list(model.parameters()), list(whole.parameters()))
    same(list(model.buffers()), list(whole.buffers()))
    equal_on_all_ranks(model)

# Several passes, of which the last one averages what has come together.
for optimizer in optimizers:
    optimizer.zero_grad()
model, whole = DistributedDataParallel(made()), made()
whole.load_state_dict(model.module.state_dict())
first, second = slice(0, 12 // 2), slice(12 // 2, 12)
with model.no_sync():
    model(mg.tensor(images[first][rank::W])).square().mean().backward()
model(mg.tensor(images[second][rank::W])).square().mean().backward()
for part in (first, second):
    whole(mg.tensor(images[part])).square().mean().backward()
same([p.grad for p in model.parameters()], [p.grad for p in whole.parameters()])
# And once more on top of that.
model(mg.tensor(images[first][rank::W])).square().mean().backward()
whole(mg.tensor(images[first])).square().mean().backward()
same([p.grad for p in model.parameters()], [p.grad for p in whole.parameters()])


class Branches(nn.Module):
    """Of which rank 0 alone uses the second, and nobody the third."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, input: mg.Tensor) -> dict[str, mg.Tensor]:
        out = self.one(input)
        return {"out": self.two(out) if rank == 0 else out}


branches = DistributedDataParallel(Branches(), find_unused_parameters=True)
for _ in range(3):
    branches.zero_grad()
    branches(mg.ones(2, 3))["out"].sum().backward()
    one, two, three = (getattr(branches.module, name) for name in ("one", "two", "three"))
    np.testing.assert_allclose(two.bias.grad.numpy(), np.full(3, 2 / W))
    assert three.weight.grad is None
    gradients: list[object] = [None] * W
    dist.all_gather_object(gradients, one.weight.grad.numpy().tobytes())
    assert len(set(gradients)) == 1

# Running statistics are rank 0's after each step.
plain = DistributedDataParallel(nn.Sequential(nn.BatchNorm1d(4)))
plain(mg.tensor(rng.standard_normal((6, 4)) + rank)).sum().backward()
equal_on_all_ranks(plain)

# Parts of unequal size, weighed by their samples.
cut = [12 * r * r // (W * W) for r in range(W + 1)]
mine = slice(cut[rank], cut[rank + 1])
model.zero_grad()
loss, right = model.backward_shards(
    lambda x, y: (F.cross_entropy(model(x), y), mg.ones((), dtype=mg.int64)),
    mg.tensor(images[mine]), mg.tensor(labels[mine]),
)  # fmt: skip
whole.zero_grad()
every = F.cross_entropy(whole(mg.tensor(images)), mg.tensor(labels))
every.backward()
same([loss], [every])
assert right.item() == W
same([p.grad for p in model.parameters()], [p.grad for p in whole.parameters()])
