"""ConvTranspose2d's output_size, and its arguments. Values against torch's: test_layers.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minigrad import ShapeError, Tensor, nn

IMAGES = (4, 6, 9, 8)


@pytest.mark.parametrize("shape", [IMAGES, IMAGES[1:]])
@pytest.mark.parametrize("size", [(27, 15), (28, 15), (27, 16), (29, 16)])
def test_output_size_chooses_the_output_padding(shape, size) -> None:
    make = {"kernel_size": 3, "stride": (3, 2), "padding": (0, 1), "dilation": (1, 1)}
    ours, theirs = nn.ConvTranspose2d(6, 2, **make), torch.nn.ConvTranspose2d(6, 2, **make)
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    expected = theirs(torch.tensor(values), size).detach().numpy()
    for wanted in (size, [*expected.shape]):
        out = ours(Tensor(values), wanted)
        assert out.shape == expected.shape
        np.testing.assert_allclose(out.array, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(26, 15), (30, 15), (27, 14), (27, 17), (27,), (1, 27, 15)])
def test_output_size_outside_the_possible_range_is_refused(size) -> None:
    layer = nn.ConvTranspose2d(6, 2, 3, stride=(3, 2), padding=(0, 1))
    with pytest.raises(ShapeError, match=r"ConvTranspose2d: output_size must"):
        layer(Tensor(np.zeros(IMAGES, np.float32)), size)


def test_bad_arguments_are_refused_when_the_layer_is_made() -> None:
    with pytest.raises(ShapeError, match=r"groups=4 must divide in_channels=6"):
        nn.ConvTranspose2d(6, 4, 3, groups=4)
    with pytest.raises(ValueError, match=r"padding_mode must be 'zeros', got 'reflect'"):
        nn.ConvTranspose2d(6, 4, 3, padding_mode="reflect")
