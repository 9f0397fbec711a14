"""Data-parallel training: the same script in several processes, on one machine or on many.

    mpiexec -n 4 python train.py

    import minigrad.distributed as dist
    dist.init_process_group()
    model = nn.parallel.DistributedDataParallel(model)

Names and semantics are torch.distributed's. Processes are started and connected by MPI (mpi4py, the
extra "mpi"); GPUs exchange tensors by NCCL where `init_process_group("nccl")` asks for it. Without
a launcher there is one process, every collective leaves its own tensor, and nothing is needed.
"""

from .collectives import (
    ReduceOp,
    all_gather,
    all_gather_into_tensor,
    all_gather_object,
    all_reduce,
    all_to_all_single,
    barrier,
    broadcast,
    broadcast_object_list,
    gather,
    gather_object,
    irecv,
    isend,
    recv,
    reduce,
    reduce_scatter,
    reduce_scatter_tensor,
    scatter,
    send,
)
from .group import (
    GroupMember,
    ProcessGroup,
    default_timeout,
    destroy_process_group,
    get_backend,
    get_global_rank,
    get_group_rank,
    get_process_group_ranks,
    get_rank,
    get_world_size,
    init_process_group,
    is_available,
    is_initialized,
    is_mpi_available,
    is_nccl_available,
    new_group,
)
from .tree import shard_range
from .work import Work

__all__ = [
    "GroupMember", "ProcessGroup", "ReduceOp", "Work", "all_gather", "all_gather_into_tensor",
    "all_gather_object", "all_reduce", "all_to_all_single", "barrier", "broadcast",
    "broadcast_object_list", "default_timeout", "destroy_process_group", "gather", "gather_object",
    "get_backend", "get_global_rank", "get_group_rank", "get_process_group_ranks", "get_rank",
    "get_world_size", "init_process_group", "irecv", "is_available", "is_initialized",
    "is_mpi_available", "is_nccl_available", "isend", "new_group", "recv", "reduce",
    "reduce_scatter", "reduce_scatter_tensor", "scatter", "send",
    "shard_range",
]  # fmt: skip
