"""Benchmarks of asyncwatch against the code that it replaces: `python -m tests.benchmarks [NAME...]`.

Each file in `cases` is one benchmark case. It measures asyncwatch and its peer alternately, so that noise from the
machine affects both, and yields findings. `peers` holds the programs that run in processes of their own.
"""
