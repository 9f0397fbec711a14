"""Captured steps do what the step does, call by call."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.testing.oracle import TEST_DEVICE as DEVICE


def _training(capture: bool, optimizer: str, steps: int = 6) -> tuple[list[float], np.ndarray]:
    """Losses and final weights of a small network with all that changes from step to step."""
    mg.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 3))
    model.to(DEVICE)
    make = {"adam": optim.Adam, "sgd": lambda p, lr: optim.SGD(p, lr, momentum=0.9)}[optimizer]
    opt = make(model.parameters(), lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(opt, step_size=2, gamma=0.5)

    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    run = mg.capture(step) if capture else step
    losses = []
    draw = np.random.default_rng(0)
    for _ in range(steps):
        x = mg.tensor(draw.standard_normal((6, 4)).astype("f4"), device=DEVICE)
        y = mg.tensor(draw.integers(0, 3, 6), device=DEVICE)
        losses.append(run(x, y).item())
        scheduler.step()
    return losses, next(iter(model.parameters())).cpu().detach().numpy()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_captured_training_gives_the_same_bits(optimizer: str) -> None:
    plain_losses, plain_weights = _training(False, optimizer)
    losses, weights = _training(True, optimizer)
    assert losses == plain_losses
    np.testing.assert_array_equal(weights, plain_weights)


def test_a_captured_step_may_change_tensors_in_place() -> None:
    def run(capture: bool) -> list[list[float]]:
        weight = mg.ones(2, 3, device=DEVICE, requires_grad=True)
        seen = mg.zeros(3, device=DEVICE)

        def step(x: mg.Tensor) -> mg.Tensor:
            weight.grad = None
            y = weight * x
            y[0] = F.relu(y[1] - 1, inplace=True) * 2
            y[:, 1:].mul_(x[:, :2])
            with mg.no_grad():
                seen.add_(y[0])
            y.sum().backward()
            return y

        call = mg.capture(step) if capture else step
        found = []
        for i in range(5):
            y = call(mg.tensor([[1.0, 2, 3], [4, 5 + i, 6]], device=DEVICE))
            found += [y.tolist(), weight.grad.tolist(), seen.tolist()]
        return found

    assert run(True) == run(False)


def test_each_shape_is_captured_by_itself() -> None:
    calls = []

    @mg.capture
    def double(x: mg.Tensor) -> mg.Tensor:
        calls.append(x.shape)
        return x * 2

    for _ in range(5):
        for n in (2, 3):
            x = mg.rand(n, device=DEVICE)
            assert double(x).tolist() == [2 * v for v in x.tolist()]
    assert calls == [(2,), (3,)] * 3


def test_without_a_tensor_the_step_just_runs() -> None:
    calls: list[int] = []
    step = mg.capture(calls.append)
    for value in range(4):
        step(value)
    assert calls == [0, 1, 2, 3]


def test_reading_a_value_inside_is_refused_and_the_stream_recovers() -> None:
    @mg.capture
    def step(x: mg.Tensor) -> float:
        return (x * 2).sum().item()

    x = mg.ones(3, device=DEVICE)
    assert [step(x), step(x)] == [6.0, 6.0]
    with pytest.raises(mg.GraphError, match="captured"):
        step(x)
    assert (x + 1).tolist() == [2.0, 2.0, 2.0]


def test_a_bad_value_in_a_replay_is_reported() -> None:
    @mg.capture
    def step(x: mg.Tensor, y: mg.Tensor) -> mg.Tensor:
        return F.cross_entropy(x, y)

    logits = mg.zeros(2, 3, device=DEVICE)
    for _ in range(4):
        step(logits, mg.tensor([0, 2], device=DEVICE)).item()
    with pytest.raises(mg.TargetError, match="is 5"):
        step(logits, mg.tensor([0, 5], device=DEVICE)).item()
    assert step(logits, mg.tensor([1, 2], device=DEVICE)).item() == pytest.approx(np.log(3))


@pytest.mark.parametrize("bad", [-0.25, 1.5, float("nan")])
def test_what_is_no_probability_in_a_replay_is_reported(bad: float) -> None:
    step = mg.capture(lambda x: F.binary_cross_entropy(x, x.detach() * 0 + 0.5))
    good = mg.tensor([0.5, 0.5], device=DEVICE)
    for _ in range(4):
        step(good).item()
    with pytest.raises(mg.TargetError, match=f"input must be from 0 to 1, got .*{bad}"):
        step(mg.tensor([0.5, bad], device=DEVICE)).item()
    assert step(good).item() == pytest.approx(np.log(2))


def test_arguments_must_be_tensors_or_hashable() -> None:
    step = mg.capture(lambda x, options: x)
    with pytest.raises(mg.DTypeError, match="hashable"):
        step(mg.ones(1, device=DEVICE), [])
    with pytest.raises(mg.GraphError, match="gradients"):
        step(mg.ones(1, device=DEVICE, requires_grad=True), None)


def test_copies_from_the_host_are_refused_and_the_next_call_records_again() -> None:
    bad = [True]

    @mg.capture
    def step(x: mg.Tensor) -> mg.Tensor:
        return x + mg.tensor([1.0, 1.0], device=DEVICE) if bad[0] else x + 1

    x = mg.zeros(2, device=DEVICE)
    step(x), step(x)
    with pytest.raises(mg.GraphError, match="copy from the host"):
        step(x)
    bad[0] = False
    assert [step(x).tolist() for _ in range(3)] == [[1, 1]] * 3


def test_equal_arguments_of_two_types_are_two_kinds() -> None:
    step = mg.capture(lambda x, k: x * 2 if k is True else x)
    x = mg.ones(1, device=DEVICE)
    assert [step(x, 1).item() for _ in range(4)] == [1.0] * 4
    assert step(x, True).item() == 2.0


def test_arguments_on_two_devices_are_refused() -> None:
    step = mg.capture(lambda x, y: x)
    with pytest.raises(mg.DeviceError, match="argument 1 on reference"):
        step(mg.ones(1, device=DEVICE), mg.ones(1, device="reference"))
