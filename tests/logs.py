"""The root logger as a program has it: pytest's own handlers raise the errors of records that cannot be formatted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bare_root_logger() -> Iterator[logging.Logger]:
    """Inside the context, the root logger has no handlers but those that a test adds."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        yield root
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
