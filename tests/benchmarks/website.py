"""The web server of the HTTP cases, and the cost of its clients."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.measure import Cost
from tests.benchmarks.processes import PEERS, environment

CONCURRENCY = 200


class Website:
    """A running server, and files of its URLs for clients."""

    def __init__(self, port: int, folder: Path) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._folder = folder

    def urls(self, count: int) -> Path:
        """Write a file of `count` different URLs and return its path."""
        file = self._folder / f"urls-{count}.txt"
        file.write_text("".join(f"{self._base}/items/{number}\n" for number in range(count)), encoding="utf-8")
        return file

    def cost(self, work: Callable[[], Cost], expected: int) -> Cost:
        """Return the cost of `work`. Its wall time is from the first to the last request that the server sees."""
        self._seen()
        cost = work()
        requests, seconds = self._seen()
        assert requests == expected, f"{requests:,} requests, not {expected:,}"
        return cost._replace(wall=seconds)

    def _seen(self) -> tuple[int, float]:
        with urllib.request.urlopen(f"{self._base}/seen") as answer:
            seen = json.load(answer)
        return seen["requests"], seen["seconds"]


@contextmanager
def website(folder: Path) -> Iterator[Website]:
    """Run the server in a process of its own inside the context. The files of URLs go to `folder`."""
    command = [sys.executable, str(PEERS / "server.py")]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Website(json.loads(process.stdout.readline()), folder)
        finally:
            process.terminate()


def script(urls: Path) -> list[str]:
    """Return the command of the handwritten script."""
    return [sys.executable, str(PEERS / "script.py"), str(urls), "--concurrency", str(CONCURRENCY)]
