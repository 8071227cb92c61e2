"""Makes the picture of the README from the command beside it. Run `python -m tests.docs.picture`.

The command runs for real. The picture is taken when some workers have ended: what it shows is then decided by the seed,
except for times.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import xml.etree.ElementTree as ET
from functools import partial
from typing import Any

from asyncwatch.cli import session
from asyncwatch.cli.main import main
from asyncwatch.engine.thread import EngineThread
from asyncwatch.plan.keys import WorkerKeys
from asyncwatch.plan.plan import Plan
from asyncwatch.ui.app import AsyncwatchApp
from tests.docs.pages import README, ROOT, tokens_of

PICTURE = ROOT / "tui" / "dashboard.svg"
SIZE = 110, 29
SETTLED = 9
"""Workers, at least, that have ended when the picture is taken: some of each kind, while others run."""


def command() -> list[str]:
    """Return the arguments of the command beside the picture."""
    tokens = tokens_of(README)
    image = next(
        n for n, token in enumerate(tokens) if token.type == "image" and token.attrGet("src") == "tui/dashboard.svg"
    )
    following = (token.content for token in tokens[image:] if token.type in {"code_inline", "fence"})
    return shlex.split(next(text for text in following if text.startswith("asyncwatch")))[1:]


def plan_of(arguments: list[str]) -> Plan:
    """Return the plan that the command would run."""
    plans: list[Plan] = []

    def keep(plan: Plan, **_: Any) -> int:
        plans.append(plan)
        return 0

    real, session.run_plan = session.run_plan, keep
    try:
        main(arguments, prog_name="asyncwatch", standalone_mode=False)
    finally:
        session.run_plan = real
    return plans[0]


async def take(plan: Plan) -> str:
    """Run the plan in the dashboard, and return the picture."""
    engine: EngineThread[Any] = EngineThread(
        partial(session._open_run, plan, WorkerKeys(plan), None, None), partial(session._drive, plan), stays_open=True
    )
    engine.start()
    app = AsyncwatchApp(engine)
    async with app.run_test(size=SIZE) as pilot:
        picture, drawn = "", -1
        while drawn != app.dashboard.fleet.settled:  # a worker may end between the drawing of two lines
            while app.dashboard.fleet.settled < SETTLED:
                await pilot.pause(0.01)
            drawn = app.dashboard.fleet.settled
            app.draw()
            await pilot.pause()
            picture = app.export_screenshot(title="asyncwatch")
        app.request_stop()
        app.request_stop()
    engine.join(5.0)
    return picture


def lines_of(picture: str) -> list[str]:
    """Return the text of a picture, line by line."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for text in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text"):
        if text.get("clip-path"):  # the title of the window has none
            rows.setdefault(float(text.get("y", 0)), []).append((float(text.get("x", 0)), text.text or ""))
    return ["".join(part for _, part in sorted(rows[y])).replace("\xa0", " ").rstrip() for y in sorted(rows)]


def without_figures(line: str) -> str:
    """Return a line without figures, their units, bars, and the room that they take: they depend on the time."""
    line = re.sub(r"[▁▂▃▄▅▆▇█━╸╺─╍┈]+", "~", line).replace("ETA -", "ETA 1 s")
    return " ".join(re.sub(r"\d[\d.,:]*( (s|ms|µs|%)(?!\w))?", "#", line).split())


if __name__ == "__main__":
    os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}  # whatever this terminal has
    PICTURE.write_text(asyncio.run(take(plan_of(command()))), encoding="utf-8")
