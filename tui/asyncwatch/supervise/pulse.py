"""The beats of an event loop and the looks at them: how late it is, and what is known of a block. No clock, no thread.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import NamedTuple

from asyncwatch.events import LoopBlocked
from asyncwatch.supervise.blame import Blame, Evidence, Sample, judge, place_of, stack_text

BLOCKED_AFTER = 0.1
"""Seconds after which a loop that gets to nothing else counts as blocked."""
HEARTBEAT = 0.025
"""Seconds between two beats of the loop, and between two looks at it. A block is known to half of that."""
SLOW_LOOK = 0.1
"""Seconds between two looks at a block that has lasted for a second."""
_STACKS_KEPT = 200
_LAGS_KEPT = round(10 / HEARTBEAT)
_LAST_SECOND = round(1 / HEARTBEAT)


class Block(NamedTuple):
    """The loop got to nothing else for `seconds`."""

    seconds: float
    blame: Blame


def block_event(seq: int, at: float, block: Block) -> LoopBlocked:
    """Return the event that tells of a block which ended at `at`, or goes on then; seconds since the run started."""
    cause, who, frames = block.blame
    file, line, function, call = place_of(frames)
    return LoopBlocked(
        seq=seq,
        at=at,
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
        self._samples: Counter[Sample] = Counter()
        self._looked_at, self._wait = now, HEARTBEAT
        self._absent = 0.0
        self._delay: float | None = None
        self._lags: deque[float] = deque(maxlen=_LAGS_KEPT)
        self._highest = 0.0

    def is_late(self, now: float) -> bool:
        """Return whether a look at `now` needs a sample."""
        return now - self.due >= HEARTBEAT

    def beat(self, now: float, spent: Spent, delay: float) -> Block | None:
        """Note a beat; return the block that it ends, if there was one.

        `delay` is for how long the loop's thread has waited for a processor, from any zero.
        """
        due = self.due
        late = max(0.0, now - due)
        self._lags.append(late)
        if late > self._highest:  # noqa: PLR1730  max() takes three times as long
            self._highest = late
        before, self._spent = self._spent, spent
        block = None
        if late >= HEARTBEAT or self._delay is not None:
            with self._lock:
                samples, self._samples = self._samples, Counter()
                absent, self._absent = self._absent + self._overslept(now, late), 0.0
                began, self._delay = self._delay, None
                self.due = now + HEARTBEAT
            if _lasted(late) >= BLOCKED_AFTER:
                evidence = Evidence(
                    late,
                    busy=spent.thread - before.thread,
                    process=spent.process - before.process,
                    absent=absent,
                    delayed=0.0 if began is None else delay - began,
                    collecting=spent.collecting - before.collecting,
                )
                block = Block(_lasted(late), judge(evidence, samples))
        self.due = now + HEARTBEAT
        return block

    def look(self, now: float, sample: Sample | None, due: float, delay: float) -> float:
        """Note what was seen of the loop while its beat of `due` was late; return the seconds until the next look."""
        late = now - due
        with self._lock:
            overslept = self._overslept(now, late)
            self._looked_at = now
            if sample is None or self.due != due:  # it is in time, or has come meanwhile
                self._wait = HEARTBEAT
                return self._wait
            self._absent += overslept
            if self._delay is None:
                self._delay = delay
            if sample.frames and (sample in self._samples or len(self._samples) < _STACKS_KEPT):
                self._samples[sample] += 1
            self._wait = HEARTBEAT if late < 1 else SLOW_LOOK
            return self._wait

    def block(self, now: float) -> Block | None:
        """Return the block that goes on, judged by what was seen of it so far; None if there is none."""
        late = now - self.due
        if _lasted(late) < BLOCKED_AFTER:
            return None
        with self._lock:
            samples, absent = self._samples.copy(), self._absent + self._overslept(now, late)
        # How much of the processor its thread took is not known before it comes back.
        return Block(_lasted(late), judge(Evidence(late, absent=absent), samples))

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


def _lasted(late: float) -> float:
    """Return how long the loop was kept if a beat came `late`: what kept it began within a beat before it was due."""
    return late + HEARTBEAT / 2
