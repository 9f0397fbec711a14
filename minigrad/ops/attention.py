"""Scaled dot-product attention, alone and between the projections of several heads.

Composed of matrix products and a softmax: softmax(query·keyᵀ·scale + mask)·value.
Source: Vaswani et al. 2017, "Attention is all you need".
"""

from __future__ import annotations

import math

from ..arguments import check_number
from ..device import same_device
from ..dtypes import bool_
from ..engine import Tensor
from ..errors import DTypeError, ShapeError
from .compare import where
from .creation import arange, zeros
from .join import cat, chunk
from .matmul import linear, matmul
from .operands import broadcast_shape, floating_operands
from .pad import pad
from .random import dropout
from .softmax import softmax

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query · keyᵀ · scale + mask) · value, dropping of the weights dropout_p.

    query (…, L, E), key (…, S, E), value (…, S, E_v) → (…, L, E_v). attn_mask broadcasts to
    (…, L, S): bool, true where a key takes part, or floating, added. A query without any key gives
    0. is_causal: key s takes part for query l if s ≤ l. scale: 1/√E unless given. enable_gqa: each
    head of key and value (axis −3) serves as many heads of query, one after the other.
    dropout_p counts whatever the mode of training, as in torch.
    Raises ShapeError, DTypeError or DeviceError before any work, ValueError for a mask together
    with is_causal.
    """
    operation = "scaled_dot_product_attention"
    floating_operands(operation, "query key value", query, key, value)
    check_number(operation, "dropout_p", dropout_p, low=0, high=1)
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ShapeError(
            f"{operation}: query, key and value must have at least 2 dimensions, got shapes "
            f"{query.shape}, {key.shape} and {value.shape}"
        )
    if is_causal and attn_mask is not None:
        raise ValueError(f"{operation}: attn_mask and is_causal=True exclude each other")
    if enable_gqa:
        key, value = (_repeat_heads(operation, query, each) for each in (key, value))
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"{operation}: expects query (…, L, E), key (…, S, E) and value (…, S, E_v), got "
            f"shapes {query.shape}, {key.shape} and {value.shape}"
        )
    batch = broadcast_shape(operation, query.shape[:-2], key.shape[:-2], value.shape[:-2])
    L, S = query.shape[-2], key.shape[-2]
    if is_causal:
        device = query.device
        attn_mask = arange(S, device=device) <= arange(L, device=device).unsqueeze(1)
    elif attn_mask is not None:
        attn_mask = _additive_or_bool(operation, "attn_mask", attn_mask, query)
        broadcast_shape(operation, batch, attn_mask.shape[:-2])
        if not all(n in (1, m) for n, m in zip(attn_mask.shape[::-1], (S, L), strict=False)):
            raise ShapeError(
                f"{operation}: attn_mask of shape {attn_mask.shape} does not broadcast to "
                f"{(*batch, L, S)}"
            )
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1]) if query.shape[-1] else 1.0
    # (…, L, E) @ (…, E, S) → (…, L, S)
    scores = matmul(query * check_number(operation, "scale", scale), key.transpose(-2, -1))
    weights = _masked_softmax(scores, attn_mask)
    return matmul(dropout(weights, dropout_p) if dropout_p else weights, value)


def _masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax along the last axis, 0 in rows that are masked out entirely."""
    if mask is None:
        return softmax(scores, -1)
    if mask.dtype == bool_:
        scores, alone = where(mask, scores, -math.inf), ~mask.any(-1, keepdim=True)
    else:
        scores, alone = scores + mask, (mask == -math.inf).all(-1, keepdim=True)
    # Scores of 0 in between, because NaN would get into the gradient.
    return where(alone, 0, softmax(where(alone, 0, scores), -1))


def _repeat_heads(operation: str, query: Tensor, tensor: Tensor) -> Tensor:
    heads = query.shape[-3] if query.ndim > 2 else 0
    own = tensor.shape[-3] if tensor.ndim > 2 else 0
    if not own or heads % own:
        raise ShapeError(
            f"{operation}: enable_gqa needs heads of query that are a multiple of those of key and "
            f"value, got shapes {query.shape} and {tensor.shape}"
        )
    *batch, _, S, E = tensor.shape
    wide = tensor.unsqueeze(-3).expand((*batch, own, heads // own, S, E))
    return wide.reshape((*batch, heads, S, E))


def _additive_or_bool(operation: str, name: str, mask: Tensor, query: Tensor) -> Tensor:
    if not isinstance(mask, Tensor):
        raise TypeError(f"{operation}: {name} must be a Tensor, got {type(mask).__name__}")
    same_device(operation, query=query.device, **{name: mask.device})
    if mask.dtype not in (bool_, query.dtype):
        raise DTypeError(
            f"{operation}: {name} must be bool or {query.dtype.name}, got {mask.dtype.name}"
        )
    return mask


# Several heads ------------------------------------------------------------------------------


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """What `nn.MultiheadAttention` computes: attention of num_heads projections, projected again.

    query (L, N, E), key (S, N, E_k), value (S, N, E_v) → (L, N, E) and, with need_weights, the
    weights (N, L, S), their mean over the heads or (N, num_heads, L, S); N may be left out.
    key_padding_mask (N, S) and attn_mask (L, S) or (N·num_heads, L, S): bool, true where a key is
    left out, or floating, added. bias_k, bias_v: one more key and value; add_zero_attn: another one
    of zeros. static_k, static_v (N·num_heads, S, E/num_heads) stand for projected keys and values.
    is_causal is a hint beside attn_mask, which decides.
    Raises ShapeError, DTypeError or DeviceError before any work.
    """
    operation = "multi_head_attention_forward"
    floating_operands(operation, "query key value", query, key, value)
    batched = query.ndim == 3
    if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
        raise ShapeError(
            f"{operation}: query, key and value must all have 2 or 3 dimensions, got shapes "
            f"{query.shape}, {key.shape} and {value.shape}"
        )
    E = query.shape[-1]
    if embed_dim_to_check != E or num_heads < 1 or E % num_heads:
        raise ShapeError(
            f"{operation}: query must have {embed_dim_to_check} features, a multiple of "
            f"num_heads={num_heads}, got shape {query.shape}"
        )
    if is_causal and attn_mask is None:
        raise ValueError(f"{operation}: is_causal is a hint, and needs attn_mask")
    if key.shape[:-1] != value.shape[:-1] or (batched and key.shape[1] != query.shape[1]):
        raise ShapeError(
            f"{operation}: key and value must have one length and query's batch, got shapes "
            f"{query.shape}, {key.shape} and {value.shape}"
        )
    same = query is key and key is value
    if not batched:
        query, key, value = (each.unsqueeze(1) for each in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    L, N, S = *query.shape[:2], key.shape[0]
    mask = _merged_mask(operation, query, S, num_heads, attn_mask, key_padding_mask)

    weights: tuple[Tensor | None, ...]
    if use_separate_proj_weight:
        weights = q_proj_weight, k_proj_weight, v_proj_weight
    elif in_proj_weight is None:
        raise ValueError(f"{operation}: in_proj_weight must be given")
    else:
        weights = tuple(chunk(in_proj_weight, 3)) if not same else (in_proj_weight,)
    if any(weight is None for weight in weights):
        raise ValueError(f"{operation}: q_, k_ and v_proj_weight must be given")
    if len(weights) == 1:  # one product for all three
        q, k, v = chunk(linear(query, weights[0], in_proj_bias), 3, -1)  # type: ignore[arg-type]
    else:
        biases = (None,) * 3 if in_proj_bias is None else chunk(in_proj_bias, 3)
        q, k, v = (
            linear(each, weight, bias)  # type: ignore[arg-type]
            for each, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
    if bias_k is not None and bias_v is not None:
        k, v = (cat([each, bias.expand((1, N, E))]) for each, bias in ((k, bias_k), (v, bias_v)))
    # (S, N, E) → (N, num_heads, S, E/num_heads)
    shape = N, num_heads, -1, E // num_heads
    q, k, v = (
        each.reshape((len(each), N, num_heads, E // num_heads)).permute(1, 2, 0, 3)
        if static is None
        else static.reshape(shape)
        for each, static in ((q, None), (k, static_k), (v, static_v))
    )
    if add_zero_attn:
        zero = zeros(N, num_heads, 1, E // num_heads, dtype=q.dtype, device=q.device)
        k, v = cat([k, zero], 2), cat([v, zero], 2)
    if mask is not None and k.shape[2] > mask.shape[-1]:
        mask = pad(mask, (0, k.shape[2] - mask.shape[-1]))

    probability = dropout_p if training else 0.0
    if need_weights:
        scores = matmul(q * (1 / math.sqrt(E // num_heads)), k.transpose(-2, -1))
        attention = softmax(scores if mask is None else scores + mask, -1)
        attention = dropout(attention, probability) if probability else attention
        heads = matmul(attention, v)
    else:
        heads = scaled_dot_product_attention(q, k, v, mask, probability)
    out = heads.permute(2, 0, 1, 3).reshape((L, N, E))
    out = linear(out, out_proj_weight, out_proj_bias)
    if not batched:
        out = out.squeeze(1)
    if not need_weights:
        return out, None
    if average_attn_weights:
        attention = attention.mean(1)
    return out, attention if batched else attention.squeeze(0)


def _merged_mask(
    operation: str,
    query: Tensor,
    S: int,
    num_heads: int,
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
) -> Tensor | None:
    """Both masks as one that is added to the scores (N, num_heads, L, S)."""
    L, N, _ = query.shape
    mask = None
    forms: dict[str, dict[tuple[int, ...], tuple[int, ...]]] = {
        "attn_mask": {(L, S): (1, 1, L, S), (N * num_heads, L, S): (N, num_heads, L, S)},
        "key_padding_mask": {(N, S): (N, 1, 1, S)},
    }
    for given, (name, shapes) in zip((attn_mask, key_padding_mask), forms.items(), strict=True):
        if given is None:
            continue
        given = _additive_or_bool(operation, name, given, query)
        if given.shape not in shapes:
            raise ShapeError(
                f"{operation}: {name} must have shape {' or '.join(map(str, shapes))}, got "
                f"{given.shape}"
            )
        if given.dtype == bool_:
            nothing = zeros(1, dtype=query.dtype, device=query.device)
            given = where(given, -math.inf, nothing)
        given = given.reshape(shapes[given.shape])
        mask = given if mask is None else mask + given
    return mask
