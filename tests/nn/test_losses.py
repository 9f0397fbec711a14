"""The loss modules against torch's: arguments by position, deprecated flags, what is printed."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import minigrad.nn.functional as F
from minigrad import Tensor, nn

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 3))
CLASSES = np.array([0, 2, 1, 2])
WEIGHT = np.array([0.5, 1.0, 2.0])
OTHER = RNG.standard_normal((4, 3))
SHARE = RNG.random((4, 3))
PROBABILITY = RNG.random((4, 3))
LOG = np.log(np.full((4, 3), 1 / 3))

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
]


def made(library, tensor, name, arguments):
    converted = [tensor(a) if isinstance(a, np.ndarray) else a for a in arguments]
    return getattr(library, name)(*converted)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", range(len(CASES)))
def test_loss_matches_torch_with_arguments_by_position(case) -> None:
    name, arguments, target = CASES[case]
    ours = made(nn, Tensor, name, arguments)
    theirs = made(torch.nn, torch.tensor, name, arguments)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = PROBABILITY if name == "BCELoss" else X
    a, b = Tensor(x.copy(), requires_grad=True), torch.tensor(x, requires_grad=True)
    out, expected = ours(a, Tensor(target)), theirs(b, torch.tensor(target))
    np.testing.assert_allclose(out.array, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    out.sum().backward()
    expected.sum().backward()
    np.testing.assert_allclose(a.grad.array, b.grad.numpy(), rtol=1e-12, atol=1e-14)


def parameters(function) -> list[tuple[str, object]]:
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES}))
def test_parameters_are_torchs_in_torchs_order(name) -> None:
    assert parameters(getattr(nn, name)) == parameters(getattr(torch.nn, name))


@pytest.mark.parametrize(
    "name",
    [
        "binary_cross_entropy",
        "binary_cross_entropy_with_logits",
        "cross_entropy",
        "huber_loss",
        "kl_div",
        "l1_loss",
        "mse_loss",
        "nll_loss",
        "smooth_l1_loss",
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
