"""What captured steps leave outside: gradients, optimizer state, parameters; and what reaches them.

Every case runs as it is, and captured: both must give the same numbers at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from minigrad import nn, optim
from minigrad.serialization import load_checkpoint, save_checkpoint
from minigrad.testing.oracle import TEST_DEVICE as DEVICE


class Training:
    """A layer, its optimizer, and a step between whose calls anything may happen."""

    def __init__(self, capture: bool, make: Callable[..., Any] = optim.Adam) -> None:
        mg.manual_seed(5)
        self.model = nn.Linear(3, 2).to(DEVICE)
        self.optimizer = make(self.model.parameters(), lr=0.1)
        self.wrap: Callable[..., Any] = mg.capture if capture else lambda step: step
        self.draw = np.random.default_rng(1)
        self.seen: list[Any] = []

    def batch(self) -> mg.Tensor:
        return mg.tensor(self.draw.standard_normal((2, 3)).astype("f4"), device=DEVICE)

    def loss(self, x: mg.Tensor) -> mg.Tensor:
        return (self.model(x) ** 2).mean()

    def see(self) -> None:
        """Keeps parameters and gradients of now."""
        for p in self.model.parameters():
            self.seen.append(p.detach().cpu().numpy().copy())
            self.seen.append(None if p.grad is None else p.grad.cpu().numpy().copy())


def _same(run: Callable[[Training], None], make: Callable[..., Any] = optim.Adam) -> None:
    plain, captured = Training(False, make), Training(True, make)
    for each in (plain, captured):
        mg.manual_seed(6)
        run(each)
    assert len(plain.seen) == len(captured.seen) > 0
    for index, (mine, theirs) in enumerate(zip(captured.seen, plain.seen, strict=True)):
        assert (mine is None) == (theirs is None), index
        if theirs is not None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, err_msg=str(index))


def _momentum(params: Any, lr: float) -> optim.Optimizer:
    return optim.SGD(params, lr, momentum=0.9)


# Gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_micro_batches_accumulate_across_replays(every: int, to_none: bool) -> None:
    def run(t: Training) -> None:
        backward = t.wrap(lambda x: t.loss(x).backward())
        for call in range(3 * every + 4):
            backward(t.batch())
            t.see()
            if call % every == every - 1:
                nn.utils.clip_grad_norm_(t.model.parameters(), 0.5)
                t.optimizer.step()
                t.optimizer.zero_grad(to_none)

    _same(run)


def test_gradients_are_there_after_replays_of_any_shape() -> None:
    def run(t: Training) -> None:
        def step(x: mg.Tensor) -> None:
            t.optimizer.zero_grad()
            t.loss(x).backward()

        run = t.wrap(step)
        for call in range(9):
            run(t.batch()[: 1 + call % 2])
            t.see()
            t.optimizer.step()
            if call == 7:
                t.optimizer.zero_grad()

    _same(run)


@pytest.mark.parametrize("to_none", [True, False])
def test_a_step_may_clear_gradients_at_its_end(to_none: bool) -> None:
    def run(t: Training) -> None:
        def step(x: mg.Tensor) -> None:
            t.loss(x).backward()
            t.optimizer.step()
            t.optimizer.zero_grad(to_none)

        run = t.wrap(step)
        for call in range(8):
            if call == 5:
                t.loss(t.batch()).backward()  # from elsewhere: the step accumulates onto it
            run(t.batch())
            t.see()

    _same(run)


def test_an_update_alone_is_captured() -> None:
    def run(t: Training) -> None:
        def update(x: mg.Tensor) -> None:
            nn.utils.clip_grad_value_(t.model.parameters(), 0.1)
            t.optimizer.step()

        run = t.wrap(update)
        for call in range(7):
            t.optimizer.zero_grad()
            if call != 5:
                t.loss(t.batch()).backward()
            run(t.batch())
            t.see()

    _same(run, _momentum)


def test_an_update_with_the_gradients_of_the_call_before() -> None:
    def run(t: Training) -> None:
        def step(x: mg.Tensor) -> None:
            t.optimizer.step()
            t.optimizer.zero_grad()
            t.loss(x).backward()

        run = t.wrap(step)
        for _ in range(7):
            run(t.batch())
            t.see()

    _same(run)


def test_a_gradient_kept_from_before_a_step_is_not_changed_by_it() -> None:
    t = Training(True)
    backward = t.wrap(lambda x: t.loss(x).backward())
    backward(t.batch()), backward(t.batch())
    kept = t.model.weight.grad
    values = kept.tolist()
    backward(t.batch()), backward(t.batch())
    assert kept.tolist() == values


def test_a_recording_that_fails_leaves_gradients_and_state_as_they_were() -> None:
    t = Training(True)
    fail = [False]

    def step(x: mg.Tensor) -> None:
        t.optimizer.zero_grad()
        t.loss(x).backward()
        t.optimizer.step()
        if fail[0]:
            raise KeyError("no")

    run = t.wrap(step)
    run(t.batch()), run(t.batch())
    t.see()
    fail[0] = True
    with pytest.raises(KeyError):
        run(t.batch())
    t.see()
    half = len(t.seen) // 2
    for before, after in zip(t.seen[:half], t.seen[half:], strict=True):
        np.testing.assert_array_equal(before, after)
    assert {state["step"] for state in t.optimizer.state.values()} == {2}


# State that is loaded, moved, replaced ----------------------------------------------------------


def _steps(t: Training) -> Callable[[], None]:
    def step(x: mg.Tensor) -> None:
        t.optimizer.zero_grad()
        t.loss(x).backward()
        t.optimizer.step()

    run = t.wrap(step)

    def once() -> None:
        run(t.batch())
        t.see()

    return once


@pytest.mark.parametrize("make", [optim.Adam, _momentum], ids=["Adam", "SGD"])
def test_a_checkpoint_reaches_the_recording(tmp_path, make) -> None:
    def run(t: Training) -> None:
        once = _steps(t)
        for _ in range(4):
            once()
        file = tmp_path / "c.safetensors"
        save_checkpoint(file, model=t.model, optimizer=t.optimizer)
        for _ in range(3):
            once()
        load_checkpoint(file, model=t.model, optimizer=t.optimizer)
        for _ in range(4):
            once()

    _same(run, make)


def test_a_loaded_checkpoint_needs_no_new_recording() -> None:
    t, calls = Training(True), []

    def step(x: mg.Tensor) -> None:
        calls.append(1)
        t.optimizer.zero_grad()
        t.loss(x).backward()
        t.optimizer.step()

    run = t.wrap(step)
    for _ in range(4):
        run(t.batch())
    t.optimizer.load_state_dict(t.optimizer.state_dict())
    t.model.load_state_dict(t.model.state_dict())
    run(t.batch())
    assert len(calls) == 3


@pytest.mark.parametrize("make", [optim.Adam, _momentum], ids=["Adam", "SGD"])
def test_an_optimizer_set_back_to_its_start(make) -> None:
    def run(t: Training) -> None:
        fresh = t.optimizer.state_dict()
        once = _steps(t)
        for _ in range(5):
            once()
        t.optimizer.load_state_dict(fresh)
        for _ in range(5):
            once()

    _same(run, make)


def test_options_that_need_other_state() -> None:
    def momentum(t: Training) -> None:
        once = _steps(t)
        for call in range(9):
            t.optimizer.param_groups[0]["momentum"] = 0.9 if call >= 4 else 0.0
            once()

    def amsgrad(t: Training) -> None:
        once = _steps(t)
        for call in range(9):
            t.optimizer.param_groups[0]["amsgrad"] = call >= 4
            once()

    _same(momentum, optim.SGD)
    _same(amsgrad, optim.Adam)


def test_a_model_converted_and_back() -> None:
    def run(t: Training) -> None:
        once = _steps(t)
        kept = None
        for call in range(9):
            if call == 4:
                kept = t.model.state_dict()  # the old memory lives on
                t.model.to("reference").to(DEVICE)
            once()
        assert kept is not None

    _same(run, _momentum)


def test_a_model_on_another_device_is_refused() -> None:
    t = Training(True)
    once = _steps(t)
    for _ in range(4):
        once()
    t.model.to("reference")
    with pytest.raises(mg.DeviceError, match="one device"):
        once()


def test_a_frozen_parameter_stays() -> None:
    def run(t: Training) -> None:
        once = _steps(t)
        for call in range(9):
            t.model.weight.requires_grad = call < 4
            once()

    _same(run, optim.SGD)


def test_a_parameter_added_later_is_trained() -> None:
    def run(t: Training) -> None:
        scale = mg.ones(1, device=DEVICE)
        scale.requires_grad = True
        loss = t.loss
        t.loss = lambda x: loss(x * scale)
        once = _steps(t)
        for call in range(9):
            if call == 4:
                t.optimizer.add_param_group({"params": [scale]})
            once()
            t.seen.append(scale.detach().cpu().numpy().copy())

    _same(run, optim.SGD)


# Other state ------------------------------------------------------------------------------------


def test_a_step_that_replaces_what_it_reads_is_refused() -> None:
    memory = [mg.zeros(2, device=DEVICE)]

    @mg.capture
    def step(x: mg.Tensor) -> mg.Tensor:
        memory[0] = memory[0] + x
        return memory[0]

    x = mg.ones(2, device=DEVICE)
    step(x), step(x)
    with pytest.raises(mg.GraphError, match="change them in place"):
        step(x)


def test_state_changed_in_place_goes_on() -> None:
    total = mg.zeros(2, device=DEVICE)

    @mg.capture
    def step(x: mg.Tensor) -> None:
        total.add_(x)

    for call in range(1, 6):
        step(mg.ones(2, device=DEVICE))
        assert total.tolist() == [call, call]


def test_numbers_are_written_at_places_and_where_a_mask_is_true() -> None:
    @mg.capture
    def step(x: mg.Tensor) -> mg.Tensor:
        y = x * 1
        y[0] = 7
        y[y < 0] = 0
        return y

    for call in range(1, 5):
        x = mg.tensor([1.0, -call, call], device=DEVICE)
        assert step(x).tolist() == [7, 0, call]


def test_a_tensor_replaced_outside_is_found_and_warned_of() -> None:
    scale = [mg.ones(1, device=DEVICE)]
    step = mg.capture(lambda x: x * scale[0])
    x = mg.ones(2, device=DEVICE)

    def run(value: float) -> None:
        scale[0] = mg.tensor([value], device=DEVICE)
        assert step(x).tolist() == [value, value]

    for value in range(9):
        run(float(value))
    with pytest.warns(UserWarning, match="again and again"):
        run(9.0)


def _replace_parameter(model: nn.Sequential) -> None:
    model[0].weight = nn.Parameter(mg.full((3, 3), 2.0, device=DEVICE))


def _replace_in_registry(model: nn.Sequential) -> None:
    model[0].register_parameter("bias", nn.Parameter(mg.full((3,), 3.0, device=DEVICE)))


def _replace_layer(model: nn.Sequential) -> None:
    model[2] = nn.Tanh()


def _replace_buffer(model: nn.Sequential) -> None:
    model[1].running_mean = mg.full((3,), 4.0, device=DEVICE)


def _replace_buffers_memory(model: nn.Sequential) -> None:
    model[1].running_var.data = mg.full((3,), 5.0, device=DEVICE)


def _replace_grandchild(model: nn.Sequential) -> None:
    model[3][0] = nn.Linear(3, 2, device=DEVICE)


def _remove_bias(model: nn.Sequential) -> None:
    del model[0].bias
    model[0].bias = None


def _add_hook(model: nn.Sequential) -> None:
    model[2].register_forward_hook(lambda module, args, output: output * 3)


def _change_number(model: nn.Sequential) -> None:
    model[1].eps = 1.0


def _change_forward(model: nn.Sequential) -> None:
    model[2].forward = lambda x: x * 2


def _change_class(model: nn.Sequential) -> None:
    model[2].__class__ = nn.Sigmoid


def _write_parameter(model: nn.Sequential) -> None:
    model[0]._parameters["weight"] = nn.Parameter(mg.full((3, 3), 2.0, device=DEVICE))


def _write_layer(model: nn.Sequential) -> None:
    model._modules.update({"2": nn.Tanh()})


def _delete_layer(model: nn.Sequential) -> None:
    del model[3]


def _change_mode(model: nn.Sequential) -> None:
    model[1].training = True


@pytest.mark.parametrize("by_forward", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        nn.Module.train, _change_mode, _replace_parameter, _replace_in_registry, _remove_bias,
        _replace_layer, _replace_buffer, _replace_buffers_memory, _replace_grandchild,
        _add_hook, _change_number, _change_forward, _change_class,
        _write_parameter, _write_layer, _delete_layer,
    ],
)  # fmt: skip
def test_a_module_changed_outside_is_found(
    change: Callable[[nn.Sequential], Any], by_forward: bool
) -> None:
    model = nn.Sequential(
        nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Sequential(nn.Linear(3, 2))
    )
    model = model.to(DEVICE).eval()
    tensors = *model.parameters(), *model.buffers()
    kept = [t for tensor in tensors for t in (tensor, tensor.detach())]  # what is replaced lives on
    step = mg.capture(model.forward if by_forward else model)
    x = mg.tensor(np.random.default_rng(2).standard_normal((4, 3)).astype("f4"), device=DEVICE)
    with mg.no_grad():
        for _ in range(4):
            before = step(x).cpu().numpy().copy()
        change(model)
        for _ in range(4):
            expected = model(x).cpu().numpy()
            np.testing.assert_allclose(step(x).cpu().numpy(), expected, rtol=1e-6)
    assert before.shape != expected.shape or not np.allclose(before, expected)
    del kept


def test_a_layer_that_leaves_a_dict_of_modules_is_found() -> None:
    layers = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}).to(DEVICE)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.scale = layers, nn.Parameter(mg.ones(1, device=DEVICE))

        def forward(self, x: mg.Tensor) -> mg.Tensor:
            for layer in self.layers.values():
                x = layer(x) * self.scale
            return -x if self.training else x

    net, x = Net(), mg.ones(2, 3, device=DEVICE)
    step = mg.capture(net.forward)

    def same() -> None:
        for _ in range(4):
            expected = net(x).cpu().numpy()
            np.testing.assert_allclose(step(x).cpu().numpy(), expected, rtol=1e-6)

    with mg.no_grad():
        same()
        kept = layers["b"]
        del layers["b"]
        same()
        net.eval()
        same()
        old, net.scale = net.scale, nn.Parameter(mg.full((1,), 3.0, device=DEVICE))
        same()
    del kept, old


def test_two_recordings_of_a_module_that_counts_and_keeps_do_not_drive_each_other_out() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.factor = 0, mg.full((1,), 2.0, device=DEVICE)

        def forward(self, x: mg.Tensor) -> mg.Tensor:
            self.calls += 1
            self.last = x * self.factor
            return self.last + 1

    model, x = Counting(), mg.ones(2, device=DEVICE)
    first, second = mg.capture(model), mg.capture(lambda x: model(x) * 10)
    for _ in range(9):
        assert first(x).tolist() == [3, 3]
        assert second(x).tolist() == [30, 30]
    assert model.calls == 6
    old, model.factor = model.factor, mg.full((1,), 4.0, device=DEVICE)
    for _ in range(4):
        assert first(x).tolist() == [5, 5]
        assert second(x).tolist() == [50, 50]
    assert old.tolist() == [2]


def test_a_module_set_back_is_replayed() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout()).to(DEVICE).eval()
    calls = []

    def forward(x: mg.Tensor) -> mg.Tensor:
        calls.append(1)
        return model(x)

    step = mg.capture(forward)
    with mg.no_grad():
        for _ in range(6):
            weight = model[0].weight
            model.train()
            model[0].weight = nn.Parameter(mg.zeros(3, 3, device=DEVICE))
            model[0].weight = weight
            model.eval()
            step(mg.ones(2, 3, device=DEVICE))
    assert len(calls) == 3


def test_a_scheduler_must_step_outside() -> None:
    t = Training(True)
    scheduler = optim.lr_scheduler.StepLR(t.optimizer, 1)
    step = t.wrap(lambda x: scheduler.step())
    with pytest.raises(mg.GraphError, match="captured step"):
        step(t.batch())


def test_steps_of_optimizers_without_kernels_of_their_own_are_refused() -> None:
    t = Training(True, optim.RMSprop)
    step = t.wrap(lambda x: t.optimizer.step())
    for p in t.model.parameters():
        p.grad = mg.ones_like(p)
    with pytest.raises(mg.GraphError, match="RMSprop: its steps cannot be captured"):
        step(t.batch())


def test_a_captured_step_inside_another_is_part_of_it() -> None:
    inner = mg.capture(lambda x: x * 2)
    outer = mg.capture(lambda x: inner(x) + 1)
    for value in range(6):
        x = mg.tensor([float(value)], device=DEVICE)
        assert outer(x).item() == 2 * value + 1
        assert inner(x).item() == 2 * value


def test_results_of_every_kind() -> None:
    from typing import NamedTuple

    class Pair(NamedTuple):
        a: mg.Tensor
        b: int

    step = mg.capture(lambda x: {"pair": Pair(x + 1, 3), "list": [x * 2, None], "none": None})
    for value in range(5):
        result = step(mg.tensor([float(value)], device=DEVICE))
        assert result["pair"].a.item() == value + 1
        assert result["pair"].b == 3
        assert result["list"][0].item() == 2 * value
        assert result["list"][1] is result["none"] is None


def test_results_are_outside_the_graph_at_every_call() -> None:
    w = mg.ones(2, device=DEVICE, requires_grad=True)
    step = mg.capture(lambda x: (x * w).sum())
    for _ in range(4):
        assert not step(mg.ones(2, device=DEVICE)).requires_grad


def test_recording_depends_on_whether_gradients_are_wanted() -> None:
    t = Training(True)

    def step(x: mg.Tensor) -> mg.Tensor:
        loss = t.loss(x)
        if mg.is_grad_enabled():
            loss.backward()
        return loss

    run = t.wrap(step)
    for _ in range(4):
        run(t.batch())
    t.optimizer.zero_grad()
    with mg.no_grad():
        run(t.batch())
    assert t.model.weight.grad is None


def test_replays_count_as_changes_in_place() -> None:
    t = Training(True)
    once = _steps(t)
    for _ in range(4):
        once()
    loss = t.loss(t.model(t.batch()) @ t.model.weight)
    once()
    with pytest.raises(mg.GraphError, match="changed in place"):
        loss.backward()


def test_a_last_batch_of_another_size() -> None:
    def run(t: Training) -> None:
        once = t.wrap(lambda x: F.dropout(x, 0.5))
        for _ in range(4):
            for size in (2, 2, 1):
                t.seen.append(once(t.batch()[:size]).cpu().numpy().copy())

    _same(run)
