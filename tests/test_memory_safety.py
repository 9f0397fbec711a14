"""Arguments that once led a kernel to read or write outside its arrays, and their kin.

A kernel trusts what it is handed. So whatever a kernel indexes by was checked, and is a copy that
the caller cannot change between the check and the backward pass.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import DTypeError, ShapeError
from minigrad.data import RandomRotation
from minigrad.optim import SGD, Adam

FAR = 1 << 40


def logits() -> tuple[mg.Tensor, torch.Tensor]:
    values = np.random.default_rng(0).standard_normal((4, 5))
    return mg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)


@pytest.mark.parametrize("loss", ["nll_loss", "cross_entropy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_targets_changed_after_the_loss_do_not_reach_its_backward(loss, weighted) -> None:
    mine, torchs = logits()
    target = np.array([0, 1, 2, 3])
    expected = getattr(torch.nn.functional, loss)(
        torchs, torch.tensor(target), torch.ones(5, dtype=torch.float64) if weighted else None
    )
    weight = mg.ones(5, dtype=mg.float64) if weighted else None
    out = getattr(F, loss)(mine, mg.from_numpy(target), weight)
    target[:] = FAR
    out.backward()
    expected.backward()
    np.testing.assert_allclose(mine.grad.numpy(), torchs.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_indices_changed_after_an_extremum_do_not_reach_its_backward(reduction) -> None:
    mine, torchs = logits()
    values, indices = getattr(mine, reduction)(1)
    indices.numpy()[...] = FAR
    values.sum().backward()
    getattr(torchs, reduction)(1).values.sum().backward()
    np.testing.assert_array_equal(mine.grad.numpy(), torchs.grad.numpy())


@pytest.mark.parametrize("max_pool", ["max_pool2d", "adaptive_max_pool2d"])
def test_indices_changed_after_max_pooling_do_not_reach_its_backward(max_pool) -> None:
    x = mg.randn(2, 3, 4, 4, requires_grad=True)
    values, indices = getattr(F, max_pool)(x, 2, return_indices=True)
    indices.numpy()[...] = FAR
    values.sum().backward()
    assert x.grad.numpy().sum() == values.array.size


def test_index_tensors_changed_after_a_gather_do_not_reach_its_backward() -> None:
    mine, torchs = logits()
    index = np.array([[0, 1], [4, 4], [2, 2], [3, 0]])
    expected = torchs.gather(1, torch.tensor(index))
    out = mine.gather(1, mg.from_numpy(index))
    index[:] = FAR
    out.sum().backward()
    expected.sum().backward()
    np.testing.assert_array_equal(mine.grad.numpy(), torchs.grad.numpy())


def test_index_arrays_changed_after_indexing_do_not_reach_its_backward() -> None:
    mine, _ = logits()
    index = np.array([0, 3])
    out = mine[mg.from_numpy(index)]
    index[:] = FAR
    out.sum().backward()
    np.testing.assert_array_equal(mine.grad.numpy().sum(1), [5, 0, 0, 5])


@pytest.mark.parametrize(
    ("make", "buffer"),
    [(lambda p: Adam([p]), "exp_avg"), (lambda p: SGD([p], lr=0.1, momentum=0.9), "momentum")],
)
def test_a_parameter_that_grew_is_refused_by_the_optimizer(make, buffer) -> None:
    param = mg.zeros(4, requires_grad=True)
    optimizer = make(param)
    param.grad = mg.ones(4)
    optimizer.step()
    param.array = np.zeros(1 << 16, np.float32)
    param.grad = mg.ones(1 << 16)
    with pytest.raises(ShapeError, match=rf"shape \(65536,\) has a {buffer}.* of shape \(4,\)"):
        optimizer.step()
    assert not param.array.any()


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: F.conv2d(x.numpy(), w),
        lambda x, w: F.conv2d(x, w.numpy()),
        lambda x, w: F.conv2d(x, w, 1.0),
        lambda x, w: F.max_pool2d(x.numpy(), 2),
        lambda x, w: F.relu(x.numpy()),
        lambda x, w: F.softmax([1.0, 2.0], 0),
        lambda x, w: F.cross_entropy(x.reshape(2, 32), np.zeros(2, np.int64)),
        lambda x, w: F.cross_entropy(x.reshape(2, 32), [0, 1]),
        lambda x, w: mg.exp(x.numpy()),
        lambda x, w: mg.sum(x.numpy()),
    ],
)  # fmt: skip
def test_what_is_not_a_tensor_is_named_in_a_type_error(call) -> None:
    with pytest.raises(TypeError, match="Tensor"):
        call(mg.zeros(2, 2, 4, 4), mg.zeros(1, 2, 3, 3))


@pytest.mark.parametrize("size", [np.array([2, 2]), "2", 2.0, None, 1 << 62, -1, (1, 2, 3)])
def test_sizes_that_are_none_are_refused(size) -> None:
    x, w = mg.zeros(1, 1, 4, 4), mg.zeros(1, 1, 3, 3)
    for call in (
        lambda: F.conv2d(x, w, stride=size),
        lambda: F.conv2d(x, w, dilation=size),
        lambda: F.max_pool2d(x, size),
        lambda: F.avg_pool2d(x, 2, padding=size),
    ):
        with pytest.raises((ShapeError, DTypeError)):
            call()


def test_memory_that_no_machine_has_is_refused_with_its_size() -> None:
    with pytest.raises(MemoryError):
        F.conv2d(mg.zeros(1, 1, 4, 4), mg.zeros(1, 1, 3, 3), padding=2**30)
    with pytest.raises(ShapeError, match=r"\(1099511627776, 1099511627776\) are more than memory"):
        mg.zeros(1 << 40, 1 << 40)


@pytest.mark.parametrize("angle", [1e307, 1e18, 2.0**62])
def test_a_rotation_by_any_angle_stays_inside_the_image(angle) -> None:
    images = np.full((3, 5, 5, 1), 255, np.uint8)
    out = RandomRotation((-angle, angle))(images).numpy()
    assert np.isin(np.round(out * 255), range(256)).all()


@pytest.mark.parametrize("degrees", [1e308, "45", None, (1, 2, 3), (2, 1), float("nan")])
def test_angles_that_are_none_are_refused(degrees) -> None:
    with pytest.raises(ValueError, match="RandomRotation: degrees"):
        RandomRotation(degrees)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4), ">f4"),
        np.zeros((3, 4), np.float16),
        np.zeros((3, 4), object),
        np.zeros((3, 4), "S4"),
        np.zeros((3, 4), np.complex64),
    ],
    ids=lambda a: a.dtype.str,
)
def test_arrays_of_other_types_are_refused(array) -> None:
    with pytest.raises(DTypeError):
        mg.from_numpy(array)


def unusual(array: np.ndarray) -> dict[str, np.ndarray]:
    """The same numbers in memory that kernels with raw pointers must not misread."""
    misaligned = np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(np.float32)
    readonly = array.copy()
    readonly.flags.writeable = False
    return {
        "misaligned": misaligned.reshape(array.shape),
        "read-only": readonly,
        "reversed": np.ascontiguousarray(array[..., ::-1])[..., ::-1],
        "every other": np.repeat(array, 2, axis=3)[..., ::2],
        "Fortran": np.asfortranarray(array),
    }


@pytest.mark.parametrize(
    "memory", ["misaligned", "read-only", "reversed", "every other", "Fortran"]
)
def test_unusual_memory_gives_usual_results(memory) -> None:
    plain = np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)
    weight = mg.ones(4, 3, 3, 3)
    expected = F.relu(F.conv2d(mg.tensor(plain), weight)).numpy()
    out = F.relu(F.conv2d(mg.from_numpy(unusual(plain)[memory]), weight)).numpy()
    np.testing.assert_array_equal(out, expected)


def test_overlapping_memory_gives_usual_results() -> None:
    plain = np.random.default_rng(1).standard_normal(9).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(plain, 4)
    np.testing.assert_array_equal(
        mg.exp(mg.from_numpy(windows)).numpy(), mg.exp(mg.tensor(windows)).numpy()
    )
