"""Benchmarks against torch: `python -m bench.kernels` and `python -m bench.steps`."""
