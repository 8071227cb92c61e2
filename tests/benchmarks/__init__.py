"""What asyncwatch costs, against what it replaces: `python -m tests.benchmarks [NAME...]`.

Each file of `cases` is one case. It measures asyncwatch and its peer in turn, so that a noisy machine is noisy for
both, and gives findings. `peers` holds the programs that run in processes of their own.
"""
