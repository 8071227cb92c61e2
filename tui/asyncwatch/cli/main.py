"""The `asyncwatch` command: its options, and the way from arguments and config to a run.

Heavy modules are imported where they are used, so that `asyncwatch --help` answers at once.
"""

# ruff: noqa: PLC0415  as said above

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

import asyncwatch
from asyncwatch.cli import BAD_INPUT, INTERRUPTED, NOT_ALL_SUCCEEDED, READER_GONE
from asyncwatch.cli.ctl import ctl
from asyncwatch.cli.messages import NO_THREADS, lacks_threads, report
from asyncwatch.cli.observe import observe
from asyncwatch.cli.runs import runs
from asyncwatch.policies.runner import RUNNERS
from asyncwatch.process import discard_output, kept_streams
from asyncwatch.text import mask_secrets, one_line, printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from asyncwatch.cli import MakePlan
    from asyncwatch.config.problems import Problems
    from asyncwatch.config.schema import Config
    from asyncwatch.plan.plan import Overrides, Plan

CONFIG_NAME = "asyncwatch.toml"
_LONGEST_PROBLEM = 1_000
"""Characters of a message. Names and values in it can be of any length."""

# -- the values of options


class SettingType(click.ParamType[Any]):
    """The values of a setting of the config, by its dotted key.

    The help of an option states the default in words of its own: reading it would add 40 ms to `--help`.
    """

    def __init__(self, key: str, name: str) -> None:
        self.key = key
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value."""
        from asyncwatch.config.schema import Config
        from asyncwatch.policies.settings import read_typed, setting_at

        try:
            return read_typed(value, setting_at(Config, self.key).rule)
        except ValueError as error:
            self.fail(str(error), param, ctx)


# -- the commands


class _MainCommand(click.Command):
    """The main command, or another one if its name is the first argument."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments with the command that they name."""
        with _usage_errors_masked(), _stdout_checked():
            for other in COMMANDS:
                if args[:1] == [other.name]:
                    return other.make_context(f"{info_name} {other.name}", args[1:], parent, **extra)
            return super().make_context(info_name, args, parent, **extra)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by what they are about, then the other commands."""
        left = {param.name: param for param in self.get_params(ctx) if isinstance(param, click.Option)}
        for title, names in (*_THEMES.items(), ("Other", tuple(left))):
            params = [param for name in names if (param := left.pop(name, None)) is not None]
            if records := [record for param in params if (record := param.get_help_record(ctx)) is not None]:
                with formatter.section(title):
                    formatter.write_dl(records)
        with formatter.section("Commands"):
            formatter.write_dl([(other.name or "", other.get_short_help_str(70)) for other in COMMANDS])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name. Ctrl+C ends it with status 130."""
        try:
            with _usage_errors_masked(), _stdout_checked():
                return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except RuntimeError as error:
            if not lacks_threads(error):
                raise
            report(NO_THREADS)
            ctx.exit(NOT_ALL_SUCCEEDED)


class _UsageError(click.UsageError):
    def show(self, file: IO[Any] | None = None) -> None:
        with contextlib.suppress(OSError):  # the exit status says it too
            super().show(file)


@contextlib.contextmanager
def _usage_errors_masked() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        # The message quotes arguments, which may be URLs with a password.
        lines = mask_secrets(error.format_message()).split("\n")
        shown = (one_line(printable(line), _LONGEST_PROBLEM) for line in lines)
        raise _UsageError("\n".join(shown), error.ctx) from None


@contextlib.contextmanager
def _stdout_checked() -> Iterator[None]:
    """End the command if standard output takes no text: with status 141 if its reader has left, else with a message."""
    try:
        yield
    except OSError as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is None or trace.tb_frame.f_code is not click.echo.__code__:
            raise
        discard_output(1)
        if isinstance(error, BrokenPipeError):
            raise click.exceptions.Exit(READER_GONE) from None
        _note(f"cannot write to stdout: {error.strerror or error}")
        raise click.exceptions.Exit(NOT_ALL_SUCCEEDED) from None


_THEMES = {
    "What to run": ("config", "items", "name_column", "skip_bad", "lifespan"),
    "Where it runs": ("engine", "insecure"),
    "How much at once, and how long": ("runner", "concurrency", "rate", "timeout", "attempt_timeout"),
    "When something goes wrong": ("max_attempts", "halt", "bad_luck", "seed", "stop_ok"),
    "Where it is shown": ("headless", "detach", "is_json", "is_quiet", "metrics"),
    "What is written": ("output", "summary_json", "junit", "journal"),
}
"""The options of the main command by what they are about; all others come last."""
_EPILOG = """\
\b
Examples:
  asyncwatch                                        the demo: 20 workers with bad luck
  asyncwatch https://a.example https://b.example    one worker per URL
  asyncwatch --items urls.txt --concurrency 20      one URL per line; - reads standard input
  asyncwatch jobs:backfill --items ids.csv          one call of an async def per row
  asyncwatch --config site.toml --headless --json   events as JSON lines
  asyncwatch --items urls.txt --quiet --junit r.xml nothing but errors, and a report for CI
  asyncwatch check site.toml                        show what would run, without running it
  asyncwatch ps                                     list your runs that are alive
  asyncwatch runs                                   list the runs that were recorded
  asyncwatch ctl restart state:failed               restart the workers that failed
  asyncwatch selftest                               test supervision on this Python
  asyncwatch guide                                  read the documentation

\b
The demo has its own defaults: bad luck above 0.9, 5s for a request, 20s for the run. Options
override them. Its seed is drawn so that a worker fails and a retry helps; --seed repeats a run.
Durations: 250ms, 1.5s, 2m, 1h, 5 (seconds), or none.
Exit status: 0 if all workers succeeded, 1 if some did not or the output could not be written,
2 for bad arguments or config, 130 if interrupted (see --stop-ok), 141 if the reader of stdout left
(as in | head).
"""


def _complete_file(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _complete_command(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the commands of that beginning. Other targets are URLs and functions, which no shell knows."""
    from click.shell_completion import CompletionItem

    if ctx.params.get("targets"):
        return []
    names = [(other.name or "", other.get_short_help_str(60)) for other in COMMANDS]
    return [CompletionItem(name, help=text) for name, text in names if name.startswith(incomplete)]


_ITEMS = click.option(
    "--items",
    metavar="FILE",
    shell_complete=_complete_file,
    help="One worker per line (text, .jsonl, .ndjson) or row (.csv). - reads standard input.",
)
_NAME = click.option(
    "--name", "name_column", metavar="COLUMN", help="Column (or key, in .jsonl) whose values name the workers."
)
_SKIP_BAD = click.option("--skip-bad", is_flag=True, help="Leave out lines of --items that cannot be read.")
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_LIFESPAN = click.option(
    "--lifespan",
    type=SettingType("lifespan", "module:function"),
    metavar="MODULE:FUNCTION",
    help="Give the function the value of this async context manager, open for the whole run. Default: none.",
)

_ENGINE = click.option(
    "--engine",
    type=SettingType("engine", "engine"),
    metavar="ENGINE",
    help="Where attempts of functions run: asyncio, dask (processes of this machine), or the address "
    "(tls://HOST:8786) or file of a Dask scheduler. Default: asyncio.",
)
_INSECURE = click.option(
    "--insecure", is_flag=True, help="Permit tcp:// to a scheduler beyond this machine: others can run code there."
)


@click.command(cls=_MainCommand, context_settings=_SETTINGS, epilog=_EPILOG)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=_complete_command)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Settings in TOML. Default: ./{CONFIG_NAME} unless TARGET is URLs, else the one in your config folder, "
    "else the demo.",
)
@_ITEMS
@_NAME
@_SKIP_BAD
@click.option("--runner", type=click.Choice(RUNNERS), help="How to await the workers. Default: as_completed.")
@click.option(
    "--concurrency",
    type=SettingType("concurrency", "number"),
    metavar="N",
    help="Maximum attempts in flight. Default: 100.",
)
@click.option(
    "--timeout",
    type=SettingType("timeout", "duration"),
    metavar="DURATION",
    help="Time limit of the run. Default: none.",
)
@click.option(
    "--attempt-timeout",
    type=SettingType("attempt_timeout", "duration"),
    metavar="DURATION",
    help="Time limit of an attempt. Default: none.",
)
@click.option(
    "--max-attempts",
    type=SettingType("retry.max_attempts", "number"),
    metavar="N",
    help="Maximum attempts per worker. Default: 3.",
)
@click.option(
    "--bad-luck",
    type=SettingType("bad_luck.threshold", "threshold"),
    metavar="THRESHOLD",
    help="Inject a fault if the draw in [0, 1) is above this. Default: 1 (never).",
)
@click.option(
    "--seed", type=SettingType("seed", "number"), metavar="N", help="Draw the same luck as the run with this seed."
)
@click.option(
    "--rate",
    type=SettingType("rate", "rate"),
    metavar="RATE",
    help="Limit how often attempts start: 50/s, 90/min, '50/s burst 10'. Default: none.",
)
@click.option(
    "--halt",
    type=SettingType("halt", "halt"),
    metavar="FAILURES",
    help="Start no more work after this many failures: 10, 5%, or first. Default: none.",
)
@_LIFESPAN
@_ENGINE
@_INSECURE
@click.option("--stop-ok", is_flag=True, help="Let a run that is stopped have status 0, if no worker failed by itself.")
@click.option(
    "-q",
    "--quiet",
    "is_quiet",
    is_flag=True,
    help="Write no progress, no log below ERROR and no summary. Implies --headless.",
)
@click.option("--headless", is_flag=True, help="Do not show the dashboard. Implied if stdout is not a terminal.")
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    help="Start the run in the background, without this terminal, and return. asyncwatch attach shows it.",
)
@click.option("--json", "is_json", is_flag=True, help="Write every event to stdout as a JSON line. Implies --headless.")
@click.option(
    "--output",
    metavar="FILE",
    shell_complete=_complete_file,
    help="Write a line per ended worker to a .jsonl, .ndjson or .csv file. The first line replaces an existing file.",
)
@click.option(
    "--summary-json",
    metavar="FILE",
    shell_complete=_complete_file,
    help="Write the summary to this file as JSON when the run ends, also by Ctrl+C.",
)
@click.option(
    "--junit",
    metavar="FILE",
    shell_complete=_complete_file,
    help="Write a test case per worker to this file when the run ends, as JUnit's XML.",
)
@click.option(
    "--journal/--no-journal",
    default=None,
    help="Whether the run is recorded, so that it can be resumed. Default: batches with items or URLs are.",
)
@click.option(
    "--metrics",
    type=SettingType("metrics", "address"),
    metavar="ADDRESS",
    help="Serve metrics for Prometheus at HOST:PORT, or at a port of the loopback interface. Default: none.",
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
    is_quiet: bool,
    detach: bool,
    **options: Any,
) -> None:
    """Run many async workers under a supervisor and watch each of them live.

    TARGET is one or more URLs, or one module:function (async or plain). A TARGET or --items replaces the groups of a
    config. Its other settings still apply.
    """
    _start(ctx, targets, config, items, options, headless=headless, is_json=is_json, is_quiet=is_quiet, detach=detach)


def _start(
    ctx: click.Context,
    targets: tuple[str, ...],
    config: Path | None,
    items: str | None,
    options: dict[str, Any],
    *,
    headless: bool,
    is_json: bool,
    is_quiet: bool,
    detach: bool,
    resume: Callable[[Plan, Callable[[str], None]], Plan] | None = None,
) -> None:
    """Run what the arguments say, and exit. `resume` returns the part of the plan that is left to do."""
    from asyncwatch.cli.terminal import why_no_screens

    if detach and is_json:
        raise click.UsageError("--json needs a run that is not detached: asyncwatch ctl show --json asks one that is.")
    if detach and os.name != "posix":
        raise click.UsageError("--detach needs a Unix system.")

    def plan_run(note: Callable[[str], None], *, has_terminal: bool = False) -> Plan:
        settings = _find_settings(config, targets, items, note)
        given = _overrides(ctx, options)
        # What a pipe brings is compared with the past as a whole.
        is_live = resume is None
        plan = _make_plan(*settings, targets, items, given, note, is_live=is_live, has_terminal=has_terminal)
        return plan if resume is None else resume(plan, note)

    _prompt_for_items(items)
    if detach:
        from asyncwatch.cli.command import run_detached

        ctx.exit(run_detached(_refusable(plan_run), reads_input=items == "-"))
    if not (headless or is_json or is_quiet) and sys.stdout.isatty():
        if (reason := why_no_screens()) is None:
            from asyncwatch.cli.command import run_in_terminal

            ctx.exit(run_in_terminal(_refusable(plan_run), ctx.obj, reads_input=items == "-"))
        _note(f"no dashboard, since {reason}")
    if ctx.obj is not None:
        ctx.obj.discard()
    # The module of a function may print while it is imported.
    with kept_streams(), contextlib.redirect_stdout(sys.stderr) if is_json else contextlib.nullcontext():
        plan = plan_run(_note, has_terminal=True)
    ctx.exit(0 if resume is not None and not plan.has_work else _run(plan, is_json=is_json, is_quiet=is_quiet))


@click.command(context_settings=_SETTINGS)
@click.argument("what", nargs=-1, metavar="[FILE] [TARGET]...")
@_ITEMS
@_NAME
@_SKIP_BAD
@_LIFESPAN
@_ENGINE
@_INSECURE
@click.pass_context
def check(ctx: click.Context, /, *, what: tuple[str, ...], items: str | None, **options: Any) -> None:
    """Validate a config and show what would run.

    FILE is the config; the default is the config of a run. TARGET and --items are those of a run. Nothing runs, but
    items are read, and the modules of functions are imported to check that the functions can be called.
    """
    from asyncwatch.plan.describe import describe_plan
    from asyncwatch.plan.plan import is_target

    file = None if not what or is_target(what[0]) else Path(what[0])
    targets = what if file is None else what[1:]
    settings = _find_settings(file, targets, items, _note)
    _prompt_for_items(items)
    with kept_streams():
        plan = _make_plan(*settings, targets, items, _overrides(ctx, options), _note)
    click.echo("\n".join(describe_plan(plan)))


@click.command(context_settings=_SETTINGS, short_help="Test supervision on this Python with OTP's own cases.")
@click.pass_context
def selftest(ctx: click.Context) -> None:
    """Run the test cases of Erlang/OTP's supervisor on this Python and its event loops, and show the results.

    Exit status: 0 if all cases pass, else 1.
    """
    from asyncwatch.selftest.table import print_table

    ctx.exit(0 if print_table(click.echo) else 1)


@click.command(context_settings=_SETTINGS)
@click.argument("topic", default="index", metavar="[TOPIC]")
@click.option("--headless", is_flag=True, help="Print plain text. Implied if stdout is not a terminal.")
def guide(topic: str, *, headless: bool) -> None:
    """Read the documentation.

    TOPIC is a page, such as howto-urls, or its name without the kind, such as keys. The default is the index, which
    links to all pages.
    """
    from asyncwatch.cli.terminal import can_show_screens
    from asyncwatch.guide import UnknownTopicError, find_topic, text_of

    try:
        topic = find_topic(topic)
    except UnknownTopicError as error:
        raise _InputError([str(error)]) from None
    if headless or not can_show_screens():
        click.echo(text_of(topic), nl=False)
        return
    from asyncwatch.ui.guide import run_guide

    run_guide(topic)


@click.command(context_settings=_SETTINGS)
@click.argument("run", required=False, metavar="[ID]")
@click.option("--read-only", is_flag=True, help="Only look: no key acts on the run.")
@click.pass_context
def attach(ctx: click.Context, run: str | None, *, read_only: bool) -> None:
    """Show a run of yours that goes on in another process.

    ID is the beginning of the run's ID, or its name; asyncwatch ps lists both. It is not needed if there is only one
    run. q and D leave the run, which goes on.
    """
    from asyncwatch.cli.attach import attach, report_end
    from asyncwatch.cli.terminal import can_show_screens
    from asyncwatch.control.discovery import DiscoveryError, EndedRecord, select

    try:
        record = select(run)
    except DiscoveryError as error:
        raise _InputError([str(error)]) from None
    if isinstance(record, EndedRecord):
        ctx.exit(report_end(record))
    if not can_show_screens():
        raise _InputError(["attach needs a terminal that can show screens; without one, use asyncwatch ctl"])
    ctx.exit(attach(record, is_read_only=read_only))


@click.command(context_settings=_SETTINGS)
@click.argument("run", required=False, metavar="[ID[.LAUNCH]]")
@click.option(
    "--journal-dir",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="Folder of the journals. Default: all that your runs have used.",
)
@click.pass_context
def replay(ctx: click.Context, run: str | None, *, journal_dir: Path | None) -> None:
    """Show a recorded run again, at any moment of it.

    ID is the beginning of the run's ID; the default is the run that was recorded last. A run that was resumed has more
    than one launch: the last one is shown, and abcdefgh.1 is the first one. Space plays, and : goes to a time.
    """
    from asyncwatch.cli.replay import open_replay, run_replay
    from asyncwatch.cli.resume import journal_folders
    from asyncwatch.cli.terminal import can_show_screens
    from asyncwatch.journal.store import JournalError

    try:
        shown = open_replay(journal_folders() if journal_dir is None else [journal_dir], run)
    except (OSError, JournalError) as error:
        raise _InputError([str(error)]) from None
    if not can_show_screens():
        raise _InputError(["replay needs a terminal that can show screens"])
    ctx.exit(run_replay(shown))


@click.command(context_settings=_SETTINGS, short_help="List your runs that are alive, and how far they are.")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON object to stdout.")
@click.pass_context
def ps(ctx: click.Context, /, *, is_json: bool) -> None:
    """List your runs that are alive: ID, name, progress, since when, dashboards that show it, and folder.

    A run that does not answer within a second is listed as such.

    The JSON has a version, which is 1, and for each of the runs: id, name, folder, command, pid, started (seconds since
    the epoch), version (of asyncwatch), state (starting, running or stopping), workers, settled, counts (workers by
    state), flapping (services that crash again and again), clients, is_detached, not_recorded (since when and why the
    journal cannot be written; else null), and error. If the run does not answer, error has a kind (timeout,
    unreachable, protocol, full or stranger) and a message, and all from state to not_recorded are null. The problems
    are sentences about folders of sockets that are not safe to use. New fields do not change the version.
    """
    from asyncwatch.cli.answer import Answer, Failure, print_answer
    from asyncwatch.cli.progress import terminal_columns
    from asyncwatch.cli.ps import list_runs

    try:
        answer = list_runs(terminal_columns(sys.stdout))
    except Failure as failure:
        answer = Answer({}, failure=failure)
    ctx.exit(print_answer(answer, is_json=is_json))


_ASKING = (
    click.Option(["--dry-run"], is_flag=True, help="Only say what would be done."),
    click.Option(
        ["--list", "listed"],
        type=click.Choice(["done", "failed", "unfinished", "changed", "new", "gone"]),
        metavar="KIND",
        help="Only list the items that are done, failed, unfinished, changed, new or gone.",
    ),
)
_ARGUMENTS = click.Argument(["arguments"], nargs=-1, metavar="[ID] [TARGET]...")


def _with_options_of_runs(command: click.Command) -> click.Command:
    """Give the command the options of a run, whose values are checked together with those of the run before."""
    from copy import copy

    for option in main.params:
        if isinstance(option, click.Option) and option.is_eager is False:
            raw = copy(option)
            if isinstance(raw.type, (SettingType, click.Path)):
                raw.type = click.STRING
            command.params.append(raw)
    return command


@click.command(
    context_settings=_SETTINGS,
    short_help="Go on with a run that broke off.",
    params=[_ARGUMENTS, *_ASKING],
)
@click.pass_context
def resume(ctx: click.Context, /, **_options: Any) -> None:
    """Go on with a run that broke off: what succeeded is not run again, everything else is.

    ID is the beginning of the run's ID, or its name. The default is the latest run of this folder that has
    something left to do. The run keeps its ID, its folder and its arguments; options given here take precedence. The
    config and the items are read as they are now. Standard input is piped again, and each URL that had a password
    is given again as TARGET.

    What runs: items that did not succeed, that are new, or whose content has changed under the same name. Before it
    starts, it says how many of each there are.

    Exit status: that of the run. 0 if nothing is left to do.
    """
    _go_on(ctx, is_new=False)


@click.command(
    context_settings=_SETTINGS,
    short_help="Repeat what failed in a run, as a new run.",
    params=[
        _ARGUMENTS,
        *_ASKING,
        click.Option(
            ["--only"],
            metavar="FILTER",
            help="Run only those that match: a name, a pattern, or a filter such as 'error:Timeout'.",
        ),
    ],
)
@click.pass_context
def again(ctx: click.Context, /, **_options: Any) -> None:
    """Repeat the items of a run that did not succeed, as a new run.

    ID and options are as in asyncwatch resume. Items that were not in the run are left out.
    """
    _go_on(ctx, is_new=True)


_with_options_of_runs(resume)
_with_options_of_runs(again)


def _go_on(ctx: click.Context, *, is_new: bool) -> None:
    from asyncwatch.cli.resume import NothingLeftError, RefusedError, Request, arguments_of

    given = arguments_of(ctx)
    try:
        names = {option.name for option in main.params}
        params = [each for each in ctx.command.params if isinstance(each, click.Option) and each.name in names]
        request = Request(given, params, is_new=is_new)
        whole = main.make_context(str(ctx.command_path), list(request.arguments))
        settings = whole.params
        targets, config, items = (settings.pop(name) for name in ("targets", "config", "items"))
        show = {name: settings.pop(name) for name in ("headless", "is_json", "is_quiet", "detach")}

        def part_of(plan: Plan, note: Callable[[str], None]) -> Plan:
            try:
                return request.part_of(plan, note)
            except RefusedError as error:
                raise _InputError(error.problems) from None

        if request.is_dry:
            with kept_streams(), contextlib.redirect_stdout(sys.stderr):
                found = _find_settings(config, targets, items, _note)
                _prompt_for_items(items)
                plan = _make_plan(*found, targets, items, _overrides(whole, settings), _note)
            for line in request.answer(plan):
                click.echo(line)
            ctx.exit(0)
        _start(whole, targets, config, items, settings, **show, resume=part_of)
    except NothingLeftError as error:
        _note(f"nothing to {'repeat' if is_new else 'resume'}: {error}")
    except RefusedError as error:
        raise _InputError(error.problems) from None


@click.command(context_settings=_SETTINGS, short_help="Print a script that completes commands and options.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    r"""Print a script by which a shell completes commands, options and files of asyncwatch.

    \b
    bash:  asyncwatch completion bash > ~/.local/share/bash-completion/completions/asyncwatch
    zsh:   asyncwatch completion zsh > a file _asyncwatch in a folder of your $fpath
    fish:  asyncwatch completion fish > ~/.config/fish/completions/asyncwatch.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  click knows the three
    script = kind(main, {}, "asyncwatch", "_ASYNCWATCH_COMPLETE")
    click.echo(script.source_template % script.source_vars())


COMMANDS = (again, attach, check, completion, ctl, guide, observe, ps, replay, resume, runs, selftest)
"""The commands that are named by the first argument. Any other argument is for the main command."""


# -- from arguments to a run, in this order


class _InputError(click.ClickException):
    """Arguments or settings that cannot be used: one line on stderr for each problem, exit status 2."""

    exit_code = BAD_INPUT

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [one_line(printable(mask_secrets(problem)), _LONGEST_PROBLEM) for problem in problems]
        super().__init__("\n".join(self.problems))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print each problem on its own line."""
        for problem in self.problems:
            _note(problem, file)


def _refusable(plan_run: MakePlan) -> MakePlan:
    """Return `plan_run` for the engine's process, where problems of the input are no errors of the command line."""
    from asyncwatch.cli import NoPlanError

    def make(note: Callable[[str], None]) -> Plan:
        try:
            return plan_run(note)
        except _InputError as error:
            raise NoPlanError(error.problems) from None

    return make


def _find_settings(
    file: Path | None, targets: Sequence[str], items: str | None, note: Callable[[str], None]
) -> tuple[Config, Problems | None]:
    """Return the settings of the config, and its problems so far.

    The config is `file`, else the one in the current folder, else the one in the user's config folder. Without any,
    the settings are the demo's, or the defaults if the arguments name other work.

    A config can import code and name an output file, so the one of the current folder is named on the first line. It is
    not used for URLs, which a person may run in any folder.
    """
    from asyncwatch.config.load import demo_config, read_config
    from asyncwatch.config.problems import ConfigError, read_text
    from asyncwatch.config.schema import Config

    if file is None and _exists(here := Path(CONFIG_NAME)):
        if all("://" in target for target in targets) and (targets or items is not None):
            note(f"{CONFIG_NAME} in this folder is not used for URLs; use it with --config {CONFIG_NAME}")
        else:
            note(f"the settings are those of {CONFIG_NAME} in this folder")
            file = here
    if file is None and _exists(users := _users_config()):
        file = users
    if file is None:
        return (demo_config() if not targets and items is None else Config()), None
    try:
        return read_config(read_text(file), file)
    except ConfigError as error:
        raise _InputError(error.problems) from None


def _exists(path: Path) -> bool:
    # `Path.exists` raises an error if a folder of the path may not be entered.
    return os.path.exists(path)  # noqa: PTH110


def _users_config() -> Path:
    import platformdirs

    return platformdirs.user_config_path("asyncwatch") / CONFIG_NAME


def _note(text: str, file: IO[Any] | None = None) -> None:
    """Write a message to standard error, or to `file`."""
    with contextlib.suppress(OSError):  # nobody can be told: the exit status says the rest
        click.echo(f"asyncwatch: {text}", file=file or sys.stderr)


def _prompt_for_items(items: str | None) -> None:
    if items == "-" and sys.stdin is not None and sys.stdin.isatty():
        _note("Type one item per line. Press Ctrl+D to end.")


def _overrides(ctx: click.Context, options: dict[str, Any]) -> Overrides:
    from asyncwatch.plan.plan import Overrides

    # `--timeout none` is None, as an option that is not given: only the source tells them apart.
    given = click.core.ParameterSource.COMMANDLINE
    return Overrides(**{name: value for name, value in options.items() if ctx.get_parameter_source(name) is given})


def _make_plan(
    settings: Config,
    found: Problems | None,
    targets: Sequence[str],
    items: str | None,
    overrides: Overrides,
    note: Callable[[str], None],
    *,
    is_live: bool = False,
    has_terminal: bool = False,
) -> Plan:
    from asyncwatch.engine.loop_thread import LoopThread
    from asyncwatch.plan.plan import PlanError, make_plan

    try:
        plan = make_plan(
            settings,
            targets=targets,
            items=items,
            overrides=overrides,
            found=found,
            is_live=is_live,
            has_terminal=has_terminal,
            loop_thread=LoopThread(),
        )
    except PlanError as error:
        raise _InputError(error.problems) from None
    for text in plan.notes:
        note(one_line(printable(mask_secrets(text)), _LONGEST_PROBLEM))
    return plan


def _run(plan: Plan, *, is_json: bool, is_quiet: bool) -> int:
    from asyncwatch.cli.session import LimitError, ListenError, OutputError, run_plan

    try:
        return run_plan(plan, is_json=is_json, is_quiet=is_quiet)
    except (LimitError, ListenError, OutputError) as error:
        raise _InputError([str(error)]) from None
