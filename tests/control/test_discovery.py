"""Runs that find each other by the folder of sockets."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asyncwatch.control import discovery
from asyncwatch.control.client import RunGoneError, connect
from asyncwatch.control.discovery import (
    DAY,
    AmbiguousRunError,
    EndedRecord,
    ForeignPeerError,
    NoFolderError,
    Publication,
    UnknownRunError,
    UnsafeFolderError,
    UnsupportedSystemError,
    alive,
    await_end,
    check_peer,
    ended,
    new_id,
    publish,
    record_end,
    select,
    survey,
)
from asyncwatch.control.protocol import Kind

ROOT = Path(__file__).parents[2]


@contextmanager
def published(name: str = "demo", command: tuple[str, ...] = ("asyncwatch",)) -> Iterator[Publication]:
    publication = publish(name, command, protocol=1)
    try:
        yield publication
    finally:
        publication.withdraw()
        publication.socket.close()


def connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        return True


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def make_old(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def fill(folder: Path, **fields: Any) -> str:
    """Write a record as a process that has just died, or as `fields` say, and return its ID."""
    with published() as publication:
        values = {**msgspec.to_builtins(publication.record), **fields}
    run_id: str = values["id"]
    (folder / f"{run_id}.run").write_text(json.dumps(values))
    (folder / f"{run_id}.sock").touch()
    return run_id


# -- a run that is alive


def test_published_run_is_found_with_its_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    before = time.time()
    with published("jobs:backfill", ("asyncwatch", "jobs:backfill", "--items", "my ids.csv")) as publication:
        [record] = alive()
        assert record == publication.record
        assert (record.name, record.folder, record.pid) == ("jobs:backfill", str(folder.parent), os.getpid())
        assert record.command == "asyncwatch jobs:backfill --items 'my ids.csv'"
        assert before <= record.started <= time.time()
        assert record.socket_path == publication.socket_path == str(folder / f"{record.id}.sock")
        assert connects(record.socket_path)
    assert alive() == []
    assert left_in(folder) == []


def test_record_masks_credentials(folder: Path) -> None:
    with published("https://me:secret@a.example", ("asyncwatch", "https://me:secret@a.example")) as publication:
        data = (folder / f"{publication.record.id}.run").read_text()
        assert "secret" not in data
        assert data.count("***@a.example") == 2
        assert select("https://me:secret@a.example") == publication.record


def test_record_of_a_command_with_many_arguments_is_short(folder: Path) -> None:
    urls = tuple(f"https://a.example/{number}" for number in range(100_000))
    with published("many", ("asyncwatch", *urls)) as publication:
        assert (folder / f"{publication.record.id}.run").stat().st_size < 10_000
        assert alive() == [publication.record]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_belong_to_the_user_alone_whatever_the_umask(folder: Path, umask: int) -> None:
    folder.mkdir(mode=0o700)
    before = os.umask(umask)
    try:
        with published() as publication:
            publication.end(0)
            with published():
                modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        os.umask(before)
    assert modes == {".run": 0o600, ".sock": 0o600, ".ended": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_folder_is_made_for_the_user_alone_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        with published():
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_id_is_short_and_has_no_characters_that_look_alike() -> None:
    ids = {new_id() for _ in range(2_000)}
    assert len(ids) == 2_000
    assert all(re.fullmatch("[a-hjkmnp-z][a-hjkmnp-z2-9]{7}", each) for each in ids)


@pytest.mark.parametrize("has_links", [True, False])
def test_id_of_another_run_is_drawn_again(monkeypatch: pytest.MonkeyPatch, *, has_links: bool) -> None:
    def no_links(*args: object, **options: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links")

    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    draws = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb", "aaaaaaaa", "bbbbbbbb", "cccccccc"])
    monkeypatch.setattr(discovery, "new_id", lambda: next(draws))
    with published("first") as first, published("second") as second:
        second.end(0)
        with published("third") as third:
            assert [each.record.id for each in (first, second, third)] == ["aaaaaaaa", "bbbbbbbb", "cccccccc"]
            assert [record.name for record in alive()] == ["first", "third"]
            assert connects(first.socket_path)


def test_run_in_a_folder_that_is_no_utf8_is_found(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = base / os.fsdecode(b"r\xfc\xff")
    odd.mkdir(mode=0o700)
    monkeypatch.chdir(odd)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(odd))
    with published("caf\udce9") as publication:
        [record] = alive()
        assert record.folder == str(odd)
        assert record.name == "caf\udce9"
        assert connects(record.socket_path)
        publication.end(0, {"error": "\udcff"})
    assert select(record.id) == ended()[0]
    assert ended()[0].summary == {"error": "\udcff"}


def test_resumed_run_is_found_under_its_id_and_has_not_ended(folder: Path) -> None:
    with published() as publication:
        run_id = publication.record.id
        publication.end(130)
        assert (folder / f"{run_id}.ended").exists()
    again = publish("demo", ["asyncwatch"], protocol=1, run_id=run_id)
    assert again.record.id == run_id
    assert [record.id for record in alive()] == [run_id]
    assert not (folder / f"{run_id}.ended").exists()
    again.withdraw()
    again.socket.close()


def test_run_whose_current_folder_was_removed_is_published(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "gone").mkdir()
    monkeypatch.chdir(base / "gone")
    (base / "gone").rmdir()
    with published() as publication:
        assert publication.record.folder == ""


# -- the folder


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777, 0o1777])
def test_folder_that_others_may_enter_is_refused(folder: Path, mode: int) -> None:
    with published() as publication:
        folder.chmod(mode)
        with pytest.raises(UnsafeFolderError, match=f"mode {mode:04o}.*chmod 700 {folder}"):
            publish("demo", ["asyncwatch"], protocol=1)
        with pytest.raises(UnsafeFolderError):
            publication.refresh()
        runs, _, problems = survey()
        assert runs == []
        assert "can be entered by other users" in problems[0]
        folder.chmod(0o700)
        assert publication.refresh() is None


def test_folder_of_another_user_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    (base / "tmp" / f"asyncwatch-{other}").mkdir(mode=0o700)
    with pytest.raises(UnsafeFolderError, match=r"belongs to another user .*XDG_RUNTIME_DIR"):
        publish("demo", ["asyncwatch"], protocol=1)
    assert "belongs to another user" in survey().problems[0]


def test_runtime_folder_of_another_user_is_left_alone(
    base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with `sudo -E`. A folder made there would lock the other user out.
    own, other = os.geteuid(), os.geteuid() + 1
    with published() as publication:
        before = left_in(folder)
        monkeypatch.setattr(os, "geteuid", lambda: other)
        with pytest.raises(
            UnsafeFolderError, match=str(base / "tmp")
        ):  # made by this process, so it is not the other's
            publish("demo", ["asyncwatch"], protocol=1)
        monkeypatch.setattr(os, "geteuid", lambda: own)
        assert left_in(folder) == before
        assert alive() == [publication.record]


@pytest.mark.parametrize("kind", ["link", "dangling", "file"])
def test_folder_that_is_none_is_refused(base: Path, folder: Path, kind: str) -> None:
    (base / "elsewhere").mkdir(mode=0o700)
    if kind == "file":
        folder.touch()
    else:
        folder.symlink_to(base / ("elsewhere" if kind == "link" else "nowhere"))
    with pytest.raises(UnsafeFolderError, match="is not a folder" if kind == "file" else "is a symbolic link"):
        publish("demo", ["asyncwatch"], protocol=1)
    assert left_in(base / "elsewhere") == []
    assert len(survey().problems) == 1


@pytest.mark.parametrize("change", ["link", "mode"])
def test_folder_that_changes_after_the_first_check_is_not_used(
    base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    (base / "elsewhere").mkdir(mode=0o700)
    folder.mkdir(mode=0o700)
    lstat = os.lstat

    def changed(path: str) -> os.stat_result:
        status = lstat(path)
        if path == str(folder):
            if change == "mode":
                folder.chmod(0o777)
            elif not folder.is_symlink():
                folder.rmdir()
                folder.symlink_to(base / "elsewhere")
        return status

    monkeypatch.setattr(os, "lstat", changed)
    if change == "mode":
        with pytest.raises(UnsafeFolderError, match="mode 0777"):
            publish("demo", ["asyncwatch"], protocol=1)
    else:
        with published() as publication:
            assert publication.record.place.startswith(str(base / "tmp"))
    assert left_in(base / "elsewhere") == []
    assert left_in(folder) == []


def test_message_about_a_folder_is_printable(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = base / "a\x1b[31m\udcff"
    (odd / "asyncwatch").mkdir(parents=True, mode=0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(odd))
    assert survey().problems[0].isprintable()


@pytest.mark.parametrize("runtime", ["", "relative", "/nonexistent", "{file}", "\0"])
def test_runtime_folder_that_cannot_be_used_is_replaced(
    base: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    (base / "file").touch()
    environment = {**os.environ, "XDG_RUNTIME_DIR": runtime.format(file=base / "file")}
    monkeypatch.setattr(os, "environ", environment)
    with published() as publication:
        assert publication.record.place == str(base / "tmp" / f"asyncwatch-{os.geteuid()}")
        assert alive() == [publication.record]


def test_longest_path_that_is_used_fits_a_socket(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def runtime_of(length: int) -> str:
        runtime = base / ("x" * (length - len(f"{base}//asyncwatch/") - discovery._LONGEST_NAME))
        runtime.mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        return str(runtime)

    monkeypatch.setattr(os, "getpid", lambda: 2**22)
    runtime = runtime_of(discovery._LONGEST_SOCKET_PATH)
    with published() as publication:
        assert publication.record.place == f"{runtime}/asyncwatch"
        assert connects(publication.socket_path)
    runtime_of(discovery._LONGEST_SOCKET_PATH + 1)
    assert next(discovery._places())[1] == "its path is 1 byte too long for sockets"
    with published() as publication:
        assert publication.record.place.startswith(str(base / "tmp"))


def test_temporary_directory_with_a_long_path_is_replaced(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = base / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setenv("TMPDIR", str(long))
    places = list(discovery._places())
    assert [place for place, reason in places if not reason] == [f"/tmp/asyncwatch-{os.geteuid()}"]
    assert all("too long for sockets" in reason for _, reason in places[:-1])


def test_publish_without_any_place_names_the_reasons(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_LONGEST_SOCKET_PATH", 10)
    with pytest.raises(NoFolderError, match=r"run/asyncwatch': its path is \d+ bytes too long.*Set XDG_RUNTIME_DIR"):
        publish("demo", ["asyncwatch"], protocol=1)


def test_publish_on_a_full_disk_takes_the_other_folder_and_leaves_nothing(
    base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = discovery._rename

    def full(descriptor: int, old: str, new: str) -> None:
        if Path(f"/dev/fd/{descriptor}").samefile(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(descriptor, old, new)

    monkeypatch.setattr(discovery, "_rename", full)
    with published() as publication:
        assert publication.record.place.startswith(str(base / "tmp"))
        assert alive() == [publication.record]
        assert left_in(folder) == []


NO_ROOM = """
import os, resource, sys
from asyncwatch.control.discovery import NoFolderError, publish
resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
try:
    publish("demo", ["asyncwatch"], protocol=1)
except NoFolderError as error:
    print(error)
"""


def test_publish_without_room_for_the_record_says_so_and_leaves_nothing(base: Path, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NO_ROOM], capture_output=True, text=True, check=True)
    assert done.stdout.count("File too large") == 2
    assert left_in(folder) == left_in(base / "tmp" / f"asyncwatch-{os.geteuid()}") == []


def test_publish_makes_anew_a_folder_that_is_removed_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, rename = discovery._write, discovery._rename

    def write_late(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(discovery, "_write", write)
        shutil.rmtree(folder)
        write(*args, **options)

    def rename_late(*args: Any) -> None:
        monkeypatch.setattr(discovery, "_rename", rename)
        shutil.rmtree(folder)
        rename(*args)

    monkeypatch.setattr(discovery, "_write", write_late)
    monkeypatch.setattr(discovery, "_rename", rename_late)
    with published() as publication:
        assert publication.record.place == str(folder)
        assert alive() == [publication.record]


def test_publish_whose_files_are_always_removed_gives_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: object, **options: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(discovery, "_rename", gone)
    with pytest.raises(NoFolderError, match="No such file or directory"):
        publish("demo", ["asyncwatch"], protocol=1)
    assert left_in(folder) == []


# -- files that go while the run is alive


@pytest.mark.parametrize("gone", ["run", "sock", "both", "folder", "runtime"])
def test_refresh_makes_anew_what_has_gone(base: Path, folder: Path, gone: str) -> None:
    with published() as publication:
        run_id, first = publication.record.id, publication.socket
        if gone in {"folder", "runtime"}:
            shutil.rmtree(folder if gone == "folder" else folder.parent)
        for kind in ("run", "sock"):
            if gone in {kind, "both"}:
                (folder / f"{run_id}.{kind}").unlink()
        second = publication.refresh()
        if gone == "run":
            assert second is None
        else:
            assert second is publication.socket
            assert second is not first
            first.close()
        assert [record.id for record in alive()] == [run_id]
        assert alive() == [publication.record]
        assert connects(publication.socket_path)
        place = base / "tmp" / f"asyncwatch-{os.geteuid()}" if gone == "runtime" else folder
        assert publication.record.place == str(place)
        assert publication.refresh() is None
    assert left_in(folder) == left_in(place) == []


def test_refresh_replaces_a_socket_that_is_not_its_own(folder: Path) -> None:
    with published() as publication, socket.socket(socket.AF_UNIX) as other:
        first = publication.socket
        Path(publication.socket_path).unlink()
        other.bind(publication.socket_path)
        assert publication.refresh() is publication.socket
        first.close()
        assert connects(publication.socket_path)


def test_refresh_that_has_to_move_leaves_nothing_behind(base: Path, folder: Path) -> None:
    with published() as publication:
        first = publication.socket
        Path(publication.socket_path).unlink()
        Path(publication.socket_path).mkdir()  # no socket can be renamed to it
        assert publication.refresh() is not None
        first.close()
        assert publication.record.place == str(base / "tmp" / f"asyncwatch-{os.geteuid()}")
        assert [path.suffix for path in folder.iterdir()] == [".sock"]
        assert alive() == [publication.record]


def test_refresh_that_moves_to_a_better_folder_leaves_nothing_behind(
    base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("XDG_RUNTIME_DIR")
        publication = publish("demo", ["asyncwatch"], protocol=1)
    place = Path(publication.record.place)
    assert place.parent == base / "tmp"
    Path(publication.socket_path).unlink()
    with publication.socket:
        publication.refresh()
    with publication.socket:
        assert publication.record.place == str(folder)
        assert left_in(place) == []
        publication.withdraw()


def test_refresh_keeps_the_files_young(folder: Path) -> None:
    with published() as publication:
        paths = [folder, *folder.iterdir()]
        for path in paths:
            make_old(path, 9 * DAY)
        assert publication.refresh() is None
        assert all(time.time() - path.stat().st_mtime < DAY for path in paths)


# -- processes that have gone

PUBLISH = """
import sys
from asyncwatch.control.discovery import publish
publication = publish("child", ["asyncwatch"], protocol=1)
print(publication.record.id, flush=True)
sys.stdin.read()
"""


def test_files_of_a_killed_process_are_removed_before_its_parent_collects_it(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        run_id = child.stdout.readline().strip()
        assert [record.id for record in alive()] == [run_id]
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert alive() == []
        assert left_in(folder) == []


def test_reused_pid_is_not_taken_for_the_run(folder: Path) -> None:
    fill(folder, process="1")
    assert alive() == []
    assert left_in(folder) == []


def test_process_whose_start_is_unknown_is_taken_for_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = fill(folder, process="")
    assert [record.id for record in alive()] == [run_id]
    run_id = fill(folder)
    monkeypatch.setattr(discovery, "_process_start", lambda pid: "")
    assert run_id in [record.id for record in alive()]


def test_run_of_another_boot_or_container_is_not_judged_within_a_day(folder: Path) -> None:
    run_id = fill(folder, machine="another boot", pid=2**22)
    assert survey() == ([], [], [])
    assert left_in(folder) == [f"{run_id}.run", f"{run_id}.sock"]
    make_old(folder / f"{run_id}.run", DAY + 1)
    assert survey() == ([], [], [])
    assert left_in(folder) == []


def test_unfinished_file_is_removed_with_its_process_and_not_before(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    gone, here = f".{2**22}.abcdefgh.run", f".{os.getpid()}.abcdefgh.run"
    (folder / gone).touch()
    (folder / here).touch()
    survey()
    assert left_in(folder) == [here]
    make_old(folder / here, 61)  # of a process that had the same PID
    survey()
    assert left_in(folder) == []


def test_socket_without_record_is_removed_after_a_minute(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "abcdefgh.sock").touch()
    survey()
    assert left_in(folder) == ["abcdefgh.sock"]
    make_old(folder / "abcdefgh.sock", 61)
    survey()
    assert left_in(folder) == []


def test_files_of_others_are_left_alone(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    names = ["README", "abcdefgh.txt", "ABCDEFGH.run", "abc.run", ".x.abcdefgh.run", "abcdefgh.run.bak"]
    for name in names:
        (folder / name).touch()
        make_old(folder / name, 9 * DAY)
    assert survey() == ([], [], [])
    assert left_in(folder) == sorted(names)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_process_start_tells_processes_apart(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if platform != sys.platform and shutil.which("ps") is None:
        pytest.skip("needs ps")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        monkeypatch.setattr(sys, "platform", platform)
        start = discovery._process_start(child.pid)
        assert start
        assert discovery._process_start(child.pid) == start
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert discovery._process_start(child.pid) is None  # not collected yet
        child.wait()
        assert discovery._process_start(child.pid) is None
    assert discovery._process_start(10**9) is None


def test_process_start_without_proc_and_ps_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", "")
    assert discovery._process_start(os.getpid()) == ""
    assert discovery._process_start(10**9) is None
    assert discovery._process_start(10**30) is None


# -- records that cannot be read

GARBAGE = {
    "empty": b"",
    "half": b'{"id": "abcdefgh", "na',
    "not UTF-8": b"\xff\xfe\x00",
    "nested": b"[" * 100_000,
    "list": b"[]",
    "number": b"1" * 10_000,
    "no pid": b'{"id": "abcdefgh"}',
    "pid 0": b'{"id": "abcdefgh", "pid": 0}',
    "pid text": b'{"id": "abcdefgh", "pid": "1"}',
    "huge": b'{"pid": 1, "x": "' + b"x" * 1_000_000 + b'"}',
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_reported_and_removed_after_a_day(folder: Path, content: bytes) -> None:
    with published() as publication:
        path = folder / "abcdefgh.run"
        path.write_bytes(content)
        runs, _, problems = survey()
        assert runs == [publication.record]
        assert problems == [f"{path} is not the record of a run. It will be removed."]
        make_old(path, DAY + 1)
        assert survey() == ([publication.record], [], [])
        assert not path.exists()


def test_record_is_not_judged_while_files_cannot_be_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = fill(folder, process="1")
    make_old(folder / f"{run_id}.run", 2 * DAY)
    real = os.open

    def exhausted(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", exhausted)
    assert survey() == ([], [], [])
    assert left_in(folder) == [f"{run_id}.run", f"{run_id}.sock"]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_record_that_is_no_file_is_not_read(base: Path, folder: Path, kind: str) -> None:
    with published() as publication:
        record = folder / f"{publication.record.id}.run"
        path = folder / "abcdefgh.run"
        if kind == "link":
            path.symlink_to(record)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
        runs, _, problems = survey()
        assert runs == [publication.record]
        assert problems == [f"{path} is not the record of a run. It will be removed."]


@pytest.mark.parametrize(
    "fields", [{"format": 2}, {"name": None}, {"started": "today"}, {"started": 1e300}, {"id": "abcdefgh"}], ids=str
)
def test_record_of_another_version_is_reported_while_its_process_lives(folder: Path, fields: dict[str, Any]) -> None:
    run_id = fill(folder)
    path = folder / f"{run_id}.run"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    runs, _, problems = survey()
    assert runs == []
    assert problems == [
        f"The run {run_id} (PID {os.getpid()}) is of another version of asyncwatch, and cannot be read."
    ]
    path.write_text(json.dumps({**json.loads(path.read_text()), "process": "1"}))
    assert survey() == ([], [], [])
    assert left_in(folder) == []


def test_record_with_fields_of_a_later_version_is_read(folder: Path) -> None:
    run_id = fill(folder, colour="blue")
    assert [record.id for record in alive()] == [run_id]


def test_record_cannot_name_a_socket_elsewhere(folder: Path) -> None:
    run_id = fill(folder, place="/elsewhere")
    assert [record.socket_path for record in alive()] == [str(folder / f"{run_id}.sock")]


# -- runs that have ended


def test_ended_run_leaves_its_status_and_summary_for_a_day(folder: Path) -> None:
    with published("jobs") as publication:
        record = publication.record
        publication.end(1, {"succeeded": 2, "failed": 1})
        assert alive() == []
        [left] = ended()
        assert (left.id, left.name, left.folder, left.started) == (record.id, "jobs", record.folder, record.started)
        assert (left.status, left.summary) == (1, {"succeeded": 2, "failed": 1})
        assert left.started <= left.ended <= time.time()
        path = folder / f"{record.id}.ended"
        make_old(path, DAY - 60)
        assert ended() == [left]
        make_old(path, DAY + 1)
        assert ended() == []
        assert left_in(folder) == []


def test_record_from_the_future_is_removed(folder: Path) -> None:
    with published() as publication:
        publication.end(0)
    make_old(folder / f"{publication.record.id}.ended", -DAY - 60)
    assert ended() == []
    assert left_in(folder) == []


def test_only_the_latest_ended_runs_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MOST_ENDED", 3)
    for number in range(6):
        with published(f"run {number}") as publication:
            publication.end(0)
        make_old(folder / f"{publication.record.id}.ended", 100 - number)
    assert [record.name for record in ended()] == ["run 5", "run 4", "run 3"]
    assert len(left_in(folder)) == 3


def test_end_of_a_killed_run_is_recorded_by_another_process(folder: Path) -> None:
    run_id = fill(folder, process="1")
    record = msgspec.convert(json.loads((folder / f"{run_id}.run").read_text()), discovery.RunRecord)
    record_end(record, 137)
    assert left_in(folder) == [f"{run_id}.ended"]
    assert [(each.id, each.status) for each in ended()] == [(run_id, 137)]


def test_end_after_the_folder_has_gone_is_recorded(folder: Path) -> None:
    with published() as publication:
        shutil.rmtree(folder.parent)
        publication.end(0)
        assert [record.id for record in ended()] == [publication.record.id]


def test_end_that_cannot_be_recorded_removes_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with published() as publication:
        monkeypatch.setattr(discovery, "_write", full)
        with pytest.raises(NoFolderError, match="No space left on device"):
            publication.end(0)
        assert left_in(folder) == []


def test_summary_that_is_too_large_is_left_out() -> None:
    with published() as publication:
        publication.end(1, "x" * 1_000_000)
    assert [(record.status, record.summary) for record in ended()] == [(1, None)]


# -- the choice of a run


@contextmanager
def fleet(monkeypatch: pytest.MonkeyPatch, **names: str) -> Iterator[dict[str, Publication]]:
    """Publish runs whose IDs begin with the keywords."""
    draws = iter([f"{start:a<8}" for start in names])
    monkeypatch.setattr(discovery, "new_id", lambda: next(draws))
    found = {start: publish(name, ["asyncwatch"], protocol=1) for start, name in names.items()}
    yield found
    for publication in found.values():
        publication.withdraw()
        publication.socket.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("xy", "xya"),
        ("XYA", "xya"),
        ("xyaaaaaa", "xya"),
        ("xza", "xza"),
        ("other", "xza"),
        ("w", "w"),
        ("waaaaaaa", "w"),
    ],
)
def test_select_by_the_beginning_of_the_id_or_the_name(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    with fleet(monkeypatch, xya="jobs", xza="other", w="xyaaaaaa") as runs:
        assert select(text) == runs[expected].record


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", r"'x' could be xyaaaaaa \(jobs\), xzaaaaaa \(jobs\)\. Give more of the ID\."),
        ("jobs", r"'jobs' could be xyaaaaaa \(jobs\), xzaaaaaa \(jobs\)"),
        (None, r"2 runs are alive: xyaaaaaa \(jobs\), xzaaaaaa \(jobs\)\. Name one by its ID\."),
    ],
)
def test_select_of_several_runs_lists_them(monkeypatch: pytest.MonkeyPatch, text: str | None, message: str) -> None:
    with fleet(monkeypatch, xy="jobs", xz="jobs") as runs:
        with pytest.raises(AmbiguousRunError, match=message) as caught:
            select(text)
        assert caught.value.candidates == tuple(each.record for each in runs.values())


@pytest.mark.parametrize("text", ["y", "job", "", "xyaaaaaaa"])
def test_select_of_no_run_lists_those_alive(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with fleet(monkeypatch, xy="jobs") as runs:
        with pytest.raises(UnknownRunError, match=rf"There is no run '{text}'\. Alive: xyaaaaaa \(jobs\)\.") as caught:
            select(text)
        assert caught.value.candidates == (runs["xy"].record,)


def test_select_without_text_needs_one_run(folder: Path) -> None:
    with pytest.raises(UnknownRunError, match=r"No run is alive\."):
        select()
    with published() as publication:
        assert select() == publication.record
        publication.end(0)
    with pytest.raises(UnknownRunError, match=r"No run is alive\."):
        select()
    folder.chmod(0o777)
    with pytest.raises(UnknownRunError, match=r"No run is alive\. The folder of sockets .*mode 0777"):
        select()


def test_select_prefers_a_run_that_is_alive_then_the_latest_of_a_name(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    clock = iter(range(1_000_000_000, 1_000_000_100))
    with fleet(monkeypatch, ab="jobs", ac="jobs", ad="other", ae="jobs") as runs:
        with monkeypatch.context() as patch:
            patch.setattr(discovery, "time", _Clock(clock))
            for start in ("ab", "ac", "ad"):
                runs[start].end(0)
        assert select("jobs") == runs["ae"].record
        runs["ae"].withdraw()
        assert select("jobs").id == runs["ac"].record.id
        assert select("ab").id == runs["ab"].record.id
        assert isinstance(select("ad"), EndedRecord)
        with pytest.raises(AmbiguousRunError, match=r"'a' could be adaaaaaa .*acaaaaaa .*abaaaaaa"):
            select("a")


class _Clock:
    def __init__(self, times: Iterator[int]) -> None:
        self.times = times

    def time(self) -> float:
        return next(self.times)


def test_messages_escape_names_and_list_few_of_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with fleet(monkeypatch, **{f"a{letter}": "\x1b[2J\n" + "x" * 100 for letter in "bcdefghjkm"}):
        with pytest.raises(AmbiguousRunError) as caught:
            select("a")
        message = str(caught.value)
        assert message.isprintable()
        assert message.count("\\x1b[2J") == 8
        assert "and 2 more. Give" in message
        assert len(message) < 700
        with pytest.raises(UnknownRunError) as unknown:
            select("\x1b" * 1_000)
        assert str(unknown.value).isprintable()


def test_await_end_of_a_run_that_ends_stays_alive_or_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    with published() as publication:
        run_id = publication.record.id
        assert await_end(run_id, 0.0) is None
        with monkeypatch.context() as patch:
            patch.setattr("asyncwatch.control.discovery.time.sleep", lambda _: publication.end(3))
            found = await_end(run_id, 100.0)
        assert found is not None
        assert (found.id, found.status) == (run_id, 3)
    with published() as publication:
        publication.withdraw()
        monkeypatch.setattr(discovery, "RECORDED_AFTER", 0.0)
        with pytest.raises(UnknownRunError):
            await_end(publication.record.id, 100.0)


def test_select_of_a_run_that_ends_meanwhile_finds_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    listdir = os.listdir
    with published() as publication:

        def late(folder: int) -> list[str]:
            names = listdir(folder)
            if publication.socket.fileno() != -1:
                publication.end(3)
                publication.socket.close()
            return names

        monkeypatch.setattr(os, "listdir", late)
        left = select(publication.record.id)
        assert isinstance(left, EndedRecord)
        assert left.status == 3


# -- the other end of a socket


def test_check_peer_accepts_this_user_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        check_peer(ours)
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
        with pytest.raises(ForeignPeerError, match=rf"belongs to another user \(uid {own}\)"):
            check_peer(ours)


def test_check_peer_of_a_socket_without_credentials_is_refused() -> None:
    with socket.socket(socket.AF_INET) as other, pytest.raises(ForeignPeerError):
        check_peer(other)


def test_client_says_nothing_to_a_process_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    with published() as publication:
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
        with pytest.raises(RunGoneError, match=rf"belongs to another user \(uid {own}\)"):
            connect(publication.socket_path, Kind.ASKER)
        monkeypatch.undo()
        accepted, _ = publication.socket.accept()
        with accepted:
            assert accepted.recv(1) == b""


class _MacSocket:
    """A socket that answers as macOS does."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (0, 1)
        return self.answer[:size]


@pytest.mark.parametrize(
    ("answer", "is_accepted"),
    [
        (lambda uid: struct.pack("=IIh2x16I", 0, uid, 1, *range(16)), True),
        (lambda uid: struct.pack("=IIh2x16I", 0, uid + 1, 1, *range(16)), False),
        (lambda uid: struct.pack("=IIh2x16I", 1, uid, 1, *range(16)), False),
        (lambda uid: b"", False),
    ],
    ids=["own", "other", "version", "short"],
)
def test_check_peer_on_macos(
    answer: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch, *, is_accepted: bool
) -> None:
    connection: Any = _MacSocket(answer(os.geteuid()))
    monkeypatch.setattr(sys, "platform", "darwin")
    if is_accepted:
        check_peer(connection)
    else:
        with pytest.raises(ForeignPeerError):
            check_peer(connection)


# -- systems without Unix sockets

WINDOWS = """
import os, socket, sys
for name in ("geteuid", "getuid", "fork", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "fchmod", "mkfifo"):
    delattr(os, name)
del socket.AF_UNIX, socket.SO_PEERCRED
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
from asyncwatch.control import discovery
for function in (discovery.alive, discovery.select, lambda: discovery.publish("demo", [], protocol=1)):
    try:
        function()
    except discovery.UnsupportedSystemError as error:
        print(error)
"""


def test_system_without_unix_sockets_imports_it_and_gets_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(UnsupportedSystemError, match="on Unix systems only"):
        survey()
    done = subprocess.run([sys.executable, "-c", WINDOWS], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.count("on Unix systems only") == 3


# -- many at once


def test_processes_that_publish_list_and_die_at_once_leave_nothing(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.control.crowd", "1"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert alive() == []
    assert {Path(name).suffix for name in left_in(folder)} == {".ended"}


def test_runs_whose_folder_is_removed_again_and_again_are_found(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.control.crowd", "1", "remove"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert alive() == []
    assert {Path(name).suffix for name in left_in(folder)} <= {".ended"}


@pytest.mark.parametrize("what", ["publish", "refresh", "add", "end", "withdraw", "survey"])
def test_process_killed_at_any_step_leaves_nothing(folder: Path, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.control.killed", what], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 10  # steps
