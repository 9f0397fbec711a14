"""Benchmarks beside torch: `python -m bench.steps`, and `kernels`, `start`, `beside` and `gpu`.
`bench.history` compares runs."""
