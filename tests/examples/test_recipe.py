"""Recipes, the command line made of them, and what a run keeps."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import minigrad as mg
from examples import datasets, networks, recipe, train_cifar10, train_mnist, training
from examples.datasets import Data
from examples.recipe import Recipe
from examples.training import Run, alone_in, evaluate
from minigrad import serialization
from minigrad.data import ArrayDataset, BucketDataset
from minigrad.errors import DataError

TINY = Recipe(
    "digits", "fixed", epochs=2, batch_size=64, lr=3e-3, schedule="one-cycle", size=28,
    label_smoothing=0.1, crop=2, flip=True, rotation=10.0, limit=128,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> Data:
    return datasets.load("digits", None)


def _weights(out: Path) -> dict[str, np.ndarray]:
    tensors = serialization.load_file(out / "last.safetensors")
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("given", [*train_mnist.RECIPES.values(), *train_cifar10.RECIPES.values()])
def test_every_recipe_makes_a_run(given: Recipe, tmp_path: Path) -> None:
    side, channels = (32, 3) if given.dataset == "cifar10" else (given.size or 28, 1)
    rng = np.random.default_rng(0)
    images = ArrayDataset(
        rng.integers(0, 256, (96, side, side, channels), np.uint8), rng.integers(0, 10, 96)
    )
    run = recipe.start(replace(given, epochs=1), Data(images, images, 32), tmp_path)
    assert run.fit()
    metrics = run.finish()
    assert 0 <= metrics["test_accuracy"] <= 1
    assert asdict(given).keys() <= metrics["settings"].keys()


def test_an_image_folder_with_other_classes_to_test_on_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels are numbered by the folders of each part."""
    monkeypatch.chdir(tmp_path)
    for part, names in (("train", ("cat", "dog", "frog")), ("test", ("dog", "frog"))):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / part / name / "0.png")
    (tmp_path / "train" / "cat" / ".DS_Store").touch()
    with pytest.raises(DataError, match="same classes, at most 10, in train and test"):
        datasets.load("cifar10", tmp_path)
    (tmp_path / "test" / "cat").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "test" / "cat" / "0.png")
    assert datasets.load("cifar10", tmp_path).source == "an image folder of .png files"


def test_the_split_is_disjoint_and_follows_the_seed(digits: Data) -> None:
    train, validation = recipe.split(replace(TINY, limit=None), digits)
    assert len(train) + len(validation) == len(digits.train)
    assert len(validation) == digits.validation
    rows = [set(part.buckets[0].rows.tolist()) for part in (train, validation)]
    assert not rows[0] & rows[1]
    again, _ = recipe.split(replace(TINY, limit=None), digits)
    other, _ = recipe.split(replace(TINY, limit=None, seed=1), digits)
    np.testing.assert_array_equal(again.buckets[0].rows, train.buckets[0].rows)
    assert (other.buckets[0].rows != train.buckets[0].rows).any()


def test_shift_moves_images_of_any_size_and_crop_wants_one_size(digits: Data) -> None:
    square = np.zeros((2, 40, 40, 1), np.uint8)
    square[:, 10:30, 10:30] = 255
    sizes = BucketDataset([([0, 1], square), ([2, 3], square[:, 5:35, 5:35])], [0, 1, 0, 1])
    settings = replace(TINY, size=None, crop=0, flip=False, rotation=0, shift=0.1)
    augmented, plain = recipe.transforms(settings, sizes, [0.0], [1.0])
    for bucket in sizes.buckets:
        still = plain(bucket.images).numpy()
        moved = [augmented(bucket.images, epoch=epoch).numpy() for epoch in range(30)]
        most = 4 if bucket.size == (40, 40) else 3
        places = [tuple(np.argwhere(each[0, 0]).min(0) - np.argwhere(still[0, 0]).min(0))
                  for each in moved]  # fmt: skip
        assert max(abs(np.ravel(places))) == most
        assert len(set(places)) > 10
        assert all(each.sum() == still.sum() for each in moved)
    with pytest.raises(ValueError, match=r"one size, got \[\(30, 30\), \(40, 40\)\]: use shift"):
        recipe.transforms(replace(settings, crop=2), sizes, [0.0], [1.0])


def test_one_cycle_spans_the_run_and_resumes_to_the_same_bits(digits: Data, tmp_path: Path) -> None:
    whole = recipe.start(TINY, digits, tmp_path / "whole")
    assert whole.fit()
    assert whole.scheduler.last_epoch == whole.scheduler.total_steps == 2 * 2
    half = recipe.start(TINY, digits, tmp_path / "half")
    half.epochs = 1
    assert half.fit()
    resumed = recipe.start(TINY, digits, tmp_path / "half")
    resumed.resume()
    assert len(resumed.history) == 1
    assert resumed.fit()
    left, right = _weights(tmp_path / "whole"), _weights(tmp_path / "half")
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_a_schedule_fixes_the_number_of_epochs(digits: Data, tmp_path: Path) -> None:
    run = recipe.start(TINY, digits, tmp_path)
    run.out.mkdir(exist_ok=True)
    run.save()
    with pytest.raises(SystemExit, match="epochs was 2, is 3"):
        recipe.start(replace(TINY, epochs=3), digits, tmp_path).resume()
    steady = replace(TINY, schedule="constant")
    run = recipe.start(steady, digits, tmp_path)
    run.save()
    recipe.start(replace(steady, epochs=3), digits, tmp_path).resume()


@pytest.mark.parametrize("mirror", [False, True])
def test_validation_is_plain_cross_entropy_on_plain_images(
    mirror: bool, digits: Data, tmp_path: Path
) -> None:
    run = recipe.start(replace(TINY, mirror=mirror), digits, tmp_path)
    tally = evaluate(run.model, run.validation, "validation", mirror=run.mirror)
    _, validation = recipe.split(TINY, digits)
    train, _ = recipe.split(TINY, digits)
    _, plain = recipe.transforms(TINY, train, *train.statistics())
    images = np.stack([validation[i][0] for i in range(len(validation))])
    with mg.no_grad():
        shown = plain(images, max_value=16)
        logits = run.model(shown).numpy().astype(np.float64)
        if mirror:
            mirrored = run.model(mg.tensor(shown.numpy()[..., ::-1].copy())).numpy()
            logits = (logits + mirrored) / 2
    logits -= logits.max(1, keepdims=True)
    chosen = logits[np.arange(len(images)), validation.labels]
    losses = np.log(np.exp(logits).sum(1)) - chosen
    assert tally.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert tally.accuracy == (logits.argmax(1) == validation.labels).mean()


def test_he_init_keeps_the_size_of_activations() -> None:
    mg.manual_seed(0)
    model = networks.build("A", channels=3)
    x = mg.randn(8, 3, 32, 32)

    def spread() -> float:
        with mg.no_grad():
            return float(model[:-3](x).numpy().std())

    before = spread()
    networks.he_init(model)
    assert before < 0.05 < 0.2 < spread() < 3


def test_command_line_changes_the_recipe(tmp_path: Path) -> None:
    train_mnist.main(
        ["--epochs", "1", "--limit", "64", "--optimizer", "SGD", "--lr", "0.05", "--no-flip",
         "--network", "variable", "--out", str(tmp_path)]
    )  # fmt: skip
    settings = json.loads((tmp_path / "metrics.json").read_text())["settings"]
    expected = train_mnist.RECIPES["digits", "variable"]
    expected = replace(expected, epochs=1, limit=64, optimizer="SGD", lr=0.05)
    assert {name: settings[name] for name in asdict(expected)} == asdict(expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epochs", "0"], "argument --epochs: must be at least 1, got 0"),
        (["--limit", "-1"], "argument --limit: must be at least 1, got -1"),
        (["--lr", "-1"], "lr must be at least 0, got -1.0"),
        (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
        (["--rotation", "-4"], "degrees must be a number"),
        (["--threads", "0"], "argument --threads: must be at least 1, got 0"),
        (["--label-smoothing", "2"], "label_smoothing must be"),
        (["--size", "32"], "linear: weight of shape (10, 576) expects 576 input features"),
        (["--network", "pyramid"], "is not for --dataset digits, which has fixed, variable"),
        (["--optimizer", "Adm"], "invalid choice: 'Adm'"),
        (["--dataset", "mnist", "--data-root", "DAMAGED"], "is a damaged gzip file"),
    ],
)
def test_bad_arguments_are_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train-images-idx3", "train-labels-idx1"):
        (tmp_path / f"{part}-ubyte.gz").write_bytes(b"\x1f\x8b and then nothing")
    given = [str(tmp_path) if a == "DAMAGED" else a for a in arguments]
    with pytest.raises(SystemExit) as ended:
        train_mnist.main([*given, "--out", str(tmp_path / "out")])
    message = capsys.readouterr().err + str(ended.value)
    assert said in message
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_mixed_set_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make it with"):
        train_mnist.main(["--dataset", "mixed", "--data-root", str(tmp_path)])


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    arguments = ["--epochs", "1", "--limit", "64", "--out", str(tmp_path)]
    train_mnist.main(arguments)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(SystemExit, match="holds a run: add --resume"):
        train_mnist.main([*arguments, "--seed", "1"])
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_two_runs_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    arguments = ["--epochs", "1", "--limit", "64", "--out", str(tmp_path / "out")]
    with alone_in(tmp_path / "out"), pytest.raises(SystemExit, match="out is in use by another"):
        train_mnist.main(arguments)
    assert not list((tmp_path / "out").iterdir())
    train_mnist.main(arguments)
    with alone_in(tmp_path / "out"), pytest.raises(SystemExit, match="out is in use by another"):
        train_mnist.main([*arguments, "--resume"])


def test_a_run_that_ended_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had not begun when this one looked, and has ended when this one gets the lock."""

    def meanwhile(self: Run) -> None:
        (tmp_path / "last.safetensors").write_text("of another run")

    monkeypatch.setattr(Run, "try_out", meanwhile)
    with pytest.raises(SystemExit, match="holds a run: add --resume"):
        train_mnist.main(["--epochs", "1", "--limit", "64", "--out", str(tmp_path)])
    assert (tmp_path / "last.safetensors").read_text() == "of another run"


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_run_that_diverges_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LOOK_EVERY", 3)
    steps = []
    original = mg.optim.SGD.step
    monkeypatch.setattr(mg.optim.SGD, "step", lambda self: (steps.append(1), original(self)))
    with pytest.raises(SystemExit, match=r"^The run diverged: the training loss of epoch 1 is nan"):
        train_mnist.main(["--lr", "1e30", "--optimizer", "SGD", "--out", str(tmp_path)])
    assert len(steps) < 30  # not to the end of the epoch
    metrics = strict((tmp_path / "metrics.json").read_text())
    assert metrics["diverged"].startswith("The run diverged")
    assert (metrics["history"], metrics["best_val_accuracy"]) == ([], None)
    assert "metrics.json to" in capsys.readouterr().out
    # What is kept is the state before.
    assert all(np.isfinite(array).all() for array in _weights(tmp_path).values())
    assert serialization.load_checkpoint(tmp_path / "last.safetensors")["history"] == []


def test_a_run_that_diverges_later_keeps_what_it_had(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recipe.start(replace(TINY, epochs=4, mirror=True), digits, tmp_path)
    evaluated = []

    def evaluate(*arguments: Any) -> Any:
        assert arguments[4] is run.mirror
        evaluated.append(arguments[2])
        tally = training.Tally(mg.Device("cpu"))
        tally.images = 1
        tally._sums.fill_(float("inf") if evaluated == ["validation"] * 2 else 1.0)
        return tally

    monkeypatch.setattr(training, "evaluate", evaluate)
    assert run.fit()
    assert run.diverged.startswith("The run diverged: the validation loss of epoch 2 is inf")
    metrics = run.finish()
    assert evaluated == ["validation", "validation", "test"]
    assert (len(metrics["history"]), metrics["test_accuracy"]) == (1, 1.0)
    strict((tmp_path / "metrics.json").read_text())
    again = recipe.start(replace(TINY, epochs=4, mirror=True), digits, tmp_path)
    again.resume()
    assert len(again.history) == 1


def test_json_has_no_nan(tmp_path: Path) -> None:
    numbers = {"a": [1.5, float("nan")], "b": (float("inf"), {"c": -float("inf")}), "d": "NaN"}
    training.write_json(numbers, tmp_path / "file")
    expected = {"a": [1.5, None], "b": [None, {"c": None}], "d": "NaN"}
    assert strict((tmp_path / "file").read_text()) == expected


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """As little room as a limit on the size of files leaves: the first checkpoint fits, the next,
    which has the optimizer's state, does not."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(SystemExit) as ended:
            train_mnist.main(["--epochs", "1", "--limit", "64", "--out", str(tmp_path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = str(ended.value.code)
    assert message.count("\n") == 0
    assert str(tmp_path / "last.safetensors") in message
    assert "File too large" in message
    assert {file.name for file in tmp_path.iterdir()} == {"last.safetensors", "best.safetensors"}
    assert serialization.load_checkpoint(tmp_path / "last.safetensors")["history"] == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, said in (("file", "File exists"), ("file/out", "Not a directory")):
        with pytest.raises(SystemExit, match=f"^{tmp_path}/file.*: {said}$"):
            train_mnist.main(["--epochs", "1", "--limit", "64", "--out", str(tmp_path / out)])


def test_ctrl_c_before_training_ends_with_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any) -> Data:
        signal.raise_signal(signal.SIGINT)
        return datasets.load("digits", None)

    with monkeypatch.context() as patch:
        patch.setattr(recipe.datasets, "load", interrupted)
        with pytest.raises(SystemExit) as ended:
            train_mnist.main(["--out", str(tmp_path / "out")])
    assert ended.value.code == 130
    assert "Interrupted." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_limit_is_one_of_all_parts(
    digits: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = np.argsort(digits.test.labels, kind="stable")
    by_class = replace(digits, test=digits.test.subset(order))
    run = recipe.start(replace(TINY, limit=30), by_class, tmp_path)
    assert [len(part.dataset) for part in (run.train, run.validation, run.test)] == [30] * 3
    assert set(run.test.dataset.labels.tolist()) == set(range(10))
    whole = recipe.start(replace(TINY, limit=10_000), digits, tmp_path)
    assert len(whole.test.dataset) == len(digits.test)
    threads = mg.get_num_threads()
    try:
        train_mnist.main(
            ["--epochs", "1", "--limit", "1", "--threads", "1", "--out", str(tmp_path / "one")]
        )
    finally:
        mg.set_num_threads(threads)
    said = capsys.readouterr().out
    assert "; 1 training, 1 validation and 1 test image; 1 thread\n" in said


def test_without_matplotlib_there_are_no_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    train_mnist.main(["--epochs", "1", "--limit", "64", "--out", str(tmp_path)])
    assert "metrics.json, but not curves.png (plots need matplotlib" in capsys.readouterr().out
    assert not (tmp_path / "curves.png").exists()
    assert json.loads((tmp_path / "metrics.json").read_text())["test_accuracy"] >= 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["--network", "variable"], "network was 'fixed', is 'variable'"),
        (["--optimizer", "SGD"], "optimizer was 'Adam', is 'SGD'"),
    ],
)
def test_resuming_with_other_settings_names_them(
    changes: list[str], said: str, tmp_path: Path
) -> None:
    arguments = ["--epochs", "1", "--limit", "64", "--out", str(tmp_path)]
    train_mnist.main(arguments)
    with pytest.raises(SystemExit, match=said):
        train_mnist.main([*arguments, "--resume", *changes])


def test_ctrl_c_in_the_last_validation_is_heard(
    digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recipe.start(replace(TINY, epochs=1), digits, tmp_path)

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return evaluate(*arguments)

    monkeypatch.setattr(training, "evaluate", interrupted)
    assert not run.fit()
    assert len(run.history) == 1
    monkeypatch.undo()
    again = recipe.start(replace(TINY, epochs=1), digits, tmp_path)
    again.resume()
    assert again.fit()
    assert again.history == run.history


def test_every_setting_of_a_recipe_counts(digits: Data, tmp_path: Path) -> None:
    """Where it goes: optimizer, schedule, weights, loss."""
    plain = replace(TINY, optimizer="SGD", schedule="constant", crop=0, flip=False, rotation=0.0,
                    label_smoothing=0.0)  # fmt: skip

    def started(**changes: Any) -> Run:
        return recipe.start(replace(plain, **changes), digits, tmp_path)

    group = started(momentum=0.7, weight_decay=0.02, lr=0.3).optimizer.param_groups[0]
    assert (group["momentum"], group["weight_decay"], group["lr"]) == (0.7, 0.02, 0.3)
    for name in recipe.OPTIMIZERS:
        assert type(started(optimizer=name).optimizer).__name__ == name

    def rates(schedule: str, warm_up: float) -> list[float]:
        run = started(schedule=schedule, warm_up=warm_up, epochs=10)
        found = []
        for _ in range(20):
            found.append(run.optimizer.param_groups[0]["lr"])
            run.scheduler.step()
        return found

    assert started().scheduler is None
    assert np.argmax(rates("one-cycle", 0.5)) == 9
    assert np.argmax(rates("one-cycle", 0.2)) == 3
    falling = rates("cosine", 0.5)
    np.testing.assert_allclose(
        falling, TINY.lr * (1 + np.cos(np.pi * np.arange(20) / 20)) / 2, rtol=1e-5
    )

    usual = started().model[0].weight.detach().numpy()
    he = started(init="he").model[0].weight.detach().numpy()
    assert np.abs(usual).max() <= 1 / 3 < np.abs(he).max()  # torch's: up to 1/sqrt(fan_in)
    assert he.std() == pytest.approx(np.sqrt(2 / 9), rel=0.2)

    def first_loss(smoothing: float) -> float:
        run = started(label_smoothing=smoothing, lr=0.0, limit=64)
        step, tally = run._step()
        for draw in run.train.draws():
            step(*draw)
            tally.images += len(draw.labels)
        return tally.loss

    # With smoothing s the loss is (1 − s) · CE + s · the mean of −log p over the classes.
    run = started(limit=64, lr=0.0)
    images, labels = next(iter(run.train))
    with mg.no_grad():
        log_p = run.model(images).log_softmax(1).numpy()
    hard = -log_p[np.arange(64), labels.numpy()].mean()
    assert first_loss(0.0) == pytest.approx(hard, rel=1e-5)
    assert first_loss(0.5) == pytest.approx((hard - log_p.mean()) / 2, rel=1e-5)
    assert abs(hard + log_p.mean()) > 1e-3


def test_what_comes_in_at_the_border_is_the_mean_colour() -> None:
    images = ArrayDataset(np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1])
    settings = replace(TINY, dataset="cifar10", size=None, crop=4, flip=False, rotation=0.0)
    mean = [0.2, 0.4, 0.6]
    augmented, _ = recipe.transforms(settings, images, mean, [1.0] * 3)
    out = augmented(images.buckets[0].images).numpy() + np.reshape(mean, (3, 1, 1))
    for c, value in enumerate((51, 102, 153)):
        np.testing.assert_allclose(
            np.unique(out[:, c].round(4)), [0, round(value / 255, 4)], atol=1e-4
        )


def test_tensorboard_events_hold_every_epoch(tmp_path: Path) -> None:
    out = ["--epochs", "1", "--limit", "64", "--out", str(tmp_path), "--tensorboard"]
    train_mnist.main(out)
    train_mnist.main([*out, "--epochs", "2", "--resume"])
    history = json.loads((tmp_path / "metrics.json").read_text())["history"]
    found = _scalars(tmp_path / "tensorboard")
    assert {step for _, step in found} == {1, 2}
    for entry in history:
        assert found["accuracy/val", entry["epoch"]] == pytest.approx(entry["val_accuracy"])
        assert found["loss/train", entry["epoch"]] == pytest.approx(entry["train_loss"])


def test_tensorboard_that_is_not_installed_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(SystemExit, match="pip install tensorboardX"):
        train_mnist.main(["--limit", "64", "--out", str(tmp_path), "--tensorboard"])


def _scalars(folder: Path) -> dict[tuple[str, int], float]:
    """What the event files say: records of (length, CRC of it, message, CRC of it)."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for file in sorted(folder.glob("events*")):
        content = file.read_bytes()
        at = 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    return found
