"""Recurrent layers beside torch's, from the same weights: outputs, states, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad.nn.utils import rnn

L, N, INPUTS, HIDDEN = 5, 3, 4, 6
KINDS = [("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {}), ("GRU", {})]


def twins(name: str, *sizes: int, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*sizes, **options).double()
    ours = getattr(mg.nn, name)(*sizes, **options).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    return theirs, ours


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def flat(result: Any) -> list[Any]:
    """The tensors of nested tuples."""
    if isinstance(result, (tuple, list)):
        return [tensor for part in result for tensor in flat(part)]
    return [] if result is None else [result]


def same(ours: Any, theirs: Any, mine: Any, expected: Any) -> None:
    """Two results, and the gradients of a sum over all of their numbers."""
    mine, expected = flat(mine), flat(expected)
    assert len(mine) == len(expected)
    totals: list[Any] = [0, 0]
    for number, (a, b) in enumerate(zip(mine, expected, strict=True)):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)
        if b.is_floating_point():
            weights = drawn(*b.shape) + number
            totals[0] = totals[0] + (a * mg.from_numpy(weights)).sum()
            totals[1] = totals[1] + (b * torch.from_numpy(weights)).sum()
    for total in totals:
        total.backward()
    for (key, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), 1e-8, 1e-11, err_msg=key)


@pytest.mark.parametrize(("name", "kind"), KINDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"bias": False}],
)
@pytest.mark.parametrize("given", [False, True])
def test_a_layer_is_torchs(name: str, kind: Any, options: Any, given: bool) -> None:
    theirs, ours = twins(name, INPUTS, HIDDEN, **kind, **options)
    assert str(ours) == str(theirs)
    x = drawn(N, L, INPUTS) if options.get("batch_first") else drawn(L, N, INPUTS)
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    h = [drawn(layers, N, HIDDEN), drawn(layers, N, HIDDEN) / 2][: 2 if name == "LSTM" else 1]

    def call(model: Any, convert: Any) -> Any:
        state = tuple(convert(part) for part in h)
        state = state if name == "LSTM" else state[0]
        return model(convert(x), state) if given else model(convert(x))

    same(ours, theirs, call(ours, mg.from_numpy), call(theirs, torch.from_numpy))


@pytest.mark.parametrize(("name", "kind"), KINDS)
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences_are_torchs(name: str, kind: Any, enforce_sorted: bool) -> None:
    theirs, ours = twins(name, INPUTS, HIDDEN, num_layers=2, bidirectional=True, **kind)
    lengths = [5, 3, 2] if enforce_sorted else [3, 5, 2]
    x = drawn(N, L, INPUTS)
    results = []
    for library, model, utils in ((mg, ours, rnn), (torch, theirs, torch.nn.utils.rnn)):
        packed = utils.pack_padded_sequence(
            library.from_numpy(x), lengths, batch_first=True, enforce_sorted=enforce_sorted
        )
        output, state = model(packed)
        padded = utils.pad_packed_sequence(output, True, padding_value=2.0, total_length=7)
        results.append((packed.data, tuple(output), padded, state))
    same(ours, theirs, *results)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_without_a_batch_and_cells(name: str, kind: Any) -> None:
    theirs, ours = twins(name, INPUTS, HIDDEN, **kind)
    x = drawn(L, INPUTS)
    same(ours, theirs, ours(mg.from_numpy(x)), theirs(torch.from_numpy(x)))
    theirs, ours = twins(f"{name}Cell", INPUTS, HIDDEN, **kind)
    for x in (drawn(INPUTS), drawn(N, INPUTS)):
        first = ours(mg.from_numpy(x)), theirs(torch.from_numpy(x))
        mine, expected = ours(mg.from_numpy(x), first[0]), theirs(torch.from_numpy(x), first[1])
        ours.zero_grad()
        theirs.zero_grad()
        same(ours, theirs, mine, expected)


def test_sequences_are_padded_and_taken_apart_as_torch_does() -> None:
    arrays = [drawn(n, 2) for n in (2, 4, 1)]
    for options in ({}, {"batch_first": True, "padding_value": 3.0}, {"padding_side": "left"}):
        mine = rnn.pad_sequence([mg.from_numpy(a) for a in arrays], **options)
        theirs = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in arrays], **options)
        assert (mine.numpy() == theirs.numpy()).all()
    packed = rnn.pack_sequence([mg.from_numpy(a) for a in arrays], enforce_sorted=False)
    for a, b in zip(arrays, rnn.unpack_sequence(packed), strict=True):
        assert (a == b.numpy()).all()


def test_dropout_lies_between_layers_and_is_off_in_evaluation() -> None:
    layer = mg.nn.GRU(INPUTS, HIDDEN, 2, dropout=0.5)
    x = mg.from_numpy(drawn(L, N, INPUTS).astype(np.float32))
    assert (layer(x)[0] - layer(x)[0]).abs().max().item() > 0
    layer.eval()
    assert (layer(x)[0] - layer(x)[0]).abs().max().item() == 0
    with pytest.warns(UserWarning, match="GRU: dropout acts between layers"):
        mg.nn.GRU(INPUTS, HIDDEN, dropout=0.5)


def test_what_does_not_fit_is_told() -> None:
    lstm, x = mg.nn.LSTM(INPUTS, HIDDEN), mg.zeros(L, N, INPUTS)
    with pytest.raises(mg.ShapeError, match=r"LSTM: input must be \(L, N, 4\).*got \(5, 3, 7\)"):
        lstm(mg.zeros(L, N, 7))
    with pytest.raises(mg.ShapeError, match=r"LSTM: hx must be 2 of shape \(1, 3, 6\)"):
        lstm(x, mg.zeros(1, N, HIDDEN))
    with pytest.raises(TypeError, match="LSTM: expects a tensor, got list"):
        lstm([1])
    with pytest.raises(mg.ShapeError, match=r"GRUCell: input must be \(N, 4\)"):
        mg.nn.GRUCell(INPUTS, HIDDEN)(x)
    with pytest.raises(mg.ShapeError, match=r"GRUCell: hx must be 1 of shape \(3, 6\)"):
        mg.nn.GRUCell(INPUTS, HIDDEN)(x[0], mg.zeros(2, HIDDEN))
    for options, message in (
        ({"nonlinearity": "gelu"}, "RNN: nonlinearity must be"),
        ({"dropout": 2.0}, "RNN: dropout must be from 0 to 1"),
        ({"num_layers": 0}, "RNN: num_layers must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            mg.nn.RNN(INPUTS, HIDDEN, **options)
    with pytest.raises(ValueError, match="LSTM: proj_size must be 0"):
        mg.nn.LSTM(INPUTS, HIDDEN, proj_size=2)
    with pytest.raises(ValueError, match="RNNBase: mode must be of"):
        mg.nn.RNNBase("SRU", 1, 1)
    with pytest.raises(ValueError, match=r"lengths must not increase.*enforce_sorted=False"):
        rnn.pack_padded_sequence(x, [1, 2, 3])
    with pytest.raises(ValueError, match=r"lengths must be from 1 to 5, got \[6, 2, 0\]"):
        rnn.pack_padded_sequence(x, [6, 2, 0])
    with pytest.raises(mg.ShapeError, match="one for each of 3 sequences"):
        rnn.pack_padded_sequence(x, [5, 5])
    packed = rnn.pack_padded_sequence(x, [5, 2, 1])
    with pytest.raises(ValueError, match="total_length must be at least 5, got 4"):
        rnn.pad_packed_sequence(packed, total_length=4)
    with pytest.raises(ValueError, match="padding_side"):
        rnn.pad_sequence([x], padding_side="middle")
    with pytest.raises(ValueError, match="at least one sequence"):
        rnn.pad_sequence([])
