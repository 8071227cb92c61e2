"""The beats of an event loop and the looks at them: how late it is, and what is known of a block. No clock, no thread.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

from asyncwatch.events import LoopBlocked
from asyncwatch.supervise.blame import (
    LEAST,
    LONGEST_LOOK,
    NOBODY,
    Blame,
    Block,
    Evidence,
    Run,
    Sample,
    judge,
    place_of,
    stack_text,
)

HEARTBEAT = 0.025
"""Seconds between two beats of the loop, and between two looks at it. A block is known to half of that."""
_RUNS_KEPT = 1_000
_LAGS_KEPT = round(10 / HEARTBEAT)
_LAST_SECOND = round(1 / HEARTBEAT)


def block_event(seq: int, at: float, now: float, block: Block) -> LoopBlocked:
    """Return the event that tells of a block. `at` is `now` in seconds since the run started."""
    cause, who, frames = block.blame
    file, line, function, call = place_of(frames)
    return LoopBlocked(
        seq=seq,
        at=at,
        began=round(max(0.0, at - (now - block.began)), 6),
        duration=round(block.seconds, 6),
        cause=cause,
        worker=who.worker,
        incarnation=who.incarnation,
        attempt=who.attempt,
        file=file,
        line=line,
        function=function,
        call=call,
        stack=stack_text(frames),
    )


def _judged(evidence: Evidence, runs: list[Run]) -> list[Block]:
    """Return what `judge` does, or of whatever it cannot judge that the loop was blocked."""
    try:
        return judge(evidence, runs)
    except Exception:
        return [Block(evidence.began, evidence.ended, Blame("unknown"))]


class Lags(NamedTuple):
    """How late the beats were, in seconds: the latest of the last second, of the last ten seconds, of all."""

    last: float
    p50: float
    p95: float
    highest: float


class Spent(NamedTuple):
    """Seconds, counted from any zero: of the processor, by the loop's thread and the process; of collecting garbage."""

    thread: float = 0.0
    process: float = 0.0
    collecting: float = 0.0


class Pulse:
    """Put together by two threads: `beat` belongs to that of the loop, `look` to that of the watchdog."""

    def __init__(self, now: float, spent: Spent) -> None:
        self.due = now + HEARTBEAT
        """When the next beat is to come."""
        self._spent = spent
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._looked_at, self._wait = now, HEARTBEAT
        self._absent = 0.0
        self._delay: float | None = None
        self._lags: deque[float] = deque(maxlen=_LAGS_KEPT)
        self._highest = 0.0

    def is_late(self, now: float) -> bool:
        """Return whether a look at `now` needs a sample."""
        return now - self.due >= HEARTBEAT

    def beat(self, now: float, spent: Spent, delay: float) -> list[Block]:
        """Note a beat; return the blocks that it ends, in order.

        `delay` is for how long the loop's thread has waited for a processor, from any zero.
        """
        due = self.due
        late = max(0.0, now - due)
        self._lags.append(late)
        if late > self._highest:  # noqa: PLR1730  max() takes three times as long
            self._highest = late
        before, self._spent = self._spent, spent
        blocks: list[Block] = []
        if late >= HEARTBEAT or self._delay is not None:
            with self._lock:
                runs, self._runs = self._runs, []
                absent, self._absent = self._absent + self._overslept(now, late), 0.0
                delay_before, self._delay = self._delay, None
                self.due = now + HEARTBEAT
            if late >= LEAST:
                evidence = Evidence(
                    due - HEARTBEAT / 2,
                    now,
                    busy=spent.thread - before.thread,
                    process=spent.process - before.process,
                    absent=absent,
                    delayed=0.0 if delay_before is None else delay - delay_before,
                    collecting=spent.collecting - before.collecting,
                )
                blocks = _judged(evidence, runs)
        self.due = now + HEARTBEAT
        return blocks

    def look(self, now: float, sample: Sample | None, due: float, delay: float) -> float:
        """Note what was seen of the loop while its beat of `due` was late; return the seconds until the next look."""
        with self._lock:
            overslept = self._overslept(now, now - due)
            seconds = now - self._looked_at
            self._looked_at, self._wait = now, HEARTBEAT
            if sample is None or self.due != due:  # it is in time, or has come meanwhile
                return self._wait
            self._absent += overslept
            if self._delay is None:
                self._delay = delay
            if sample.frames:
                runs = self._runs
                if not runs or runs[-1].who != sample.who:
                    if len(runs) < _RUNS_KEPT:
                        runs.append(Run(sample.who, now))
                    else:
                        runs[-1].who = NOBODY
                runs[-1].add(sample.frames, now, seconds)
                if now - runs[-1].first > 1:
                    self._wait = LONGEST_LOOK  # it has been seen often enough
            return self._wait

    def block(self, now: float) -> Block | None:
        """Return the block that goes on, judged by what was seen of it so far; None if there is none.

        It goes back to where the loop was in time. Whoever is at it is to blame if that was so for half of it.
        """
        due = self.due
        late = now - due
        if late < LEAST:
            return None
        evidence = Evidence(due - HEARTBEAT / 2, now)
        with self._lock:
            absent = self._absent + self._overslept(now, late)
            last = _judged(evidence, self._runs)[-1]
        if absent >= late / 2:
            # What its thread did meanwhile is not known before it comes back.
            return Block(evidence.began, now, Blame("unknown"))
        blame = last.blame if last.seconds >= late / 2 else Blame("many", frames=last.blame.frames)
        return Block(evidence.began, now, blame)

    def lags(self, now: float) -> Lags:
        """Return how late the loop is and was."""
        overdue = max(0.0, now - self.due)
        lags = list(self._lags)
        last = max(overdue, *lags[-_LAST_SECOND:], 0.0)
        lags.sort()
        count = len(lags)
        p50, p95 = (lags[count // 2], lags[count * 95 // 100]) if lags else (0.0, 0.0)
        return Lags(last, p50, p95, max(overdue, self._highest))

    def _overslept(self, now: float, late: float) -> float:
        """Return for how long of the last `late` seconds nobody looked although somebody was to."""
        return max(0.0, min(late, now - self._looked_at - self._wait))
