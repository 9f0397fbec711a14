"""Distributions beside torch's: densities, entropies, divergences and gradients; draws by their
averages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import minigrad as mg
from minigrad import distributions

DRAWN = np.random.default_rng(0).random((2, 4, 3)) + 0.1
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "normal": ("Normal", {"loc": DRAWN[0], "scale": DRAWN[1]}, DRAWN[0] * 2),
    "bernoulli": ("Bernoulli", {"probs": DRAWN[0] / 2}, (DRAWN[1] > 0.6) * 1.0),
    "logits": ("Bernoulli", {"logits": DRAWN[0] * 3 - 2}, (DRAWN[1] > 0.6) * 1.0),
    "categorical": ("Categorical", {"probs": DRAWN[0]}, np.array([0, 2, 1, 1])),
    "class logits": ("Categorical", {"logits": DRAWN[0]}, np.array([0, 2, 1, 1])),
}


@pytest.mark.parametrize("case", CASES)
def test_densities_entropies_and_divergences_are_torchs(case: str) -> None:
    name, parameters, value = CASES[case]
    results = []
    for library, module in ((mg, distributions), (torch, torch.distributions)):
        given = {key: library.from_numpy(array.copy()) for key, array in parameters.items()}
        for each in given.values():
            each.requires_grad_()
        found = getattr(module, name)(**given)
        other = getattr(module, name)(**{k: v.detach() ** 2 / 2 for k, v in given.items()})
        values = [
            found.log_prob(library.from_numpy(value)),
            found.entropy(),
            module.kl_divergence(found, other),
        ]
        sum((each.sum() for each in values), library.tensor(0.0)).backward()
        assert tuple(found.sample((5, 2)).shape) == (5, 2, *found.batch_shape)
        assert not found.sample().requires_grad
        values = [each.detach() for each in values] + [each.grad for each in given.values()]
        results.append([each.numpy() for each in values])
    for mine, expected in zip(*results, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=1e-12)


def test_draws_have_the_parameters_averages() -> None:
    mg.manual_seed(0)
    normal = distributions.Normal(mg.tensor([1.0, -2.0], requires_grad=True), mg.tensor([0.5, 2.0]))
    x = normal.rsample((20_000,))
    assert x.requires_grad
    np.testing.assert_allclose(x.mean(0).tolist(), [1, -2], atol=0.06)
    np.testing.assert_allclose(x.std(0).tolist(), [0.5, 2], rtol=0.03)
    drawn = distributions.Categorical(mg.tensor([[1.0, 3.0], [4.0, 0.0]])).sample((20_000,))
    np.testing.assert_allclose(drawn.double().mean(0).tolist(), [0.75, 0], atol=0.02)
    assert abs(distributions.Bernoulli(0.3).sample((20_000,)).mean().item() - 0.3) < 0.02


def test_what_is_no_distribution_is_told() -> None:
    with pytest.raises(ValueError, match="Normal: scale must be positive"):
        distributions.Normal(0.0, 0.0)
    for kind in (distributions.Bernoulli, distributions.Categorical):
        with pytest.raises(ValueError, match="expects either probs or logits"):
            kind()
    with pytest.raises(ValueError, match="Bernoulli: probs must be from 0 to 1"):
        distributions.Bernoulli(1.5)
    with pytest.raises(ValueError, match="Categorical: probs must not be negative"):
        distributions.Categorical(mg.tensor([0.5, -0.5]))
    with pytest.raises(ValueError, match="got a number"):
        distributions.Categorical(0.5)
    with pytest.raises(TypeError, match="got Normal and Bernoulli"):
        distributions.kl_divergence(distributions.Normal(0, 1), distributions.Bernoulli(0.5))
