"""Averages of models against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minigrad import Tensor, nn
from minigrad.optim import swa_utils

RNG = np.random.default_rng(0)
STATES = [RNG.standard_normal((3, 4)) for _ in range(4)]


def network(library):
    return library.Sequential(library.Linear(4, 3), library.BatchNorm1d(3)).double()


def averages(library, utils, make, options):
    """What an averaged model holds after each of four updates."""
    model = network(library)
    average = utils.AveragedModel(model, **options(utils))
    for values in STATES:
        for number, value in enumerate(model.state_dict().values()):
            shape = tuple(value.shape)
            value.copy_(make(np.resize(values * 3 + number, shape)))
        average.update_parameters(model)
        yield {key: np.asarray(value.tolist()) for key, value in average.state_dict().items()}


@pytest.mark.parametrize(
    "options",
    [
        lambda utils: {},
        lambda utils: {"use_buffers": True, "avg_fn": utils.get_ema_avg_fn(0.9)},
        lambda utils: {"avg_fn": utils.get_swa_avg_fn()},
        lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.7)},
        # torch's function rounds the number of averages to float32.
        lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()} if u is swa_utils else {},
        lambda utils: {"avg_fn": lambda mean, new, count: (mean * int(count) - new) / 2},
    ],
)
def test_averages_equal_torchs(options):
    ours = averages(nn, swa_utils, Tensor, options)
    theirs = averages(torch.nn, torch.optim.swa_utils, torch.tensor, options)
    for mine, other in zip(ours, theirs, strict=True):
        assert list(mine) == list(other)
        for key in mine:
            np.testing.assert_allclose(mine[key], other[key], rtol=1e-12, err_msg=key)


def test_update_bn_finds_torchs_statistics_and_leaves_the_mode():
    batches = RNG.standard_normal((3, 5, 4))
    ours, theirs = network(nn), network(torch.nn)
    ours.load_state_dict({k: Tensor(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    ours.eval()
    theirs.eval()
    swa_utils.update_bn([(Tensor(x), None) for x in batches], ours)
    torch.optim.swa_utils.update_bn(torch.tensor(batches), theirs)
    assert not ours.training
    assert ours[1].momentum == 0.1
    for key in ("running_mean", "running_var"):
        np.testing.assert_allclose(getattr(ours[1], key).array, getattr(theirs[1], key), rtol=1e-12)


def test_an_averaged_model_computes_as_the_model_does():
    model = network(nn).eval()
    x = Tensor(RNG.standard_normal((2, 4)))
    np.testing.assert_array_equal(swa_utils.AveragedModel(model)(x).array, model(x).array)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\], got 2"):
        swa_utils.get_ema_multi_avg_fn(2)
    functions = {"avg_fn": swa_utils.get_swa_avg_fn()}
    functions["multi_avg_fn"] = swa_utils.get_swa_multi_avg_fn()
    with pytest.raises(ValueError, match="exclude each other"):
        swa_utils.AveragedModel(network(nn), **functions)
