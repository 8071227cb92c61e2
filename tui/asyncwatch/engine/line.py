"""The line of those who may start an attempt, and the places they take. What holds it up is told as it changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from asyncwatch.engine.admission import Admission, Answer
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.worker import Worker
from asyncwatch.events import WorkerState
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.rate import RateLimit

PLACE, RATE, PAUSED = "place", "rate", "paused"
"""What holds up the line: all places are taken, the limit of the run is reached, or the run is paused."""
STARTS_AT_ONCE = 200
"""Attempts started in one go, at most; the next iteration of the loop continues. They take about 1 ms."""


class Line:
    """Workers that are ready stand here until they take a place, those that have begun before those that have not."""

    def __init__(
        self,
        concurrency: int,
        *,
        report: Reporter,
        circuit: CircuitPolicy | None,
        rate: RateLimit | None,
        rate_per_key: RateLimit | None,
    ) -> None:
        self.report = report
        self.in_flight = 0
        limits = {"rate": rate, "rate_per_key": rate_per_key}
        self.admission = Admission(report, self._let_in, self._tell_held, circuit=circuit, **limits)
        self.is_gated = any(policy is not None for policy in (circuit, rate, rate_per_key))
        """Whether attempts ask for admission."""
        self._places = concurrency  # 0 while paused
        self._fresh: Iterator[Worker] | None = None
        """Those that have never begun."""
        self._first: deque[Worker] = deque()
        """The first of those, if it has had its turn but was told to wait."""
        self._ready: deque[Worker] = deque()
        """Those that begin anew."""
        self._again: deque[Worker] = deque()
        """Those that stand before all others: they have begun, or were held."""
        self._stands_still = False
        """Whether nobody takes a place for now: very many who stand in line are leaving it."""
        self._continues_filling = False
        """Whether the next iteration of the loop goes on starting attempts."""
        self._held_by = PLACE
        self._told_held: dict[Worker, tuple[str, str]] = {}
        """For which key and reason a worker waits, as was told; neither for one that stands in line."""

    def _start_attempt(self, worker: Worker) -> None:
        raise NotImplementedError

    def _start_failed(self, worker: Worker, fault: BaseException) -> None:
        raise NotImplementedError

    def _fill_places(self) -> None:
        """Start attempts while there are free places, at most `STARTS_AT_ONCE` per loop iteration."""
        left = 0 if self._continues_filling else STARTS_AT_ONCE
        while left and self.in_flight < self._places and (worker := self._next_in_line()) is not None:
            try:
                self._start_attempt(worker)
            except BaseException as fault:  # one worker's fault must not stop the others
                self._start_failed(worker, fault)
            left -= 1
        if not left and not self._continues_filling:
            self._continues_filling = True
            self.report.loop.call_soon(self._continue_filling)
        if self.is_gated or not self._places or self._held_by is PAUSED:
            self._follow_line()

    def _continue_filling(self) -> None:
        self._continues_filling = False
        self._fill_places()

    def _next_in_line(self) -> Worker | None:
        """Take the next one that may start out of the line; None if there is none at present."""
        while not self._stands_still:
            if not self._again and not self._first and self._fresh is not None:
                worker = next(self._fresh, None)
                if worker is None:
                    self._fresh = None
                    continue
                line = self._first
            else:
                line = self._again or self._first or self._ready
                if not line:
                    return None
                worker = line.popleft()
            if not worker.is_ready:
                continue
            if self.is_gated and (answer := self._ask(worker)) is not Answer.STARTS:
                if answer is Answer.HOLDS_THE_LINE:
                    line.appendleft(worker)
                    return None
                worker.is_ready = False
                continue
            worker.is_ready = False
            return worker
        return None

    def _ask(self, worker: Worker) -> Answer | None:
        """Ask for admission; return None if asking raised, which fails the start of the worker."""
        try:
            return self.admission.ask(worker)
        except BaseException as fault:  # the user's key function can raise anything
            worker.is_ready = False
            self._start_failed(worker, fault)
            return None

    def _line_of(self, worker: Worker) -> deque[Worker]:  # noqa: ARG002  there is one for all
        """Return the line in which a worker stands that has begun, or was held."""
        return self._again

    def _has_line(self) -> bool:
        """Return whether anybody stands in line, or did until lately."""
        return bool(self._again or self._first or self._ready) or self._has_fresh()

    def _has_fresh(self) -> bool:
        """Return whether there are some that have never begun."""
        raise NotImplementedError

    def _follow_line(self) -> None:
        """Tell what those who stand in line wait for from now on, if it is something else than before."""
        reason = self._held_by
        if not self._places:
            reason = PAUSED
        elif self._has_line():
            reason = RATE if self.admission.holds_line() else PLACE
        elif reason is PAUSED:
            reason = PLACE
        if self._held_by is not reason:
            self._held_by = reason
            self.report.line_held(reason)

    def _let_in(self, workers: Iterable[Worker]) -> None:
        """Let workers that were held stand in line before those that have not begun."""
        coming = tuple(workers)
        for worker in coming:
            worker.is_ready = True
            self._line_of(worker).append(worker)
        self._fill_places()
        for worker in coming:
            self._tell_in_line(worker)

    def _tell_in_line(self, worker: Worker) -> None:
        """Tell that a worker that was to start stands in line, if it does."""
        if worker.is_ready:
            self._tell_held(worker, "", "")

    def _tell_held(self, worker: Worker, key: str, reason: str) -> None:
        """Tell what a worker waits for, unless that was told last; without a reason it is what the line waits for."""
        if self._told_held.get(worker) == (key, reason):
            return
        self._told_held[worker] = key, reason
        worker.state = WorkerState.WAITING
        self.report.attempt_held(worker, key, reason or self._held_by)
