"""Train a convolutional network on CIFAR-10.

    python examples/train_cifar10.py --network A                          # fetched if absent
    python examples/train_cifar10.py --network B --data-root my/cifar10   # what torchvision keeps,
                                                     # or a folder {train,test}/<class>/<image>.png

Network A is [conv 3×3 → ReLU] × 8 with three max pools, a global mean and a linear layer: 294,810
parameters. B has a batch normalisation after every ReLU.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

from examples.command_line import program
from examples.recipe import Recipe, train_from_command_line

_COMMON = {"optimizer": "SGD", "schedule": "one-cycle", "crop": 4, "flip": True}

RECIPES = {
    ("cifar10", "A"): Recipe(
        "cifar10",
        "A",
        epochs=30,
        batch_size=64,
        lr=0.05,
        warm_up=0.1,
        weight_decay=5e-4,
        init="he",
        **_COMMON,
    ),
    ("cifar10", "B"): Recipe(
        "cifar10", "B", epochs=30, batch_size=128, lr=0.1, weight_decay=5e-4, **_COMMON
    ),
}


@program()
def main(argv: list[str] | None = None) -> None:
    train_from_command_line(__doc__ or "", RECIPES, argv)


if __name__ == "__main__":
    main()
