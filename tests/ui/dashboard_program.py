"""Program that shows a fake run, whose three workers have ended, in the terminal, and writes how that ended.

Arguments: the role, the file for the result, and a file that is made once the fleet is on the screen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from asyncwatch.ui.app import run_dashboard
from asyncwatch.ui.keys import Role
from tests.ui.fakes import FakeController


class Reported(FakeController):
    """Makes a file, or fails if it `is_broken`, when its figures are read after all events were."""

    def __init__(self, ready: Path, *, is_broken: bool) -> None:
        super().__init__()
        self._ready = ready
        self._is_broken = is_broken
        self.start("0", "1", "2")
        for name in "012":
            self.attempt(name, 0.1)
        self.succeed("0", 0.3)
        self.succeed("1", 0.4)
        self.break_down("2", 0.5)

    def statistics(self) -> Any:
        """Return figures."""
        if self.queue is not None and self.queue.empty():
            self._ready.touch()
            if self._is_broken:
                raise RuntimeError("the figures are broken")
        return super().statistics()


def main() -> None:
    """Run the dashboard."""
    role, result, ready = sys.argv[1:]
    controller = Reported(Path(ready), is_broken=role == "broken")
    detached: list[bool] = []
    outcome = run_dashboard(
        controller,
        role=Role.OWNER if role == "broken" else Role(role),
        detach=lambda: detached.append(True),
    )
    sent = [type(command).__name__ for command in controller.sent]
    Path(result).write_text(json.dumps({"ending": outcome.ending.value, "sent": sent, "detached": bool(detached)}))


if __name__ == "__main__":
    main()
