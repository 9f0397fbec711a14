"""Which public names of torch minigrad has, and why it lacks the others: `python -m bench.names`.

For every namespace: how many names torch has, how many are here, and each absent name under its
reason. Names without a reason are missing.
"""

from __future__ import annotations

import importlib
import re
import textwrap
from collections import defaultdict
from types import ModuleType
from typing import Any

import minigrad
from minigrad import nn, optim

# The release whose names all have a reason.
TORCH = "2.14"

# torch's namespace, and where its names are here.
NAMESPACES: list[tuple[str, list[Any]]] = [
    ("torch.nn", [nn]),
    ("torch.nn.functional", [nn.functional]),
    ("torch.Tensor", [minigrad.Tensor]),
    ("torch", [minigrad]),
    ("torch.optim", [optim]),
    ("torch.optim.lr_scheduler", [optim.lr_scheduler]),
    ("torch.optim.swa_utils", [optim.swa_utils]),
    ("torch.nn.init", [nn.init]),
    ("torch.nn.utils", [nn.utils]),
    ("torchvision.ops", [minigrad.vision]),
]

# Why a name is absent: the first pattern that is found in it decides.
REASONS: list[tuple[str, str]] = [
    (r"3d|Conv3|volume", "3-d"),
    (
        r"[Ss]parse|SparseAdam|coo\b|_cs[rc]|_bs[rc]|col_indices|row_indices|^(indices|"
        r"values)$|coalesce|to_dense|dense_dim|^(sspaddmm|smm|hspmm|spmm|dsmm|hsmm|saddmm)$",
        "sparse",
    ),
    (
        r"[Qq]uant(?!ile)|^q_|qscheme|^qu?int|int_repr|fbgemm|qparams|per_tensor|per_channel",
        "quantised",
    ),
    (
        r"complex|^c(float|double|half)$|^chalf$|[Rr]eal$|imag$|conj|^angle$|^polar$|stft|"
        r"^mH$|^H$|adjoint|resolve_neg|is_neg$|^sgn", "complex",
    ),
    (
        r"[Hh]alf|BFloat16|bfloat16|float(16|8|4)|autocast|GradScaler|scaled_(grouped_)?mm|"
        r"grouped_mm|ScalingType|SwizzleType", "half precision",
    ),
    (r"[Dd]istributed|DataParallel|SyncBatchNorm|RRef|share_memory|is_shared", "distributed"),
    (r"(^|_)(u?int([1-7]|8|16|32|64)?|short|char|bits?\d*(x\d)?)$", "other integer types"),
    (r"RNN|LSTM|GRU|(^|_)(rnn|lstm|gru)(_|$)", "recurrent networks"),
    (
        r"[Ee]mbedding_?[Bb]ag|embedding_renorm|(?i:ctc|linear_?cross_?entropy)|"
        r"AdaptiveLogSoftmax|conv_tbc", "language models",
    ),
    (r"Lazy|Uninitialized", "lazy modules"),
    (r"nested|jagged|padded_tensor", "nested tensors"),
    (
        r"cudnn|miopen|mkldnn|mps|xpu|vulkan|xla|(^|_)ipu|mtia|maia|lapack|has_mk|openmp|"
        r"is_meta|has_spectral|^(Event|Stream|record_stream|get_device_module)$",
        "other devices and libraries",
    ),
    (
        r"^[Ss]ym(_|[A-Z])|[Ss]cript|^compile|vmap|export|^cond$|while_loop|JIT|Graph|"
        r"^import_ir|parse_|[a-z]Type$|^(Code|Node|Block|Use|Value|Gradient|Argument.*|"
        r"FileCheck|Capsule|Future|fork|wait)$|nonzero_static|unify_type|merge_type|"
        r"FunctionSchema|AliasDb", "compilation",
    ),
    (
        r"has_torch_function|handle_torch_function|TorchFunction|boolean_dispatch|"
        r"BroadcastingList|assert_int_or_pair|_notes$|as_subclass|module_load|DType$|typename|"
        r"MODES$|classproperty|Benchmark|CallStack|CompilationUnit|Argument|ConcreteModule|"
        r"MemoTable|Dispatch|Report$|ExecutionPlan|(Fatal|Accelerator)Error|Logger|"
        r"OperatorInfo|PyTorchFile|StaticModule|^(Tag|Type|TracingState|BufferDict|AVG|SUM|"
        r"PRIVATE_OPS|TYPE_CHECKING|Tensor|cpp)$|^USE_|^(ModuleDict|ParameterDict|output_nr|"
        r"grad_dtype)$|factory_kwargs|get_file_path|prepare_multiproc|thread_safe_gen|"
        r"profiler_allow|init_num", "torch's own machinery",
    ),
    (
        r"[a-z]Storage|^Storage|storage|[a-zT]Tensor$|set_$|^(new|type|resize|resize_as)$|"
        r"tensor_type|data_ptr|^(layout|is_set_to|dim_order|new_empty_strided|empty_(strided|"
        r"permuted)|range)$|resize_|^reinforce$|^volatile$|from_file|legacy|^(Container|"
        r"CrossMapLRN2d|NLLLoss2d)$", "storages and old names",
    ),
    (
        r"cholesky|^(lu|lu_.*|svd.*|qr|eig|symeig|lstsq|solve|triangular_solve|geqrf|ormqr|"
        r"orgqr|slogdet|logdet|det|lobpcg|pca_lowrank|matrix_.*|p?inverse|chain_matmul|"
        r"nuclear_norm)$", "linear algebra",
    ),
    (
        r"igamma|lgamma|digamma|polygamma|^i0|bessel|window$|nextafter|frexp|ldexp|gcd|lcm|"
        r"vander|cumulative_trapezoid|^(erfc_?|gradient)$|^(combinations|cartesian_prod|"
        r"histogramdd|float_power)", "special functions",
    ),
    (r"Muon|Adafactor|PARAM_LIST|swap_in_optimizer", "optimizers of language models"),
    (r"^name$|names|rename|align_|refine", "named dimensions"),
    (r"parametri[sz]|^stateless$|memory_format", "parametrisations"),
    (r"anomaly|deterministic|_warn|flush_denormal|interop|printoptions|inference", "switches"),
    (
        r"(?<!index)_copy$|^(native_|unsafe_|slice_inverse|sym_)|batch_norm_|hash_tensor|"
        r"_moving_avg|_with_indices|grid_(sampler|generator)|^(index|fill|rsub|convolution|"
        r"constant_pad_nd|frobenius_norm|norm_except_dim)$|feature_dropout", "internal operations",
    ),
    (r"(?i:fractional_?max)", "pooling over drawn windows"),
    (r"^binomial$", "distributions"),
    (r"^(load|save)$", "files: minigrad.serialization"),
]  # fmt: skip


def public_names(path: str) -> set[str]:
    """The names of torch's namespace: __all__, or what the class or module itself defines."""
    owner = _resolve(path)
    names = getattr(owner, "__all__", None)
    if names is None:
        names = [name for name in dir(owner) if _is_own(getattr(owner, name, None))]
    return {name for name in names if not name.startswith("_")}


def _resolve(path: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def _is_own(value: Any) -> bool:
    origin = getattr(value, "__module__", None) or "torch"
    return not isinstance(value, ModuleType) and origin.startswith(("torch", "builtins"))


def reason_of(name: str) -> str | None:
    """Why minigrad lacks the name; None if for no reason."""
    return next((reason for pattern, reason in REASONS if re.search(pattern, name)), None)


def absent(path: str, owners: list[Any]) -> tuple[int, dict[str, list[str]]]:
    """How many names torch has, and those that none of the owners has, by reason."""
    names = public_names(path)
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if any(hasattr(owner, name) for owner in owners):
            continue
        reason = reason_of(name)
        if reason is None and path in ("torch", "torch.Tensor") and _is_function(name):
            reason = "in nn.functional"
        by_reason[reason or "missing"].append(name)
    return len(names), dict(by_reason)


def _is_function(name: str) -> bool:
    """Whether nn.functional has the function, perhaps as one with inplace=True."""
    return hasattr(nn.functional, name) or hasattr(nn.functional, name.removesuffix("_"))


def main() -> None:
    for path, owners in NAMESPACES:
        total, by_reason = absent(path, owners)
        missing = by_reason.pop("missing", [])
        reasoned = sum(map(len, by_reason.values()))
        found = total - reasoned - len(missing)
        print(f"{path}: {total} names, {found} here, {reasoned} left out, {len(missing)} missing")
        for reason, names in [*sorted(by_reason.items()), ("missing", missing)]:
            if names:
                text = f"{reason} ({len(names)}): {', '.join(names)}"
                print(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    "))


if __name__ == "__main__":
    main()
