"""Optimisers against torch: whole trajectories, state dicts, errors."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch

import minigrad
from minigrad import Tensor, no_grad, optim, zeros_like
from minigrad.device import Device
from minigrad.errors import CheckpointError, DTypeError, ShapeError
from minigrad.optim import SGD, Adam, AdamW, Optimizer
from minigrad.optim.optimizer import required

STEPS = 12
SHAPES = [(5,), (3, 4), (2, 3, 3, 2), ()]

SGD_OPTIONS = [
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.01},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.02},
    {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02},
    {"lr": 0.1, "momentum": 0.8, "nesterov": True, "maximize": True},
    {"lr": 0.1, "weight_decay": 0.1, "maximize": True},
]
ADAM_OPTIONS = [
    {},
    {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3},
    {"lr": 0.05, "weight_decay": 0.1},
    {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1},
    {"lr": 0.05, "maximize": True, "amsgrad": True},
    {"lr": 0.05, "betas": (0.0, 0.5), "maximize": True, "weight_decay": 0.3},
]
FORMULAS = [
    ("Adam", {"lr": 0.05, "weight_decay": 0.1, "foreach": False, "capturable": False}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "centered": True, "maximize": True}),
    ("RMSprop", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "centered": True}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adagrad", {"weight_decay": 0.1, "maximize": True}),
    ("Adadelta", {"lr": 2.0, "rho": 0.8, "weight_decay": 0.1}),
    ("Adadelta", {"maximize": True}),
    ("Adamax", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adamax", {"betas": (0.5, 0.7), "maximize": True}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1}),
    ("NAdam", {"momentum_decay": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"maximize": True}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.1}),
    ("RAdam", {"betas": (0.5, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"maximize": True}),
    ("Rprop", {"lr": 0.1}),
    ("Rprop", {"etas": (0.4, 1.5), "step_sizes": (0.01, 0.02), "maximize": True}),
    ("ASGD", {"lr": 0.1, "t0": 4, "weight_decay": 0.1, "lambd": 0.01}),
    ("ASGD", {"alpha": 0.5, "maximize": True}),
]
CASES = [
    *(("SGD", options) for options in SGD_OPTIONS),
    *(("Adam", options) for options in ADAM_OPTIONS),
    *(("AdamW", options) for options in ADAM_OPTIONS),
]
NAMES = ["SGD", "Adam", "AdamW", *dict.fromkeys(name for name, _ in FORMULAS[1:])]
CLASSES = {name: getattr(optim, name) for name in NAMES}


def leaf(values, device="cpu"):
    return Tensor(np.array(values), Device(device), requires_grad=True)


def trajectories(name, options, dtype, device, shapes=SHAPES):
    """The parameters after each step, of minigrad and of torch in `dtype`, and in float64."""
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(shape) for shape in shapes]
    gradients = [[rng.standard_normal(shape) for shape in shapes] for _ in range(STEPS)]
    runs = []
    for library, precision in (("minigrad", dtype), ("torch", dtype), ("torch", np.float64)):
        values = [np.asarray(s, dtype).astype(precision) for s in starts]
        if library == "minigrad":
            params = [leaf(v, device) for v in values]
            optimizer = CLASSES[name](params, **options)
        else:
            params = [torch.tensor(v, requires_grad=True) for v in values]
            optimizer = getattr(torch.optim, name)(params, **{"foreach": False, **options})
        steps = []
        for step in range(STEPS):
            for i, (param, grad) in enumerate(zip(params, gradients[step], strict=True)):
                grad = np.asarray(grad, dtype).astype(precision)
                skipped = i == 1 and step in (0, 5)  # parameters without a gradient stay
                if library == "minigrad":
                    param.grad = None if skipped else Tensor(grad, Device(device))
                else:
                    param.grad = None if skipped else torch.tensor(grad)
            optimizer.step()
            steps.append(
                [np.array(p.array if library == "minigrad" else p.detach().numpy()) for p in params]
            )
        runs.append(steps)
    return runs


@pytest.fixture
def torch_keeps_numbers_in_float64():
    """As Python does: NAdam's product of momenta, ASGD's rate."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("torch_keeps_numbers_in_float64")
@pytest.mark.parametrize(("name", "options"), FORMULAS)
def test_float64_trajectory_of_a_formula_equals_torchs(name, options):
    ours, theirs, _ = trajectories(name, options, np.float64, "cpu")
    for step in range(STEPS):
        for a, b in zip(ours[step], theirs[step], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_float64_trajectory_equals_torchs(name, options, device):
    ours, theirs, _ = trajectories(name, options, np.float64, device)
    for step in range(STEPS):
        for a, b in zip(ours[step], theirs[step], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_float32_trajectory_is_as_close_to_float64_as_torchs(name, options, device):
    ours, theirs, exact = trajectories(name, options, np.float32, device)
    for step in range(STEPS):
        for a, b, c in zip(ours[step], theirs[step], exact[step], strict=True):
            assert a.dtype == np.float32
            ulp = np.spacing(np.abs(c).max().astype(np.float32))
            allowed = max(2 * np.abs(b - c).max(), 4 * (step + 1) * ulp)
            assert np.abs(a - c).max() <= allowed


@pytest.mark.parametrize(("name", "options"), CASES)
def test_large_parameters_take_the_parallel_kernels_to_the_same_result(name, options):
    ours, theirs, _ = trajectories(name, options, np.float64, "cpu", shapes=[(50_003,), (3,)])
    np.testing.assert_allclose(ours[-1][0], theirs[-1][0], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_memory_orders_of_parameter_and_gradient_do_not_matter(name):
    rng = np.random.default_rng(1)
    start, grads = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 2, 3, 4, 5))
    options = {"lr": 0.1, "momentum": 0.9} if name == "SGD" else {"lr": 0.1}
    permuted = np.ascontiguousarray(start.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)
    wide = np.zeros((2, 3, 4, 10))
    wide[..., ::2] = start
    params = [leaf(start), Tensor(permuted, requires_grad=True)]
    params.append(Tensor(wide[..., ::2], requires_grad=True))
    optimizer = CLASSES[name](params, **options)
    for grad in grads:
        params[0].grad = Tensor(np.asfortranarray(grad))
        params[1].grad = Tensor(grad)
        params[2].grad = Tensor(grad)
        optimizer.step()
    assert not np.array_equal(params[0].array, start)
    np.testing.assert_array_equal(params[0].array, params[1].array)
    np.testing.assert_array_equal(params[0].array, params[2].array)
    assert params[1].array.strides == permuted.strides
    assert not wide[..., 1::2].any(), "wrote between the elements of a slice"


def test_step_counts_as_an_in_place_change():
    param = leaf([1.0])
    before = param._version.value
    optimizer = SGD([param], lr=0.1)
    optimizer.step()
    assert param._version.value == before
    param.grad = Tensor(np.ones(1))
    optimizer.step()
    assert param._version.value == before + 1


def test_step_runs_a_closure_with_recording_and_returns_its_loss():
    from minigrad import is_grad_enabled, no_grad

    param = leaf([2.0])

    def closure():
        assert is_grad_enabled()
        param.grad = Tensor(np.ones(1))
        return 7.5

    with no_grad():
        assert SGD([param], lr=0.5).step(closure) == 7.5
    assert param.array[0] == 1.5


def test_zero_grad_forgets_or_fills():
    param, other = leaf([2.0, 3.0]), leaf([1.0])
    grad = param.grad = Tensor(np.ones(2))
    optimizer = SGD([param, other], lr=0.5)
    optimizer.zero_grad(set_to_none=False)
    assert param.grad is not None
    assert param.grad.array.tolist() == [0, 0]
    assert grad.array.tolist() == [1, 1], "another holder's gradient was overwritten"
    assert other.grad is None
    optimizer.zero_grad()
    assert param.grad is None


def test_groups_have_their_own_options():
    a, b = leaf([1.0]), leaf([1.0])
    optimizer = SGD([{"params": [a]}, {"params": b, "lr": 1.0}], lr=0.1)
    for param in (a, b):
        param.grad = Tensor(np.ones(1))
    optimizer.step()
    assert a.array[0] == pytest.approx(0.9)
    assert b.array[0] == 0.0
    assert "lr: 1.0" in repr(optimizer)


def test_a_group_keeps_keys_of_its_own_and_they_are_loaded():
    optimizer = SGD([{"params": [leaf([1.0])], "name": "backbone", "lr_scale": 0.1}], lr=0.1)
    assert optimizer.param_groups[0]["name"] == "backbone"
    other = SGD([leaf([1.0])], lr=0.5)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["lr_scale"] == other.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(("name", "options"), CASES + FORMULAS)
def test_state_dict_has_torchs_keys_and_resumes_bit_for_bit(name, options):
    rng = np.random.default_rng(2)
    grads = rng.standard_normal((6, 4, 3)).astype(np.float32)

    def run(params, optimizer, grads):
        for grad in grads:
            params[0].grad = Tensor(grad)
            optimizer.step()

    straight = [leaf(np.ones((4, 3), np.float32)), leaf(np.ones(2, np.float32))]
    optimizer = CLASSES[name](straight, **options)
    run(straight, optimizer, grads)

    first = [leaf(np.ones((4, 3), np.float32)), leaf(np.ones(2, np.float32))]
    optimizer = CLASSES[name](first, **options)
    run(first, optimizer, grads[:3])
    saved = optimizer.state_dict()
    for values in saved["state"].values():
        if "step" in values:
            values["step"] = Tensor(np.float32(values["step"]))  # as torch keeps it
    second = [leaf(first[0].array), leaf(first[1].array)]
    resumed = CLASSES[name](second, lr=99.0)
    resumed.load_state_dict(saved)
    run(first, optimizer, grads[3:])  # must not reach into the resumed optimiser's state
    run(second, resumed, grads[3:])
    np.testing.assert_array_equal(second[0].array, straight[0].array)
    np.testing.assert_array_equal(first[0].array, straight[0].array)

    param = torch.ones(4, 3, requires_grad=True)
    param.grad = torch.ones(4, 3)
    theirs = getattr(torch.optim, name)([param, torch.ones(2)], **options)
    theirs.step()
    expected = theirs.state_dict()
    assert saved["state"].keys() == expected["state"].keys()
    if expected["state"] and expected["state"][0].get("momentum_buffer", 0) is not None:
        assert saved["state"][0].keys() == expected["state"][0].keys()
    for key, value in saved["param_groups"][0].items():
        assert expected["param_groups"][0].get(key, value) == value


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: SGD([]), ValueError, "SGD: params is empty"),
        (lambda: SGD(leaf([1.0])), TypeError, "iterable of tensors"),
        (lambda: SGD([np.ones(2)]), TypeError, "Tensors only, got ndarray"),
        (lambda: SGD([Tensor(np.ones(2, np.int64))]), DTypeError, "floating tensors only"),
        (lambda: SGD([leaf([1.0])], lr=-1), ValueError, "SGD: lr must be at least 0, got -1"),
        (lambda: SGD([leaf([1.0])], lr=float("nan")), ValueError, "lr must be at least 0"),
        (lambda: SGD([leaf([1.0])], lr="fast"), DTypeError, "lr must be a number, got 'fast'"),
        (lambda: SGD([leaf([1.0])], momentum=-0.1), ValueError, "momentum must be at least 0"),
        (lambda: SGD([leaf([1.0])], nesterov=True), ValueError, "nesterov needs a momentum"),
        (
            lambda: Adam([leaf([1.0])], betas=(1.0, 0.9)),
            ValueError,
            r"betas\[0\] must be in \[0, 1",
        ),
        (lambda: Adam([leaf([1.0])], betas=0.9), ValueError, "betas must be a pair"),
        (lambda: AdamW([leaf([1.0])], eps=-1.0), ValueError, "AdamW: eps must be at least 0"),
        (lambda: optim.Adadelta([leaf([1.0])], rho=2), ValueError, r"rho must be in \[0, 1\]"),
        (lambda: optim.Rprop([leaf([1.0])], etas=(1, 2)), ValueError, "on both sides of 1"),
        (lambda: optim.NAdam([leaf([1.0])], momentum_decay=-1), ValueError, "momentum_decay must"),
        (lambda: SGD([leaf([1.0])], differentiable=True), ValueError, "not possible"),
        (lambda: SGD([leaf([1.0])], foreach=True, fused=True), ValueError, "exclude"),
        (lambda: optim.LBFGS([leaf([1.0])], line_search_fn="armijo"), ValueError, "'armijo'"),
        (lambda: optim.LBFGS([leaf([1.0])]).step(), TypeError, "needs a closure"),
        (lambda: SGD([{"lr": 0.1}]), TypeError, "key 'params'"),
    ],
)
def test_bad_arguments_are_named(build, error, match):
    with pytest.raises(error, match=match):
        build()


@pytest.mark.usefixtures("torch_keeps_numbers_in_float64")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"momentum": 0.9}),
        ("Adam", {"amsgrad": True}),
        ("AdamW", {}),
        ("RMSprop", {"momentum": 0.5, "centered": True}),
        *((name, {}) for name in NAMES[4:]),
    ],
)
def test_state_dicts_go_to_torch_and_come_back(name, options):
    """Three steps here, three in torch, three here: as nine in torch."""
    rng = np.random.default_rng(4)
    start, grads = rng.standard_normal((2, 3)), rng.standard_normal((9, 2, 3))

    def steps(optimizer, param, make, grads):
        for grad in grads:
            param.grad = make(grad.copy())
            optimizer.step()

    def converted(state_dict, kind, make):
        state = {
            index: {
                k: make(np.asarray(v).copy()) if isinstance(v, kind) else v
                for k, v in values.items()
            }
            for index, values in state_dict["state"].items()
        }
        return {"state": state, "param_groups": state_dict["param_groups"]}

    ours, theirs = leaf(start.copy()), torch.tensor(start, requires_grad=True)
    mine = CLASSES[name]([ours], **options)
    others = getattr(torch.optim, name)([theirs], **options)
    whole = torch.tensor(start, requires_grad=True)
    steps(getattr(torch.optim, name)([whole], **options), whole, torch.tensor, grads)

    steps(mine, ours, Tensor, grads[:3])
    others.load_state_dict(converted(mine.state_dict(), Tensor, torch.tensor))
    theirs.data.copy_(torch.tensor(ours.array))
    steps(others, theirs, torch.tensor, grads[3:6])
    mine.load_state_dict(converted(others.state_dict(), torch.Tensor, Tensor))
    ours.array[...] = theirs.detach().numpy()
    steps(mine, ours, Tensor, grads[6:])
    np.testing.assert_allclose(ours.array, whole.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_named_parameters_keep_their_names():
    a, b = leaf([1.0]), leaf([2.0])
    optimizer = SGD([("a", a), ("b", b)], lr=0.5)
    assert optimizer.param_groups[0]["param_names"] == ["a", "b"]
    a.grad = Tensor(np.ones(1))
    optimizer.step()
    assert a.array[0] == 0.5
    plain = SGD([a, b])
    plain.load_state_dict(optimizer.state_dict())
    assert plain.param_groups[0]["lr"] == 0.5


class Lion(Optimizer):
    """As scripts write an optimizer for torch."""

    def __init__(self, params, lr=1e-2, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if len(state) == 0:
                    state["step"] = 0
                    state["exp_avg"] = zeros_like(p)
                state["step"] += 1
                mean = state["exp_avg"]
                update = mean.clone().mul_(beta1).add_(p.grad, alpha=1 - beta1)
                p.add_(update.sign(), alpha=-group["lr"])
                mean.mul_(beta2).add_(p.grad, alpha=1 - beta2)


def test_an_optimizer_written_for_torch_steps_saves_and_resumes():
    a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    first, second = Lion([a]), Lion([b])
    for grad in ([1.0, -1.0], [0.5, 0.2]):
        a.grad = Tensor(np.array(grad))
        first.step()
    np.testing.assert_allclose(a.array, [0.98, 2.0])
    second.load_state_dict(first.state_dict())
    assert second.state[b]["step"] == 2
    np.testing.assert_array_equal(second.state[b]["exp_avg"].array, first.state[a]["exp_avg"].array)


class Free(Optimizer):
    """Options that mean something else than in this package's optimizers."""

    def __init__(self, params, **options):
        super().__init__(params, {"lr": None, "betas": (0.0, 0.9, 0.99), "buffer": [[1], 2]})

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("later", 3)


def test_options_of_ones_own_optimizer_are_kept_as_they_are():
    optimizer = Free([leaf([1.0])])
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["betas"]
    for loaded in (Free([leaf([1.0])]), copy.deepcopy(optimizer)):
        loaded.load_state_dict(saved)
        assert loaded.param_groups[0]["buffer"] == [[1], 2]
        assert loaded.param_groups[0]["later"] == 3


def test_a_required_option_is_asked_for():
    with pytest.raises(ValueError, match=r"Optimizer: a group must have the options \['lr'\]"):
        Optimizer([leaf([1.0])], {"lr": required})
    optimizer = Optimizer([{"params": leaf([1.0]), "lr": 1}], {"lr": required})
    assert optimizer.param_groups[0]["lr"] == 1


def test_a_parameter_may_appear_once_only():
    param = leaf([1.0])
    with pytest.raises(ValueError, match="more than once"):
        SGD([param, param])
    optimizer = SGD([param])
    with pytest.raises(ValueError, match="more than once"):
        optimizer.add_param_group({"params": [param]})


def test_gradients_that_do_not_fit_raise_before_any_step():
    a, b = leaf([1.0]), leaf([1.0, 2.0])
    optimizer = SGD([a, b], lr=0.1)
    a.grad, b.grad = Tensor(np.ones(1)), Tensor(np.ones(3))
    with pytest.raises(ShapeError, match=r"shape \(2,\) has a gradient of shape \(3,\)"):
        optimizer.step()
    b.grad = Tensor(np.ones(2, np.float32))
    with pytest.raises(DTypeError, match="float64 parameter has a float32 gradient"):
        optimizer.step()
    assert a.array[0] == 1.0


def test_a_state_dict_that_does_not_fit_changes_nothing():
    param = leaf([1.0, 2.0])
    param.grad = Tensor(np.ones(2))
    optimizer = Adam([param], lr=0.5)
    optimizer.step()
    saved = optimizer.state_dict()
    for other, match in (
        (Adam([leaf([1.0]), leaf([1.0])]), r"\[1\] parameters, this optimiser's have \[2\]"),
        (Adam([leaf([1.0])]), r"exp_avg of parameter 0 must have shape \(1,\), got \(2,\)"),
        (SGD([leaf([1.0, 2.0])]), "another optimiser's"),
    ):
        with pytest.raises(CheckpointError, match=match):
            other.load_state_dict(saved)
        assert other.param_groups[0]["lr"] == 1e-3
        assert not other.state
    with pytest.raises(CheckpointError, match="needs the keys"):
        optimizer.load_state_dict({"state": {}})


def test_an_optimizer_without_update_says_so():
    param = leaf([1.0])
    param.grad = Tensor(np.ones(1))
    with pytest.raises(TypeError, match="must define _update"):
        Optimizer([param], {}).step()


def test_nan_gradient_spreads_and_infinite_gradient_is_not_hidden():
    for name in set(CLASSES) - {"Rprop"}:  # it reads the sign, which NaN has none of
        param = leaf([1.0, 2.0, 3.0])
        param.grad = Tensor(np.array([np.nan, np.inf, 0.0]))
        CLASSES[name]([param], lr=0.1).step()
        assert np.isnan(param.array[0])
        assert not np.isfinite(param.array[1])
        assert np.isfinite(param.array[2])


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_parameters_that_share_memory_are_updated_one_after_the_other(name):
    """The kernel over all parameters works in parallel only where they lie apart."""
    rng = np.random.default_rng(2)
    start, grads = rng.standard_normal(70_000), rng.standard_normal((2, 70_000))

    def run(library, make):
        values = make(start.copy())
        whole, part = values.requires_grad_(), values.detach()[100:50_100].requires_grad_()
        classes = {"minigrad": CLASSES[name], "torch": getattr(torch.optim, name)}
        options = {} if library == "minigrad" else {"foreach": False}
        optimizer = classes[library]([whole, part], lr=0.1, **options)
        for grad in grads:
            whole.grad, part.grad = make(grad), make(grad[:50_000].copy())
            optimizer.step()
        return np.array(whole.detach().numpy())

    ours, theirs = run("minigrad", Tensor), run("torch", torch.from_numpy)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_parameters_of_both_dtypes_and_groups_that_come_later_take_part():
    rng = np.random.default_rng(3)
    first, second, third = (rng.standard_normal(n) for n in (40_000, 7, 5))

    def run(make, optimizer_class):
        a, b, c = make(first), make(second.astype(np.float32)), make(third)
        optimizer = optimizer_class([a, b], lr=0.1)
        for step in range(4):
            if step == 2:
                optimizer.add_param_group({"params": [c], "lr": 0.01})
            for param in (a, b, c):
                param.grad = param.detach() * (step + 1)
            optimizer.step()
        return [np.array(t.detach().numpy()) for t in (a, b, c)]

    ours = run(leaf, Adam)
    theirs = run(lambda v: torch.tensor(v, requires_grad=True), torch.optim.Adam)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        tolerance = 1e-6 if mine.dtype == np.float32 else 1e-14
        np.testing.assert_allclose(mine, other, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [*NAMES, "LBFGS"])
def test_arguments_are_torchs_by_position(name):
    ours, theirs = (
        inspect.signature(getattr(library, name)).parameters for library in (optim, torch.optim)
    )
    shared = [key for key in theirs if key in ours]
    assert set(theirs) <= set(ours)
    for key in shared:
        assert ours[key].default == theirs[key].default, key
    positional = [
        [key for key in shared if p[key].kind is p[key].POSITIONAL_OR_KEYWORD]
        for p in (ours, theirs)
    ]
    assert positional[0] == positional[1]


LBFGS_OPTIONS = [
    {"lr": 0.1},
    {"lr": 0.2, "max_iter": 7, "history_size": 3},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "max_iter": 40, "history_size": 2, "max_eval": 12},
    {"line_search_fn": "strong_wolfe", "lr": 30.0},
]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("options", LBFGS_OPTIONS)
def test_lbfgs_follows_torch_through_rosenbrocks_valley(options, sign):
    more = {"maximize": True} if sign < 0 else {}

    def run(library, make, **extra):
        x, y = make([-0.5, 1.5, 0.2]), make([[1.0], [0.3], [2.0]])
        optimizer = library.optim.LBFGS([x, y], **options, **extra)
        calls, values = 0, []

        def closure():
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            z = y.reshape(3)
            loss = ((1 - x) * (1 - x) + 5 * (z - x * x) * (z - x * x)).sum()
            loss = loss if not extra else -loss
            loss.backward()
            return loss

        for _ in range(3):
            loss = optimizer.step(closure)
            values += [float(loss) * (-1 if extra else 1), *x.tolist(), *y.reshape(3).tolist()]
        state = optimizer.state_dict()["state"][0]
        return calls, values, state

    # A loss to maximise, which only newer versions of torch can, is their loss with another sign.
    calls, values, state = run(minigrad, leaf, **more)
    their_calls, their_values, their_state = run(
        torch, lambda v: torch.tensor(v, dtype=torch.float64, requires_grad=True)
    )
    assert calls == their_calls
    np.testing.assert_allclose(values, their_values, rtol=1e-6, atol=1e-8)
    assert set(state) == set(their_state) - {"al"}
    assert state["n_iter"] == their_state["n_iter"]
    assert state["func_evals"] == their_state["func_evals"]


def test_lbfgs_takes_torchs_state():
    def step(x, optimizer):
        def closure():
            x.grad = None
            loss = (x * x * x * x + x).sum()
            loss.backward()
            return loss

        optimizer.step(closure)

    theirs = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    other = torch.optim.LBFGS([theirs], lr=0.1, max_iter=3)
    step(theirs, other)
    ours = leaf(theirs.detach().numpy().copy())
    mine = optim.LBFGS([ours], lr=0.1, max_iter=3)

    def convert(value):
        if isinstance(value, list):
            return [convert(each) for each in value]
        return Tensor(np.asarray(value).copy()) if isinstance(value, torch.Tensor) else value

    saved = other.state_dict()
    state = {key: convert(value) for key, value in saved["state"][0].items()}
    mine.load_state_dict({"state": {0: state}, "param_groups": saved["param_groups"]})
    step(theirs, other)
    step(ours, mine)
    np.testing.assert_allclose(ours.array, theirs.detach().numpy(), rtol=1e-12)


def test_state_follows_a_parameter_to_another_dtype():
    layer = minigrad.nn.Linear(2, 2)
    optimizer = optim.RMSprop(layer.parameters(), momentum=0.5)
    for _ in range(2):
        for param in layer.parameters():
            param.grad = zeros_like(param).fill_(1)
        optimizer.step()
        layer.double()
    state = optimizer.state[layer.weight]
    assert state["step"] == 2
    assert state["square_avg"].dtype == state["momentum_buffer"].dtype == np.float64


def test_lbfgs_resumes_bit_for_bit():
    def step(x, optimizer):
        def closure():
            x.grad = None
            loss = (x * x * x * x + x).sum()
            loss.backward()
            return loss

        optimizer.step(closure)

    x, y = leaf([1.0, 2.0]), leaf([1.0, 2.0])
    first, second = (optim.LBFGS([p], lr=0.1, max_iter=3) for p in (x, y))
    step(x, first)
    second.load_state_dict(first.state_dict())
    y.array[...] = x.array
    step(x, first)
    step(y, second)
    np.testing.assert_array_equal(x.array, y.array)


@pytest.mark.parametrize(
    ("kind", "args", "options", "message"),
    [
        (SGD, (), {"lrr": 0.1}, "SGD: got an unexpected keyword argument 'lrr'"),
        (SGD, (0.1, 0, 0, 0, False, True), {}, "SGD: too many positional arguments"),
        (AdamW, (), {"decoupled_weight_decay": True}, "AdamW: got an unexpected keyword"),
    ],
)
def test_a_constructor_refuses_what_its_class_does_not_list(kind, args, options, message):
    with pytest.raises(TypeError, match=message):
        kind([leaf([1.0])], *args, **options)


def test_a_constructor_shows_types_and_what_only_a_name_gives():
    parameters = inspect.signature(AdamW).parameters
    assert (parameters["weight_decay"].annotation, parameters["weight_decay"].default) == (
        "float", 1e-2
    )  # fmt: skip
    assert parameters["maximize"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "decoupled_weight_decay" not in parameters
    assert AdamW([leaf([1.0])]).param_groups[0]["decoupled_weight_decay"] is True
