"""`asyncwatch runs`: the options of the history of recorded runs. `cli.history` looks into it."""

# ruff: noqa: PLC0415  as in `cli.ctl`

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from asyncwatch.cli import INTERRUPTED
from asyncwatch.cli.answer import Answer, ErrorKind, Failure, print_answer
from asyncwatch.text import mask_secrets, parse_duration

_DAYS = re.compile(r"\s*(\d{1,5}) ?d\s*", re.ASCII)
_DAY = 86_400.0


class _Age(click.ParamType[float]):
    """Seconds, written as days or as any duration."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if match := _DAYS.fullmatch(value):
            return int(match[1]) * _DAY
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(f"{error}, or like '30d'", param, ctx)


class _Runs(click.Group):
    """A group that answers usage errors as JSON if that was wanted, and lists its commands as they are defined."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands."""
        del ctx
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        ctx.meta[_IS_JSON] = "--json" in args and not ctx.resilient_parsing
        rest: list[str] = self._answering(ctx, lambda: super(_Runs, self).parse_args(ctx, args))
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Carry the command out."""
        return self._answering(ctx, lambda: super(_Runs, self).invoke(ctx))

    def _answering(self, ctx: click.Context, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except click.UsageError as error:
            if not ctx.meta[_IS_JSON]:
                raise
            failure = Failure(ErrorKind.USAGE, mask_secrets(error.format_message()))
            ctx.exit(print_answer(Answer({}, failure=failure), is_json=True))


_IS_JSON = "asyncwatch.runs.is_json"
_JSON = click.option("--json", "is_json", is_flag=True, help="Write one JSON object to stdout.")
_JOURNALS = click.option(
    "--journal-dir",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="Folder of the journals. Default: all that your runs have used, and the journal_dir of ./asyncwatch.toml.",
)


@click.group(
    cls=_Runs,
    short_help="List the runs that were recorded, newest first.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--all", "is_all", is_flag=True, help="List all runs, not only the latest 20.")
@_JOURNALS
@_JSON
@click.pass_context
def runs(ctx: click.Context, *, is_all: bool, journal_dir: Path | None, is_json: bool) -> None:
    """List the runs that were recorded, the newest first: ID, name, result, start, duration, rate, and folder.

    The result is running, succeeded, failed (not everything succeeded), interrupted (stopped before its end), killed
    (there is no record of its end), damaged or newer format (the journal cannot be read), and the workers by state.
    Of a run that was resumed, duration, rate and workers are those of the last launch. The rate counts ended workers.

    The JSON has a version, which is 1; total, the number of recorded runs; and for each of the runs: id, name, root
    (the ID of the first run of a chain of repeats), parent (the ID of the run that it repeats, else null), state,
    folder, command, pid, version (of asyncwatch), launches, started and ended (seconds since the epoch), status (the
    exit status), workers, settled, counts (workers by state), done_before (items that had succeeded in earlier
    launches), not_started (workers that were stopped before their first attempt), attempts, lost_results (workers that
    succeeded with a result that JSON cannot hold, and are run again by a resume), elapsed (seconds), rate (per second),
    size (bytes of its files), journal (the path) and problem. What is not known is null: status, and workers to
    attempts, of a run that was killed or goes on. New fields do not change the version.
    """
    if ctx.invoked_subcommand is None:
        from asyncwatch.cli import history

        _answer(lambda: history.list_recorded(_folders(journal_dir), is_all=is_all), is_json=is_json)
    elif is_all or journal_dir is not None or is_json:
        raise click.UsageError(f"Give options after {ctx.invoked_subcommand}.", ctx)


@runs.command
@click.argument("run", metavar="ID")
@click.option("--summary-json", metavar="FILE", help="Write the summary to this file as JSON.")
@click.option("--junit", metavar="FILE", help="Write a test case per worker to this file, as JUnit's XML.")
@_JOURNALS
@_JSON
def show(run: str, *, summary_json: str | None, junit: str | None, journal_dir: Path | None, is_json: bool) -> None:
    """Show a run: its summary with the errors by kind, its settings, and its launches.

    ID is the beginning of the run's ID, or its name. A run that is alive is asked for its present state, recorded or
    not.

    The JSON has the fields run (as in the list), is_alive, launches (each with number, started, ended, pid, command,
    version, done_before and status), settings (of the config, by dotted key), and summary.

    --summary-json and --junit write the same files as the options of a run. Those of a run that was resumed hold what
    earlier launches have done as well; what is printed is the last launch.
    """
    from asyncwatch.cli import history

    _answer(lambda: history.show_recorded(_folders(journal_dir), run, summary_json, junit), is_json=is_json)


@runs.command
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--older-than", type=_Age(), metavar="AGE", help="Those that ended longer ago than this: 30d, 12h.")
@click.option("--all-ended", is_flag=True, help="All that are not running.")
@click.option("--yes", "-y", "is_sure", is_flag=True, help="Do not ask. Without a terminal, nothing is asked either.")
@_JOURNALS
@_JSON
def rm(
    ids: tuple[str, ...],
    *,
    older_than: float | None,
    all_ended: bool,
    is_sure: bool,
    journal_dir: Path | None,
    is_json: bool,
) -> None:
    """Remove recorded runs. They can be shown, replayed and resumed no more.

    Give the beginning of the ID or the name of each, or one of --older-than and --all-ended. A run that is being
    recorded stays. The JSON has the fields removed (IDs) and size (bytes).
    """
    if sum((bool(ids), older_than is not None, all_ended)) != 1:
        raise click.UsageError("Give an ID, or --older-than, or --all-ended.", click.get_current_context())
    from asyncwatch.cli import history

    is_asked = not is_sure and not is_json and sys.stdin is not None and sys.stdin.isatty()

    def confirm(question: str) -> bool:
        return not is_asked or click.confirm(question, err=True)

    _answer(
        lambda: history.remove_recorded(_folders(journal_dir), ids, older_than, confirm),
        is_json=is_json,
    )


def _folders(journal_dir: Path | None) -> list[Path]:
    from asyncwatch.cli.resume import journal_folders

    return journal_folders() if journal_dir is None else [journal_dir]


def _answer(ask: Callable[[], Answer], *, is_json: bool) -> None:
    """Print the answer, and end the process with its exit status."""
    ctx = click.get_current_context()
    try:
        answer = ask()
    except Failure as failure:
        answer = Answer({}, failure=failure)
    except (KeyboardInterrupt, click.Abort):
        ctx.exit(INTERRUPTED)
    ctx.exit(print_answer(answer, is_json=is_json))
