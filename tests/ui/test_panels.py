"""Options, the cursor of the errors, the empty log, the header of a finished run."""

from __future__ import annotations

import pytest

from asyncwatch.commands import ChangeSetting
from asyncwatch.events import AttemptFailed, RunStarted, SettingChanged, WorkersQueued
from asyncwatch.ui.screens import errors
from tests.ui.fakes import (
    FakeController,
    dashboard_of,
    hides,
    make_app,
    overview_text,
    shows,
    small_run,
    text_of,
    until,
)


def fail(controller: FakeController, name: str, error: str, at: float = 0.5) -> None:
    """Let a worker fail."""
    controller.attempt(name, 0.1)
    controller.emit(
        AttemptFailed,
        at,
        worker=name,
        incarnation=1,
        attempt=1,
        error_type="ValueError",
        error=error,
        transient=False,
        injected=False,
        elapsed=0.1,
        stack='  File "/srv/jobs.py", line 3, in load\n    raise ValueError\n',
    )
    controller.break_down(name, at, "ValueError", error)


async def test_options_show_present_settings() -> None:
    controller = FakeController()
    settings = {"concurrency": 8, "rate": "50/s burst 5", "rate_per_key": "7/s", "bad_luck": 0.9}
    fields = {"run": "demo", "workers": 1, "runner": "gather", "seed": 7, "timeout": None, "started_at": 0.0}
    controller.emit(RunStarted, 0.0, **fields, **settings)
    controller.emit(WorkersQueued, 0.0, group="", max_attempts=3, workers=("a",))
    controller.emit(SettingChanged, 0.1, name="bad luck", value=0.5, previous=0.9)
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› a")
        await pilot.press("o")
        await shows(app, "Settings of the run", "50/s burst 5", "0.5")
        await pilot.press("enter")
        await hides(app, "Settings of the run")
        assert controller.sent == []


async def test_options_rate_per_key_is_changed_and_undone() -> None:
    controller = FakeController()
    fields = {"run": "demo", "workers": 1, "runner": "gather", "seed": 7, "timeout": None, "started_at": 0.0}
    controller.emit(RunStarted, 0.0, **fields, concurrency=8, rate_per_key="7/s")
    controller.emit(WorkersQueued, 0.0, group="", max_attempts=3, workers=("a",))
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› a")
        await pilot.press("o")
        # The hints are there in full.
        await shows(app, "attempts at a time", "9/min; none: no limit", "7/s", "host; none: no limit", "worker's own")
        await pilot.press("down", "down", "backspace", *"3/s", "enter")
        await until(lambda: controller.sent)
        controller.emit(SettingChanged, 0.1, name="rate per key", value="3/s", previous="7/s")
        await shows(app, "rate per key 3/s (was 7/s)")
        await pilot.press("u")
        await until(lambda: len(controller.sent) == 2)
        assert [(sent.name, sent.value) for sent in controller.sent if isinstance(sent, ChangeSetting)] == [
            ("rate per key", "3/s"),
            ("rate per key", "7/s"),
        ]


async def test_errors_reordered_cursor_keeps_kind_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "EVERY", 0.0)
    monkeypatch.setattr(errors, "SHARE", 0)
    controller = FakeController()
    names = [f"{kind}{number}" for kind in "abcdefgh" for number in range(4)]
    controller.start(*names)
    for name in names:
        if name[1] in "01" and name != "h1":
            fail(controller, name, f"kind {name[0]}")
    app = make_app(controller)
    async with app.run_test(size=(100, 12)) as pilot:
        await shows(app, "15 failed")
        await pilot.press("e")
        await shows(app, "in 8 groups")
        await pilot.pause()  # until the title has its height
        await pilot.press("j", "j")
        await shows(app, "kind c")
        before = next(y for y, line in enumerate(text_of(app).splitlines()) if "ValueError: kind c " in line)
        for number in range(1, 4):
            fail(controller, f"h{number}", "kind h", at=0.6)
        await shows(app, "18 workers in 8 groups")
        lines = text_of(app).splitlines()
        assert "ValueError: kind c " in lines[before]
        await pilot.press("enter")
        await until(lambda: app.dashboard.view.cluster)
        assert app.dashboard.view.cluster == ("ValueError: kind c", "/srv/jobs.py:3 load")


async def test_log_empty_says_why() -> None:
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(100, 24)) as pilot:
        await shows(app, "› 0")
        await pilot.press("l", "v", "v")
        await shows(app, "error and above", "No line of this level or above.")
    silent = FakeController()
    silent.start("a")
    app = make_app(silent)
    async with app.run_test(size=(100, 24)) as pilot:
        await shows(app, "› a")
        await pilot.press("l")
        await shows(app, "Nothing is logged yet.", "0 lines ")
        silent.log("a", 0.2, "begun")
        await shows(app, "begun", "log  1 line ")


@pytest.mark.parametrize(("width", "hint"), [(80, ""), (100, ""), (120, " · a then r restarts all")])
def test_overview_finished_names_keys_to_restart_and_keeps_runner_and_seed(width: int, hint: str) -> None:
    controller = FakeController()
    controller.start("a", "b")
    controller.attempt("a", 0.1)
    controller.succeed("a", 0.2)
    assert "again" not in overview_text(dashboard_of(controller), width)
    controller.attempt("b", 0.1)
    controller.break_down("b", 0.3)
    title = overview_text(dashboard_of(controller), width).splitlines()[0]
    assert "demo  as_completed  seed 4127 " in title
    assert title.endswith(f"■ finished · 1 did not succeed{' · R restarts them' if width > 80 else ''}{hint}")


@pytest.mark.parametrize("width", [80, 100, 120])
def test_header_of_a_run_with_a_long_name_keeps_runner_and_seed(width: int) -> None:
    controller = FakeController()
    controller.start("a", name="a run of which somebody gave the whole story in its name, from the start to the end")
    title = overview_text(dashboard_of(controller), width).splitlines()[0]
    assert "  as_completed  seed 4127 " in title
    assert title.startswith("a run of wh")
    assert "…" in title


@pytest.mark.parametrize(
    ("key", "text"), [("e", "No worker has an error."), ("b", "circuit.enabled = true."), ("w", "asyncwatch observe")]
)
async def test_footer_of_an_empty_page_has_no_key_without_effect(key: str, text: str) -> None:
    controller = FakeController()
    controller.start("a")
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› a")
        await pilot.press(key)
        await shows(app, text, "esc back")
        keys = text_of(app).splitlines()[-1]
        assert not any(label in keys for label in ("restart", "copy", "release", "reset", "move"))


async def test_long_error_is_read_whole_on_the_page_of_errors() -> None:
    controller = FakeController()
    controller.start("a")
    controller.attempt("a", 0.1)
    controller.break_down("a", 0.2, text=" ".join(f"part{number}" for number in range(30)) + " END")
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "1 failed")
        await pilot.press("e")
        await until(lambda: "".join(line.strip() for line in text_of(app).splitlines()).count("END") == 2)
