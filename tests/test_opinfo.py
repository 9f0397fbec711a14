"""torch's own sample inputs for its operations, put to minigrad's.

The OpInfo tables are internal to torch and change with its version, so this module is skipped where
they do not load. What is outside minigrad's scope is listed with the reason, sample by sample.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import MinigradError, Tensor
from minigrad.testing.oracle import TEST_DEVICE, default_device, upstream_gradient, values

pytest.importorskip("expecttest", reason="torch's OpInfo tables need it")
common_methods = pytest.importorskip("torch.testing._internal.common_methods_invocations")

OPS = {
    op.name + (f".{op.variant_test_name}" if op.variant_test_name else ""): op
    for op in common_methods.op_db
}

# Tables of nn.functional, and of functions or methods of tensors.
LAYERS = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d avg_pool1d
    avg_pool2d batch_norm bilinear binary_cross_entropy conv1d conv_transpose1d cosine_similarity
    max_pool1d max_unpool1d normalize pairwise_distance
    binary_cross_entropy_with_logits celu conv2d conv_transpose2d cross_entropy elu gelu glu
    group_norm hardshrink hardtanh huber_loss instance_norm kl_div l1_loss layer_norm
    leaky_relu linear local_response_norm logsigmoid max_pool2d max_unpool2d max_unpool2d.grad mish
    mse_loss nll_loss pad.circular pad.constant pad.reflect pad.replicate pad.replicate_negative
    prelu relu relu6 rms_norm selu silu smooth_l1_loss softmin softplus softshrink softsign
    tanhshrink threshold unfold
    cosine_embedding_loss gaussian_nll_loss hinge_embedding_loss margin_ranking_loss
    multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss poisson_nll_loss
    scaled_dot_product_attention soft_margin_loss triplet_margin_loss
    channel_shuffle grid_sample interpolate.area interpolate.bicubic interpolate.bilinear
    interpolate.linear interpolate.nearest interpolate.nearest-exact interpolate.trilinear
    pixel_shuffle pixel_unshuffle upsample_bilinear upsample_nearest
"""
TENSORS = """
    abs add all amax amin aminmax any argmax argmin argsort broadcast_to cat ceil chunk clone
    cos count_nonzero cumsum div.no_rounding_mode eq erf exp expand expand_as expm1 flatten
    floor gather ge gt index_select isfinite isinf isnan kthvalue le linalg.vector_norm log
    log10 log1p log2 log_softmax log_softmax.with_dtype logical_and logical_not logical_or
    logical_xor logsumexp lt matmul max.binary max.reduction_no_dim max.reduction_with_dim
    maximum mean median min.binary min.reduction_no_dim min.reduction_with_dim minimum mul
    narrow ne neg norm norm.fro norm.inf permute pow prod reciprocal reshape round rsqrt select
    sigmoid sign sin softmax softmax.with_dtype sort split sqrt square squeeze squeeze.multiple
    stack std std.unbiased std_mean std_mean.unbiased sub sum t tanh topk transpose tril triu
    trunc unbind unflatten unsqueeze var var.unbiased var_mean var_mean.unbiased view where
    baddbmm bmm broadcast_tensors cummax cumprod diag diag_embed diagonal diff
    div.floor_rounding div.trunc_rounding floor_divide index_add index_copy index_fill isclose
    kron linalg.multi_dot meshgrid.list_of_tensors movedim nan_to_num nanmean nonzero outer
    quantile remainder repeat repeat_interleave roll rot90 scatter scatter_add scatter_reduce.amax
    scatter_reduce.amin scatter_reduce.mean scatter_reduce.sum take_along_dim tensor_split
    tensordot tile
"""
CASES = [f"nn.functional.{name}" for name in LAYERS.split()] + TENSORS.split()

# A number may stand for either operand, as an operator's operands may; torch's functions refuse.
TAKES_NUMBERS = {
    "eq",
    "ge",
    "gt",
    "le",
    "lt",
    "ne",
    "maximum",
    "minimum",
    "max.binary",
    "min.binary",
    "isclose",
}

DTYPES = {torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool}


def where(self: Tensor, condition: Tensor, other: Tensor) -> Tensor:
    """torch's table passes the condition second."""
    return mg.where(condition, self, other)


def function_of(name: str) -> Callable[..., Any]:
    if name.startswith("linalg."):
        return getattr(mg.linalg, name.removeprefix("linalg."))
    base = name.removeprefix("nn.functional.").split(".")[0]
    if name.startswith("nn.functional."):
        return getattr(F, base)
    if name == "where":
        return where
    return getattr(mg, base, None) or getattr(Tensor, base)


def to_minigrad(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        tensor = mg.from_numpy(value.detach().numpy()).to(TEST_DEVICE)
        tensor.requires_grad = value.requires_grad
        return tensor
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch."))
    if isinstance(value, (list, tuple)):
        return type(value)(to_minigrad(item) for item in value)
    return value


def leaves(value: Any, kind: type) -> Iterator[Any]:
    if isinstance(value, kind):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item, kind)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item, kind)


def out_of_scope(name: str, sample: Any) -> str | None:
    """Why a sample is not for minigrad, or None."""
    tensors = list(leaves((sample.input, sample.args, sample.kwargs), torch.Tensor))
    if any(t.dtype not in DTYPES for t in tensors):
        return "minigrad has float32, float64, int64, uint8 and bool"
    if sample.kwargs.get("dropout_p"):
        return "other random numbers"
    if name == "gather" and any(t.dtype == torch.uint8 for t in tensors):
        return "indices are int64"
    if name == "cat" and (out := sample.kwargs.get("out")) is not None and out.numel() == 0:
        return "here an empty tensor shares its memory with none"
    if name == "nn.functional.batch_norm" and sample.input.ndim < 2:
        return "an input without channels"
    if name == "nn.functional.grid_sample" and sample.input.ndim == 5:
        return "grids in volumes"
    return None


def compare(mine: Any, theirs: Any, tolerance: float) -> None:
    assert mine.shape == tuple(theirs.shape)
    assert mine.dtype.name == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_allclose(
        values(mine), theirs.detach().numpy(), rtol=tolerance, atol=tolerance, equal_nan=True
    )


def check(name: str, op: Any, sample: Any, dtype: torch.dtype) -> None:
    arguments = (sample.input, *sample.args)
    for leaf in leaves((arguments, sample.kwargs), torch.Tensor):
        leaf.grad = None  # several samples may share a tensor
    ours, our_keywords = to_minigrad(arguments), {
        key: to_minigrad(value) for key, value in sample.kwargs.items()
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = op.op(*arguments, **sample.kwargs)
        with default_device(mg.Device(TEST_DEVICE)):
            got = function_of(name)(*ours, **our_keywords)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-4
    outputs = list(leaves(got, Tensor)) if not isinstance(got, Tensor) else [got]
    torchs = list(leaves(expected, torch.Tensor))
    assert len(outputs) == len(torchs)
    for mine, theirs in zip(outputs, torchs, strict=True):
        compare(mine, theirs, tolerance)
    for index, (mine, theirs) in enumerate(zip(outputs, torchs, strict=True)):
        assert mine.requires_grad == theirs.requires_grad
        if theirs.requires_grad:
            upstream = upstream_gradient(index, index, mine.shape).astype(mine.dtype)
            mine.backward(mg.from_numpy(upstream).to(TEST_DEVICE), retain_graph=True)
            theirs.backward(torch.from_numpy(upstream), retain_graph=True)
    mine_leaves = list(leaves((ours, our_keywords), Tensor))
    torch_leaves = list(leaves((arguments, sample.kwargs), torch.Tensor))
    for mine, theirs in zip(mine_leaves, torch_leaves, strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if theirs.grad is not None:
            compare(mine.grad, theirs.grad, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_torchs_sample_inputs_give_torchs_values_and_gradients(name, dtype) -> None:
    op = OPS[name]
    torch.manual_seed(0)
    compared = 0
    # op.sample_inputs looks through the stack, and seeds every device before each sample.
    for sample in op.sample_inputs_func(op, "cpu", dtype, op.supports_autograd):
        if out_of_scope(name, sample) is not None:
            continue
        try:
            check(name, op, sample, dtype)
        except Exception as error:
            raise AssertionError(f"{name}, sample {sample}: {error}") from error
        compared += 1
    assert compared


@pytest.mark.parametrize("name", [n for n in CASES if OPS[n].error_inputs_func is not None])
def test_torchs_error_inputs_are_refused(name) -> None:
    op = OPS[name]
    for error_input in op.error_inputs_func(op, "cpu"):
        sample = error_input.sample_input
        operands = (sample.input, *sample.args)
        numbers = len(operands) == 2 and any(isinstance(o, (int, float)) for o in operands)
        if out_of_scope(name, sample) is not None or (name in TAKES_NUMBERS and numbers):
            continue
        try:
            arguments = to_minigrad((sample.input, *sample.args))
            keywords = {key: to_minigrad(value) for key, value in sample.kwargs.items()}
            result = function_of(name)(*arguments, **keywords)
            if TEST_DEVICE == "cuda":
                mg.cuda.synchronize()  # value checks are made there
        except (MinigradError, TypeError, ValueError, RuntimeError):
            continue
        raise AssertionError(f"{name}, sample {sample}: no error but {result}")
