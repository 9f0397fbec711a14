"""Attention and transformer layers against torch's: state dicts, values, gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import minigrad.nn.functional as F
from minigrad import DTypeError, ShapeError, Tensor, nn
from minigrad.testing.oracle import TEST_DEVICE

RNG = np.random.default_rng(0)
L, S, N, E, HEADS = 3, 4, 2, 6, 2
QUERY, KEY, VALUE = (RNG.standard_normal((n, N, E)) for n in (L, S, S))
CAUSAL = np.triu(np.ones((L, S), bool), 1)
PADDING = np.array([[False, True, False, False], [False, False, False, True]])
PER_HEAD = RNG.standard_normal((N * HEADS, L, S))


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), rtol=1e-9, atol=1e-11)


def twins(name, *args, **kwargs):
    """The module and torch's, in float64 with the same parameters."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*args, **kwargs).double()
    ours = getattr(nn, name)(*args, **kwargs).double()
    state = {key: Tensor(value.numpy().copy()) for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    return ours.to(TEST_DEVICE), theirs


def compare(ours, theirs, inputs, **kwargs):
    """Values, and the gradients of inputs and parameters; what is no array goes to both."""
    mine = [Tensor(x.copy(), requires_grad=True) for x in inputs]
    mine = [x.to(TEST_DEVICE).detach().requires_grad_() for x in mine]
    others = [torch.tensor(x, requires_grad=True) for x in inputs]
    arrays = {key: value for key, value in kwargs.items() if isinstance(value, np.ndarray)}
    out = ours(*mine, **{**kwargs, **{k: Tensor(v).to(TEST_DEVICE) for k, v in arrays.items()}})
    expected = theirs(*others, **{**kwargs, **{k: torch.tensor(v) for k, v in arrays.items()}})
    outputs = zip(out, expected, strict=True) if isinstance(out, tuple) else [(out, expected)]
    loss, other_loss = 0, 0
    for a, b in outputs:
        assert (a is None) == (b is None)
        if b is not None:
            close(a.detach().cpu(), b)
            loss, other_loss = loss + (a * a).sum(), other_loss + (b * b).sum()
    loss.backward()
    other_loss.backward()
    for a, b in zip(mine, others, strict=True):
        close(a.grad.cpu(), b.grad)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if b.grad is not None:
            close(a.grad.cpu(), b.grad)


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, {}),
        ({"bias": False}, {"need_weights": False}),
        ({}, {"average_attn_weights": False, "attn_mask": CAUSAL}),
        ({}, {"need_weights": False, "attn_mask": CAUSAL, "key_padding_mask": PADDING}),
        ({}, {"attn_mask": PER_HEAD}),
        ({"add_bias_kv": True, "add_zero_attn": True}, {"key_padding_mask": PADDING}),
        ({"add_zero_attn": True}, {"attn_mask": PER_HEAD, "need_weights": False}),
        ({"kdim": 5, "vdim": 3}, {"attn_mask": CAUSAL}),
        ({"batch_first": True}, {"key_padding_mask": PADDING}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of masks of two dtypes
def test_multihead_attention_matches_torch(options, call):
    ours, theirs = twins("MultiheadAttention", E, HEADS, **options)
    inputs = [QUERY, KEY[..., : options.get("kdim", E)], VALUE[..., : options.get("vdim", E)]]
    if options.get("batch_first"):
        inputs = [x.swapaxes(0, 1) for x in inputs]
    compare(ours, theirs, inputs, **call)


def test_multihead_attention_without_a_batch_and_of_one_tensor():
    ours, theirs = twins("MultiheadAttention", E, HEADS)
    compare(ours, theirs, [x[:, 0] for x in (QUERY, KEY, VALUE)], key_padding_mask=PADDING[0])
    ours, theirs = twins("MultiheadAttention", E, HEADS, batch_first=True)
    x = QUERY.copy()
    a, b = Tensor(x).to(TEST_DEVICE), torch.tensor(x)
    close(ours(a, a, a)[0].detach().cpu(), theirs(b, b, b)[0])


@pytest.mark.parametrize(
    "options",
    [{}, {"norm_first": True, "activation": "gelu"}, {"batch_first": True, "bias": False}],
)
def test_transformer_matches_torch(options):
    ours, theirs = twins("Transformer", E, HEADS, 2, 1, 5, 0.0, **options)
    inputs = [x.swapaxes(0, 1) if options.get("batch_first") else x for x in (KEY, QUERY)]
    mask = np.array(nn.Transformer.generate_square_subsequent_mask(L, dtype=np.float64))
    np.testing.assert_array_equal(mask, np.triu(np.full((L, L), -np.inf), 1))
    compare(ours, theirs, inputs, tgt_mask=mask, memory_mask=CAUSAL * -1.0)


def test_encoder_layers_are_copies_and_dropout_acts_in_training_only():
    layer = nn.TransformerEncoderLayer(E, HEADS, 5, dropout=0.5)
    encoder = nn.TransformerEncoder(layer, 2)
    first, second = (block.linear1.weight for block in encoder.layers)
    assert first is not second
    np.testing.assert_array_equal(first.array, second.array)
    x = Tensor(QUERY.astype(np.float32))
    assert not np.array_equal(encoder(x).array, encoder(x).array)
    encoder.eval()
    np.testing.assert_array_equal(encoder(x).array, encoder(x).array)
    copy.deepcopy(encoder)


@pytest.mark.parametrize("additive", [False, True])
def test_a_query_without_any_key_gives_0_and_a_gradient_of_0(additive):
    mask = np.array([[True, False], [False, False]])
    given = Tensor(np.where(mask, 0, -np.inf) if additive else mask)
    query, key = (Tensor(RNG.standard_normal((2, 3)), requires_grad=True) for _ in range(2))
    out = F.scaled_dot_product_attention(query, key, key, given)
    np.testing.assert_array_equal(out.array, [key.array[0], np.zeros(3)])
    out.sum().backward()
    assert not query.grad.array[1].any()
    np.testing.assert_array_equal(key.grad.array, [[1, 1, 1], [0, 0, 0]])


def test_dropout_of_attention_keeps_the_mean():
    ones = Tensor(np.ones((1, 64, 2)))
    out = F.scaled_dot_product_attention(ones, ones, ones, dropout_p=0.5)
    assert 0.9 < out.array.mean() < 1.1
    assert len(np.unique(out.array)) > 2


X = Tensor(np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda f: f(X, X, X, X[0, :, :3] > 0, is_causal=True), ValueError, "exclude each other"),
        (lambda f: f(X, X, X, X[0, :, :2] > 0), ShapeError, r"attn_mask of shape \(3, 2\)"),
        (lambda f: f(X, X, X, X[0, :, :3].long()), DTypeError, "must be bool or float64"),
        (lambda f: f(X, X[..., :3], X), ShapeError, r"expects query \(…, L, E\)"),
        (lambda f: f(X[0, 0], X, X), ShapeError, "at least 2 dimensions"),
        (lambda f: f(X, X, X, dropout_p=2), ValueError, r"dropout_p must be in \[0, 1\]"),
        (lambda f: f(X[:, None], X[None], X[None], enable_gqa=True), ShapeError, "multiple of"),
    ],
)
def test_bad_arguments_of_attention_are_named(call, error, match):
    with pytest.raises(error, match=f"scaled_dot_product_attention: .*{match}"):
        call(F.scaled_dot_product_attention)


def test_bad_arguments_of_multihead_attention_are_named():
    with pytest.raises(ShapeError, match="num_heads=4 must divide embed_dim=6"):
        nn.MultiheadAttention(6, 4)
    module, x = nn.MultiheadAttention(4, 2), Tensor(np.zeros((3, 2, 4), np.float32))
    with pytest.raises(ShapeError, match=r"attn_mask must have shape \(3, 3\) or \(4, 3, 3\)"):
        module(x, x, x, attn_mask=x[0] > 0)
    with pytest.raises(
        ShapeError, match=r"key_padding_mask must have shape \(2, 3\), got \(2, 4\)"
    ):
        module(x, x, x, key_padding_mask=x[0] > 0)
    with pytest.raises(ShapeError, match="must have 4 features"):
        module(x[..., :3], x, x)
    with pytest.raises(ValueError, match="is_causal is a hint"):
        module(x, x, x, is_causal=True)
