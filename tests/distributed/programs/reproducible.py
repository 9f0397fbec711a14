"""Steps first … last − 1 of a training run in shards: `reproducible.py checkpoint first last`.

Prints the losses and the final state's digest.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

import minigrad as mg
import minigrad.distributed as dist
import minigrad.nn as nn
import minigrad.nn.functional as F

path, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
dist.init_process_group()
mg.manual_seed(3)
net = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
    nn.Linear(8 * 36, 5),
)  # fmt: skip
model = nn.parallel.DistributedDataParallel(net, shards=8, bucket_cap_mb=0.004)
optimizer = mg.optim.SGD(model.parameters(), 0.1, momentum=0.9)
if first:
    saved = mg.load(path, weights_only=False)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    mg.set_rng_state(saved["random"])
digest = []
for step in range(first, last):
    n = (16, 16, 13, 5)[step % 4]  # 5: some shards, and some ranks, have no sample
    rng = np.random.default_rng(step)
    images, labels = rng.standard_normal((n, 3, 6, 6)), rng.integers(0, 5, n)
    start, stop = dist.shard_range(n, 8)

    def loss_fn(x: mg.Tensor, y: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        out = model(x)
        return F.cross_entropy(out, y), (out.argmax(1) == y).sum()

    optimizer.zero_grad(set_to_none=step % 2 == 0)
    batch = mg.tensor(images[start:stop], dtype=mg.float32), mg.tensor(labels[start:stop])
    loss, right = model.backward_shards(loss_fn, *batch)
    optimizer.step()
    digest.append(f"{float(loss):.9g} {int(right)}")
state = b"".join(t.numpy().tobytes() for t in model.state_dict().values())
digest.append(hashlib.sha256(state).hexdigest())
everyone: list[object] = [None] * dist.get_world_size()
dist.all_gather_object(everyone, digest)
assert all(each == digest for each in everyone)
if dist.get_rank() == 0:
    print(*digest, sep="\n")
    saved = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": mg.get_rng_state(),
    }
    mg.save(saved, path)
