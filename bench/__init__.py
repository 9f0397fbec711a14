"""Benchmarks against torch: `python -m bench.steps`."""
