"""Tables, bilinear forms and similarities, against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import Tensor, nn

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((6, 3))
PLACES = np.array([[0, 4, 2], [4, 5, 4]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding_idx": 4},
        {"padding_idx": -1},
        {"max_norm": 1.0},
        {"max_norm": 0.7, "norm_type": 1},
    ],
)
def test_embedding_matches_torch(options):
    ours = nn.Embedding(6, 3, _weight=Tensor(TABLE.copy()), **options)
    theirs = torch.nn.Embedding(6, 3, _weight=torch.tensor(TABLE), **options)
    assert repr(ours) == repr(theirs)
    out, expected = ours(Tensor(PLACES)), theirs(torch.tensor(PLACES))
    upstream = RNG.standard_normal(out.shape)
    out.backward(Tensor(upstream))
    expected.backward(torch.tensor(upstream))
    np.testing.assert_allclose(out.array, expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours.weight.array, theirs.weight.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours.weight.grad.array, theirs.weight.grad.numpy(), rtol=1e-12)


def test_embedding_starts_with_a_zero_row_and_takes_tables():
    layer = nn.Embedding(5, 4, padding_idx=2)
    assert (layer.weight.array == 0).all(1).tolist() == [False, False, True, False, False]
    table = Tensor(TABLE)
    layer = nn.Embedding.from_pretrained(table)
    assert layer.weight.array is table.array
    assert not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad


def test_one_hot_is_torchs():
    for places, arguments in (
        (PLACES, ()),
        (PLACES, (7,)),
        (PLACES[0, 0], (3,)),
        (PLACES[:0], (4,)),
    ):
        mine = F.one_hot(Tensor(np.asarray(places)), *arguments)
        torchs = torch.nn.functional.one_hot(torch.tensor(places), *arguments)
        assert mine.dtype == np.int64
        np.testing.assert_array_equal(mine.array, torchs.numpy())


@pytest.mark.parametrize("bias", [True, False])
def test_bilinear_matches_torch(bias):
    ours, theirs = nn.Bilinear(3, 4, 2, bias).double(), torch.nn.Bilinear(3, 4, 2, bias).double()
    assert repr(ours) == repr(theirs)
    theirs.load_state_dict({n: torch.tensor(t.array) for n, t in ours.state_dict().items()})
    for shape in ((5,), (), (2, 0), (2, 3)):
        a, b = RNG.standard_normal((*shape, 3)), RNG.standard_normal((*shape, 4))
        out, expected = ours(Tensor(a), Tensor(b)), theirs(torch.tensor(a), torch.tensor(b))
        np.testing.assert_allclose(out.array, expected.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_similarities_are_torchs_also_where_a_vector_is_zero():
    a, b = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))
    a[1] = 0
    for make in (
        lambda lib: lib.CosineSimilarity(),
        lambda lib: lib.PairwiseDistance(1, keepdim=True),
    ):
        ours, theirs = make(nn), make(torch.nn)
        assert repr(ours) == repr(theirs)
        x, y = Tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
        out, expected = ours(x, Tensor(b)), theirs(y, torch.tensor(b))
        out.sum().backward()
        expected.sum().backward()
        np.testing.assert_allclose(out.array, expected.detach().numpy(), rtol=1e-12)
        np.testing.assert_allclose(x.grad.array, y.grad.numpy(), rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: F.one_hot(Tensor(np.array([1, -1]))), mg.TargetError, r"got -1 to 1"),
        (
            lambda: F.one_hot(Tensor(np.array([1, 3])), 2),
            mg.TargetError,
            r"in \[0, 2\), got 1 to 3",
        ),
        (lambda: F.one_hot(Tensor(np.array([1.0]))), TypeError, "must be an int64 tensor"),
        (lambda: F.one_hot(Tensor(np.zeros(0, np.int64))), ValueError, "must be given"),
        (lambda: nn.Embedding(3, 2)(Tensor(np.array([3]))), mg.TargetError, "index 3 is out of"),
        (lambda: nn.Embedding(3, 2)(Tensor(np.array([0.0]))), TypeError, "input must be an int64"),
        (lambda: nn.Embedding(3, 2, 3), ValueError, "padding_idx must be a row of 3, got 3"),
        (lambda: nn.Embedding(3, 2, sparse=True)(Tensor(PLACES)), ValueError, "must be False"),
        (
            lambda: nn.Bilinear(2, 3, 1)(*[Tensor(np.ones((4, 3), np.float32))] * 2),
            ValueError,
            "expects last sizes 2 and 3",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()
