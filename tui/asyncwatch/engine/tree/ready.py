"""How a worker says that it has started."""

from __future__ import annotations

from asyncwatch.engine.current import current
from asyncwatch.engine.tree.company import TreeWorker


async def ready(value: object = None) -> None:
    """Say that the worker the caller runs in is ready; its supervisor then starts the next one.

    Only the first call of an incarnation counts. `value` is what `start_child` and `restart_child` return as the
    child's `value`. It counts before the first wait of any worker, and until its end for one with `announces_ready`.
    Later, for a worker without, it is ignored, with a warning in the worker's log.
    In a batch, where nobody waits for it, it does nothing.

    Raises:
        RuntimeError: the caller runs in no worker.

    """
    worker = current.get()
    if worker is None:
        raise RuntimeError("only a worker can be ready")
    if isinstance(worker, TreeWorker):
        worker.owner.announce(value)
