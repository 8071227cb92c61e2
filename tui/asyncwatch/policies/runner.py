"""The runners and when `wait` returns, by name. Imports nothing heavy: `--help` needs these names."""

from __future__ import annotations

from typing import Final, Literal

ReturnWhen = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]
RETURN_WHEN: Final = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION")
"""When `wait` returns, as in `asyncio.wait`."""
LifespanPer = Literal["run", "slot"]
LIFESPAN_PER: Final = ("run", "slot")
"""What has a lifespan of its own."""
RUNNERS: Final = ("gather", "as_completed", "wait", "task_group")
"""How a batch is awaited."""
