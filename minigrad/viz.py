"""Pictures of a training run. Needs matplotlib (the `examples` extra)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_curves(history: Sequence[Mapping[str, float]], path: str | Path, title: str = "") -> None:
    """Loss and accuracy of every epoch, training beside validation, as a PNG.

    history: one mapping an epoch with the keys epoch, train_loss, train_accuracy, val_loss and
    val_accuracy (accuracies between 0 and 1).
    """
    plt = _pyplot()
    epochs = [entry["epoch"] for entry in history]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    panels = (("loss", "cross-entropy", 1.0), ("accuracy", "accuracy (%)", 100.0))
    for axis, (quantity, label, scale) in zip(axes, panels, strict=True):
        for prefix, name, color in (("train", "training", "C0"), ("val", "validation", "C1")):
            values = [scale * entry[f"{prefix}_{quantity}"] for entry in history]
            axis.plot(epochs, values, marker="o", markersize=3.5, color=color, label=name)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].legend(loc="lower right", frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(
            "plots need matplotlib: pip install matplotlib, or minigrad's 'examples' extra"
        ) from None
    return plt
