"""minigrad: tape-based autograd with hand-written Numba kernels.

import minigrad as mg, minigrad.nn as nn, minigrad.nn.functional as F
"""

from importlib import import_module as _import_module
from typing import Any as _Any

from . import backends, cuda, linalg, nn, optim, runtime
from .device import (
    Device,
    Generator,
    get_default_device,
    manual_seed,
    set_default_device,
)
from .dtypes import bool_, float32, float64, int64, uint8
from .engine import (
    Function,
    Tensor,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from .errors import (
    CheckpointError,
    DataError,
    DeviceError,
    DTypeError,
    GradcheckError,
    GraphError,
    MinigradError,
    ShapeError,
    TargetError,
)
from .ops import methods as _methods  # noqa: F401  attaches the methods of Tensor
from .ops import unary as _unary
from .ops.arithmetic import (
    add,
    div,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    reciprocal,
    square,
    sub,
)
from .ops.cast import (
    clone,
)
from .ops.compare import (
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    eq,
    ge,
    gt,
    isfinite,
    isinf,
    isnan,
    le,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    lt,
    ne,
    where,
)
from .ops.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from .ops.exchange import from_dlpack
from .ops.extrema import (
    all,
    amax,
    amin,
    aminmax,
    any,
    argmax,
    argmin,
    max,
    min,
)
from .ops.gradcheck import gradcheck
from .ops.join import (
    cat,
    chunk,
    split,
    stack,
    unbind,
)
from .ops.matmul import (
    matmul,
)
from .ops.random import (
    get_rng_state,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    set_rng_state,
)
from .ops.reduce import (
    count_nonzero,
    cumsum,
    logsumexp,
    mean,
    prod,
    std,
    std_mean,
    sum,
    var,
    var_mean,
)
from .ops.select import (
    gather,
    index_select,
    masked_fill,
    narrow,
    select,
    tril,
    triu,
)
from .ops.shape import (
    broadcast_to,
    flatten,
    permute,
    reshape,
    squeeze,
    t,
    transpose,
    unflatten,
    unsqueeze,
)
from .ops.softmax import (
    log_softmax,
    softmax,
)
from .ops.sort import (
    argsort,
    kthvalue,
    median,
    sort,
    topk,
)
from .ops.unary import *
from .ops.vector_norm import (
    norm,
)
from .recording import capture

__version__ = "0.1.0"

# torch's short names of the dtypes.
bool, double, float, long = bool_, float64, float32, int64

# Imported when first asked for: they need Numba, Matplotlib or files.
_LAZY = {
    "data": (".data", None),
    "serialization": (".serialization", None),
    "viz": (".viz", None),
    "get_num_threads": (".runtime.threads", "get_num_threads"),
    "set_num_threads": (".runtime.threads", "set_num_threads"),
}


def __getattr__(name: str) -> _Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'minigrad' has no attribute {name!r}")
    path, attribute = _LAZY[name]
    module = _import_module(path, __name__)
    return getattr(module, attribute) if attribute else module


def __dir__() -> list[str]:
    return __all__


__all__ = [
    *_unary.__all__,
    "CheckpointError",
    "DTypeError",
    "DataError",
    "Device",
    "DeviceError",
    "Function",
    "Generator",
    "GradcheckError",
    "GraphError",
    "MinigradError",
    "ShapeError",
    "TargetError",
    "Tensor",
    "__version__",
    "add",
    "all",
    "amax",
    "amin",
    "aminmax",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "as_tensor",
    "backends",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "bool",
    "bool_",
    "broadcast_to",
    "capture",
    "cat",
    "chunk",
    "clone",
    "count_nonzero",
    "cuda",
    "cumsum",
    "data",
    "div",
    "double",
    "empty",
    "empty_like",
    "enable_grad",
    "eq",
    "eye",
    "flatten",
    "float",
    "float32",
    "float64",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "gather",
    "ge",
    "get_default_device",
    "get_num_threads",
    "get_rng_state",
    "gradcheck",
    "gt",
    "index_select",
    "int64",
    "is_grad_enabled",
    "isfinite",
    "isinf",
    "isnan",
    "kthvalue",
    "le",
    "linalg",
    "linspace",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "long",
    "lt",
    "manual_seed",
    "masked_fill",
    "matmul",
    "max",
    "maximum",
    "mean",
    "median",
    "min",
    "minimum",
    "mul",
    "narrow",
    "ne",
    "neg",
    "nn",
    "no_grad",
    "norm",
    "ones",
    "ones_like",
    "optim",
    "permute",
    "pow",
    "prod",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "reciprocal",
    "reshape",
    "runtime",
    "select",
    "serialization",
    "set_default_device",
    "set_grad_enabled",
    "set_num_threads",
    "set_rng_state",
    "softmax",
    "sort",
    "split",
    "square",
    "squeeze",
    "stack",
    "std",
    "std_mean",
    "sub",
    "sum",
    "t",
    "tensor",
    "topk",
    "transpose",
    "tril",
    "triu",
    "uint8",
    "unbind",
    "unflatten",
    "unsqueeze",
    "var",
    "var_mean",
    "viz",
    "where",
    "zeros",
    "zeros_like",
]
