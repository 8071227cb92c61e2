"""The `asyncwatch` command: reads arguments and wires the parts.

Whatever is heavy is imported where it is needed, so that `asyncwatch --help` answers at once.
"""

# ruff: noqa: PLC0415  heavy imports stand where they are needed

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

import asyncwatch
from asyncwatch.policies.runner import RUNNERS
from asyncwatch.text import mask_secrets, parse_duration, parse_failures, parse_per_second

if TYPE_CHECKING:
    from asyncwatch.config.load import Config
    from asyncwatch.config.problems import Problems
    from asyncwatch.plan.plan import Overrides, Plan

CONFIG_NAME = "asyncwatch.toml"


class _Problems(click.ClickException):
    """Arguments or settings that cannot be used: each problem on its line, exit status 2."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [mask_secrets(problem) for problem in problems]
        super().__init__("\n".join(self.problems))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print each problem on a line of its own."""
        for problem in self.problems:
            click.echo(f"asyncwatch: {problem}", file=file or sys.stderr)


class _Checked(click.ParamType[Any]):
    """Text that `check` turns into a value, or refuses by a `ValueError`."""

    def __init__(self, name: str, check: Callable[[str], object]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value."""
        try:
            return self._check(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _limit(text: str) -> float | None:
    seconds = None if text == "none" else parse_duration(text)
    if seconds == 0:
        raise ValueError("must be above 0; 'none' means no limit")
    return seconds


def _threshold(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise ValueError(f"must be a number between 0 and 1, not {text!r}")


def _whole(low: int, high: int) -> _Checked:
    def check(text: str) -> int:
        # `isdecimal` alone takes digits of every script, and `int` blanks and underscores.
        if not (text.isascii() and text.removeprefix("-").isdecimal() and low <= float(text) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return _Checked("number", check)


def _unless_none(parse: Callable[[str], object]) -> Callable[[str], str | None]:
    """Return a check that takes what `parse` can read, as it stands, and `none`."""

    def check(text: str) -> str | None:
        if text == "none":
            return None
        parse(text)
        return text

    return check


_DURATION = _Checked("duration", _limit)


class _CommandWithOthers(click.Command):
    """The command; the name of another one as its first argument hands over to that."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments of the command that they are for."""
        try:
            for other in (check, selftest):
                if args[:1] == [other.name]:
                    return other.make_context(f"{info_name} {other.name}", args[1:], parent, **extra)
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            # It quotes what was given.
            raise click.UsageError(mask_secrets(error.format_message()), error.ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments were read for."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


_EPILOG = """\
\b
Examples:
  asyncwatch                                        the demo: 20 workers with bad luck
  asyncwatch https://a.example https://b.example    one worker a URL
  asyncwatch --items urls.txt --concurrency 20      one URL a line; - reads standard input
  asyncwatch jobs:backfill --items ids.csv          one call of an async def a row
  asyncwatch --config site.toml --headless --json   events as JSON lines
  asyncwatch check site.toml                        what would run, without running it
  asyncwatch selftest                               whether supervision works on this Python

\b
The demo has its own values: bad luck above 0.9 and a timeout of 10s; options beat them.
Durations read 250ms, 1.5s, 2m, 1h, 5 for five seconds, or none.
Exit status: 0 all succeeded, 1 some did not or the output could not be written,
2 bad arguments or config, 130 interrupted, 141 the reader of stdout left (as in | head).
"""

_ITEMS = click.option(
    "--items", metavar="FILE", help="One worker a line (text, .jsonl), or a row (.csv); - is standard input."
)
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command(cls=_CommandWithOthers, context_settings=_SETTINGS, epilog=_EPILOG)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Settings, in TOML. Default: ./{CONFIG_NAME}, else the one in your config folder, else the demo.",
)
@_ITEMS
@click.option("--runner", type=click.Choice(RUNNERS), help="How the workers are awaited. Default: as_completed.")
@click.option("--concurrency", type=_whole(1, 1_000_000), metavar="N", help="Attempts at once. Default: 100.")
@click.option("--timeout", type=_DURATION, metavar="DURATION", help="Of the whole run. Default: none.")
@click.option("--attempt-timeout", type=_DURATION, metavar="DURATION", help="Of one attempt. Default: none.")
@click.option("--max-attempts", type=_whole(1, 1_000_000), metavar="N", help="The first one included. Default: 3.")
@click.option(
    "--bad-luck",
    type=_Checked("threshold", _threshold),
    metavar="THRESHOLD",
    help="Draws above it inject a fault. Default: 1, none.",
)
@click.option("--seed", type=_whole(0, 2**63 - 1), metavar="N", help="Repeat the draws of an earlier run.")
@click.option(
    "--rate",
    type=_Checked("rate", _unless_none(parse_per_second)),
    metavar="RATE",
    help="Attempts that may start: 50/s, 90/min, '50/s burst 10'. Default: none.",
)
@click.option(
    "--halt",
    type=_Checked("halt", _unless_none(parse_failures)),
    metavar="FAILURES",
    help="Start no more work when so many failed: 10, 5%, or first. Default: none.",
)
@click.option("--headless", is_flag=True, help="No dashboard; chosen by itself when stdout is no terminal.")
@click.option("--json", "is_json", is_flag=True, help="Every event as a JSON line on stdout. Implies --headless.")
@click.option(
    "--output",
    metavar="FILE",
    help="One line a worker when it ends: .jsonl or .csv. An existing file is replaced.",
)
@click.version_option(asyncwatch.__version__, prog_name="asyncwatch")
@click.pass_context
def main(
    ctx: click.Context,
    /,
    *,
    targets: tuple[str, ...],
    config: Path | None,
    items: str | None,
    headless: bool,
    is_json: bool,
    **given: Any,
) -> None:
    """Run many async workers under a supervisor and watch each of them live.

    TARGET is one or more URLs, or one module:function (any async def). A TARGET or --items takes the place of the
    groups of a config; its other settings hold.
    """
    _open_closed_streams()
    try:
        settings = _find_settings(config, has_work=bool(targets) or items is not None)
        _tell_typing(items)
        # A module of functions may print while it is imported.
        with contextlib.redirect_stdout(sys.stderr) if is_json else contextlib.nullcontext():
            plan = _plan(*settings, targets, items, _overrides(ctx, given))
        ctx.exit(_run(plan, may_show=not headless and not is_json, is_json=is_json))
    except KeyboardInterrupt:
        ctx.exit(130)


@click.command(context_settings=_SETTINGS)
@click.argument("what", nargs=-1, metavar="[FILE] [TARGET]...")
@_ITEMS
def check(what: tuple[str, ...], items: str | None) -> None:
    """Validate a config and print what would run.

    FILE is the config; default: as without check. TARGET and --items are those that would be run with it. Nothing is
    run, but items are read, and the modules of functions are imported to see whether they can be called.
    """
    from asyncwatch.plan.describe import describe_plan
    from asyncwatch.plan.plan import Overrides, is_target

    file = None if not what or is_target(what[0]) else Path(what[0])
    targets = what if file is None else what[1:]
    settings = _find_settings(file, has_work=bool(targets) or items is not None)
    _tell_typing(items)
    plan = _plan(*settings, targets, items, Overrides())
    click.echo("\n".join(describe_plan(plan)))


@click.command(context_settings=_SETTINGS)
@click.pass_context
def selftest(ctx: click.Context) -> None:
    """Run the cases of Erlang/OTP's supervisor on this Python and its event loops, and print what passed.

    Exit status: 0 if all did, 1 if one did not.
    """
    from asyncwatch.selftest.table import print_table

    ctx.exit(0 if print_table(click.echo) else 1)


def _tell_typing(items: str | None) -> None:
    """Say what is waited for, if it is a person who has to type the items."""
    if items == "-" and sys.stdin is not None and sys.stdin.isatty():
        click.echo("asyncwatch: reading items from the terminal; Ctrl+D ends them", err=True)


def _open_closed_streams() -> None:
    """Give a process that was started with a closed stdout or stderr one that leads nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  for good


def _find_settings(file: Path | None, *, has_work: bool) -> tuple[Config, Problems | None]:
    """Return the settings of `file` and what is wrong with them.

    Without it they are those of the first config there is, else the demo's, or none for other work.
    """
    from asyncwatch.config.load import Config, demo_config, read_config
    from asyncwatch.config.problems import ConfigError, read_text

    if file is None:
        # `Path.exists` raises where a folder on the way may not be entered.
        file = next((path for path in _usual_places() if os.path.exists(path)), None)  # noqa: PTH110
    if file is None:
        return (Config() if has_work else demo_config()), None
    try:
        return read_config(read_text(file), file)
    except ConfigError as error:
        raise _Problems(error.problems) from None


def _usual_places() -> Sequence[Path]:
    import platformdirs

    return Path(CONFIG_NAME), platformdirs.user_config_path("asyncwatch") / CONFIG_NAME


def _overrides(ctx: click.Context, given: dict[str, Any]) -> Overrides:
    from asyncwatch.plan.plan import Overrides

    # A `--timeout none` is None like an option that was not given, so that the value alone does not tell.
    on_command_line = {
        name: value
        for name, value in given.items()
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    return Overrides(**on_command_line)


def _plan(
    settings: Config, found: Problems | None, targets: Sequence[str], items: str | None, overrides: Overrides
) -> Plan:
    from asyncwatch.plan.plan import PlanError, make_plan

    try:
        return make_plan(settings, targets=targets, items=items, overrides=overrides, found=found)
    except PlanError as error:
        raise _Problems(error.problems) from None


def _run(plan: Plan, *, may_show: bool, is_json: bool) -> int:
    from asyncwatch.cli.session import OutputError, has_keyboard, run_plan

    is_dashboard = may_show and sys.stdout.isatty() and has_keyboard()
    try:
        return run_plan(plan, is_dashboard=is_dashboard, is_json=is_json)
    except OutputError as error:
        raise _Problems([str(error)]) from None
