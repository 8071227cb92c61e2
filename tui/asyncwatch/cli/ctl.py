"""`asyncwatch ctl`: looks at the workers of a run in another process, and steers it."""

# ruff: noqa: PLC0415  `asyncwatch --help` reads this module, and needs none of what it imports

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from asyncwatch.cli import INTERRUPTED
from asyncwatch.cli.answer import Answer, ErrorKind, Failure, print_answer
from asyncwatch.text import mask_secrets, parse_duration

_ID, _IS_JSON, _HAS_ACTION = "asyncwatch.ctl.id", "asyncwatch.ctl.is_json", "asyncwatch.ctl.has_action"


class _Ctl(click.Group):
    """A group whose first argument names a run, unless it is an action."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the arguments for the help."""
        del ctx
        return ["[ID]", "ACTION", "[ARGS]..."]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the actions in the order of their definition."""
        del ctx
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the ID from the arguments."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ctx.meta[_ID], ctx.meta[_IS_JSON] = None, "--json" in args
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            ctx.meta[_ID], *args = args
        ctx.meta[_HAS_ACTION] = bool(args)
        with _UsageInJson(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Carry the action out."""
        with _UsageInJson(ctx):
            if not ctx.meta[_HAS_ACTION]:
                ctx.fail(f"Missing action: {', '.join(self.commands)}.")
            return super().invoke(ctx)


class _UsageInJson:
    """Answers a usage error as JSON if that was wanted, although the arguments cannot be parsed."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, click.UsageError) and self._ctx.meta[_IS_JSON]:
            failure = Failure(ErrorKind.USAGE, mask_secrets(error.format_message()))
            self._ctx.exit(print_answer(Answer({}, failure=failure), is_json=True))


class _Duration(click.ParamType[float | None]):
    """A number of seconds in words, or None for no limit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Return the seconds."""
        try:
            return None if value == "none" else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group(
    cls=_Ctl,
    short_help="Look at a run and steer it, from another terminal.",
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def ctl() -> None:
    """Look at the workers of a run, and steer it, from another terminal or from a script.

    ID is the beginning of the run's ID, or its name; asyncwatch ps lists both. It is not needed if there is only one
    run.

    A SELECTOR is the name of a worker, a pattern such as 'fetch-*', or a filter as in the dashboard, such as
    state:failed or 'retries>0 error:Timeout'. Several select all workers that match any of them.

    Exit status: 0 if everything was carried out, 1 if not, 2 for wrong arguments, 124 after a time-out. wait ends with
    the status of the run.
    """


_Function = Callable[..., Any]
_SELECTORS = click.argument("selectors", nargs=-1, metavar="[SELECTOR]...")
_JSON = click.option("--json", "is_json", is_flag=True, help="Write one JSON object to stdout.")
_ALL = click.option("--all", "is_all", is_flag=True, help="Select every worker to which the action applies.")
_DRY = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_TIMEOUT = click.option(
    "--timeout",
    type=_Duration(),
    default="10s",
    metavar="DURATION",
    help="Longest wait for the run's answer. Default: 10s.",
)


def _answer(ask: Callable[[], Answer], *, is_json: bool) -> None:
    """Print the answer, and end the process with its exit status."""
    ctx = click.get_current_context()
    try:
        answer = ask()
    except Failure as failure:
        answer = Answer({}, failure=failure)
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)
    ctx.exit(print_answer(answer, is_json=is_json))


def _id() -> str | None:
    run: str | None = click.get_current_context().meta[_ID]
    return run


@ctl.command("list")
@_SELECTORS
@_TIMEOUT
@_JSON
def list_(selectors: tuple[str, ...], *, timeout: float | None, is_json: bool) -> None:
    """List the workers that match, or all of them. For a run that has ended, show its summary."""
    from asyncwatch.cli import remote

    run = _id()
    _answer(lambda: remote.list_workers(run, selectors, timeout), is_json=is_json)


@ctl.command
@click.argument("worker", required=False, metavar="[WORKER]")
@_TIMEOUT
@_JSON
def show(worker: str | None, *, timeout: float | None, is_json: bool) -> None:
    """Show one worker: its attempts, traceback, log, and stack. Without WORKER, show the run.

    WORKER is a selector that matches one worker. Of a run that has ended, only the summary is kept.
    """
    from asyncwatch.cli import remote

    run = _id()
    _answer(lambda: remote.show(run, worker, timeout), is_json=is_json)


def _worker_action(name: str, explanation: str) -> None:
    @ctl.command(name, help=explanation)
    @_SELECTORS
    @_ALL
    @_DRY
    @_TIMEOUT
    @_JSON
    def act(selectors: tuple[str, ...], *, is_all: bool, dry_run: bool, timeout: float | None, is_json: bool) -> None:
        if is_all == bool(selectors):
            raise click.UsageError("Give a SELECTOR, or --all.", click.get_current_context())
        from asyncwatch.cli import remote

        run = _id()
        _answer(lambda: remote.act(run, name, selectors, timeout, is_dry=dry_run), is_json=is_json)


_worker_action("cancel", "Cancel workers.")
_worker_action("restart", "Start workers again. Active ones are cancelled first.")
_worker_action("retry-now", "Let workers that wait for a retry, a limit or a restart go on now.")
_worker_action("give-up", "Let workers that wait make no further attempt.")


def _setting(name: str, value: object, key: str, timeout: float | None, *, is_json: bool) -> None:
    from asyncwatch.cli import remote

    run = _id()
    _answer(lambda: remote.change_setting(run, name, value, key, timeout), is_json=is_json)


@ctl.command
@_TIMEOUT
@_JSON
def pause(*, timeout: float | None, is_json: bool) -> None:
    """Start no new attempts."""
    _setting("paused", True, "", timeout, is_json=is_json)


@ctl.command
@_TIMEOUT
@_JSON
def resume(*, timeout: float | None, is_json: bool) -> None:
    """Start attempts again."""
    _setting("paused", False, "", timeout, is_json=is_json)


@ctl.command("set")
@click.argument("name")
@click.argument("value")
@click.option("--key", default="", metavar="KEY", help="The host or other key whose rate is set.")
@_TIMEOUT
@_JSON
def set_(name: str, value: str, *, key: str, timeout: float | None, is_json: bool) -> None:
    """Change a setting of the run: concurrency, rate, rate-per-key or bad-luck.

    VALUE is as in the dashboard: a number, a rate such as 50/s, or none.
    """
    from asyncwatch.events import SETTINGS
    from asyncwatch.policies.settings import read_typed

    setting, ctx = name.replace("-", " ").replace("_", " "), click.get_current_context()
    settings = [each for each in SETTINGS if each != "paused"]
    if setting not in settings:
        names = ", ".join(each.replace(" ", "-") for each in settings)
        raise click.UsageError(f"There is no setting {name!r}: {names}. pause and resume are actions.", ctx)
    if key and setting != "rate":
        raise click.UsageError("Only rate has a --key.", ctx)
    try:
        typed = read_typed(value, SETTINGS[setting])
    except ValueError as error:
        raise click.UsageError(f"{name}: {error}", ctx) from None
    _setting(setting, typed, key, timeout, is_json=is_json)


@ctl.command
@click.option("--now", is_flag=True, help="Give workers no time to end.")
@_TIMEOUT
@_JSON
def stop(*, now: bool, timeout: float | None, is_json: bool) -> None:
    """Stop the run: cancel its workers and finish it. `wait` waits for the end."""
    from asyncwatch.cli import remote

    run = _id()
    _answer(lambda: remote.stop(run, timeout, at_once=now), is_json=is_json)


@ctl.command
@click.option("--timeout", type=_Duration(), default="none", metavar="DURATION", help="Longest wait. Default: none.")
@_JSON
def wait(*, timeout: float | None, is_json: bool) -> None:
    """Wait for the end of the run, print its summary, and end with its exit status."""
    from asyncwatch.cli import remote

    run = _id()
    _answer(lambda: remote.wait(run, timeout), is_json=is_json)
