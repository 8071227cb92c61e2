"""`asyncwatch resume` and `asyncwatch again`: from a journal to the part of its run that is left to do."""

from __future__ import annotations

import os
import shlex
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
import msgspec

from asyncwatch.config.load import read_config, written_settings
from asyncwatch.config.problems import ConfigError, read_text
from asyncwatch.control.selectors import NoMatchError, SelectorError, select_workers
from asyncwatch.events import RunFinished, RunStarted
from asyncwatch.journal.folder import used_folders
from asyncwatch.journal.history import HistoryError, entries, find, unfinished
from asyncwatch.journal.identity import Keys
from asyncwatch.journal.resume import Comparison, Kind, Past, Resumption, split_keys, whole_batches
from asyncwatch.journal.store import (
    KEY_SIZE,
    SUFFIX,
    BusyError,
    DamagedError,
    JournalError,
    Launch,
    RunInfo,
    RunJournal,
    RunStore,
    locked,
    store_batch,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.summary import summarize
from asyncwatch.plan.items import STDIN
from asyncwatch.plan.plan import Plan, foreseen_events
from asyncwatch.plan.resume import batch_of, compare, narrowed
from asyncwatch.process import paused_gc
from asyncwatch.text import MASK, count, mask_secrets, one_line, printable

_OF_THE_TERMINAL = ("headless", "is_json", "detach")
"""Options that are not those of the run before: they say how this terminal shows it."""
_PATHS = ("config", "items", "output", "summary_json", "junit")
_LONGEST = 200
"""Characters of a setting that is shown."""
_SHOWN = 8
"""Differences of the config that are shown."""


class RefusedError(Exception):
    """The run cannot be resumed. `problems` holds one line of text for each reason."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NothingLeftError(Exception):
    """There is no run to go on with."""


class Given(NamedTuple):
    """Arguments of a command, by the names of its parameters."""

    positional: tuple[str, ...]
    options: dict[str, Any]
    """As text, or True and False."""


def arguments_of(ctx: click.Context) -> Given:
    """Return the arguments that were given on a command line whose values are not converted."""
    options = {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    positional = options.pop("arguments", ())
    return Given(tuple(positional), options)


class _Compared(NamedTuple):
    """How a plan compares with a journal."""

    past: Past
    comparison: Comparison
    keys: list[Keys]
    only: set[tuple[str, bytes]] | None
    """Group and key of the items that --only chooses; None without it."""


_T = TypeVar("_T")


class Request:
    """A request to resume a run, or to repeat one as a new run.

    Changes the current folder to that of the run. `params` are the options of a run, whose values stay text.

    Raises:
        RefusedError: There is no such run, it is alive, or arguments are missing.
        NothingLeftError: None was named, and none of this folder has anything left to do.

    """

    def __init__(self, given: Given, params: Sequence[click.Option], *, is_new: bool) -> None:
        options = dict(given.options)
        self._is_new = is_new
        self._params = params
        self._listed: str | None = options.pop("listed", None)
        self.is_dry = bool(options.pop("dry_run", False)) or self._listed is not None
        self._only: str | None = options.pop("only", None)
        if not is_new and options.get("journal") is False:
            text = "a resume goes on in the journal of its run; without it, a later one would run the same again"
            raise RefusedError(f"--no-journal: {text}. asyncwatch again --no-journal is a run of its own")
        wanted = [text for text in given.positional if "://" not in text]
        if len(wanted) > 1:
            raise RefusedError(f"give one ID, not {shlex.join(wanted)}")
        folder = os.getcwd()  # noqa: PTH109  as a text
        self._path = _find(wanted[0] if wanted else None, options.get("config"), folder)
        with _refusing(), locked(self._path):
            pass  # no process is at it
        self._mended: list[str] = []
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        with _refusing():
            self._info, launches = self._mending(_info_and_launches)
        if not launches:
            raise RefusedError(f"nothing was recorded of run {self._path.stem}")
        self._launch = launches[-1]
        if self._launch.is_of_program:
            name, command = printable(self._info.name), shlex.join(self._launch.command)
            text = f"run {self._path.stem} is a call of amap with the journal {name!r}"
            raise RefusedError(f"{text}. Run the program again: {printable(command)}")
        for name in _PATHS:
            if name in options and options[name] != STDIN:
                options[name] = os.path.join(folder, str(options[name]))  # noqa: PTH118  a text, perhaps `/dev/stdout`
        targets = [text for text in given.positional if "://" in text]
        self.arguments = _merged(self._launch, options, targets, params)
        _enter(self._launch.folder)

    def _mending(self, read: Callable[[Path], _T]) -> _T:
        """Return what `read` returns of the journal, which is mended before if it is damaged."""
        try:
            return read(self._path)
        except DamagedError:
            if self._mended:
                raise
        from asyncwatch.journal.salvage import copy_readable, mend  # noqa: PLC0415  rarely needed

        if self.is_dry:
            self._copy = tempfile.TemporaryDirectory(prefix="asyncwatch-")
            copy = Path(self._copy.name) / self._path.name
            batches, lost = copy_readable(self._path, copy)
            kept, self._path = "", copy
        else:
            batches, lost, damaged = mend(self._path)
            kept = f"; the damaged file is {printable(str(damaged))}"
        losses = f"{count(lost, 'batch', 'batches')} unreadable" if lost else "its end may be missing"
        read_well = f"{count(batches, 'batch', 'batches')} of events could be read, {losses}"
        self._mended = [f"the journal was damaged: {read_well}. Items whose end is lost run again{kept}"]
        return read(self._path)

    # -- the part of a plan

    def answer(self, plan: Plan) -> list[str]:
        """Return the lines that say what would be done.

        Raises:
            RefusedError: The journal cannot be used, or the plan is none to go on with.

        """
        _check(plan)
        with _refusing():
            past, comparison, keys, only = self._mending(lambda path: self._compared(path, plan))
            if self._listed is None:
                chosen, _ = self._choose(plan, past, comparison, keys, only)
                differences = _differences(self._launch, plan)
                return [*self._mended, *differences, self._sentence(comparison), *self._chosen_line(chosen)]
            if self._listed == Kind.GONE:
                with RunJournal(self._path) as journal:
                    names = past.names(journal)
                return [printable(names.get(each, "")) for each in comparison.gone if only is None or each in only]
            groups = zip(batch_of(plan), keys, comparison.kinds, strict=True)
            return [
                name
                for group, own, kinds in groups
                for name, (key, _), kind in zip(group.names, split_keys(own), kinds, strict=True)
                if kind == self._listed and (only is None or (group.settings.name, key) in only)
            ]

    def part_of(self, plan: Plan, note: Callable[[str], None]) -> Plan:
        """Return what is left to do of the plan, and note what that is.

        Locks the journal, if the run is resumed, until the process ends.

        Raises:
            RefusedError: The journal cannot be used, or is being written, or the plan is none to go on with.

        """
        _check(plan)
        with paused_gc(), _refusing():
            store, (past, comparison, keys, only) = self._mending(lambda path: self._reopened(path, plan))
        for line in (*self._mended, *_differences(self._launch, plan)):
            note(line)
        note(self._sentence(comparison))
        chosen, run_again = self._choose(plan, past, comparison, keys, only)
        for line in self._chosen_line(chosen):
            note(line)
        resumption = Resumption(
            command=tuple(self.arguments),
            root=self._info.root,
            parent=self._info.id if self._is_new else "",
            store=store,
            run_again=frozenset(run_again),
            before=self._before(plan.config.output),
            done_before=0 if self._is_new else comparison.counts[Kind.DONE],
        )
        part = narrowed(plan, keys, chosen, resumption)
        if not part.has_work:
            note("nothing is left to do" if not self._is_new else f"nothing failed in run {self._info.id}")
            if store is not None:
                self._finish(part, store)
        return part

    def _compared(self, path: Path, plan: Plan) -> _Compared:
        with RunJournal(path) as journal:
            past = Past(journal)
            comparison, keys = compare(plan, past)
            return _Compared(
                past, comparison, keys, None if self._only is None else _selected(journal, past, self._only)
            )

    def _reopened(self, path: Path, plan: Plan) -> tuple[RunStore | None, _Compared]:
        """Return the journal to be written, if the run is resumed, and how the plan compares with it."""
        if self._is_new:
            return None, self._compared(path, plan)
        store = RunStore.reopen(path)
        try:
            return store, self._compared(path, plan)
        except BaseException:
            store.close()
            raise

    def _before(self, written: str | None) -> tuple[tuple[Path, int], ...]:
        """Return the journals of the runs with the same output file, which holds what is done of each.

        Raises:
            RefusedError: A journal cannot be read, and the file, which would be `written` anew, would lose its items.

        """
        output = self._output_of(self.arguments)
        found: dict[Path, int] = {}
        path: Path | None = self._path
        try:
            while path is not None and path not in found:
                with RunJournal(path) as journal:
                    is_own = path == self._path and not self._is_new
                    last = journal.launches()[-1]
                    if not is_own and self._output_of(last.command) != output:
                        break
                    found[path] = last.number
                    path = path.with_name(f"{journal.info.parent}{SUFFIX}") if journal.info.parent else None
        except (JournalError, OSError, sqlite3.Error) as error:
            if written is not None and os.path.isfile(written):  # noqa: PTH113  a text
                shown = printable(written)
                text = f"{shown} may hold items of a run before, and would lose them: {error}. Give another --output"
                raise RefusedError(text) from None
        return tuple(reversed(found.items()))

    def _output_of(self, arguments: Sequence[str]) -> str | None:
        path = _raw_arguments(arguments, self._params).options.get("output")
        return None if path is None else os.path.join(self._launch.folder, path)  # noqa: PTH118  a text

    def _choose(
        self, plan: Plan, past: Past, comparison: Comparison, keys: list[Any], only: set[tuple[str, bytes]] | None
    ) -> tuple[list[list[bool]], list[tuple[str, bytes]]]:
        """Return which workers of each group run, and those of them that are done."""
        chosen: list[list[bool]] = []
        run_again: list[tuple[str, bytes]] = []
        is_done = Kind.DONE
        for group, own, kinds in zip(batch_of(plan), keys, comparison.kinds, strict=True):
            name = group.settings.name
            done = past.groups[name].done if name in past.groups else {}
            choice = []
            for (key, _), kind in zip(split_keys(own), kinds, strict=True):
                is_chosen = kind is not is_done
                if not is_chosen:
                    pass
                elif self._is_new:
                    is_chosen = kind is not Kind.NEW and key not in done
                    is_chosen = is_chosen and (only is None or (name, key) in only)
                elif self._info.parent and kind is Kind.NEW:
                    is_chosen = False  # a repeat has the items of its own alone
                elif key in done:
                    run_again.append((name, key))
                choice.append(is_chosen)
            chosen.append(choice)
        return chosen, run_again

    def _sentence(self, comparison: Comparison) -> str:
        counts = comparison.counts
        words = {
            Kind.FAILED: "failed, run again",
            Kind.UNFINISHED: "unfinished",
            Kind.CHANGED: "changed",
            Kind.NEW: "not in that run" if self._is_new or self._info.parent else "new",
            Kind.GONE: "gone",
        }
        parts = [f"{counts[Kind.DONE]:,} done"]
        parts += [f"{counts[kind]:,} {text}" for kind, text in words.items() if counts[kind]]
        return " · ".join(parts)

    def _chosen_line(self, chosen: list[list[bool]]) -> list[str]:
        number = sum(map(sum, chosen))
        return [] if self._only is None else [f"{number:,} of them run, by --only {one_line(self._only, _LONGEST)}"]

    def _finish(self, plan: Plan, store: RunStore) -> None:
        """Write the output file, which may lack lines, that nothing is left to do, and the files of the end."""
        from asyncwatch.cli.recorder import launch_of  # noqa: PLC0415  only here
        from asyncwatch.cli.reports import Report  # noqa: PLC0415  as above
        from asyncwatch.cli.session import OutputError, open_reports, rewrite_output  # noqa: PLC0415  as above

        try:
            reports = open_reports(plan)
            rewrite_output(plan)
        except OutputError as error:
            raise RefusedError(str(error)) from None
        launch, fleet = launch_of(plan), Fleet()
        events = (*foreseen_events(plan), RunFinished(1, 0.0, {}, 0, 0.0, interrupted=False))
        apply(fleet, events)
        with _refusing():
            store.begin(launch)
            store.write(batches=[store_batch(events)])
            ended = time.time()
            store.end(ended, 0, msgspec.to_builtins(summarize(fleet)))
            store.close()
        if reports is None or plan.resumption is None:
            return
        report = Report(
            id=self._info.id,
            name=plan.name,
            folder=launch.folder,
            command=launch.command,
            pid=launch.pid,
            version=launch.version,
            started=round(launch.started, 3),
            ended=round(ended, 3),
            is_alive=False,
            status=0,
        )
        reports.write(report, fleet, plan.resumption.earlier)
        if reports.problems:
            raise RefusedError(*reports.problems)


def _check(plan: Plan) -> None:
    """Raise a `RefusedError` if there is nothing to compare with a run."""
    if plan.config.is_tree:
        raise RefusedError("services and supervisors have no end to go on to; start them again")
    if plan.is_demo:
        text = "the demo cannot be resumed: start it again with asyncwatch"
        raise RefusedError(f"{text}. If the run had a config that is not there any more, give the config with --config")
    if any(group.settings.items == STDIN and not group.names for group in batch_of(plan)):
        raise RefusedError("the items of the run came from standard input, which is empty: pipe them again")
    if not any(group.names for group in plan.groups):
        files = ", ".join(sorted({str(group.settings.items) for group in batch_of(plan) if group.settings.items}))
        raise RefusedError(f"there is no item any more{f': {files} is empty' if files else ''}")


# -- which run


def _find(text: str | None, config: str | None, folder: str) -> Path:
    """Return the journal of a run: by its ID or name, else the latest one of this folder with something left to do."""
    folders = journal_folders(config)
    if text is not None:
        try:
            return find(folders, text).path
        except HistoryError as error:
            raise RefusedError(str(error)) from None
    for entry in unfinished(folders, folder):
        with suppress(JournalError, OSError, sqlite3.Error):
            try:
                with RunJournal(entry.path) as journal:
                    is_other = journal.launches()[-1].is_of_program or _is_tree(journal, entry.launches)
            except DamagedError:
                is_other = False  # what can be read of it will tell
            if not is_other:
                return entry.path
    if (broken := next((each for each in entries(*folders) if not each.is_readable), None)) is not None:
        text = "no run of this folder is known to have anything left to do. It may be one that cannot be used"
        raise RefusedError(f"{text}: {broken.problem}")
    raise NothingLeftError("no run of this folder has anything left to do")


def journal_folders(config: str | None = None) -> list[Path]:
    """Return the folders of journals: the one that the config (by default the one here) names, and all used."""
    return list(dict.fromkeys([*_configured(config), *used_folders()]))


def _info_and_launches(path: Path) -> tuple[RunInfo, list[Launch]]:
    with RunJournal(path) as journal:
        return journal.info, journal.launches()


def _is_tree(journal: RunJournal, launch: int) -> bool:
    """Return whether a launch was that of a tree, which alone has snapshots once its first events are dropped."""
    if next(journal.snapshots(launch), None) is not None:
        return True
    first = next(journal.batches(launch), None)
    events = () if first is None else first.unpack()
    return any(type(event) is RunStarted and event.runner == "serve" for event in events)


def _configured(config: str | None) -> Iterator[Path]:
    path = Path("asyncwatch.toml" if config is None else config)
    with suppress(ConfigError, OSError):
        if path.is_file() and (named := read_config(read_text(path), path)[0].journal_dir) is not None:
            yield Path(named).absolute()


class _refusing:  # noqa: N801  a context manager
    """Raises errors of a journal inside the context as a `RefusedError`."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Raise the error anew."""
        if isinstance(error, BusyError):
            raise RefusedError(f"{error}. Show it with asyncwatch attach, or stop it first") from None
        if isinstance(error, (JournalError, OSError, sqlite3.Error)):
            raise RefusedError(str(error)) from None


# -- its arguments


def _merged(
    launch: Launch, options: dict[str, Any], targets: Sequence[str], params: Sequence[click.Option]
) -> list[str]:
    """Return the arguments of a launch, with the given options and targets in place of its own."""
    recorded = _raw_arguments(launch.command, params)
    merged = {name: value for name, value in recorded.options.items() if name not in _OF_THE_TERMINAL} | options
    again = {mask_secrets(target): target for target in targets}
    positional = [again.pop(text, text) for text in recorded.positional]
    if again:
        raise RefusedError(*(f"{text} is no target of the run" for text in again))
    missing = [f"--{name}" for name, value in merged.items() if MASK in str(value) and name not in options]
    missing += [text for text in positional if MASK in text]
    if missing:
        why = "had a password or a token, which is not recorded: give it again"
        raise RefusedError(*(f"{text} {why}" for text in missing))
    arguments = []
    for param in params:
        if param.name not in merged:
            continue
        value = merged[param.name]
        if isinstance(value, bool):
            arguments.append(param.opts[-1] if value else param.secondary_opts[-1])
        else:
            arguments.append(f"{param.opts[-1]}={value}")
    return [*arguments, *(["--", *positional] if positional else [])]


def _raw_arguments(arguments: Sequence[str], params: Sequence[click.Option]) -> Given:
    raw = click.Command("asyncwatch", params=[click.Argument(["arguments"], nargs=-1), *params])
    return arguments_of(raw.make_context("asyncwatch", list(arguments)))


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise RefusedError(f"the folder of the run, {printable(folder)!r}: {error.strerror or error}") from None


# -- what differs


def _differences(launch: Launch, plan: Plan) -> list[str]:
    """Return how the settings of the config differ from those of the launch, in words."""
    before, now = launch.settings, written_settings(plan.config)
    lines = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if key not in before:
            lines.append(f"{key} is {_shown(new)} in the config; it was not set")
        elif key not in now:
            lines.append(f"{key} is not set in the config; it was {_shown(old)}")
        else:
            lines.append(f"{key} is {_shown(new)} in the config; it was {_shown(old)}")
    if more := len(lines) - _SHOWN:
        lines = [*lines[:_SHOWN], f"and {more} more settings differ"] if more > 0 else lines
    return [one_line(printable(line), 2 * _LONGEST) for line in lines]


def _shown(value: object) -> str:
    return one_line(str(value), _LONGEST)


def _selected(journal: RunJournal, past: Past, selector: str) -> set[tuple[str, bytes]]:
    """Return group and key of the items that matched a selector in the launch they were last in."""
    found: set[tuple[str, bytes]] = set()
    for launch in past.launches:
        fleet = Fleet()
        for batch, is_whole in whole_batches(journal, launch.number):
            if not is_whole:
                break  # the index of a row is not that of its item any more
            apply(fleet, batch.unpack())
        try:
            matching = {row.index for row in select_workers(fleet, [selector])}
        except NoMatchError:
            matching = set()
        except SelectorError as error:
            raise RefusedError(str(error)) from None
        for part in journal.items(launch.number):
            for at in range(len(part.keys) // KEY_SIZE):
                item = part.group, part.keys[at * KEY_SIZE : (at + 1) * KEY_SIZE]
                if part.first + at in matching:
                    found.add(item)
                else:
                    found.discard(item)
    if not found:
        raise RefusedError(f"no item of the run matches {selector!r}")
    return found
