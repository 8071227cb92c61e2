"""Words that both the command line and the engine know. Imports nothing, so that `--help` answers at once."""

from __future__ import annotations

from typing import Final, Literal

ReturnWhen = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]
RETURN_WHEN: Final = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION")
"""When `wait` returns: what asyncio calls them."""
RUNNERS: Final = ("gather", "as_completed", "wait", "task_group")
"""The ways to await a batch."""
ROOT: Final = "root"
"""The path of the supervisor at the top."""
