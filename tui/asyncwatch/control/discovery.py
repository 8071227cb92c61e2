"""How the processes of a user find the runs that are alive: a folder of sockets, with a small file beside each.

The folder is `$XDG_RUNTIME_DIR/asyncwatch`. Without such a directory, or if its path is too long for a socket, it is
`asyncwatch-<uid>` in the temporary directory. A run may outlive `$XDG_RUNTIME_DIR`, so readers look in both. Only its
owner may enter the folder (0700); any other folder at that place is refused. It contains:

- `<id>.run`, the `RunRecord` of a run that is alive, as JSON;
- `<id>.sock`, the socket on which that run listens. Runs of one process share it, under a hard link each;
- `<id>.ended`, the `EndedRecord` of a run, kept for a day;
- `.<pid>.<name>`, a file or socket that this process is about to rename to `<name>`.

Nothing is locked, so no process waits for another one. Each file is renamed into place when it is whole, and each
socket when it listens. The record of a run precedes its socket and is removed after it. So at whatever point a process
is killed, its files name a dead process, and the next reader removes them.

All paths are opened relative to the descriptor of a folder that was checked, and no symbolic link is followed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec

from asyncwatch import __version__
from asyncwatch.text import count, mask_secrets, one_line, printable

FORMAT = 1
"""The version of the records. A change that older readers cannot read raises it."""

DAY = 24 * 3600.0
"""Seconds that records of ended runs are kept, and records that cannot be judged."""
MOST_ENDED = 1_000
"""Records of ended runs that are kept in a folder. The oldest ones are removed first."""
RECORDED_AFTER = 2.0
"""Seconds within which a command records the end of a process that was killed."""
_MINUTE = 60.0
"""Seconds after which a file without an owner is not one that a process is about to complete."""

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without `0`, `o`, `1`, `i` and `l`, which look alike in many fonts."""
_ID_LENGTH = 8
_LONGEST_SOCKET_PATH = 107 if sys.platform == "linux" else 103
"""Bytes. `sun_path` has room for one more, which ends the path: 108 on Linux, 104 on macOS and the BSDs."""
_LONGEST_NAME = len(f".{2**22}.{'x' * _ID_LENGTH}.sock")
"""Bytes of a file name; 2**22 is the highest PID of Linux."""
_LARGEST_FILE = 256 * 1024
"""Bytes. The folder is often in memory."""
_LONGEST_TEXT = 4_000
"""Characters of a text in a record. Arguments of a command can be megabytes."""
_PASSING = frozenset({errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EINTR})
"""Errors that say nothing about a file."""
_MOST_ATTEMPTS = 20
_MOST_LISTED = 8
"""Candidates that the message of an error lists."""
_LOOK_AGAIN = 0.05
"""Seconds between two looks for the record of a run that ends."""
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
"""Of macOS and FreeBSD. Python has no names for them on macOS."""
_FILE_NAME = re.compile(
    rf"(?:\.(?P<pid>\d{{1,10}})\.)?(?P<id>[a-z0-9]{{{_ID_LENGTH}}})\.(?P<kind>run|sock|ended)", re.ASCII
)

# -- errors


class DiscoveryError(Exception):
    """Base of the errors of this module. The message is a sentence or two for a person."""


class UnsupportedSystemError(DiscoveryError):
    """This system has no Unix sockets that Python can use."""


class UnsafeFolderError(DiscoveryError):
    """The folder of sockets is not a folder that belongs to this user alone."""


class NoFolderError(DiscoveryError):
    """There is no place where the files of a run can be written."""


class ForeignPeerError(DiscoveryError):
    """The process at the other end of a socket belongs to another user."""


class UnknownRunError(DiscoveryError):
    """No run is meant. `candidates` are the runs that are alive."""

    def __init__(self, message: str, candidates: Sequence[RunRecord] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class AmbiguousRunError(DiscoveryError):
    """More than one run is meant. `candidates` are these runs."""

    def __init__(self, message: str, candidates: Sequence[RunRecord | EndedRecord]) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


# -- records

Epoch = Annotated[float, msgspec.Meta(ge=0, le=250_000_000_000)]
"""Seconds since the epoch, up to a year that calendars can show."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is alive. Texts are as the run gave them: escape them before they are shown."""

    id: str
    """Eight lower-case letters and digits, the first one a letter."""
    name: str
    folder: str
    """The current directory of the run when it started. Bytes that are no UTF-8 are lone surrogates."""
    command: str
    """The command line, for people: credentials are masked, and long ones are cut."""
    started: Epoch
    pid: Annotated[int, msgspec.Meta(gt=0)]
    process: str
    """When that process started, in a form that only this module reads; empty if unknown. Tells a reused PID."""
    machine: str
    """The boot and the PID namespace in which the PID counts; empty if the system does not tell."""
    version: str
    """The version of asyncwatch."""
    protocol: int
    """The version of the protocol that the run speaks on its socket."""
    format: int = FORMAT
    place: str = ""
    """The folder of the socket. A reader sets it to the folder in which it found the record."""

    @property
    def socket_path(self) -> str:
        """The path of the socket on which the run listens."""
        return os.path.join(self.place, f"{self.id}.sock")


class EndedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has ended. The first fields are those of its `RunRecord`."""

    id: str
    name: str
    folder: str
    command: str
    started: Epoch
    version: str
    ended: Epoch
    status: int
    """The exit status of the run."""
    summary: Any = None
    """A value of JSON."""
    format: int = FORMAT


_Record = TypeVar("_Record", RunRecord, EndedRecord)


class _Owner(msgspec.Struct, frozen=True):
    """The fields of a `RunRecord` that tell whether its process is alive, in any format."""

    pid: Annotated[int, msgspec.Meta(gt=0)]
    process: str = ""
    machine: str = ""


_R = TypeVar("_R")


def _decode(data: bytes, kind: type[_R]) -> _R | None:
    try:
        return msgspec.convert(json.loads(data), kind)
    except (ValueError, RecursionError):  # errors of msgspec are ValueErrors
        return None


def _encode(record: RunRecord | EndedRecord) -> bytes:
    # `json` keeps lone surrogates, which a folder that is no UTF-8 is full of. msgspec refuses them.
    return json.dumps(msgspec.to_builtins(record), default=repr).encode("ascii")


# -- folders and their files


def _places() -> Iterator[tuple[str, str]]:
    """Yield the folders in which a run may be, the best one first, each with the reason if it cannot be used."""
    if os.name != "posix" or not hasattr(socket, "AF_UNIX"):
        raise UnsupportedSystemError("Runs can be found and steered from other processes on Unix systems only.")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # After `su` or `sudo -E` it may be the directory of another user, who would be locked out of a folder made there.
    if os.path.isabs(runtime) and _owner(runtime) == os.geteuid():
        place = os.path.join(runtime, "asyncwatch")
        reason = _misfit(place)
        yield place, reason
    for temporary in dict.fromkeys((os.environ.get("TMPDIR", ""), "/tmp")):  # noqa: S108  its owner is checked
        if os.path.isabs(temporary) and _owner(temporary) is not None:
            place = os.path.join(temporary, f"asyncwatch-{os.geteuid()}")
            reason = _misfit(place)
            yield place, reason
            if not reason:
                return


def _owner(folder: str) -> int | None:
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return None
    return status.st_uid if stat.S_ISDIR(status.st_mode) else None


def _misfit(place: str) -> str:
    too_long = len(os.fsencode(place)) + 1 + _LONGEST_NAME - _LONGEST_SOCKET_PATH
    return f"its path is {count(too_long, 'byte')} too long for sockets" if too_long > 0 else ""


@contextmanager
def _opened(place: str, *, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of the folder at `place`, which belongs to this user alone.

    Raises:
        UnsafeFolderError: It is something else.
        OSError: It does not exist, or cannot be opened.

    """
    if make:
        with suppress(FileExistsError):
            os.mkdir(place, 0o700)
    _check(place, os.lstat(place))  # says more than the error of `open`
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check(place, os.fstat(folder))
        yield folder
    finally:
        os.close(folder)


def _check(place: str, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode):
        problem = "is a symbolic link" if stat.S_ISLNK(status.st_mode) else "is not a folder"
        remedy = "Remove it"
    elif status.st_uid != os.geteuid():
        problem = f"belongs to another user (uid {status.st_uid})"
        remedy = "Have it removed, or set XDG_RUNTIME_DIR to a folder of your own"
    elif mode & 0o077:
        problem = f"can be entered by other users (mode {mode:04o})"
        remedy = f"If you trust what is in it: chmod 700 {printable(shlex.quote(place))}"
    else:
        return
    raise UnsafeFolderError(f"The folder of sockets {printable(place)!r} {problem}, so it is not used. {remedy}.")


def _read(folder: int, name: str) -> bytes | None:
    """Return the content of a file: None if it cannot be read at this moment, empty if it is no file of a record."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return b""
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(_LARGEST_FILE)
        finally:
            os.close(descriptor)
    except OSError as error:
        return None if error.errno in _PASSING else b""


def _write(folder: int, name: str, data: bytes, *, is_new: bool = False) -> None:
    """Write a file whole. With `is_new`, raise a FileExistsError if there is one of that name."""
    temporary = _temporary(name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            file.write(data)
        if is_new:
            _link(folder, temporary, name)
        else:
            _rename(folder, temporary, name)
    finally:
        _remove(folder, temporary)


def _temporary(name: str) -> str:
    return f".{os.getpid()}.{name}"


def _rename(folder: int, old: str, new: str) -> None:
    os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)


def _link(folder: int, old: str, new: str) -> None:
    try:
        os.link(old, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a system without hard links, such as Android
        if _status(folder, new) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from None
        _rename(folder, old, new)


def _remove(folder: int, *names: str) -> None:
    for name in names:
        with suppress(OSError):  # another process was faster, or it is no file
            os.unlink(name, dir_fd=folder)


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


# -- processes


def _machine() -> str:
    """Return what distinguishes the processes that this one can see from those of another boot, container or host."""
    if sys.platform != "linux":
        return ""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            boot = file.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """Return when a process started, as an opaque text that is empty if unknown; None if there is no such process.

    A process that has ended counts as gone even if its parent has not collected its status.
    """
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name, in parentheses, may contain any character (proc_pid_stat(5)).
                state, *others = file.read().rpartition(b")")[2].split()
            return None if state in b"ZXx" else others[18].decode("ascii")
        except (FileNotFoundError, ProcessLookupError):
            if os.path.exists("/proc/self/stat"):
                return None
        except (OSError, ValueError, IndexError):
            pass
    else:
        try:
            command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
            done = subprocess.run(  # noqa: S603
                command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, timeout=5, check=False
            )
            status, *lstart = done.stdout.split()
            return None if status.startswith("Z") else " ".join(lstart)
        except (OSError, ValueError, subprocess.SubprocessError):
            pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        pass
    return ""


# -- the run's side


def publish(
    name: str,
    command: Sequence[str],
    *,
    protocol: int,
    folder: str | None = None,
    started: float | None = None,
    run_id: str = "",
) -> Publication:
    """Make a run of this process known, under an ID that no other run has. `Publication.add` adds others to it.

    A run that is resumed keeps its `run_id`. `command` is the command line. `folder` is the current directory and
    `started` the current time unless given.

    Raises:
        UnsupportedSystemError: This system has no Unix sockets.
        UnsafeFolderError: The folder of sockets belongs to another user, or others may enter it.
        NoFolderError: There is no place where the files can be written.

    """
    return Publication(_new_record(name, command, protocol, folder, started, run_id))


def _new_record(
    name: str, command: Sequence[str], protocol: int, folder: str | None, started: float | None, run_id: str
) -> RunRecord:
    return RunRecord(
        id=run_id,
        name=_shorten(name),
        folder=_current_folder() if folder is None else folder,
        command=_shorten(shlex.join(command)),
        started=time.time() if started is None else started,
        pid=os.getpid(),
        process=_process_start(os.getpid()) or "",
        machine=_machine(),
        version=__version__,
        protocol=protocol,
    )


def new_id() -> str:
    """Return an ID that is most probably unique."""
    letters = sum(map(str.isalpha, _ALPHABET))
    first, *others = os.urandom(_ID_LENGTH)
    return _ALPHABET[first % letters] + "".join(_ALPHABET[each % len(_ALPHABET)] for each in others)


def _shorten(text: str) -> str:
    text = mask_secrets(text)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


class Publication:
    """The files by which other processes find the runs of this process. Use it from one thread.

    `socket` listens for all runs, and its owner is the caller: nothing here accepts connections or closes it. Call
    `refresh` every few seconds, and for each run `end` or `withdraw`. After the last one, nothing is left to be done.
    """

    def __init__(self, record: RunRecord) -> None:
        self._records = [record]
        self._file = (0, 0)
        """Device and inode of the socket's file."""
        self.socket = self._establish()

    @property
    def record(self) -> RunRecord:
        """The record of the oldest run. Its `place` changes if the folder of sockets has to be another one."""
        return self._records[0]

    @property
    def records(self) -> tuple[RunRecord, ...]:
        """The records of all runs, the oldest first."""
        return tuple(self._records)

    @property
    def socket_path(self) -> str:
        """The path of the socket, under the ID of the oldest run."""
        return self.record.socket_path

    def add(self, name: str, command: Sequence[str], *, protocol: int, run_id: str = "") -> RunRecord:
        """Make another run known, which listens on the same socket. Arguments are as of `publish`.

        Raises:
            UnsafeFolderError: The folder of sockets belongs to another user, or others may enter it.
            NoFolderError: There is no place where the files can be written, or the folder has gone: `refresh` mends it.

        """
        record = _new_record(name, command, protocol, None, None, run_id)
        place = self.record.place
        record = _in_first_place([(place, "")], lambda folder, place: self._write_beside(folder, place, record))
        self._records.append(record)
        return record

    def refresh(self) -> socket.socket | None:
        """Make the folder, the records and the socket anew if they have gone, as after a log-out.

        Return the new listening socket, which is also the value of `socket` from then on; None if the socket is intact.
        The caller closes the previous one. Costs some 50 microseconds a run if nothing has gone.

        Raises:
            UnsafeFolderError, NoFolderError: As `publish`. The runs can be found again when a later call succeeds.

        """
        try:
            with _opened(self.record.place) as folder:
                os.utime(folder)
                intact = [self._is_intact(folder, record) for record in self._records]
                if all(intact):
                    return None
        except OSError:
            pass
        self.socket = self._establish()
        return self.socket

    def end(self, status: int, summary: Any = None, *, run_id: str = "") -> None:
        """Leave an `EndedRecord` in place of the record and the socket of a run, the oldest by default.

        Otherwise as `record_end`.
        """
        record_end(self._without(run_id), status, summary)

    def withdraw(self) -> None:
        """Remove the records and the socket of all runs."""
        for record in self._records:
            _withdraw(record)

    def _without(self, run_id: str) -> RunRecord:
        """Return the record of a run; while there are others, forget it."""
        record = next(record for record in self._records if run_id in {"", record.id})
        if len(self._records) > 1:
            self._records.remove(record)
        return record

    def _is_intact(self, folder: int, record: RunRecord) -> bool:
        """Return whether the socket of a run is there; if it is, note that its process is alive, in its record."""
        status = _status(folder, f"{record.id}.sock")
        if status is None or (status.st_dev, status.st_ino) != self._file:
            return False
        if _status(folder, f"{record.id}.run") is None:
            _write(folder, f"{record.id}.run", _encode(record))
        # systemd-tmpfiles removes from /tmp what was not changed for ten days. `_judge` looks at that time too.
        for kind in ("run", "sock"):
            os.utime(f"{record.id}.{kind}", dir_fd=folder, follow_symlinks=False)
        return True

    def _establish(self) -> socket.socket:
        """Write the files of all runs in the first place that can be used, and return the socket."""
        before = self._records
        listener = _in_first_place(_places(), self._write_files)
        for record in before:
            if record.place not in {"", self.record.place}:
                _withdraw(record)
        return listener

    def _write_files(self, folder: int, place: str) -> socket.socket:
        first, *others = self._records
        is_new = not first.id
        record = msgspec.structs.replace(first, id=first.id or new_id(), place=place)
        run, sock = f"{record.id}.run", f"{record.id}.sock"
        if is_new and _status(folder, f"{record.id}.ended") is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if not is_new:
            _remove(folder, f"{record.id}.ended")  # the run was resumed
        listener, file = _listen(folder, place, sock)
        try:
            _write(folder, run, _encode(record), is_new=is_new)
            try:
                _rename(folder, _temporary(sock), sock)
            except BaseException:
                _remove(folder, run)
                raise
        except BaseException:
            listener.close()
            _remove(folder, _temporary(sock))
            raise
        self._records, self._file = [record], file
        for other in others:
            # What cannot be written now is missed at the next `refresh`.
            with suppress(OSError):
                self._write_beside(folder, place, other)
            self._records.append(msgspec.structs.replace(other, place=place))
        return listener

    def _write_beside(self, folder: int, place: str, record: RunRecord) -> RunRecord:
        """Write the record of another run, and its name of the socket."""
        is_new = not record.id
        record = msgspec.structs.replace(record, id=record.id or new_id(), place=place)
        run, sock = f"{record.id}.run", f"{record.id}.sock"
        if is_new and _status(folder, f"{record.id}.ended") is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        _remove(folder, f"{record.id}.ended", sock)
        _write(folder, run, _encode(record), is_new=is_new)
        try:
            os.link(f"{self.record.id}.sock", sock, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except BaseException:
            _remove(folder, run)
            raise
        return record


def _listen(folder: int, place: str, name: str) -> tuple[socket.socket, tuple[int, int]]:
    """Return a socket that listens under the temporary name of `name`, and the device and inode of its file."""
    temporary = _temporary(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.path.join(place, temporary))
        os.chmod(temporary, 0o600, dir_fd=folder)
        status = os.stat(temporary, dir_fd=folder, follow_symlinks=False)
        listener.listen(128)
    except BaseException:
        listener.close()
        _remove(folder, temporary)
        raise
    return listener, (status.st_dev, status.st_ino)


def _withdraw(record: RunRecord) -> None:
    with suppress(OSError, UnsafeFolderError), _opened(record.place) as folder:
        _remove(folder, f"{record.id}.sock", f"{record.id}.run")


def record_end(record: RunRecord, status: int, summary: Any = None) -> None:
    """Leave an `EndedRecord` in place of the record and the socket of a run, whose process may have been killed.

    `status` is the exit status and `summary` a value of JSON, which is left out if it is larger than 256 kB.

    Raises:
        UnsafeFolderError: The folder of sockets belongs to another user, or others may enter it.
        NoFolderError: There is no place where the file can be written. Record and socket are removed all the same.

    """
    try:
        _write_end(record, status, summary)
    finally:
        _withdraw(record)


def _write_end(record: RunRecord, status: int, summary: Any) -> None:
    ended = EndedRecord(
        id=record.id,
        name=record.name,
        folder=record.folder,
        command=record.command,
        started=record.started,
        version=record.version,
        ended=time.time(),
        status=status,
        summary=summary,
    )
    data = _encode(ended)
    if len(data) > _LARGEST_FILE:
        data = _encode(msgspec.structs.replace(ended, summary=None))
    places = {record.place: "", **dict(_places())}
    _in_first_place(places.items(), lambda folder, _place: _write(folder, f"{ended.id}.ended", data))


_T = TypeVar("_T")


def _in_first_place(places: Iterable[tuple[str, str]], write: Callable[[int, str], _T]) -> _T:
    """Return what `write` returns for the descriptor and the path of the first folder in which it succeeds.

    It is called again if a file exists already, as of another run with the same ID, or does not exist any more: the
    folder was removed, or a reader in another PID namespace, to which our PID means nothing, removed a temporary file.
    """
    reasons = []
    for place, reason in places:
        problem = OSError(reason)
        for _ in range(0 if reason else _MOST_ATTEMPTS):
            try:
                with _opened(place, make=True) as folder:
                    return write(folder, place)
            except OSError as error:
                problem = error
                if not isinstance(error, (FileExistsError, FileNotFoundError)):
                    break
        reasons.append(f"{printable(place)!r}: {problem.strerror or problem}")
    raise NoFolderError(
        f"There is no folder for the socket of the run. {'; '.join(reasons) or 'There is no temporary directory'}. "
        "Set XDG_RUNTIME_DIR to a folder of your own."
    )


# -- the reader's side


class Survey(NamedTuple):
    """What there is in the folders of sockets."""

    runs: list[RunRecord]
    """The runs that are alive, in the order of their start."""
    ended: list[EndedRecord]
    """Runs that have ended within a day, the latest first; empty unless they were requested."""
    problems: list[str]
    """Folders and files that cannot be used, a sentence each."""


def survey(*, with_ended: bool = False) -> Survey:
    """Look for the runs of this user, and remove the files of runs whose process has gone.

    Raises:
        UnsupportedSystemError: This system has no Unix sockets.

    """
    runs: dict[str, RunRecord] = {}
    ended: dict[str, EndedRecord] = {}
    problems = []
    for place, reason in _places():
        if reason:
            continue
        try:
            with _opened(place) as folder:
                found = _scan(folder, place, with_ended=with_ended)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"The folder of sockets {printable(place)!r} cannot be read: {error.strerror or error}.")
            continue
        except UnsafeFolderError as error:
            problems.append(str(error))
            continue
        for record in found.runs:
            runs.setdefault(record.id, record)
        for each in found.ended:
            ended.setdefault(each.id, each)
        problems += found.problems
    return Survey(
        sorted(runs.values(), key=lambda record: (record.started, record.id)),
        sorted(ended.values(), key=lambda record: (-record.ended, record.id)),
        problems,
    )


def alive() -> list[RunRecord]:
    """Return the runs of this user that are alive, in the order of their start."""
    return survey().runs


def ended() -> list[EndedRecord]:
    """Return the runs of this user that have ended within a day, the latest first."""
    return survey(with_ended=True).ended


def _scan(folder: int, place: str, *, with_ended: bool) -> Survey:
    """Read the records of a folder, and remove what dead processes have left in it."""
    found = Survey([], [], [])
    names = os.listdir(folder)
    records_of_ended = []
    for name in names:
        parts = _FILE_NAME.fullmatch(name)
        status = parts and _status(folder, name)
        if parts is None or status is None:
            continue
        age = abs(time.time() - status.st_mtime)  # a file from the future is as odd as an old one
        if parts["pid"]:
            if age > _MINUTE or _process_start(int(parts["pid"])) is None:
                _remove(folder, name)
        elif parts["kind"] == "run":
            _judge(folder, place, parts["id"], age, found)
        elif parts["kind"] == "sock":
            if age > _MINUTE and f"{parts['id']}.run" not in names:
                _remove(folder, name)
        else:
            records_of_ended.append((age, name))
    records_of_ended.sort()
    for number, (age, name) in enumerate(records_of_ended):
        if age > DAY or number >= MOST_ENDED:
            _remove(folder, name)
        elif with_ended and (data := _read(folder, name)):
            record = _decode(data, EndedRecord)
            if record is not None and record.format <= FORMAT and name == f"{record.id}.ended":
                found.ended.append(record)
    return found


def _judge(folder: int, place: str, run_id: str, age: float, found: Survey) -> None:
    """Add the record of a run that is alive to `found`. Remove the files of one whose process has gone."""
    name = f"{run_id}.run"
    data = _read(folder, name)
    if data is None:
        return
    owner = _decode(data, _Owner)
    if owner is None or owner.machine != _machine():
        # A file of another program, or of a process in another container or on another host, which share this folder.
        # A run there touches its record every few seconds.
        if age > DAY:
            _remove(folder, f"{run_id}.sock", name)
        elif owner is None:
            found.problems.append(f"{printable(place)}/{name} is not the record of a run. It will be removed.")
        return
    start = _process_start(owner.pid)
    if start is None or (start and owner.process and start != owner.process):
        _remove(folder, f"{run_id}.sock", name)
        return
    record = _decode(data, RunRecord)
    if record is None or record.format > FORMAT or record.id != run_id:
        found.problems.append(
            f"The run {run_id} (PID {owner.pid}) is of another version of asyncwatch, and cannot be read."
        )
        return
    found.runs.append(msgspec.structs.replace(record, place=place))


# -- the choice of a run


def select(text: str | None = None) -> RunRecord | EndedRecord:
    """Return the run that `text` means: the beginning of an ID, or a name. None means the only run that is alive.

    Runs that are alive take precedence. Among ended runs of one name, the latest is meant.

    Raises:
        UnknownRunError: There is no such run.
        AmbiguousRunError: There are several.
        UnsupportedSystemError: This system has no Unix sockets.

    """
    if text is None:
        runs, _, problems = survey()
        if len(runs) > 1:
            raise AmbiguousRunError(f"{len(runs)} runs are alive: {_list(runs)}. Name one by its ID.", runs)
        if runs:
            return runs[0]
        raise UnknownRunError(" ".join(["No run is alive.", *problems]))
    # In this order a run that ends meanwhile is found in one of its forms.
    found: Sequence[RunRecord | EndedRecord]
    found = _matches(text, alive()) or _latest(_matches(text, ended()), _shorten(text))
    if len(found) == 1:
        return found[0]
    quoted = repr(one_line(printable(mask_secrets(text)), 80))
    if found:
        raise AmbiguousRunError(f"{quoted} could be {_list(found)}. Give more of the ID.", found)
    runs, _, problems = survey()
    those = f"Alive: {_list(runs)}." if runs else "No run is alive."
    raise UnknownRunError(" ".join([f"There is no run {quoted}.", those, *problems]), runs)


def await_end(run_id: str, seconds: float) -> EndedRecord | None:
    """Wait for the record of a run whose process is about to end, or was killed; return None if it stays alive.

    A process that was killed leaves no record. The command that started it may, within `RECORDED_AFTER` seconds.

    Raises:
        UnknownRunError: The process has ended, and there is no record.

    """
    deadline = time.monotonic() + seconds
    is_alive = True
    while True:
        is_last = time.monotonic() >= deadline
        try:
            record = select(run_id)
        except UnknownRunError:
            if is_last:
                raise
            if is_alive:
                is_alive = False
                deadline = min(deadline, time.monotonic() + RECORDED_AFTER)
        else:
            if is_last or isinstance(record, EndedRecord):
                return record if isinstance(record, EndedRecord) else None
        time.sleep(_LOOK_AGAIN)


def _matches(text: str, records: Sequence[_Record]) -> list[_Record]:
    if not text:  # as of a variable of a shell that is not set
        return []
    start, name = text.lower(), _shorten(text)
    exact = [record for record in records if record.id == start]
    return exact or [record for record in records if record.id.startswith(start) or record.name == name]


def _latest(records: list[EndedRecord], name: str) -> list[EndedRecord]:
    """Return the first of the records if all of them have this name."""
    return records[:1] if all(record.name == name for record in records) else records


def _list(records: Sequence[RunRecord | EndedRecord]) -> str:
    shown = [f"{record.id} ({one_line(record.name, 40)})" for record in records[:_MOST_LISTED]]
    more = len(records) - len(shown)
    return ", ".join([*shown, f"and {more} more"] if more else shown)


# -- the other end of a socket


def check_peer(connection: socket.socket) -> None:
    """Check that the process at the other end of a connected Unix socket belongs to this user.

    Raises:
        ForeignPeerError: It belongs to another user, or the system does not tell.

    """
    try:
        uid = peer_uid(connection)
    except (OSError, struct.error) as error:
        raise ForeignPeerError(f"The user at the other end of the socket is unknown: {error}.") from error
    if uid != os.geteuid():
        raise ForeignPeerError(f"The process at the other end of the socket belongs to another user (uid {uid}).")


def peer_uid(connection: socket.socket) -> int:
    """Return the effective user of the process at the other end when it called `connect` or `listen`.

    Raises:
        OSError: The system does not tell.

    """
    uid: int
    if sys.platform == "linux":
        _, uid, _ = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return uid
    # `struct xucred` of macOS and FreeBSD: its version, which is 0, the user, and groups.
    version, uid = struct.unpack_from("=II", connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 128))
    if version:
        raise OSError(errno.ENOTSUP, f"unknown version {version} of struct xucred")
    return uid
