"""`asyncwatch observe`: runs a program of one's own, and shows the tasks that it makes by itself."""

# ruff: noqa: PLC0415  importing this must not slow down other commands

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from asyncwatch.cli import BAD_INPUT


class _Observe(click.Command):
    """A command whose options end with the script or the module, as those of `python` do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Those after `-m MODULE` are the module's."""
        for place, argument in enumerate(args):
            if not argument.startswith("-") or argument == "--":
                break
            if argument.startswith("-m"):
                args.insert(place + (2 if argument == "-m" else 1), "--")
                break
        return super().parse_args(ctx, args)


@click.command(
    cls=_Observe,
    short_help="Run a Python program, and show its asyncio tasks.",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "allow_interspersed_args": False,
        "max_content_width": 100,
    },
)
@click.option("-m", "module", metavar="MODULE", help="Run a module, as python -m does, in place of a script.")
@click.option("--headless", is_flag=True, help="Do not show the dashboard. Implied if stdout is not a terminal.")
@click.argument("words", nargs=-1, metavar="[SCRIPT] [ARGS]...", type=click.UNPROCESSED)
@click.pass_context
def observe(ctx: click.Context, /, *, module: str | None, headless: bool, words: tuple[str, ...]) -> None:
    """Run a Python program, and show the asyncio tasks that it makes by itself.

    SCRIPT runs as python SCRIPT ARGS would, with this Python. Its tasks are shown, not supervised: where each waits and
    for what, and how it ended. They can be cancelled. Without a terminal, asyncwatch attach shows them. The exit status
    is that of the program.
    """
    if os.name != "posix":
        raise click.UsageError("asyncwatch observe needs a Unix system.")
    if module is None and not words:
        raise click.UsageError("Which program? Give a script, or -m and a module.")
    what, arguments = (words[0], words[1:]) if module is None else (module, words)
    if module is None and not Path(what).exists():
        click.echo(f"asyncwatch: {what}: there is no such file", err=True)
        ctx.exit(BAD_INPUT)
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # as multiprocessing does

    from asyncwatch.cli.observed import BOOTSTRAP

    root = str(Path(__file__).parents[2])
    name = module or Path(what).name
    shows = "none" if headless else "screen"
    kind = "script" if module is None else "module"
    flags = _args_from_interpreter_flags()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(  # noqa: S606
        sys.executable, [sys.executable, *flags, "-c", BOOTSTRAP, root, shows, kind, name, what, *arguments]
    )
