"""Log records that become events."""

from __future__ import annotations

import asyncio
import enum
import io
import logging
import sys
import types
from collections.abc import Callable, Iterator
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import pytest

from asyncwatch import Run, WorkerSpec
from asyncwatch.engine.capture import capturing_logs, capturing_prints, log_safely
from asyncwatch.engine.outbox import Listener
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.watchdog import Who
from asyncwatch.events import Event, LogRecorded, RunFinished, WorkerFailed
from tests.clock import run_jumping
from tests.engine.fleets import stubborn
from tests.logs import bare_root_logger

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
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    records: list[tuple[object, ...]] = []
    with bare_root_logger(), capturing_logs(lambda *record: records.append(record), logging.INFO):
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
    with bare_root_logger(), capturing_logs(lambda *record: records.append(record), logging.INFO):
        log_safely(logger, logging.WARNING, "%s failed: %d", "a", 7, worker="a")
    (record,) = kept.records
    assert record.getMessage() == "a failed: 7"
    assert records == [("a", "WARNING", logger.name, "failed: 7")]


class _Name(enum.Enum):
    AUDIT = "audit"


class _Text(str):
    __slots__ = ()

    def removeprefix(self, prefix: str, /) -> str:
        raise OSError


class _Leaving:
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


def _record(**values: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "shop", "levelname": "INFO", "levelno": 20, "msg": "sold"} | values)


class _NoText(logging.LogRecord):
    def getMessage(self) -> Any:  # noqa: N802  as in logging
        return [1, 2]


class _Unreadable(logging.LogRecord):
    @property
    def stack_info(self) -> str:
        raise KeyError

    @stack_info.setter
    def stack_info(self, value: object) -> None: ...


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (_record(levelname=_Name.AUDIT), (None, "_Name.AUDIT", "shop", "sold")),
        (_record(levelname=None, name=7), (None, "None", "7", "sold")),
        (_record(msg=_Text("sold")), (None, "INFO", "shop", "sold")),
        (_record(msg="%s of %s", args=(1,)), (None, "INFO", "shop", "%s of %s (1,)")),
        (_record(msg=_Leaving()), (None, "INFO", "shop", "<str raised SystemExit> ()")),
        (_record(msg="%s", args=(_Leaving(),)), (None, "INFO", "shop", "%s <tuple whose repr raised SystemExit>")),
        (_record(exc_info=(OSError, OSError("gone"), "here")), (None, "INFO", "shop", "sold\nOSError: gone")),
        (_record(exc_info=OSError("gone")), (None, "INFO", "shop", "sold\nOSError: gone")),
        (_record(exc_info=7), (None, "INFO", "shop", "sold")),
        (_record(exc_info=(None, None, None)), (None, "INFO", "shop", "sold")),
        (_record(exc_text="of another process"), (None, "INFO", "shop", "sold\nof another process")),
        (_record(stack_info="Stack:"), (None, "INFO", "shop", "sold\nStack:")),
        (_record(asyncwatch_worker=["b"]), (None, "INFO", "shop", "sold")),
        (_NoText("shop", 20, "f", 1, "", (), None), (None, "INFO", "shop", "[1, 2]")),
        (
            _Unreadable("shop", 20, "f", 1, "", (), None),
            (None, "WARNING", "asyncwatch", "a log record cannot be read: KeyError"),
        ),
    ],
)
def test_odd_record_is_passed_on_as_text(record: logging.LogRecord, expected: tuple[object, ...]) -> None:
    passed_on: list[tuple[object, ...]] = []
    with bare_root_logger(), capturing_logs(lambda *facts: passed_on.append(facts), logging.INFO):
        logging.getLogger("shop").handle(record)
    assert passed_on == [expected]
    assert all(fact is None or type(fact) is str for fact in passed_on[0])


def test_level_named_by_no_text_can_be_logged_by_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(logging._levelToName, logging.WARNING, _Name.AUDIT)
    records: list[tuple[object, ...]] = []
    with bare_root_logger(), capturing_logs(lambda *record: records.append(record), logging.INFO):
        log_safely(logger, logging.WARNING, "retry")
    assert records == [(None, "_Name.AUDIT", logger.name, "retry")]


def test_log_line_loses_its_colours_and_error_too() -> None:
    async def colourful() -> None:
        print("\x1b[32mready\x1b[0m \x1b]8;;https://a.example\x07port\x1b]8;;\x07\x1b(B\x1b[m 80\x1b[K")  # noqa: T201
        print("\x9b1mbold\x9b0m \x1b[38:5:9mred \x1b7 \x1b[")  # noqa: T201
        raise LookupError("\x1b[31mno such port\x1b[0m")

    events: list[Event] = []

    async def main() -> None:
        run = Run([WorkerSpec("a", colourful)], seed=1)
        control = control_of(run)
        listener = Listener()
        control.add_listener(listener)
        queue = listener.attach()
        with capturing_prints(control.record_log):
            await run.wait()
        while not events or not isinstance(events[-1], RunFinished):
            events.extend(await queue.get())

    run_jumping(main)
    lines = [event.message for event in events if isinstance(event, LogRecorded)]
    assert lines == ["ready port 80", "bold red \x1b7 \x1b["]
    (failed,) = [event for event in events if isinstance(event, WorkerFailed)]
    assert failed.error == "no such port"


class _Rich(logging.Handler):
    """Writes as `rich.logging.RichHandler` does."""

    def __init__(self) -> None:
        super().__init__()
        self.console = types.SimpleNamespace(file=sys.stdout)


def _terminal() -> logging.Handler:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    return logging.StreamHandler(Terminal())


@pytest.mark.parametrize(
    "make",
    [
        logging.StreamHandler,
        lambda: logging.StreamHandler(sys.stdout),
        lambda: logging.StreamHandler(sys.__stderr__),
        lambda: MemoryHandler(1, target=logging.StreamHandler()),
        _terminal,
        _Rich,
    ],
)
def test_root_handler_that_writes_to_the_terminal_is_taken_off(
    make: Callable[[], logging.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = make()
    monkeypatch.setattr(handler, "emit", lambda record: pytest.fail("written to the terminal"))
    with bare_root_logger() as root:
        root.addHandler(handler)
        with capturing_logs(lambda *_record: None, logging.INFO):
            logging.getLogger("shop").warning("sold")
        assert root.handlers == [handler]


def test_other_root_handlers_get_the_records_that_they_got_before(tmp_path: Path) -> None:
    """The log of asyncwatch takes INFO here; the root logger takes ERROR, and one logger takes all."""
    file = logging.FileHandler(tmp_path / "shop.log")
    file.setFormatter(logging.Formatter("%(name)s %(message)s"))
    own = logging.getLogger("shop.till")
    own.setLevel(logging.DEBUG)
    records: list[object] = []
    with bare_root_logger() as root:
        root.addHandler(file)
        root.setLevel(logging.ERROR)
        with capturing_logs(lambda *record: records.append(record[3]), logging.INFO):
            logging.getLogger("shop").info("opened")
            logging.getLogger("shop").error("robbed")
            own.debug("counted")
            own.info("filled")
            log_safely(logger, logging.ERROR, "a failed")
    own.setLevel(logging.NOTSET)
    assert records == ["opened", "robbed", "filled", "a failed"]
    lines = ["shop robbed", "shop.till counted", "shop.till filled", f"{logger.name} a failed"]
    assert (tmp_path / "shop.log").read_text().splitlines() == lines
    assert not file.filters
    file.close()


def test_own_debug_log_stays_while_the_captured_level_is_higher(kept: _Kept) -> None:
    records: list[object] = []
    with bare_root_logger() as root:
        root.addHandler(kept)
        root.setLevel(logging.DEBUG)
        with capturing_logs(lambda *record: records.append(record[3]), logging.WARNING):
            logging.getLogger("shop").debug("detail")
    assert records == []
    assert [record.getMessage() for record in kept.records] == ["detail"]
