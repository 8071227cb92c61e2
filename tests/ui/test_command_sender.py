"""CommandSender: the order of commands, and when they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

import pytest

from asyncwatch.commands import CancelAll, CancelWorker, ChangeSetting, Command
from asyncwatch.ui.command_sender import STEP, CommandSender
from tests.clock import run_jumping


@pytest.fixture
def _no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """End each slice of work after one step."""
    monkeypatch.setattr("asyncwatch.slices.SLICE", -1.0)


def cancels(number: int) -> Iterator[Command]:
    """Return commands that are made only as they are sent."""
    return (CancelWorker(str(index), 1) for index in range(number))


def never_answered() -> int:
    """Return that no change was answered."""
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
    """Let `main` use a sender that sends to the returned object, and wait for all of its work."""
    sent = Sent()

    async def run_and_settle() -> None:
        main(sent)
        await sent.settle()

    run_jumping(run_and_settle)
    return sent


@pytest.mark.usefixtures("_no_time")
def test_command_sender_iterator_is_sent_whole_and_in_order() -> None:
    def main(sent: Sent) -> None:
        sender = CommandSender(sent, never_answered)
        sender.add([CancelAll()])
        sender.add(cancels(4 * STEP + 1))
        sender.add([CancelAll()])

    sent = run(main)
    assert [len(commands) for commands in sent.commands] == [1, 4 * STEP + 1, 1]


@pytest.mark.usefixtures("_no_time")
def test_command_sender_iterator_lets_the_loop_iterate_meanwhile() -> None:
    sent = run(lambda sent: CommandSender(sent, never_answered).add(cancels(4 * STEP + 1)))
    assert sent.iterations[0] > 4


@pytest.mark.usefixtures("_no_time")
def test_command_sender_cleared_sends_only_later_commands() -> None:
    async def main() -> None:
        sender = CommandSender(sent, never_answered)
        sender.add(cancels(4 * STEP))
        await asyncio.sleep(0.0025)
        sender.clear()
        sender.add([CancelAll()])
        await sent.settle()

    sent = Sent()
    run_jumping(main)
    assert sent.commands == [[CancelAll()]]


def test_command_sender_closed_holds_commands_until_opened() -> None:
    async def main() -> None:
        sender = CommandSender(sent, never_answered, is_open=False)
        sender.add([CancelAll()])
        sender.add(cancels(2))
        await sent.settle()
        assert sender.is_waiting
        assert sent.commands == []
        sender.open()
        sender.add([CancelWorker("last", 1)])
        await sent.settle()
        assert not sender.is_waiting

    sent = Sent()
    run_jumping(main)
    assert sent.commands == [[CancelAll()], [*cancels(2)], [CancelWorker("last", 1)]]


def test_command_sender_changes_wait_for_the_answer_to_the_one_before() -> None:
    answers = 0
    concurrency = 1

    def more() -> Sequence[Command]:
        return [ChangeSetting("concurrency", concurrency + 1)]

    sent = Sent()
    sender = CommandSender(sent, lambda: answers)
    sender.add_change(more)
    sender.add_change(more)
    sender.send_changes()
    sender.add([CancelAll()])
    assert sent.commands == [[ChangeSetting("concurrency", 2)], [CancelAll()]]
    answers, concurrency = 1, 2
    sender.send_changes()
    assert sent.commands[2:] == [[ChangeSetting("concurrency", 3)]]


def test_command_sender_change_that_changes_nothing_needs_no_answer() -> None:
    sent = Sent()
    sender = CommandSender(sent, never_answered)
    sender.add_change(lambda: ())
    sender.add_change(lambda: [ChangeSetting("paused", value=True)])
    assert sent.commands == [[ChangeSetting("paused", value=True)]]
