"""Spectral and weight normalisation against torch's: state dicts, passes in training, gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from minigrad import Tensor, nn

RNG = np.random.default_rng(0)
CASES = [
    ("spectral_norm", {}, "Conv2d", (2, 3, 3), (2, 2, 5, 5)),
    ("spectral_norm", {"n_power_iterations": 3}, "ConvTranspose2d", (2, 3, 3), (2, 2, 5, 5)),
    ("spectral_norm", {"dim": 1, "eps": 1e-3}, "Linear", (4, 3), (2, 4)),
    ("weight_norm", {}, "Conv2d", (2, 3, 3), (2, 2, 5, 5)),
    ("weight_norm", {"dim": 1}, "Linear", (4, 3), (2, 4)),
    ("weight_norm", {"dim": None}, "Linear", (4, 3), (2, 4)),
]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("norm", "options", "layer", "arguments", "shape"), CASES)
def test_passes_in_training_and_evaluation_equal_torchs(norm, options, layer, arguments, shape):
    ours, theirs = (
        getattr(library.utils, norm)(getattr(library, layer)(*arguments).double(), **options)
        for library in (nn, torch.nn)
    )
    state = {key: Tensor(value.numpy().copy()) for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        x = RNG.standard_normal(shape)
        out, expected = ours(Tensor(x)), theirs(torch.tensor(x))
        np.testing.assert_allclose(out.detach().array, expected.detach(), rtol=1e-9, atol=1e-11)
        ours.zero_grad()
        theirs.zero_grad()
        (out * out).sum().backward()
        (expected * expected).sum().backward()
        for (name, a), (_, b) in zip(
            ours.named_parameters(), theirs.named_parameters(), strict=True
        ):
            np.testing.assert_allclose(a.grad.array, b.grad, rtol=1e-8, atol=1e-9, err_msg=name)
    last = ours(Tensor(x)).detach().array
    getattr(nn.utils, f"remove_{norm}")(ours)
    assert sorted(ours.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(ours(Tensor(x)).detach().array, last, rtol=1e-12, atol=1e-14)
    assert isinstance(ours.weight, nn.Parameter)


def test_a_copy_has_a_weight_of_its_own():
    layer = nn.utils.weight_norm(nn.Linear(2, 2))
    other = copy.deepcopy(layer)
    other.weight_g.array[...] = 0
    x = Tensor(np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(other(x).array[0], other.bias.array)
    assert not np.array_equal(layer(x).array[0], layer.bias.array)


def test_bad_arguments_are_named():
    layer = nn.utils.spectral_norm(nn.Linear(2, 2))
    for call, match in (
        (lambda: nn.utils.spectral_norm(layer), "has no parameter 'weight'"),
        (lambda: nn.utils.weight_norm(layer, "scale"), "has no parameter 'scale'"),
        (lambda: nn.utils.remove_weight_norm(layer), "'weight' of the module is not normalised"),
        (lambda: nn.utils.spectral_norm(layer, "bias", 0), "must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
