"""A rank that ends before the others: `faults.py how`."""

import os
import signal
import sys
import threading
from datetime import timedelta

import minigrad as mg
import minigrad.distributed as dist
import minigrad.nn as nn

how = sys.argv[1]
dist.init_process_group(timeout=timedelta(seconds=1 if how == "late" else 60))
rank = dist.get_rank()
model = nn.parallel.DistributedDataParallel(nn.Linear(4, 4))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def step() -> None:
    model.zero_grad()
    model(mg.ones(2, 4)).sum().backward()


step()
if rank == 1:
    if how == "killed":
        die()
    elif how == "killed in backward":
        model.module.bias.register_post_accumulate_grad_hook(lambda _: die())
    elif how == "exception":
        raise ValueError("this is wrong")
    elif how == "early":
        sys.exit()  # to its end, with all well
    elif how == "late":
        threading.Event().wait()
elif how == "everywhere":
    dist.all_reduce(mg.ones(3))
while True:
    step()
