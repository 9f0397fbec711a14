"""The training loop that the examples share: progress, checkpoints, resuming, metrics, curves.

A run lives in one folder: last.safetensors (all that is needed to go on), best.safetensors (the
weights with the best validation accuracy), metrics.json and curves.png. The data of an epoch
follows from the seed and the epoch alone, so a resumed run ends with the same bits as one that was
never interrupted. One process at a time works in a folder.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

import minigrad as mg
import minigrad.nn.functional as F
from examples.parallel import Ranks, parallel_step
from minigrad import serialization, viz
from minigrad.data import DataLoader
from minigrad.files import held_alone, written_whole

LAST = "last.safetensors"  # all that is needed to go on
LOOK_EVERY = 100  # steps, after which a loss that is no number ends the run

COLUMNS = (
    ("epoch", 5, "d"),
    ("train_loss", 10, ".4f"),
    ("train_accuracy", 14, ".2%"),
    ("val_loss", 8, ".4f"),
    ("val_accuracy", 12, ".2%"),
    ("images_per_second", 17, ",.0f"),
    ("seconds", 7, ".1f"),
)


class Tally:
    """Running loss and accuracy over images. The sums live on the device, at one address, so that
    a captured step can add to them, and reading them is left to the caller."""

    def __init__(self, device: mg.Device) -> None:
        self.images = 0
        self._sums = mg.zeros(2, dtype=mg.float64, device=device)  # losses, correct answers

    @staticmethod
    def of_batch(logits: mg.Tensor, labels: mg.Tensor, loss: mg.Tensor) -> mg.Tensor:
        """The sums of a batch, of which `loss` is the mean."""
        with mg.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            return mg.stack([loss.double() * len(labels), correct.double()])

    def add(self, logits: mg.Tensor, labels: mg.Tensor, loss: mg.Tensor) -> None:
        self.add_sums(self.of_batch(logits, labels, loss))

    def add_sums(self, sums: mg.Tensor) -> None:
        with mg.no_grad():
            self._sums.add_(sums)

    def reset(self) -> None:
        self.images = 0
        self._sums.zero_()

    @property
    def loss(self) -> float:
        return self._sums[0].item() / max(self.images, 1)

    @property
    def accuracy(self) -> float:
        return self._sums[1].item() / max(self.images, 1)


@dataclass
class Run:
    """One training run: what is trained, on what, and where its files go.

    settings: what decides how the run ends, for the record and for `resume`, which refuses others.
    Without a scheduler, a run knows no end: it may be resumed with another number of epochs.
    tensorboard: whether to write event files. data_root: the folder of the data, for the record.
    ranks: the processes that train together.
    diverged: what there is to say of a run that ended with a loss that is no number.
    """

    model: mg.nn.Module
    optimizer: mg.optim.Optimizer
    train: DataLoader
    validation: DataLoader
    test: DataLoader
    out: Path
    epochs: int
    settings: dict[str, Any]
    scheduler: Any = None  # stepped after every batch
    label_smoothing: float = 0.0
    mirror: bool = False  # each image is judged together with its mirror image
    title: str = ""
    tensorboard: bool = False
    ranks: Ranks = field(default_factory=Ranks)
    data_root: Path | None = None
    diverged: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    best_accuracy: float = -1.0
    train_seconds: float = 0.0  # of all epochs, without validation
    images_seen: int = 0
    _made: tuple[Callable[..., None], Tally] | None = None

    @property
    def last(self) -> Path:
        return self.out / LAST

    @property
    def best(self) -> Path:
        return self.out / "best.safetensors"

    def save(self) -> None:
        """Write all that a resumed run needs, in one atomic file."""
        if not self.ranks.first:
            return
        serialization.save_checkpoint(
            self.last,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            history=self.history,
            best_accuracy=self.best_accuracy,
            train_seconds=self.train_seconds,
            images_seen=self.images_seen,
            settings=self.settings,
        )

    def resume(self) -> None:
        """Go on where the folder's last checkpoint ended. Settings must be the same, all of them:
        a checkpoint of another version that lacks one could end otherwise."""
        if not self.last.exists():
            raise SystemExit(f"cannot go on: there is no checkpoint {self.last}")
        saved = serialization.load_checkpoint(self.last, generator=False)["settings"]
        changed = [
            f"{name} was {saved.get(name, 'not there')!r}, is {value!r}"
            for name, value in self.settings.items()
            if name not in saved or saved[name] != value
            if not (name == "epochs" and self.scheduler is None)
        ]
        if changed:
            raise SystemExit(f"cannot go on with {self.last}, as settings differ: "
                             + ", ".join(changed))  # fmt: skip
        extra = serialization.load_checkpoint(
            self.last, model=self.model, optimizer=self.optimizer, scheduler=self.scheduler
        )
        self.history = extra["history"]
        self.best_accuracy = extra["best_accuracy"]
        self.train_seconds = extra["train_seconds"]
        self.images_seen = extra["images_seen"]

    def try_out(self) -> None:
        """One forward pass, so that what does not fit is said before the folder is touched."""
        images, labels = next(iter(self.validation))
        self.model.eval()
        with mg.no_grad():
            F.cross_entropy(self.model(images), labels, label_smoothing=self.label_smoothing)

    def fit(self) -> bool:
        """Train the epochs that are left. False if the user interrupted the run. A run that
        diverges ends with the epoch before, and `diverged` says so."""
        with _interruptible() as interrupted, _event_files(self) as watch:
            self.out.mkdir(parents=True, exist_ok=True)
            if not self.history:
                self.save()
            print("  ".join(f"{name:>{width}}" for name, width, _ in COLUMNS))
            for entry in self.history:
                print(_row(entry))
            for epoch in range(len(self.history) + 1, self.epochs + 1):
                entry = self._epoch(epoch, interrupted)
                if self.diverged:
                    return True
                if entry is None:
                    state = f"state after epoch {epoch - 1}" if epoch > 1 else "initial state"
                    print(
                        f"Interrupted in epoch {epoch}; {self.last} holds the {state}. Add "
                        "--resume to go on from there."
                    )
                    return False
                print(_row(entry), flush=True)
                watch(entry)
            if interrupted:
                print("Interrupted after the last epoch. Add --resume to test what was trained.")
        return not interrupted

    def _step(self) -> tuple[Callable[..., None], Tally]:
        """One step of training, captured, and its tally."""
        if self._made is None:
            loader, model, optimizer = self.train, self.model, self.optimizer
            tally = Tally(loader.device)
            if not self.ranks.alone:
                self._made = parallel_step(self, tally), tally
                return self._made

            @mg.capture
            def step(samples: mg.Tensor, labels: mg.Tensor, bucket: int) -> None:
                images = loader.render(samples, bucket)
                optimizer.zero_grad()
                logits = model(images)
                loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
                loss.backward()
                optimizer.step()
                tally.add(logits, labels, loss)

            self._made = step, tally
        return self._made

    def _epoch(self, epoch: int, interrupted: list[int]) -> dict[str, Any] | None:
        self.train.set_epoch(epoch)
        self.model.train()
        start = time.perf_counter()
        step, tally = self._step()
        tally.reset()
        with _progress(f"epoch {epoch}/{self.epochs}", self.train, self.ranks) as bar:
            for number, draw in enumerate(self.train.draws(), start=1):
                stopped = self.ranks.any(bool(interrupted))
                if stopped or (number % LOOK_EVERY == 0 and self._diverges(epoch, tally)):
                    return None
                step(*draw)
                if self.scheduler is not None:
                    self.scheduler.step()
                tally.images += len(draw.labels)
                _advance(bar, len(draw.labels), tally)
        seconds = time.perf_counter() - start
        if self._diverges(epoch, tally):
            return None
        validation = evaluate(self.model, self.validation, "validation", self.ranks, self.mirror)
        if self._diverges(epoch, validation, "validation"):
            return None
        self.train_seconds += seconds
        self.images_seen += tally.images
        entry = {
            "epoch": epoch,
            "train_loss": tally.loss,
            "train_accuracy": tally.accuracy,
            "val_loss": validation.loss,
            "val_accuracy": validation.accuracy,
            "images_per_second": tally.images / seconds,
            "seconds": seconds,
        }
        self.history.append(entry)
        if validation.accuracy > self.best_accuracy:
            self.best_accuracy = validation.accuracy
            if self.ranks.first:
                serialization.save_file(self.model.state_dict(), self.best)
        self.save()
        return entry

    def _diverges(self, epoch: int, tally: Tally, kind: str = "training") -> bool:
        loss = tally.loss
        # Of processes that train together all end, whichever of them meets it.
        if self.ranks.any(not math.isfinite(loss)):
            loss = loss if not math.isfinite(loss) else math.nan
            self.diverged = (
                f"The run diverged: the {kind} loss of epoch {epoch} is {loss}; try a lower --lr."
            )
        return bool(self.diverged)

    def finish(self, tested: bool = True) -> dict[str, Any]:
        """Test the best weights once, unless the run is only a trial or no epoch has ended; write
        curves.png and, when all else is done, metrics.json."""
        figures = {}
        tested = tested and bool(self.history)
        if tested:
            self.ranks.wait()  # until the first one has written it
            self.model.load_state_dict(serialization.load_file(self.best))
            result = evaluate(self.model, self.test, "test", self.ranks, self.mirror)
            figures = {"test_accuracy": result.accuracy, "test_loss": result.loss}
        metrics = {
            **figures,
            "best_val_accuracy": self.best_accuracy if self.history else None,
            "train_images_per_second": self.images_seen / (self.train_seconds or math.inf),
            "epochs": len(self.history),
            "seconds": self.train_seconds,
            "seed": self.settings["seed"],
            "processes": self.ranks.size,
            "diverged": self.diverged or None,
            "data_root": self.data_root and str(self.data_root),
            "settings": self.settings,
            "history": self.history,
        }
        if not self.ranks.first:
            return metrics
        smoothed = f"label smoothing {self.label_smoothing:g}" if self.label_smoothing else ""
        drawn = " and curves.png" if self.history else ""
        try:
            if self.history:
                viz.plot_curves(self.history, self.out / "curves.png", self.title, smoothed)
        except ImportError as error:
            drawn = f", but not curves.png ({error})"
        write_json(metrics, self.out / "metrics.json")
        if tested:
            print(
                f"test accuracy {result.accuracy:.2%} (loss {result.loss:.4f}) with the weights of "
                f"the best epoch; {metrics['train_images_per_second']:,.0f} training images/s"
            )
        print(f"wrote checkpoints, metrics.json{drawn} to {self.out}")
        return metrics


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Within the block the folder is there, and no other process works in it."""
    out.mkdir(parents=True, exist_ok=True)
    with held_alone(out):
        yield


def write_text(text: str, path: Path) -> None:
    """The file appears whole or not at all."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(value: Any, path: Path) -> None:
    """JSON that every reader takes: it has no NaN and no infinity, which become null."""
    write_text(json.dumps(_finite(value), indent=1, allow_nan=False) + "\n", path)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def evaluate(
    model: mg.nn.Module,
    loader: DataLoader,
    name: str,
    ranks: Ranks | None = None,
    mirror: bool = False,
) -> Tally:
    """Loss and accuracy over a loader, without recording a graph. Processes share the batches, so
    every image counts once, and the figures are the same bits for any number of them. mirror: of
    the mean of the logits of an image and of its mirror image."""
    ranks = ranks or Ranks()
    tally, mine = Tally(loader.device), ranks.batches(len(loader))
    rows = mg.zeros(len(loader), 2, dtype=mg.float64, device=loader.device)
    model.eval()
    with mg.no_grad(), _progress(name, loader, ranks) as bar:
        for number, draw in enumerate(loader.draws()):
            if number in mine:
                images = loader.render(draw.samples, draw.bucket)
                logits = model(images)
                if mirror:
                    logits = (logits + model(images.flip(3))) / 2
                loss = F.cross_entropy(logits, draw.labels)
                rows[number] = Tally.of_batch(logits, draw.labels, loss)
            tally.images += len(draw.labels)
            bar.update(len(draw.labels))
    for row in ranks.added(rows):
        tally.add_sums(row)
    return tally


def _advance(bar: tqdm, images: int, tally: Tally) -> None:
    """Moves the bar; figures are read, which waits for a GPU, only when it is drawn."""
    if bar.update(images):
        bar.set_postfix({"loss": f"{tally.loss:.4f}", "acc": f"{tally.accuracy:.2%}"})


@contextmanager
def _event_files(run: Run) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes an epoch's figures for TensorBoard, if the run asks for it. Every call
    of `fit` writes a file with all epochs, whose figures replace those of earlier files."""
    if not run.tensorboard:
        yield lambda entry: None
        return
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise SystemExit(
            "--tensorboard needs tensorboardX: `pip install tensorboardX`, or minigrad's "
            "'tensorboard' extra"
        ) from None
    done = len(run.history)
    writer = SummaryWriter(str(run.out / "tensorboard"), purge_step=1, filename_suffix=f".{done}")

    def write(entry: dict[str, Any]) -> None:
        for name, *_ in COLUMNS[1:]:
            part, _, quantity = name.partition("_")
            tag = f"{quantity}/{part}" if part in ("train", "val") else f"speed/{name}"
            writer.add_scalar(tag, entry[name], entry["epoch"])

    try:
        for entry in run.history:
            write(entry)
        yield write
    finally:
        writer.close()


def _row(entry: dict[str, Any]) -> str:
    return "  ".join(f"{entry[name]:>{width}{form}}" for name, width, form in COLUMNS)


def _progress(name: str, loader: DataLoader, ranks: Ranks) -> tqdm:
    """A bar that counts images: loss, accuracy, images per second, time left."""
    return tqdm(
        total=len(loader.dataset),
        desc=name,
        unit="img",
        leave=False,
        dynamic_ncols=True,
        disable=ranks.no_bar,  # no bar where standard error is no terminal
        mininterval=0.2,
    )


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Ctrl-C fills the list instead of stopping in the middle of a step; a second one stops."""
    received: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, previous)
