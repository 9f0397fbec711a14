"""The loss modules against torch's: arguments by position, deprecated flags, what is printed."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import minigrad.nn.functional as F
from minigrad import DTypeError, ShapeError, TargetError, Tensor, nn

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3))
CLASSES = np.array([0, 2, 1, 2])
WEIGHT = np.array([0.5, 1.0, 2.0])
OTHER = RNG.standard_normal((4, 3))
SHARE = RNG.random((4, 3))
PROBABILITY = RNG.random((4, 3))
LOG = np.log(np.full((4, 3), 1 / 3))
SIGNS = np.array([[1.0, -1, 1], [1, 1, -1], [-1, 1, 1], [-1, -1, -1]])
LISTS = np.array([[2, 0, -1], [1, -1, 2], [-1, 0, 0], [0, 1, 1]])

CASES = [
    ("CrossEntropyLoss", (), CLASSES),
    ("CrossEntropyLoss", (WEIGHT, None, 1, None, "sum", 0.1), CLASSES),
    ("CrossEntropyLoss", (None, False), CLASSES),
    ("CrossEntropyLoss", (None, None, -100, False), CLASSES),
    ("NLLLoss", (WEIGHT, None, 2, None, "mean"), CLASSES),
    ("NLLLoss", (None, True, -100, True), CLASSES),
    ("MSELoss", (), OTHER),
    ("MSELoss", (False,), OTHER),
    ("MSELoss", (None, False), OTHER),
    ("MSELoss", (None, None, "sum"), OTHER),
    ("L1Loss", (None, None, "none"), OTHER),
    ("L1Loss", (False, True), OTHER),
    ("SmoothL1Loss", (None, None, "mean", 0.5), OTHER),
    ("SmoothL1Loss", (True,), OTHER),
    ("HuberLoss", ("sum", 0.5), OTHER),
    ("BCELoss", (), SHARE),
    ("BCELoss", (WEIGHT, None, None, "sum"), SHARE),
    ("BCELoss", (WEIGHT, True, False), SHARE),
    ("BCEWithLogitsLoss", (), SHARE),
    ("BCEWithLogitsLoss", (WEIGHT, None, None, "sum", WEIGHT), SHARE),
    ("BCEWithLogitsLoss", (None, False), SHARE),
    ("KLDivLoss", (None, None, "batchmean"), SHARE),
    ("KLDivLoss", (None, None, "sum", True), LOG),
    ("KLDivLoss", (False,), SHARE),
    ("KLDivLoss", (False, None, "batchmean"), SHARE),
    ("HingeEmbeddingLoss", (0.5,), SIGNS),
    ("HingeEmbeddingLoss", (), SIGNS.astype(np.int64)),
    ("SoftMarginLoss", (None, None, "sum"), SIGNS.astype(np.int64)),
    ("MarginRankingLoss", (0.3, None, False), OTHER, SIGNS.astype(np.int64)),
    ("CosineEmbeddingLoss", (0.1,), OTHER, SIGNS[:, 0]),
    ("TripletMarginLoss", (1.5, 1, 1e-3, True), OTHER, SHARE),
    ("TripletMarginLoss", (1.0, np.inf), OTHER, SHARE),
    ("MultiMarginLoss", (2, 0.7, WEIGHT, None, None, "none"), CLASSES),
    ("MultiLabelMarginLoss", (None, None, "none"), LISTS),
    ("MultiLabelSoftMarginLoss", (WEIGHT,), SHARE),
    ("PoissonNLLLoss", (True, True, False), SHARE * 5),
    ("PoissonNLLLoss", (False, True), SHARE * 5),
    ("GaussianNLLLoss", (), OTHER, SHARE),
    ("GaussianNLLLoss", (), OTHER, np.where(SHARE < 0.5, 0, SHARE)),
    ("GaussianNLLLoss", (), OTHER, 0.7),
]


def made(library, tensor, name, arguments):
    converted = [tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
    return getattr(library, name)(*converted)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", range(len(CASES)))
def test_loss_matches_torch_with_arguments_by_position(case) -> None:
    name, arguments, *targets = CASES[case]
    ours = made(nn, Tensor, name, arguments)
    theirs = made(torch.nn, torch.tensor, name, arguments)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = PROBABILITY if name in ("BCELoss", "PoissonNLLLoss") else X
    a, b = Tensor(x.copy(), requires_grad=True), torch.tensor(x, requires_grad=True)
    arrays = [np.asarray(target) for target in targets]
    out = ours(a, *(Tensor(t) if t.ndim else t.item() for t in arrays))
    expected = theirs(b, *(torch.tensor(t) if t.ndim else t.item() for t in arrays))
    np.testing.assert_allclose(out.array, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    out.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-12, atol=1e-14)


def parameters(function) -> list[tuple[str, object]]:
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES}))
def test_parameters_are_torchs_in_torchs_order(name) -> None:
    assert parameters(getattr(nn, name)) == parameters(getattr(torch.nn, name))


@pytest.mark.parametrize(
    "name",
    [
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "cosine_embedding_loss",
        "cross_entropy",
        "hinge_embedding_loss",
        "huber_loss",
        "kl_div",
        "l1_loss",
        "margin_ranking_loss",
        "mse_loss",
        "multi_margin_loss",
        "multilabel_margin_loss",
        "multilabel_soft_margin_loss",
        "nll_loss",
        "poisson_nll_loss",
        "smooth_l1_loss",
        "soft_margin_loss",
        "triplet_margin_loss",
        "triplet_margin_with_distance_loss",
    ],
)
def test_functions_parameters_are_torchs_in_torchs_order(name) -> None:
    assert parameters(getattr(F, name)) == parameters(getattr(torch.nn.functional, name))


def test_weights_follow_the_module_and_its_state_dict() -> None:
    weight = Tensor(WEIGHT)
    for module in (nn.BCELoss(weight), nn.BCEWithLogitsLoss(weight), nn.CrossEntropyLoss(weight)):
        assert list(module.state_dict()) == ["weight"]
        assert module.to(np.float32).weight.dtype == np.float32


def test_the_deprecated_flags_warn() -> None:
    with pytest.warns(UserWarning, match=r"MSELoss: size_average and reduce are deprecated.*'sum'"):
        nn.MSELoss(size_average=False)
    with pytest.warns(UserWarning, match="NLLLoss: size_average and reduce .*'none'"):
        nn.NLLLoss(None, None, -100, False)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["multi_margin_loss", "multilabel_margin_loss"])
def test_no_rows_have_a_loss_of_0(name, reduction) -> None:
    target = np.zeros((0,) if name == "multi_margin_loss" else (0, 3), np.int64)
    loss = getattr(F, name)(Tensor(np.zeros((0, 3))), Tensor(target), reduction=reduction)
    np.testing.assert_array_equal(loss.array, np.zeros(0) if reduction == "none" else 0)


ROW, SCORES = Tensor(np.zeros(3)), Tensor(np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("name", "args", "error", "match"),
    [
        ("hinge_embedding_loss", (ROW, Tensor(np.ones(2))), ShapeError, "do not broadcast"),
        ("soft_margin_loss", (ROW.long(), ROW), DTypeError, "int64"),
        ("soft_margin_loss", (ROW, [1.0]), TypeError, "target must be a Tensor, got list"),
        ("margin_ranking_loss", (ROW, ROW, SCORES), ShapeError, "same number of dimensions"),
        ("cosine_embedding_loss", (ROW, ROW, ROW), ShapeError, r"expects inputs \(N, D\)"),
        ("triplet_margin_loss", (ROW, ROW, ROW, 0), ValueError, "margin must be above 0, got 0"),
        ("multi_margin_loss", (SCORES, Tensor(CLASSES + 1)), TargetError, "classes from 1 to 3"),
        ("multi_margin_loss", (SCORES, Tensor(CLASSES), 3), ValueError, "p must be 1 or 2, got 3"),
        ("multilabel_margin_loss", (SCORES, Tensor(LISTS - 1)), TargetError, "from -2 to 1"),
        ("gaussian_nll_loss", (ROW, ROW, ROW - 1), ValueError, "negative, got -1.0"),
        ("gaussian_nll_loss", (ROW, ROW, SCORES), ShapeError, r"var of shape \(4, 3\)"),
    ],
)
def test_bad_arguments_are_named(name, args, error, match) -> None:
    with pytest.raises(error, match=f"^{name}: .*{match}"):
        getattr(F, name)(*args)


@pytest.mark.parametrize(
    ("base", "args", "options"),
    [("_Loss", (), {}), ("_Loss", (None, False), {}), ("_Loss", (), {"reduction": "sum"}),
     ("_WeightedLoss", (), {}), ("_WeightedLoss", (None, False), {"reduction": "mean"})],
)  # fmt: skip
def test_losses_of_ones_own_get_the_reduction(base, args, options) -> None:
    found = []
    for library in (torch.nn, nn):
        kind = type("FocalLoss", (getattr(library.modules.loss, base),), {})
        loss = kind(*args, **options)
        found.append((loss.reduction, list(loss.state_dict()), getattr(loss, "weight", 0)))
    assert found[0] == found[1]
