"""The task factories that supervision is tested under."""

from __future__ import annotations

import asyncio

TASK_FACTORIES = {"lazy": None}
if hasattr(asyncio, "eager_task_factory"):
    TASK_FACTORIES["eager"] = asyncio.eager_task_factory
