"""Curves of training runs. The pictures of networks are in tests/examples/test_feature_maps.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigrad import viz


def test_curves_show_both_losses_and_accuracies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = []
    make = viz._figure
    monkeypatch.setattr(viz, "_figure", lambda **o: figures.append(make(**o)) or figures[-1])
    names = ("epoch", "train_loss", "val_loss", "train_accuracy", "val_accuracy")
    rows = [(1, 2.0, 1.5, 0.5, 0.6), (2, 1.0, 0.7, 0.8, 0.7)]
    history = [dict(zip(names, row, strict=True)) for row in rows]
    viz.plot_curves(history, tmp_path / "curves.png", "Run 1", "label smoothing 0.1")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert figures[0].get_suptitle() == "Run 1"
    found = [
        (axes.get_ylabel(), line.get_label(), line.get_xdata().tolist(), line.get_ydata().tolist())
        for axes in figures[0].axes
        for line in axes.get_lines()
    ]
    assert found == [
        ("cross-entropy", "training, label smoothing 0.1", [1, 2], [2.0, 1.0]),
        ("cross-entropy", "validation", [1, 2], [1.5, 0.7]),
        ("accuracy (%)", "training", [1, 2], [50.0, 80.0]),
        ("accuracy (%)", "validation", [1, 2], [60.0, 70.0]),
    ]
