"""A small model of OTP's supervisor.erl: one supervisor that handles its messages one after the other.

Its functions have the names of the functions that they model. Children stop at once when they are told to. The model
runs on the loop of the supervisor that is compared with it, so that both see the same times. Where asyncwatch differs
on purpose, the docstring says "Ours"; tests/README.md gives the reasons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from asyncwatch.policies.restart import AutoShutdown, RestartType

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
Outcome = Literal["ok", "error", "ignore", "slow ok", "slow error"]
"""The result of a start."""
How = Literal["normal", "shutdown", "abnormal", "kill"]
"""How a child ends by itself."""
Handler = Callable[..., Awaitable[str]]

SLOW = 1.0
"""Seconds that a slow start takes."""
RUNNING, STOPPED, RESTARTING = "running", "stopped", "restarting"
"""Our names for a child with a pid, with `undefined`, and with `{restarting, Pid}`."""
FAILED, CALLED_OFF, GONE = "StartError", "called off", "NoSuchSupervisor"


@dataclass(eq=False)
class Process:
    """The process of a pid."""

    is_alive: bool = True


@dataclass(eq=False)
class Kid:
    """OTP's `#child`."""

    name: str
    restart: RestartType
    is_significant: bool
    pid: Process | None = None
    is_restarting: bool = False
    is_unwanted: bool = False
    """Ours: a request to stop it is pending."""
    is_looping: bool = False
    """Ours: its last restart failed, and is tried again."""

    @property
    def status(self) -> str:
        """Our name for its status."""
        return RESTARTING if self.is_restarting else STOPPED if self.pid is None else RUNNING


@dataclass(eq=False)
class Reference:
    """A running supervisor. `script` has the outcomes of the next starts by name; `log` gets `+name` and `-name`."""

    strategy: Strategy
    max_restarts: int
    within: float
    auto_shutdown: AutoShutdown
    script: dict[str, list[Outcome]]
    log: list[str] = field(default_factory=list)
    children: list[Kid] = field(default_factory=list)
    """In start order."""
    is_up: bool = True
    is_busy: bool = False
    _restarts: list[float] = field(default_factory=list)
    _mailbox: asyncio.Queue[tuple[Handler, tuple[object, ...], asyncio.Future[str]]] = field(
        default_factory=asyncio.Queue
    )
    _starting: Kid | None = None
    _start: asyncio.Future[str] | None = None

    async def run(self, children: list[Kid]) -> None:
        """Start `children`, none of which may fail, then handle messages until it is to end, and end."""
        for kid in children:
            await self._add(kid)
        while self.is_up:
            await self._handle_message()
        for kid in reversed(self.children):
            self._do_terminate(kid)
        while not self._mailbox.empty():
            self._mailbox.get_nowait()[2].set_result(GONE)

    async def _handle_message(self) -> None:
        handler, args, reply = await self._mailbox.get()
        self.is_busy = True
        reply.set_result(await handler(*args) if self.is_up else GONE)
        self.is_busy = False

    def call(self, handler: Handler, *args: object) -> asyncio.Future[str]:
        """Put a request into the mailbox; return its answer."""
        reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self.is_up:
            self._mailbox.put_nowait((handler, args, reply))
        else:
            reply.set_result(GONE)
        return reply

    def _cast(self, handler: Handler, *args: object) -> None:
        self._mailbox.put_nowait((handler, args, asyncio.get_running_loop().create_future()))

    def stop(self) -> None:
        """End. Ours: at once, not when the message is handled; a start that is under way is interrupted."""
        if self.is_up:
            self._cast(self.restart_child, "")
            self.is_up = False
            self._call_off()

    def exit(self, kid: Kid, how: How) -> None:
        """Let the process of a child end by itself."""
        assert kid.pid is not None
        kid.pid.is_alive = False
        self.log.append(f"-{kid.name}")
        self._cast(self._handle_exit, kid.pid, how)

    def interrupt(self, name: str) -> bool:
        """Ours: let no restart start a child that is to be terminated, and interrupt its start if that is under way.

        Return whether the child is being added.
        """
        kid = self._find(name) or self._starting
        if kid is None or kid.name != name:
            return False
        kid.is_unwanted = True
        if kid is self._starting:
            self._call_off()
        return kid not in self.children

    async def start_child(self, new: Kid) -> str:
        """`handle_call({start_child, _})`."""
        old = self._find(new.name)
        if old is None:
            return await self._add(new)
        return "AlreadyStarted" if old.pid is not None or self._is_simple else "AlreadyPresent"

    async def terminate_child(self, name: str, was_being_added: bool) -> str:
        """`handle_call({terminate_child, _})`."""
        kid = self._find(name)
        if kid is None:
            return "ok" if was_being_added else "NotFound"
        self._do_terminate(kid)
        self._del_child(kid)
        kid.is_unwanted = False
        return "ok"

    async def restart_child(self, name: str) -> str:
        """`handle_call({restart_child, _})`."""
        refusal = self._refusal(name)
        kid = self._find(name)
        if refusal or kid is None:
            return refusal
        outcome = await self._do_start_child(kid)
        if outcome != RUNNING:
            kid.is_looping = False
        return _answer(outcome)

    async def delete_child(self, name: str) -> str:
        """`handle_call({delete_child, _})`."""
        refusal = self._refusal(name)
        kid = self._find(name)
        if refusal or kid is None:
            return refusal
        self.children.remove(kid)
        return "ok"

    def statuses(self) -> dict[str, str]:
        """Return the status of each child, in start order."""
        return {kid.name: kid.status for kid in self.children}

    @property
    def _is_simple(self) -> bool:
        return self.strategy == "simple_one_for_one"

    def _find(self, name: str) -> Kid | None:
        return next((kid for kid in self.children if kid.name == name), None)

    def _refusal(self, name: str) -> str:
        kid = self._find(name)
        if self._is_simple:
            return "SimpleOneForOne"
        if kid is None:
            return "NotFound"
        return {RUNNING: "Running", RESTARTING: "Restarting", STOPPED: ""}[kid.status]

    async def _add(self, kid: Kid) -> str:
        outcome = await self._do_start_child(kid)
        if outcome == RUNNING or (outcome == STOPPED and kid.restart != "temporary" and not self._is_simple):
            self.children.append(kid)
        return _answer(outcome)

    async def _do_start_child(self, kid: Kid) -> str:
        """Start a child; return RUNNING, STOPPED (it ignored the start), FAILED or, only ours, CALLED_OFF."""
        outcomes = self.script.get(kid.name)
        speed, _, outcome = (outcomes.pop(0) if outcomes else "ok").rpartition(" ")
        if speed:
            loop = asyncio.get_running_loop()
            self._starting, self._start = kid, loop.create_future()
            timer = loop.call_later(SLOW, self._start.set_result, outcome)
            outcome = await self._start
            timer.cancel()
            self._starting = self._start = None
        if outcome != "ok":
            return {"ignore": STOPPED, "error": FAILED}.get(outcome, CALLED_OFF)
        self.log.append(f"+{kid.name}")
        kid.pid, kid.is_restarting, kid.is_looping = Process(), False, False
        return RUNNING

    def _call_off(self) -> None:
        if self._start is not None and not self._start.done():
            self._start.set_result(CALLED_OFF)

    def _do_terminate(self, kid: Kid) -> None:
        if kid.pid is not None and kid.pid.is_alive:
            kid.pid.is_alive = False
            self.log.append(f"-{kid.name}")
        kid.pid, kid.is_restarting = None, False

    def _del_child(self, kid: Kid) -> None:
        kid.pid, kid.is_restarting, kid.is_looping = None, False, False
        if kid.restart == "temporary" or self._is_simple:
            self.children.remove(kid)

    async def _handle_exit(self, pid: Process, how: How) -> str:
        """`handle_info({'EXIT', _, _})`, and `do_restart`."""
        kid = next((kid for kid in self.children if kid.pid is pid), None)
        if kid is None:
            return ""
        is_abnormal = how in ("abnormal", "kill")
        if kid.restart == "temporary" or (kid.restart == "transient" and not is_abnormal):
            self._del_child(kid)
            self._do_auto_shutdown(kid)
        elif kid.is_unwanted:
            kid.pid, kid.is_restarting = None, True
        else:
            await self._restart(kid)
        return ""

    async def _handle_try_again_restart(self, kid: Kid) -> str:
        if kid in self.children and kid.is_restarting and not kid.is_unwanted:
            await self._restart(kid)
        return ""

    def _do_auto_shutdown(self, kid: Kid) -> None:
        left = [other for other in self.children if self._is_simple or other.is_significant]
        is_last = all(other.status == STOPPED for other in left)
        if kid.is_significant and (
            self.auto_shutdown == "any_significant" or (self.auto_shutdown == "all_significant" and is_last)
        ):
            self.is_up = False

    async def _restart(self, kid: Kid) -> None:
        now = asyncio.get_running_loop().time()
        self._restarts = [now, *(then for then in self._restarts if now <= then + self.within)]
        if len(self._restarts) > self.max_restarts:
            self._del_child(kid)
            self.is_up = False
            return
        match self.strategy:
            case "one_for_one" | "simple_one_for_one":
                restarted = [kid]
            case "one_for_all":
                restarted = list(self.children)
            case "rest_for_one":
                restarted = self.children[self.children.index(kid) :]
        kid.pid = None
        for other in reversed(restarted):
            self._do_terminate(other)
            if other.restart == "temporary":
                self.children.remove(other)
        await self._start_children([other for other in restarted if other.restart != "temporary"])

    async def _start_children(self, children: list[Kid]) -> None:
        """Start children in order. If one fails, those after it stay as they are, `undefined`."""
        for kid in children:
            if not self.is_up:
                return
            was_unwanted = kid.is_unwanted
            outcome = CALLED_OFF if was_unwanted else await self._do_start_child(kid)
            kid.is_restarting = outcome in (FAILED, CALLED_OFF)
            if outcome == FAILED or (outcome == CALLED_OFF and kid.is_looping and not was_unwanted):
                kid.is_looping = True
                self._cast(self._handle_try_again_restart, kid)
                return
            if outcome == STOPPED:
                kid.is_looping = False
                if self._is_simple:
                    self.children.remove(kid)


def _answer(outcome: str) -> str:
    """Return the reply to a request to start a child."""
    return FAILED if outcome == CALLED_OFF else outcome
