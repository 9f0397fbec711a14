"""Train a small convolutional network on handwritten digits.

    python examples/train_mnist.py                                   # embedded digits, no download
    python examples/train_mnist.py --dataset mnist --data-root data  # MNIST, fetched if absent

The network is [conv 3×3 → ReLU → max pool] × 3 and a linear layer: 29,066 parameters.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

import minigrad as mg
from examples import networks
from examples.training import Run
from minigrad.data import (
    ArrayDataset,
    Compose,
    DataLoader,
    Normalize,
    RandomRotation,
    Resize,
    load_digits,
    load_mnist,
    random_split,
)

# dataset: epochs, batch size, learning rate, images kept for validation
DEFAULTS = {"digits": (30, 32, 1e-3, 297), "mnist": (10, 16, 1e-4, 10_000)}


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", choices=sorted(DEFAULTS), default="digits")
    parser.add_argument("--data-root", type=Path, help="folder with MNIST/raw (default: data)")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--lr", type=float, help="learning rate of Adam")
    parser.add_argument("--rotation", type=float, default=0.0, help="augment by up to ± degrees")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--out", type=Path, help="default: runs/<dataset>")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    arguments = parser.parse_args(argv)
    epochs, batch_size, lr, _ = DEFAULTS[arguments.dataset]
    arguments.epochs = arguments.epochs or epochs
    arguments.batch_size = arguments.batch_size or batch_size
    arguments.lr = arguments.lr or lr
    arguments.out = arguments.out or Path("runs") / arguments.dataset
    return arguments


def load(dataset: str, root: Path | None) -> tuple[ArrayDataset, ArrayDataset]:
    """(training images, test images); the digits' test set is every fifth image."""
    if dataset == "digits":
        digits = load_digits()
        indices = range(len(digits))
        return (
            digits.subset([i for i in indices if i % 5]),
            digits.subset([i for i in indices if not i % 5]),
        )
    root = root or Path("data")
    try:
        return load_mnist(root, train=True), load_mnist(root, train=False)
    except FileNotFoundError as missing:
        download(root, missing)
        return load_mnist(root, train=True), load_mnist(root, train=False)


def download(root: Path, missing: FileNotFoundError) -> None:
    """Let torchvision fetch MNIST, or end with a sentence that says what to do."""
    try:
        from torchvision.datasets import MNIST

        MNIST(str(root), download=True)
    except ImportError:
        raise SystemExit(
            f"MNIST is not in {root}: give its folder with --data-root, or "
            "`pip install torch torchvision`, with which it is downloaded"
        ) from missing
    except (OSError, RuntimeError) as error:
        raise SystemExit(
            f"MNIST is not in {root} and torchvision could not download it "
            f"({str(error).splitlines()[0].rstrip(':')}); give its folder with --data-root"
        ) from missing


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    if arguments.device == "cuda" and (reason := mg.cuda.why_unavailable()):
        raise SystemExit(f"--device cuda: {reason}")
    if arguments.threads:
        mg.set_num_threads(arguments.threads)
    mg.manual_seed(arguments.seed)

    everything, test = load(arguments.dataset, arguments.data_root)
    held_out = DEFAULTS[arguments.dataset][3]
    train, validation = random_split(
        everything, [len(everything) - held_out, held_out], seed=arguments.seed
    )
    mean, std = train.statistics()
    plain = Compose([Resize(28), Normalize(mean, std)])
    augmented = plain
    if arguments.rotation:
        augmented = Compose([Resize(28), RandomRotation(arguments.rotation), Normalize(mean, std)])

    device = arguments.device
    model = networks.mnist_fixed().to(device)
    run = Run(
        model=model,
        optimizer=mg.optim.Adam(model.parameters(), lr=arguments.lr),
        train=DataLoader(
            train,
            arguments.batch_size,
            shuffle=True,
            seed=arguments.seed,
            transform=augmented,
            device=device,
        ),
        validation=DataLoader(validation, 500, transform=plain, device=device),
        out=arguments.out,
        epochs=arguments.epochs,
        settings={
            "dataset": arguments.dataset,
            "network": "MNIST fixed",
            "parameters": sum(p.numel() for p in model.parameters()),
            "optimizer": "Adam",
            "lr": arguments.lr,
            "batch_size": arguments.batch_size,
            "epochs": arguments.epochs,
            "rotation": arguments.rotation,
            "seed": arguments.seed,
        },
        title=f"{arguments.dataset}, {arguments.epochs} epochs, seed {arguments.seed}",
    )
    print(
        f"{arguments.dataset}: {len(train):,} training, {len(validation):,} validation and "
        f"{len(test):,} test images; {run.settings['parameters']:,} parameters; "
        + (f"{mg.get_num_threads()} threads" if device == "cpu" else mg.cuda.get_device_name())
    )
    if arguments.resume:
        run.resume()
    if run.fit():
        run.finish(DataLoader(test, 500, transform=plain, device=device))


if __name__ == "__main__":
    main()
