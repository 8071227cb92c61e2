"""Benchmark cases. Each module has a `run(effort)` that yields its findings as they arrive."""
