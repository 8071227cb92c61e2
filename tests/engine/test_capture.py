"""Log records that become events."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from asyncwatch import Run, WorkerSpec
from asyncwatch.engine.capture import capturing_logs, capturing_prints, log_safely
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.watchdog import Who
from tests.clock import run_jumping
from tests.engine.fleets import stubborn

logger = logging.getLogger("asyncwatch.test_capture")


class _Kept(logging.Handler):
    """Keeps all records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[_Kept]:
    """A handler that a test may add to a logger."""
    handler = _Kept()
    yield handler
    logger.removeHandler(handler)
    logger.filters.clear()


@pytest.mark.parametrize(("text", "message"), [("%s: retry", "retry"), ("%s failed", "failed"), ("a %s", "a low/b")])
def test_log_record_does_not_repeat_the_name_of_its_worker(text: str, message: str) -> None:
    """The name is a field of the event, and every view shows it before the message."""
    records: list[tuple[object, ...]] = []
    with capturing_logs(lambda *record: records.append(record), logging.INFO):
        logging.getLogger("some").warning(text, "low/b", extra={"asyncwatch_worker": "low/b"})
    assert records == [("low/b", "WARNING", "some", message)]


def test_lines_of_a_run_that_a_worker_awaits_belong_to_that_worker() -> None:
    """The inner run has workers of the same names, and each inner attempt ends within a line of the outer one."""
    records: list[tuple[object, ...]] = []
    blamed: list[Who] = []

    def record(worker: str | None, level: str, source: str, message: str) -> None:
        records.append((worker, level, message))

    async def inner() -> None:
        print("-inner", end="")  # noqa: T201  the subject of the test
        logging.getLogger("some").warning("logged")
        blamed.append(await asyncio.create_task(blame()))
        raise ValueError

    async def blame() -> Who:
        return control_of(batch).running_worker(asyncio.get_running_loop())

    async def outer() -> None:
        print("outer", end="")  # noqa: T201
        await Run([WorkerSpec("b", inner), WorkerSpec("c", stubborn)], grace=1.0).wait(timeout=1.0)
        print("-outer")  # noqa: T201

    batch = Run(
        [WorkerSpec("a", outer), WorkerSpec("b", asyncio.sleep, (9.0,)), WorkerSpec("c", asyncio.sleep, (9.0,))]
    )
    with capturing_logs(record, logging.INFO), capturing_prints(record):
        run_jumping(batch.gather)
    assert [(worker, level, str(message).partition(" at ")[0]) for worker, level, message in records] == [
        ("a", "WARNING", "logged"),
        ("a", "ERROR", "b failed: ValueError"),
        ("a", "ERROR", "c ignores its cancellation"),
        ("a", "INFO", "outer-inner-outer"),
    ]
    if sys.version_info >= (3, 12):
        assert blamed == [Who("a", 1, 1)]


def _no_record(*_args: object, **_options: object) -> logging.LogRecord:
    raise AssertionError("a record was made")


def test_message_for_the_capture_alone_needs_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.Logger, "makeRecord", _no_record)
    records: list[tuple[object, ...]] = []
    with capturing_logs(lambda *record: records.append(record), logging.INFO):
        log_safely(logger, logging.DEBUG, "not this")
        log_safely(logger, logging.WARNING, "%s failed: %d", "a", 7, worker="a")
    assert records == [("a", "WARNING", logger.name, "failed: 7")]


def _add_handler(kept: _Kept) -> None:
    logger.addHandler(kept)


def _add_filter(kept: _Kept) -> None:
    logger.addFilter(lambda record: kept.handle(record) or True)


@pytest.mark.parametrize("listen", [_add_handler, _add_filter])
def test_message_reaches_every_handler_and_filter(listen: Callable[[_Kept], None], kept: _Kept) -> None:
    listen(kept)
    records: list[tuple[object, ...]] = []
    with capturing_logs(lambda *record: records.append(record), logging.INFO):
        log_safely(logger, logging.WARNING, "%s failed: %d", "a", 7, worker="a")
    (record,) = kept.records
    assert record.getMessage() == "a failed: 7"
    assert records == [("a", "WARNING", logger.name, "failed: 7")]
