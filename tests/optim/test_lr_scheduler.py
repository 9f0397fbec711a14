"""Schedules against torch: every rate of whole schedules, exactly."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch

from minigrad import Tensor, optim
from minigrad.errors import CheckpointError
from minigrad.optim import SGD, Adam
from minigrad.optim import lr_scheduler as schedules

STEPS = 30
CASES = [
    ("StepLR", {"step_size": 4}),
    ("StepLR", {"step_size": 1, "gamma": 0.9}),
    ("MultiStepLR", {"milestones": [3, 8, 8, 20], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.93}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.7, "total_iters": 12}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": STEPS + 1}),
    ("OneCycleLR", {"max_lr": [1.0, 0.2], "epochs": 4, "steps_per_epoch": 9}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 40, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 35, "three_phase": True, "pct_start": 0.4}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 35, "cycle_momentum": False}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 35, "base_momentum": 0.7, "max_momentum": 0.8,
                    "div_factor": 10.0, "final_div_factor": 100.0, "pct_start": 0.1}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.1, "total_iters": 8}),
    ("PolynomialLR", {"total_iters": 12}),
    ("PolynomialLR", {"total_iters": 40, "power": 0.9}),
    ("CosineAnnealingWarmRestarts", {"T_0": 7}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.01}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 4}),
    ("CyclicLR", {"base_lr": [0.01, 0.02], "max_lr": 0.2, "step_size_up": 2, "step_size_down": 5,
                  "mode": "triangular2", "base_momentum": 0.6}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3, "mode": "exp_range",
                  "gamma": 0.9, "cycle_momentum": False}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3,
                  "scale_fn": lambda n: 1 / (1 + n), "scale_mode": "iterations"}),
    ("SWALR", {"swa_lr": 0.05}),
    ("SWALR", {"swa_lr": [0.5, 0.01], "anneal_epochs": 6, "anneal_strategy": "linear"}),
    ("SWALR", {"swa_lr": 0.05, "anneal_epochs": 0}),
    ("MultiplicativeLR", {"lr_lambda": lambda epoch: 1 - 0.01 * epoch}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 0.95**epoch}),
    ("LambdaLR", {"lr_lambda": [lambda epoch: 1 / (1 + epoch), lambda epoch: epoch // 5]}),
]  # fmt: skip


def module_of(library, name):
    return library.swa_utils if name == "SWALR" else library.lr_scheduler


def optimizers(kind):
    """The same optimiser of two groups, ours and torch's."""
    ours = [Tensor(np.ones(2), requires_grad=True) for _ in range(2)]
    theirs = [torch.ones(2, requires_grad=True) for _ in range(2)]
    cls = {"SGD": SGD, "Adam": Adam}[kind]
    options = {"momentum": 0.9} if kind == "SGD" else {}
    pair = []
    for make, params in ((cls, ours), (getattr(torch.optim, kind), theirs)):
        groups = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.03}]
        pair.append(make(groups, lr=0.1, **options))
    return pair


def seen(optimizer):
    return [
        [group[key] for key in ("lr", "momentum", "betas") if key in group]
        for group in optimizer.param_groups
    ]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_rate_and_momentum_equals_torchs(name, options, kind):
    ours, theirs = optimizers(kind)
    a = getattr(module_of(optim, name), name)(ours, **options)
    b = getattr(module_of(torch.optim, name), name)(theirs, **options)
    for _ in range(STEPS):
        assert seen(ours) == seen(theirs)
        assert a.get_last_lr() == b.get_last_lr() == [g["lr"] for g in ours.param_groups]
        assert a.last_epoch == b.last_epoch
        theirs.step()
        a.step()
        b.step()


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"patience": 0, "factor": 0.5, "cooldown": 2, "min_lr": [0.01, 0.0]},
        {"mode": "max", "patience": 1, "threshold": 0.2},
        {"mode": "max", "patience": 1, "threshold": 0.3, "threshold_mode": "abs"},
        {"patience": 1, "threshold": 0.3, "threshold_mode": "abs", "eps": 0.02},
    ],
)
def test_reduce_on_plateau_equals_torchs(options):
    ours, theirs = optimizers("SGD")
    a = schedules.ReduceLROnPlateau(ours, **options)
    b = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    rng = np.random.default_rng(3)
    reduced = False
    for step in range(60):
        metric = float("nan") if step == 30 else float(rng.uniform(0, 1) + 3 / (step + 1))
        a.step(metric)
        b.step(metric)
        assert seen(ours) == seen(theirs)
        assert (a.best, a.num_bad_epochs, a.cooldown_counter) == (
            b.best, b.num_bad_epochs, b.cooldown_counter,
        )  # fmt: skip
        assert a.get_last_lr() == b.get_last_lr()
        reduced |= ours.param_groups[0]["lr"] < 0.1
    assert reduced, "the case never reduced the rate"


def test_two_schedules_on_one_optimizer_combine_as_in_torch():
    ours, theirs = optimizers("SGD")
    pairs = []
    for optimizer, module in ((ours, schedules), (theirs, torch.optim.lr_scheduler)):
        warmup = module.LinearLR(optimizer, 0.2, total_iters=4)
        pairs.append((warmup, module.CosineAnnealingLR(optimizer, 12)))
    theirs.step()
    for _ in range(12):
        for ramp, decay in pairs:
            ramp.step()
            decay.step()
        assert seen(ours) == seen(theirs)


def sequence(module, optimizer):
    """A warm-up, a decay, and steps."""
    parts = [
        module.LinearLR(optimizer, 0.1, total_iters=4),
        module.CosineAnnealingLR(optimizer, 8),
        module.StepLR(optimizer, 2, 0.5),
    ]
    return module.SequentialLR(optimizer, parts, [5, 9])


def chain(module, optimizer):
    parts = [module.ConstantLR(optimizer, 0.1, 4), module.ExponentialLR(optimizer, 0.9)]
    return module.ChainedScheduler(parts)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("build", [sequence, chain])
def test_combined_schedules_equal_torchs_and_resume(build):
    ours, theirs = optimizers("SGD")
    a, b = build(schedules, ours), build(torch.optim.lr_scheduler, theirs)
    resumed, _ = optimizers("SGD")
    c = build(schedules, resumed)
    for step in range(20):
        assert seen(ours) == seen(theirs)
        assert a.get_last_lr() == b.get_last_lr()
        if step == 7:
            saved = json.loads(json.dumps([a.state_dict(), ours.state_dict()["param_groups"]]))
            c.load_state_dict(saved[0])
            resumed.load_state_dict({"state": {}, "param_groups": saved[1]})
        if step >= 7:
            assert seen(resumed) == seen(ours)
            c.step()
        a.step()
        b.step()
    with pytest.raises(CheckpointError, match="another schedule's"):
        a.load_state_dict({**a.state_dict(), "_schedulers": [{}] * 3})


def test_a_sequence_in_a_sequence_goes_through_all_of_its_parts():
    optimizer, other = (optimizers("SGD")[0] for _ in range(2))
    nested = schedules.SequentialLR(
        optimizer,
        [sequence(schedules, optimizer), schedules.ConstantLR(optimizer, 0.5, 100)],
        [12],
    )
    plain = sequence(schedules, other)
    for _ in range(11):
        nested.step()
        plain.step()
        assert seen(optimizer) == seen(other)
    nested.step()
    assert nested.get_last_lr() == [0.05, 0.015]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("StepLR", {"step_size": 3}),
        ("MultiStepLR", {"milestones": [2, 5, 5]}),
        ("ExponentialLR", {"gamma": 0.9}),
        ("ConstantLR", {"total_iters": 4}),
        ("PolynomialLR", {"total_iters": 6, "power": 2}),
        ("LinearLR", {}),
        ("CosineAnnealingLR", {"T_max": 5}),
        ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
        ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 2}),
        ("CosineAnnealingWarmRestarts", {"T_0": 3}),
    ],
)
def test_a_given_epoch_has_torchs_rates(name, options):
    ours, theirs = optimizers("SGD")
    a = getattr(schedules, name)(ours, **options)
    b = getattr(torch.optim.lr_scheduler, name)(theirs, **options)
    for epoch in (4, 1, 0, 7, 5.5 if "Warm" in name else 5, None, None, 2, None):
        a.step(epoch)
        b.step(epoch)
        np.testing.assert_allclose(a.get_last_lr(), b.get_last_lr(), rtol=1e-12)
        assert a.last_epoch == b.last_epoch


@pytest.mark.parametrize(("name", "options"), CASES)
def test_state_dict_is_json_and_continues_the_schedule(name, options):
    straight, _ = optimizers("SGD")
    a = getattr(module_of(optim, name), name)(straight, **options)
    first, _ = optimizers("SGD")
    b = getattr(module_of(optim, name), name)(first, **options)
    for _ in range(8):
        a.step()
        b.step()
    saved = json.loads(json.dumps([b.state_dict(), first.state_dict()["param_groups"]]))
    second, _ = optimizers("SGD")
    c = getattr(module_of(optim, name), name)(second, **options)
    c.load_state_dict(saved[0])
    second.load_state_dict({"state": {}, "param_groups": saved[1]})
    for _ in range(12):
        a.step()
        c.step()
        assert seen(straight) == seen(second)


def test_plateau_state_dict_continues():
    first, _ = optimizers("SGD")
    a = schedules.ReduceLROnPlateau(first, patience=3)
    for metric in (1.0, 2.0, 2.0):
        a.step(metric)
    second, _ = optimizers("SGD")
    b = schedules.ReduceLROnPlateau(second, patience=3)
    b.load_state_dict(json.loads(json.dumps(a.state_dict())))
    assert b.best == 1.0
    b.step(2.0)
    assert second.param_groups[0]["lr"] == 0.1
    b.step(2.0)
    assert second.param_groups[0]["lr"] == pytest.approx(0.01)


class WarmUp(schedules._LRScheduler):
    """As scripts write a schedule for torch: with its own step()."""

    def __init__(self, optimizer, after, epochs):
        self.after, self.epochs, self.steps = after, epochs, 0
        super().__init__(optimizer)

    def get_lr(self):
        return [base * min(1, (self.last_epoch + 1) / self.epochs) for base in self.base_lrs]

    def step(self, epoch=None):
        self.steps += 1
        if self.last_epoch + 1 >= self.epochs:
            self.after.step()
            self.last_epoch += 1
        else:
            super().step(epoch)


def test_a_schedule_written_for_torch_works():
    optimizer, _ = optimizers("SGD")
    warm_up = WarmUp(optimizer, schedules.StepLR(optimizer, 2, 0.1), 4)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        warm_up.step()
    np.testing.assert_allclose(rates, [0.025, 0.05, 0.075, 0.1, 0.1, 0.01])
    assert warm_up.steps == 7


def test_another_schedules_state_is_refused():
    optimizer, _ = optimizers("SGD")
    step = schedules.StepLR(optimizer, 3)
    cosine = schedules.CosineAnnealingLR(optimizer, 3)
    with pytest.raises(CheckpointError, match=r"another schedule's: missing \['gamma"):
        step.load_state_dict(cosine.state_dict())


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda o: schedules.StepLR(o, 0), "step_size must be at least 1, got 0"),
        (lambda o: schedules.CosineAnnealingLR(o, -1), "T_max must be at least 1, got -1"),
        (lambda o: schedules.LinearLR(o, start_factor=0), r"start_factor must be in \(0, 1\]"),
        (lambda o: schedules.LinearLR(o, end_factor=1.5), r"end_factor must be in \[0, 1\]"),
        (lambda o: schedules.LambdaLR(o, [math.sqrt]), "must have 2 values"),
        (lambda o: schedules.OneCycleLR(o, 0.1), "give total_steps"),
        (
            lambda o: schedules.OneCycleLR(o, 0.1, total_steps=0),
            "total_steps must be at least 1, got 0",
        ),
        (lambda o: schedules.OneCycleLR(o, 0.1, 9, pct_start=2.0), "pct_start must be"),
        (lambda o: schedules.OneCycleLR(o, 0.1, 9, anneal_strategy="up"), "anneal_strategy"),
        (lambda o: schedules.OneCycleLR(o, [0.1], 9), "max_lr must have 2 values"),
        (lambda o: schedules.CyclicLR(o, 0.1, 0.2, mode="sine"), "mode must be one of"),
        (lambda o: schedules.CosineAnnealingWarmRestarts(o, 0), "T_0 must be at least 1, got 0"),
        (lambda o: schedules.ConstantLR(o, 2), r"factor must be in \[0, 1\], got 2"),
        (lambda o: schedules.ChainedScheduler([]), "at least one scheduler"),
        (lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1)], [3]), "need 0 milestones"),
        (
            lambda o: schedules.SequentialLR(o, [schedules.ReduceLROnPlateau(o)], []),
            "whose steps need a metric",
        ),
        (
            lambda o: schedules.SequentialLR(o, [schedules.StepLR(optimizers("SGD")[0], 1)], []),
            "has another optimizer",
        ),
        (lambda o: optim.swa_utils.SWALR(o, 0.1, anneal_strategy="up"), "anneal_strategy"),
        (lambda o: schedules.ReduceLROnPlateau(o, factor=1.0), "factor must be below 1"),
        (lambda o: schedules.ReduceLROnPlateau(o, mode="up"), "mode must be 'min' or 'max'"),
    ],
)
def test_bad_arguments_are_named(build, match):
    optimizer, _ = optimizers("SGD")
    with pytest.raises(ValueError, match=match):
        build(optimizer)


def test_one_cycle_refuses_steps_past_its_end_and_stays_usable():
    optimizer, _ = optimizers("SGD")
    cycle = schedules.OneCycleLR(optimizer, 0.1, total_steps=3)
    for _ in range(3):
        cycle.step()
    last = seen(optimizer)
    with pytest.raises(ValueError, match="step 4 of 3"):
        cycle.step()
    assert cycle.last_epoch == 3
    assert seen(optimizer) == last


def test_a_schedule_needs_an_optimizer_and_a_formula():
    with pytest.raises(TypeError, match="optimizer must be an Optimizer, got list"):
        schedules.StepLR([], 3)
    optimizer, _ = optimizers("SGD")
    with pytest.raises(TypeError, match="must define get_lr"):
        schedules.LRScheduler(optimizer)
    with pytest.raises(KeyError, match="initial_lr"):
        schedules.StepLR(optimizers("SGD")[0], 3, last_epoch=4)


def test_last_epoch_resumes_as_in_torch():
    ours, theirs = optimizers("SGD")
    for optimizer, module in ((ours, schedules), (theirs, torch.optim.lr_scheduler)):
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler = module.MultiStepLR(optimizer, [2, 5, 6], last_epoch=4)
            scheduler.step()
    assert seen(ours) == seen(theirs)
    assert ours.param_groups[0]["lr"] == pytest.approx(0.001)


def test_a_schedule_of_ones_own_knows_who_asks_for_its_rates():
    class Warmup(schedules.LRScheduler):
        def get_lr(self):
            asked.append(self._get_lr_called_within_step)
            return [rate * min(1, (self.last_epoch + 1) / 4) for rate in self.base_lrs]

    asked = []
    schedule = Warmup(SGD([Tensor(np.ones(1), requires_grad=True)], lr=1.0))
    schedule.step()
    schedule.get_lr()
    assert asked == [True, True, False]
    assert "_get_lr_called_within_step" not in schedule.state_dict()
