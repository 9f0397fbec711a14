"""CIFAR-10 to 94 % in ten epochs: a small wide network, and every trick that makes training short.

    python examples/speedrun_cifar10.py                          # fetched if absent
    python examples/speedrun_cifar10.py --data-root my/cifar10   # what torchvision keeps, or
                                                     # a folder {train,test}/<class>/<image>.png

About 3.6·10¹⁴ floating-point operations. The recipe, with all of its numbers, is that of Jordan
2024, "94 % on CIFAR-10 in 3.29 seconds on a single GPU" (airbench94). So nothing is chosen on the
images here: all training images are trained on, and the test images are looked at once, at the end.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

import numpy as np
from tqdm import tqdm

import minigrad as mg
import minigrad.nn.functional as F
from examples import datasets, networks
from examples.command_line import add_device, plain_errors, positive, program, set_device
from examples.recipe import limited, sampled
from examples.training import Tally, alone_in, write_json
from minigrad import serialization

LOGIT_SCALE = 1 / 9
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 11.5, 0.85, 0.0153  # rate and decay: per 1,024 images
BIAS_RATE = 64  # batch norm's biases learn so much faster
LABEL_SMOOTHING = 0.2
WHITENING_BIAS_EPOCHS = 3  # from then on the first layer's bias stays
SHIFT = 2  # pixels
LOOKAHEAD_EVERY = 5  # steps


# The network ---------------------------------------------------------------------------------


def initialise(model: mg.nn.Module, images: mg.Tensor) -> None:
    """The first layer whitens patches like those of `images`; the other convolutions start by
    passing on as many channels as come in, as they are."""
    first, *others = (layer for layer in model.modules() if isinstance(layer, mg.nn.Conv2d))
    with mg.no_grad():
        first.weight.copy_(whitening_filters(images))
        first.bias.zero_()
        for layer in others:
            mg.nn.init.dirac_(layer.weight[: layer.in_channels])


def whitening_filters(images: mg.Tensor, kernel_size: int = 2, eps: float = 5e-4) -> mg.Tensor:
    """(2·K, C, kH, kW) filters, K = C·kH·kW, whose first K responses to the patches of images
    (N, C, H, W) have the identity as covariance, but for eps; the others are their negatives.

    With the patches' covariance V·diag(λ)·Vᵀ, filter i is the eigenvector v_i / √(λ_i + eps).
    """
    K = images.shape[1] * kernel_size**2
    products, count = 0.0, 0
    for part in images.double().split(500):  # the least λ is smaller than what float32 loses
        patches = F.unfold(part, kernel_size).transpose(1, 2).reshape(-1, K)  # (N·H_out·W_out, K)
        products, count = patches.T @ patches + products, count + len(patches)
    eigenvalues, eigenvectors = mg.linalg.eigh(products / count)  # ascending; a column each
    filters = (eigenvectors / (eigenvalues + eps).sqrt()).T.flip(0)
    return mg.cat([filters, -filters]).float().reshape(2 * K, -1, kernel_size, kernel_size)


def logits(model: Any, images: Any) -> Any:
    return model(images) * LOGIT_SCALE


def predictions(model: mg.nn.Module, images: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
    """The logits, and their mean over an image and its mirror image, both also moved by one pixel
    up and left, and down and right; moved ones count half."""
    H, W = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    plain = logits(model, images)
    mean = (plain + logits(model, images.flip(3))) / 4
    for moved in padded[:, :, :H, :W], padded[:, :, 2:, 2:]:
        mean = mean + (logits(model, moved) + logits(model, moved.flip(3))) / 8
    return plain, mean


# Training ------------------------------------------------------------------------------------


def batches(
    images: np.ndarray, labels: np.ndarray, size: int, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled (N, H, W, C) images and labels of an epoch, each image moved by up to SHIFT pixels
    over its own reflection; those that no longer fill a batch are left out.

    Flips alternate: half of the images are mirrored in the even epochs, the others in the odd.
    """
    mirrored = np.random.default_rng(seed).random(len(labels)) < 0.5
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(labels))
    H, W = np.ogrid[: images.shape[1], : images.shape[2]]
    for start in range(0, len(labels) - size + 1, size):
        chosen = order[start : start + size]
        flip = mirrored[chosen, None, None, None] ^ (epoch % 2 == 1)
        batch = np.where(flip, images[chosen, :, ::-1], images[chosen])
        padded = np.pad(batch, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="reflect")
        down, right = rng.integers(0, 2 * SHIFT + 1, (2, size, 1, 1))
        yield padded[np.arange(size)[:, None, None], H + down, W + right], labels[chosen]


def optimizer(model: Any, batch_size: int, optim: Any = mg.optim) -> Any:
    """Nesterov's SGD with a decay that the rate does not scale. `optim`: minigrad's or torch's.

    With a constant gradient, a step of momentum is 1 + 1 / (1 − momentum) times a plain one.
    """
    scale = 1024 * (1 + 1 / (1 - MOMENTUM))
    rate, decay = LEARNING_RATE / scale, WEIGHT_DECAY * batch_size / scale
    trained = [p for p in model.parameters() if p.requires_grad]
    norm_biases = [p for p in trained[1:] if p.ndim == 1]  # the first layer's is not batch norm's
    others = [p for p in trained if not any(p is bias for bias in norm_biases)]
    groups = [
        {"params": params, "lr": lr, "weight_decay": decay / lr}
        for params, lr in ((norm_biases, rate * BIAS_RATE), (others, rate))
    ]
    return optim.SGD(groups, lr=rate, momentum=MOMENTUM, nesterov=True)


def loss(outputs: Any, labels: Any, functional: Any = F) -> Any:
    """Summed over the batch, as the rates above expect."""
    return functional.cross_entropy(
        outputs, labels, label_smoothing=LABEL_SMOOTHING, reduction="sum"
    )


class Lookahead:
    """A slow copy of a model's state, which the model is set back to now and then.

    Source: Zhang et al. 2019, "Lookahead optimizer: k steps forward, 1 step back".
    """

    def __init__(self, model: mg.nn.Module) -> None:
        self.fast = [t.detach() for t in model.state_dict().values() if t.is_floating_point()]
        self.slow = [tensor.clone() for tensor in self.fast]

    def update(self, decay: float) -> None:
        """slow ← decay·slow + (1 − decay)·fast, then fast ← slow."""
        with mg.no_grad():
            for slow, fast in zip(self.slow, self.fast, strict=True):
                slow.lerp_(fast, 1 - decay)
                fast.copy_(slow)


def fit(
    model: mg.nn.Module, images: np.ndarray, labels: np.ndarray, size: int, epochs: float, seed: int
) -> Iterator[dict[str, float]]:
    """Train on normalised (N, H, W, C) images in batches of `size`; yields each epoch's figures."""
    steps, done = math.ceil(epochs * (len(labels) // size)), 0
    updates, slow = optimizer(model, size), Lookahead(model)
    triangle = np.interp(range(steps + 1), [0, int(0.23 * steps), steps], [0.2, 1, 0.07])
    schedule = mg.optim.lr_scheduler.LambdaLR(updates, triangle.__getitem__)
    device, start = model[0].weight.device, time.perf_counter()
    with tqdm(total=steps, unit="step", disable=None, dynamic_ncols=True) as bar:
        for epoch in range(math.ceil(epochs)):
            tally = Tally(device)
            model.train()
            model[0].bias.requires_grad = epoch < WHITENING_BIAS_EPOCHS
            drawn = batches(images, labels, size, seed, epoch)
            for batch, classes in islice(drawn, steps - done):
                done += 1
                targets = mg.from_numpy(classes).to(device)
                outputs = logits(model, as_tensor(batch, device))
                total = loss(outputs, targets)
                updates.zero_grad()
                total.backward()
                updates.step()
                schedule.step()
                if done % LOOKAHEAD_EVERY == 0:
                    slow.update(0.95**LOOKAHEAD_EVERY * (done / steps) ** 3)
                tally.add(outputs, targets, total / size)
                tally.images += size
                if bar.update():
                    bar.set_postfix(loss=f"{tally.loss:.3f}", acc=f"{tally.accuracy:.2%}")
            if done == steps:
                slow.update(1.0)
            yield {"epoch": epoch + 1, "train_loss": tally.loss, "train_accuracy": tally.accuracy,
                   "images": tally.images, "seconds": time.perf_counter() - start}  # fmt: skip


def test(model: mg.nn.Module, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy on normalised images, as the mean over the views of `predictions`, and without."""
    correct = np.zeros(2, int)
    model.eval()
    with mg.no_grad():
        for start in tqdm(range(0, len(labels), 500), "test", leave=False, disable=None):
            part = slice(start, start + 500)
            batch = as_tensor(images[part], model[0].weight.device)
            for index, outputs in enumerate(predictions(model, batch)):
                correct[index] += (outputs.cpu().numpy().argmax(1) == labels[part]).sum()
    plain, mean = (correct / len(labels)).tolist()
    return {"test_accuracy": mean, "test_accuracy_plain": plain}


def as_tensor(images: np.ndarray, device: Any) -> mg.Tensor:
    """(N, H, W, C) as (N, C, H, W)."""
    return mg.from_numpy(images).permute(0, 3, 1, 2).to(device)


@program()
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, help="folder of the data set (default: data)")
    parser.add_argument("--epochs", type=float, default=9.9, help="passes over the training images")
    parser.add_argument("--batch-size", type=positive, default=1024)
    parser.add_argument("--seed", type=int, default=0, help="of weights and order")
    parser.add_argument("--limit", type=positive, help="only so many images to train and test with")
    add_device(parser)
    parser.add_argument("--out", type=Path, help="default: runs/cifar10-speedrun-<seed>")
    arguments = parser.parse_args(argv)
    if not 0 < arguments.epochs < math.inf:
        parser.error(f"argument --epochs: must be above 0, got {arguments.epochs}")
    set_device(arguments)
    out = arguments.out or Path(f"runs/cifar10-speedrun-{arguments.seed}")
    _check_folder(out)
    with plain_errors():
        data = datasets.load("cifar10", arguments.data_root, 32)
    with alone_in(out):
        _check_folder(out)  # another run may have ended meanwhile
        run(arguments, data, out)


def _check_folder(out: Path) -> None:
    if (out / "metrics.json").exists():
        raise SystemExit(f"{out} holds a run: name another --out")


def run(arguments: argparse.Namespace, data: datasets.Data, out: Path) -> None:
    """Train, test and write what came of it."""
    seed = arguments.seed
    mg.manual_seed(seed)
    # Image folders are sorted by class.
    train = data.train.subset(np.random.default_rng(seed).permutation(len(data.train)))
    train, tested = limited(train, arguments.limit), sampled(data.test, arguments.limit)
    mean, std = (255 * np.float32(values) for values in train.statistics())
    images, test_images = (
        (part.buckets[0].images[part.buckets[0].rows] - mean) / std for part in (train, tested)
    )
    model = networks.speedrun().to(arguments.device)
    initialise(model, as_tensor(images[:5000], arguments.device))
    size = min(arguments.batch_size, len(train))
    history, diverged = [], None
    for entry in fit(model, images, train.labels, size, arguments.epochs, seed):
        history.append(entry)
        tqdm.write("  ".join(f"{name} {value:.6g}" for name, value in entry.items()))
        if not math.isfinite(entry["train_loss"]):
            diverged = f"The run diverged: the loss of epoch {len(history)} is no number."
            break
    seconds = history[-1]["seconds"]
    settings = {name: str(value) for name, value in vars(arguments).items()}
    metrics = {
        **({} if diverged else test(model, test_images, tested.labels)),
        "diverged": diverged,
        "train_images_per_second": sum(entry["images"] for entry in history) / seconds,
        "epochs": arguments.epochs,
        "seconds": seconds,
        "seed": seed,
        "settings": settings | {"images": data.source, "train_images": len(train)},
        "history": history,
    }
    serialization.save_file(model.state_dict(), out / "last.safetensors")
    write_json(metrics, out / "metrics.json")
    if diverged:
        raise SystemExit(diverged)
    print(
        f"test accuracy {metrics['test_accuracy']:.2%}, without mirror images "
        f"{metrics['test_accuracy_plain']:.2%} (images: {data.source}); "
        f"{metrics['train_images_per_second']:,.0f} training images/s; wrote {out}"
    )


if __name__ == "__main__":
    main()
