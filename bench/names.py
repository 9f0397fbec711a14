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
    ("torchvision.ops", [getattr(minigrad, "ops", nn), nn, nn.functional]),
]

# Why a name is absent: the first pattern that is found in it decides.
REASONS: list[tuple[str, str]] = [
    (r"3d|Conv3|volume", "3-d"),
    (
        r"[Ss]parse|SparseAdam|coo\b|_cs[rc]|_bs[rc]|col_indices|row_indices|^(indices|values)$|"
        r"coalesce|to_dense|dense_dim|^(sspaddmm|smm|hspmm|spmm|dsmm|hsmm|saddmm)$",
        "sparse",
    ),
    (r"[Qq]uant(?!ile)|^q_|qscheme|^qu?int|int_repr|fbgemm|per_tensor|per_channel", "quantised"),
    (
        r"complex|^c(float|double|half)$|^chalf$|[Rr]eal$|imag$|conj|^angle$|^polar$|stft|^mH$|^H$|"
        r"adjoint|resolve_neg|is_neg$|^sgn",
        "complex",
    ),
    (r"[Hh]alf|BFloat16|bfloat16|float(16|8|4)|autocast|GradScaler|scaled_(grouped_)?mm|grouped_mm|"
     r"ScalingType|SwizzleType", "half precision"),
    (r"[Dd]istributed|DataParallel|SyncBatchNorm|RRef|share_memory|is_shared", "distributed"),
    (r"(^|_)(u?int([1-7]|8|16|32|64)?|short|char|bits?\d*(x\d)?)$", "other integer types"),
    (r"RNN|LSTM|GRU|(^|_)(rnn|lstm|gru)(_|$)", "recurrent networks"),
    (r"[Ee]mbedding_?[Bb]ag|embedding_renorm|(?i:ctc)|AdaptiveLogSoftmax|linear_?cross_?entropy",
     "language models"),
    (r"Lazy|Uninitialized", "lazy modules"),
    (r"nested|jagged|padded_tensor", "nested tensors"),
    (r"cudnn|miopen|mkldnn|mps|xpu|vulkan|xla|(^|_)ipu|mtia|maia|lapack|has_mk|openmp|is_meta|has_spectral",
     "other devices and libraries"),
    (r"^[Ss]ym(_|[A-Z])|[Ss]cript|^compile|vmap|export|^cond$|while_loop|JIT|Graph|^import_ir|parse_|"
     r"[a-z]Type$|^(Code|Node|Block|Use|Value|Gradient|Argument.*|FileCheck|Capsule|Future|fork|wait)$|"
     r"unify_type|merge_type|FunctionSchema|AliasDb", "compilation"),
    (r"has_torch_function|handle_torch_function|TorchFunction|boolean_dispatch|BroadcastingList|"
     r"assert_int_or_pair|_notes$|as_subclass|module_load|DType$|typename|MODES$|classproperty|"
        r"Benchmark|CallStack|CompilationUnit|Argument|ConcreteModule|MemoTable|Dispatch|Report$|"
        r"ExecutionPlan|(Fatal|Accelerator)Error|Logger|OperatorInfo|PyTorchFile|StaticModule|"
        r"^(Tag|Type|TracingState|BufferDict|AVG|SUM|PRIVATE_OPS|TYPE_CHECKING|Tensor|cpp)$|^USE_|"
        r"factory_kwargs|get_file_path|prepare_multiproc|thread_safe_gen|profiler_allow|init_num",
     "torch's own machinery"),
    (r"[a-z]Storage|^Storage|storage|[a-zT]Tensor$|set_$|^(new|type|resize|resize_as)$|tensor_type|"
     r"data_ptr|^reinforce$|^volatile$|from_file|legacy|"
        r"^(Container|CrossMapLRN2d|NLLLoss2d)$", "storages and old names"),
    (r"cholesky|^(lu|lu_.*|svd.*|qr|eig|symeig|lstsq|solve|triangular_solve|geqrf|ormqr|orgqr|"
     r"slogdet|logdet|det|lobpcg|pca_lowrank|matrix_.*|p?inverse|chain_matmul|nuclear_norm)$",
     "linear algebra"),
    (r"igamma|lgamma|digamma|polygamma|^i0|bessel|window$|nextafter|frexp|ldexp|gcd|lcm|vander|"
     r"trapezoid|trapz|^(combinations|cartesian_prod|histogramdd|float_power)",
     "special functions"),
    (r"Muon|Adafactor|PARAM_LIST|swap_in_optimizer", "optimizers of language models"),
    (r"names|rename|align_|refine", "named dimensions"),
    (r"parametri[sz]|^stateless$|memory_format", "parametrisations"),
    (r"anomaly|deterministic|_warn|flush_denormal|interop|printoptions|inference", "switches"),
    (r"(?<!index)_copy$|^(native_|unsafe_|slice_inverse|sym_)|batch_norm_|hash_tensor|_moving_avg",
     "internal operations"),
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
    here = {name for owner in owners for name in dir(owner)}
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names - here):
        reason = reason_of(name)
        if reason is None and path == "torch" and hasattr(nn.functional, name):
            reason = "in nn.functional"
        by_reason[reason or "missing"].append(name)
    return len(names), dict(by_reason)


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
