"""Plots: pictures of a training run and of what a network computes. Needs matplotlib (the
`examples` extra)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .files import written_whole

_DPI = 128  # a power of two: sizes in pixels stay exact when given in inches
_GAP = 4  # pixels between channels


def plot_curves(
    history: Sequence[Mapping[str, float]],
    path: str | Path,
    title: str = "",
    train_loss: str = "",
) -> None:
    """Loss and accuracy of every epoch, training beside validation, as a PNG.

    history: one mapping an epoch with the keys epoch, train_loss, train_accuracy, val_loss and
    val_accuracy (accuracies between 0 and 1). train_loss: what sets the training loss apart from
    the validation loss, for the legend.
    """
    figure = _figure(figsize=(9, 3.4), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    axes = figure.subplots(1, 2)
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
    if train_loss:
        axes[0].get_lines()[0].set_label(f"training, {train_loss}")
        axes[0].legend(loc="upper right", frameon=False)
    if title:
        figure.suptitle(title, fontsize=11)
    _save(figure, path, 130)


def plot_channels(
    panels: Mapping[str, np.ndarray],
    path: str | Path,
    title: str = "",
    label: str = "",
    image: np.ndarray | None = None,
    power: float = 1.0,
) -> None:
    """Arrays (C, H, W), channel by channel: a grid for each, side by side on one colour scale.

    panels: the arrays by caption. label: what the colours stand for. image: (H, W, 3) or (H, W, 1)
    uint8, shown before them. Values from 0 up run from dark to bright; if there are negative ones,
    they are blue, positive ones red, and 0 is white. power: below 1, small values from 0 up are
    told apart better: colours follow value ** power.
    """
    side = 656 if len(panels) == 1 else 528
    mosaics = {name: _mosaic(maps, side) for name, maps in panels.items()}
    height = max(len(mosaic) for mosaic, _ in mosaics.values())
    shown = None if image is None else _enlarged(image, 192)
    width = 20 + sum(mosaic.shape[1] + 90 for mosaic, _ in mosaics.values()) + 120
    if shown is not None:
        width += shown.shape[1] + 20
        height = max(height, shown.shape[0])
    page = _Page(width, height + 100, title)
    left, top = 20, 82
    if shown is not None:
        page.picture(left, top, shown, "input", cmap="gray")
        left += shown.shape[1] + 20
    scale = _scale(panels.values(), power)
    for name, (mosaic, columns) in mosaics.items():
        left += 70
        axes, drawn = page.picture(left, top, mosaic, name, **scale)
        _label_rows(axes, columns, len(panels[name]), len(mosaic))
        page.text(left - 8, top - 14, "channels", fontsize=8, ha="right", color="0.4")
        left += mosaic.shape[1] + 20
    bar_height = min(height, 400)
    bar = page.figure.colorbar(drawn, cax=page.axes(left, top, 18, bar_height))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2)
    bar.set_label(label, fontsize=9)
    page.save(path)


def plot_layers(
    layers: Mapping[str, np.ndarray],
    path: str | Path,
    title: str = "",
    image: np.ndarray | None = None,
    channels: int = 16,
) -> None:
    """A row for each layer: the first channels of its (C, H, W) array, and its colour scale.

    The colours are those of `plot_channels`; each row has its own scale, which is written behind
    it. image: (H, W, 3) or (H, W, 1) uint8, shown above.
    """
    cell, row_height, margin = 64, 64 + 12, 150
    shown = None if image is None else _enlarged(image, 128)
    above = 60 + (0 if shown is None else shown.shape[0] + 30)
    rows = {name: maps[:channels] for name, maps in layers.items()}
    mosaics = {
        name: _tiles(maps, max(cell // max(maps.shape[1:]), 1), len(maps))
        for name, maps in rows.items()
    }
    wide = max(mosaic.shape[1] for mosaic in mosaics.values())
    tall = max(row_height, *(len(mosaic) + 12 for mosaic in mosaics.values()))
    page = _Page(margin + wide + 150, above + tall * len(layers) + 10, title)
    if shown is not None:
        page.picture(margin, 60, shown, "", cmap="gray")
        page.text(margin - 14, 60 + shown.shape[0] / 2, "input", ha="right")
    for position, (name, mosaic) in enumerate(mosaics.items()):
        C, H, W = layers[name].shape
        scale, top = _scale([rows[name]]), above + position * tall
        page.picture(margin, top, mosaic, "", **scale)
        middle = top + len(mosaic) / 2
        page.text(margin - 14, middle, f"{name}\n{C} × {H}×{W}", ha="right")
        page.text(
            margin + wide + 14,
            middle,
            f"{scale['norm'].vmin:.2g} … {scale['norm'].vmax:.2g}",
            color="0.4",
        )
    page.save(path)


def plot_bars(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], path: str | Path, title: str = ""
) -> None:
    """Horizontal bars: a panel for each quantity, a group for each category.

    panels: {quantity: {series: {category: value}}}. All panels have the categories of all series,
    in their order; a series may lack some.
    """
    series = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    categories = merged([list(values) for panel in panels.values() for values in panel.values()])
    figure = _figure(
        figsize=(1.4 + 3.8 * len(panels), 1.3 + 0.14 * (len(series) + 0.6) * len(categories)),
        layout="constrained",
    )
    thickness = 0.8 / len(series)
    all_axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (quantity, values) in zip(all_axes, panels.items(), strict=True):
        for number, name in enumerate(series):
            found = [(i, values[name][c]) for i, c in enumerate(categories) if c in values[name]]
            places = [i + (number - (len(series) - 1) / 2) * thickness for i, _ in found]
            axes.barh(places, [v for _, v in found], thickness, color=f"C{number}", label=name)
        axes.set_title(quantity, fontsize=10, loc="left")
        axes.set_yticks(range(len(categories)), categories, fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
    all_axes[0].set_ylim(len(categories) - 0.4, -0.6)  # the first layer on top
    all_axes[-1].legend(frameon=False, loc="best")
    if title:
        figure.suptitle(title, fontsize=11)
    _save(figure, path)


def merged(sequences: Sequence[Sequence[str]]) -> list[str]:
    """The names of all sequences once, each in the order of those that have it."""
    names: list[str] = []
    for sequence in sequences:
        position = 0
        for name in sequence:
            if name not in names:
                names.insert(position, name)
            position = names.index(name) + 1
    return names


# Pages laid out in pixels, so that all values of an array are squares of one size -------------


class _Page:
    """A figure whose parts are placed in pixels from its upper left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width = max(width, 40 + 11 * len(title))  # about 11 pixels a letter of the title
        self.height = height
        self.figure = _figure(figsize=(self.width / _DPI, height / _DPI), dpi=_DPI)
        self.text(20, 24, title, fontsize=11)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        bottom = self.height - top - height
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def picture(
        self, left: float, top: float, pixels: np.ndarray, caption: str, **options: Any
    ) -> tuple[Any, Any]:
        axes = self.axes(left, top, pixels.shape[1], pixels.shape[0])
        drawn = axes.imshow(pixels, aspect="auto", interpolation="nearest", **options)
        axes.set_title(caption, fontsize=10, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        return axes, drawn

    def text(self, left: float, top: float, text: str, **options: Any) -> None:
        options = {"fontsize": 9, "va": "center", **options}
        self.figure.text(left / self.width, 1 - top / self.height, text, **options)

    def save(self, path: str | Path) -> None:
        _save(self.figure, path)


def _mosaic(maps: np.ndarray, side: int) -> tuple[np.ndarray, int]:
    """Channels as a grid about `side` pixels wide, about as many columns as rows; its columns."""
    C, H, W = maps.shape
    columns = 1
    while columns * columns < C:
        columns *= 2
    columns = min(columns, C)
    zoom = max((side // columns - _GAP) // max(H, W), 1)
    return _tiles(maps, zoom, columns), columns


def _tiles(maps: np.ndarray, zoom: int, columns: int) -> np.ndarray:
    """Channels in rows of `columns`, a value as zoom × zoom pixels, NaN (not drawn) between."""
    C, H, W = maps.shape
    rows = -(-C // columns)
    tall, wide = H * zoom + _GAP, W * zoom + _GAP
    tiles = np.full((rows * columns, tall, wide), np.nan)
    tiles[:C, : tall - _GAP, : wide - _GAP] = maps.repeat(zoom, 1).repeat(zoom, 2)
    grid = tiles.reshape(rows, columns, tall, wide).swapaxes(1, 2)
    return grid.reshape(rows * tall, columns * wide)[:-_GAP, :-_GAP]


def _enlarged(image: np.ndarray, side: int) -> np.ndarray:
    """The pixels of an image as squares, so that it is about `side` wide."""
    zoom = max(side // max(image.shape[:2]), 1)
    return image.repeat(zoom, 0).repeat(zoom, 1)


def _scale(arrays: Iterable[np.ndarray], power: float = 1.0) -> dict[str, Any]:
    """Colour map and limits that suit all of the arrays."""
    from matplotlib.colors import Normalize, PowerNorm

    arrays = list(arrays)
    low, high = min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays)
    if low < 0:
        limit = max(-low, high)
        return {"cmap": "RdBu_r", "norm": Normalize(-limit, limit)}
    return {"cmap": "magma", "norm": PowerNorm(power, 0, high or 1)}


def _label_rows(axes: Any, columns: int, channels: int, height: int) -> None:
    """Which channels each row of a grid has."""
    rows = -(-channels // columns)
    pitch = (height + _GAP) / rows
    last = [min(row * columns + columns, channels) - 1 for row in range(rows)]
    names = [f"{row * columns}–{end}" if columns > 1 else f"{end}" for row, end in enumerate(last)]
    places = [(row + 0.5) * pitch - _GAP / 2 for row in range(rows)]
    axes.set_yticks(places, names, fontsize=8)
    axes.tick_params(axis="y", length=0)


def _figure(**options: Any) -> Any:
    """A figure of its own, without pyplot: no window, and nothing to close."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "plots need matplotlib: pip install matplotlib, or minigrad's 'examples' extra"
        ) from None
    return Figure(**options)


def _save(figure: Any, path: str | Path, dpi: int = _DPI) -> None:
    with written_whole(path) as part:
        figure.savefig(part, dpi=dpi, format=Path(path).suffix[1:] or "png")
