"""Train a small convolutional network on handwritten digits.

    python examples/train_mnist.py                                   # embedded digits, no download
    python examples/train_mnist.py --dataset mnist --data-root data  # MNIST, fetched if absent
    python examples/train_mnist.py --dataset mixed --network variable  # 32, 48 and 64 pixel images

All networks are [conv 3×3 → ReLU → max pool] × 3 and a linear layer. `fixed` takes 28×28 images
(29,066 parameters); `variable` takes any size, since it keeps one number of each channel, its
maximum (29,029 parameters); `pyramid` is the same, but looks at the image and at its half.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

from examples.command_line import program
from examples.recipe import Recipe, train_from_command_line

_TUNED = {
    "epochs": 10, "batch_size": 32, "lr": 5e-3, "schedule": "one-cycle", "optimizer": "AdamW",
    "weight_decay": 0.05,
}  # fmt: skip
_MIXED = {**_TUNED, "label_smoothing": 0.1, "shift": 0.05}
_SMALL = {"epochs": 30, "batch_size": 32, "lr": 1e-3, "size": 28}
_RECIPES = (
    Recipe("digits", "fixed", **_SMALL),
    Recipe("digits", "variable", **_SMALL),
    Recipe("mnist", "fixed", **_TUNED),
    Recipe("mnist", "variable", **_TUNED),
    Recipe("mixed", "fixed", size=28, **_MIXED),
    Recipe("mixed", "variable", **_MIXED),
    Recipe("mixed", "variable-mean", **_MIXED),
    Recipe("mixed", "pyramid", **_MIXED),
)
RECIPES = {(recipe.dataset, recipe.network): recipe for recipe in _RECIPES}


@program()
def main(argv: list[str] | None = None) -> None:
    train_from_command_line(__doc__ or "", RECIPES, argv)


if __name__ == "__main__":
    main()
