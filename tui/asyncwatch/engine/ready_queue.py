"""The ready queue: workers that may start an attempt as soon as there is a slot."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from asyncwatch.engine.worker import Worker


class ReadyQueue:
    """Services, then workers that have begun, then those that have not, then restarted ones; each first in, first out.

    A worker is in the queue while its `is_ready` is set. One that leaves early only loses that flag, and is passed over
    when it comes to the front.
    """

    def __init__(self) -> None:
        self.services: deque[Worker] = deque()
        """Workers that need no slot. To be read only."""
        self._resumed: deque[Worker] = deque()
        """Workers that have begun, or were parked: before all new work."""
        self._fresh: Iterator[Worker] | None = None
        """Workers of the batch that have never begun, made one by one."""
        self._put_back: deque[Worker] = deque()
        """The first of those, if it came to the front and had to wait."""
        self._restarted: deque[Worker] = deque()
        self._source = self._resumed
        """Where the last worker was popped from."""

    def __len__(self) -> int:
        """Return how many there are, without those that have never begun; workers that left early may still count."""
        return len(self._resumed) + len(self._put_back) + len(self._restarted) + len(self.services)

    def __contains__(self, worker: object) -> bool:
        queues = (self.services, self._resumed, self._put_back, self._restarted)
        return any(worker is queued for queue in queues for queued in queue)

    def feed(self, fresh: Iterator[Worker]) -> None:
        """Take workers that have never begun from `fresh` when no other worker is queued."""
        self._fresh = fresh

    def stop_feed(self) -> None:
        """Take no more workers that have never begun: all of them have ended."""
        self._fresh = None

    @property
    def is_fed(self) -> bool:
        """Whether workers that have never begun may follow."""
        return self._fresh is not None

    def push(self, worker: Worker) -> None:
        """Add a worker that has begun or was parked: behind others like it, before all new work."""
        (self._resumed if worker.owner is None else self.services).append(worker)

    def push_first(self, worker: Worker) -> None:
        """Add a worker before all others."""
        (self._resumed if worker.owner is None else self.services).appendleft(worker)

    def push_restarted(self, worker: Worker) -> None:
        """Add a new incarnation of a worker of the batch, at the end."""
        self._restarted.append(worker)

    def pop(self) -> Worker | None:
        """Return the next worker that needs a slot; None if there is none."""
        while True:
            if not self._resumed and not self._put_back and self._fresh is not None:
                worker = next(self._fresh, None)
                if worker is None:
                    self._fresh = None
                    continue
                self._source = self._put_back
            else:
                self._source = self._resumed or self._put_back or self._restarted
                if not self._source:
                    return None
                worker = self._source.popleft()
            if worker.is_ready:
                return worker

    def pop_service(self) -> Worker | None:
        """Return the next service; None if there is none."""
        self._source = self.services
        while self.services:
            worker = self.services.popleft()
            if worker.is_ready:
                return worker
        return None

    def put_back(self, worker: Worker) -> None:
        """Return the worker that was popped last to where it was."""
        self._source.appendleft(worker)

    def remove(self, worker: Worker) -> bool:
        """Take a worker out; return whether it was there. A worker that has never begun is not."""
        for queue in (self.services, self._resumed, self._put_back, self._restarted):
            if worker in queue:
                queue.remove(worker)
                return True
        return False
