"""Logging that never raises: handlers and filters are the user's code, and an error in one must not end a worker."""

from __future__ import annotations

import contextlib
import logging


def log_safely(
    logger: logging.Logger, level: int, text: str, *args: object, worker: str | None = None, has_traceback: bool = False
) -> None:
    """Log `text % args`, about `worker` if given, with the current exception's traceback if asked for."""
    with contextlib.suppress(Exception):
        logger.log(level, text, *args, extra={"asyncwatch_worker": worker}, exc_info=has_traceback, stacklevel=2)
