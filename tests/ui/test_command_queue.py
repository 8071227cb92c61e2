"""The queue of commands between a key and the controller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

import pytest

from asyncwatch.commands import CancelAll, CancelWorker, ChangeSetting, Command
from asyncwatch.ui.command_queue import STEP, CommandQueue
from tests.clock import run_jumping


@pytest.fixture
def _no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """End each slice of work after one step."""
    monkeypatch.setattr("asyncwatch.slices.SLICE", -1.0)


def cancels(number: int) -> Iterator[Command]:
    """Return commands that are made only as they are sent."""
    return (CancelWorker(str(index), 1) for index in range(number))


def never_answered() -> int:
    """Return the same count of answers always."""
    return 0


class Sent:
    """The commands that were sent, and how many loop iterations there were before each call."""

    def __init__(self) -> None:
        self.commands: list[Sequence[Command]] = []
        self.iterations: list[int] = []
        self.passed = 0

    def __call__(self, commands: Sequence[Command]) -> None:
        self.commands.append(commands)
        self.iterations.append(self.passed)

    async def settle(self) -> None:
        """Let the loop iterate, and time pass, until all work is done."""
        for _ in range(200):
            self.passed += 1
            await asyncio.sleep(0.0001)


def run(main: Callable[[Sent], object]) -> Sent:
    """Let `main` use a queue that sends to the returned object, and wait for all of its work."""
    sent = Sent()

    async def run_and_settle() -> None:
        main(sent)
        await sent.settle()

    run_jumping(run_and_settle)
    return sent


@pytest.mark.usefixtures("_no_time")
def test_command_queue_iterator_is_sent_whole_and_in_order() -> None:
    def main(sent: Sent) -> None:
        queue = CommandQueue(sent, never_answered)
        queue.add([CancelAll()])
        queue.add(cancels(4 * STEP + 1))
        queue.add([CancelAll()])

    sent = run(main)
    assert [len(commands) for commands in sent.commands] == [1, 4 * STEP + 1, 1]


@pytest.mark.usefixtures("_no_time")
def test_command_queue_iterator_leaves_the_loop_its_turns() -> None:
    sent = run(lambda sent: CommandQueue(sent, never_answered).add(cancels(4 * STEP + 1)))
    assert sent.iterations[0] > 4


@pytest.mark.usefixtures("_no_time")
def test_command_queue_cleared_sends_only_later_commands() -> None:
    async def main() -> None:
        queue = CommandQueue(sent, never_answered)
        queue.add(cancels(4 * STEP))
        await asyncio.sleep(0.0025)
        queue.clear()
        queue.add([CancelAll()])
        await sent.settle()

    sent = Sent()
    run_jumping(main)
    assert sent.commands == [[CancelAll()]]


def test_command_queue_closed_holds_commands_until_opened() -> None:
    async def main() -> None:
        queue = CommandQueue(sent, never_answered, is_open=False)
        queue.add([CancelAll()])
        queue.add(cancels(2))
        await sent.settle()
        assert queue.is_waiting
        assert sent.commands == []
        queue.open()
        queue.add([CancelWorker("last", 1)])
        await sent.settle()
        assert not queue.is_waiting

    sent = Sent()
    run_jumping(main)
    assert sent.commands == [[CancelAll()], [*cancels(2)], [CancelWorker("last", 1)]]


def test_command_queue_changes_wait_for_the_answer_to_the_one_before() -> None:
    answers = 0
    concurrency = 1

    def more() -> Sequence[Command]:
        return [ChangeSetting("concurrency", concurrency + 1)]

    sent = Sent()
    queue = CommandQueue(sent, lambda: answers)
    queue.add_change(more)
    queue.add_change(more)
    queue.send_changes()
    queue.add([CancelAll()])
    assert sent.commands == [[ChangeSetting("concurrency", 2)], [CancelAll()]]
    answers, concurrency = 1, 2
    queue.send_changes()
    assert sent.commands[2:] == [[ChangeSetting("concurrency", 3)]]


def test_command_queue_change_that_changes_nothing_needs_no_answer() -> None:
    sent = Sent()
    queue = CommandQueue(sent, never_answered)
    queue.add_change(lambda: ())
    queue.add_change(lambda: [ChangeSetting("paused", value=True)])
    assert sent.commands == [[ChangeSetting("paused", value=True)]]
