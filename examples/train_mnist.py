"""Train a small convolutional network on handwritten digits.

    python examples/train_mnist.py                                   # embedded digits, no download
    python examples/train_mnist.py --dataset mnist --data-root data  # MNIST, fetched if absent
    python examples/train_mnist.py --dataset mixed --network variable  # 32, 48 and 64 pixel images

Both networks are [conv 3×3 → ReLU → max pool] × 3 and a linear layer. `fixed` takes 28×28 images
(29,066 parameters); `variable` takes any size, since it keeps one number of each channel, its
maximum (29,029 parameters).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it runs from anywhere

from examples.recipe import Recipe, train_from_command_line

_RECIPES = (
    Recipe("digits", "fixed", epochs=30, batch_size=32, lr=1e-3, size=28),
    Recipe("digits", "variable", epochs=30, batch_size=32, lr=1e-3, size=28),
    Recipe("mnist", "fixed", epochs=10, batch_size=32, lr=3e-3, schedule="one-cycle"),
    Recipe("mnist", "variable", epochs=10, batch_size=32, lr=3e-3, schedule="one-cycle"),
    Recipe("mixed", "fixed", epochs=10, batch_size=32, lr=3e-3, schedule="one-cycle", size=28),
    Recipe("mixed", "variable", epochs=10, batch_size=32, lr=3e-3, schedule="one-cycle"),
    Recipe("mixed", "variable-mean", epochs=10, batch_size=32, lr=3e-3, schedule="one-cycle"),
)
RECIPES = {(recipe.dataset, recipe.network): recipe for recipe in _RECIPES}


def main(argv: list[str] | None = None) -> None:
    train_from_command_line(__doc__ or "", RECIPES, argv)


if __name__ == "__main__":
    main()
