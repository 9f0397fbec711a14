"""The comparison runs, covers the eleven operations, and agrees."""

from __future__ import annotations

from examples import compare_with_torch

OPERATIONS = {
    "max_pool2d", "avg_pool2d", "conv2d", "conv_transpose2d", "flatten", "sigmoid", "roi_pool",
    "batch_norm", "cross_entropy", "mse_loss",
}  # fmt: skip


def test_the_table_covers_the_operations_and_agrees_with_torch(capsys) -> None:
    rows = compare_with_torch.main(["--repetitions", "1"])
    assert {row.name for row in rows} == OPERATIONS
    assert sum(row.name == "conv2d" for row in rows) == 2
    for row in rows:
        assert row.forward < 2e-5
        assert row.gradients < 2e-4
        if row.name in ("max_pool2d", "flatten", "roi_pool"):
            assert row.forward == row.gradients == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in OPERATIONS)
