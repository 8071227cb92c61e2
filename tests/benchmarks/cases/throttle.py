"""Servers that limit their clients: what a run without any options loses, how many requests it wastes, and its time.

Each server is a process of its own that counts (see `peers/quota_server.py`), and asyncwatch runs as a command with its
defaults. A run that does not succeed with every item is no result. The last findings compare `throttle = "adaptive"`
with `"none"` where nothing throttles: the time from the first request to the last, and the processor time of the whole
process. The other findings are measured once: waits that servers ask for do not vary.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, compare, ratio
from tests.benchmarks.processes import ASYNCWATCH, PEERS, cost_of, environment
from tests.benchmarks.website import website


class _Trial(NamedTuple):
    """A server, the work for it, and what it may cost at most."""

    what: str
    limits: dict[str, Any]
    items: int
    concurrency: int
    rejected: int
    seconds: float


_TRIALS = (
    _Trial("10 per 2 s, Retry-After 2", {"quota": 10, "window": 2, "retry_after": 2}, 60, 10, 12, 13),
    _Trial("10 per 2 s, silent", {"quota": 10, "window": 2}, 60, 10, 30, 20),
    _Trial(
        "10 per 2 s, lowered to 5 after 4 s",
        {"quota": 10, "window": 2, "retry_after": 2, "lowered": (4, 5)},
        *(60, 10, 25, 24),
    ),
    _Trial("20/s burst 20, Retry-After 1", {"rate": 20, "burst": 20, "retry_after": 1}, 200, 20, 30, 14),
    _Trial("8 at once, silent", {"at_once": 8, "delay": 0.05}, 600, 100, 136, 4 * 600 / 8 * 0.05),
    _Trial("8 at once, Retry-After 1", {"at_once": 8, "delay": 0.05, "retry_after": 1}, 600, 100, 136, 22.5),
    _Trial("503 for 5 s, Retry-After 1", {"outage": (1, 6), "delay": 0.05, "retry_after": 1}, 3_000, 100, 110, 9.5),
)
_QUICK = _Trial("10 per 0.2 s, silent", {"quota": 10, "window": 0.2}, 20, 10, 30, 20)


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the rejected requests and the seconds of each server, then the cost where nothing throttles."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for trial in (_QUICK,) if effort.is_quick else _TRIALS:
            with _server(trial.limits) as server:
                _fetch(folder, server.urls(trial.items), trial.concurrency)
                seen = server.seen()
            assert seen["accepted"] == trial.items, seen
            note = f"{trial.items} items, concurrency {trial.concurrency}"
            rejected, seconds = Goal("<=", trial.rejected, "requests"), Goal("<=", trial.seconds, "s")
            yield Finding(f"{trial.what}: rejected", seen["rejected"], "requests", goal=rejected, note=note)
            yield Finding(f"{trial.what}: time", seen["seconds"], "s", goal=seconds)
            if "outage" in trial.limits:
                after = seen["back_at"] - trial.limits["outage"][1]
                yield Finding(f"{trial.what}: on again after its end", after, "s", goal=Goal("<=", 2, "s"))
        yield from _given_up(effort, folder)
        yield _beside(effort, folder)
        yield from _cost(effort, folder)


def _given_up(effort: Effort, folder: Path) -> Iterator[Finding]:
    """Yield the requests and the time that a server costs which refuses for ever."""
    patience = effort.size(20, 1)
    with _server({"always": True, "retry_after": 2}) as server:
        _fetch(folder, server.urls(60), 10, f'throttle_patience = "{patience}s"\n', succeeds=False)
        seen = server.seen()
    assert not seen["accepted"]
    what = f"429 for ever, patience {patience} s"
    yield Finding(f"{what}: rejected", seen["rejected"], "requests", goal=Goal("<=", 40, "requests"))
    yield Finding(f"{what}: time", max(seen["seconds"], 0.01), "s", goal=Goal("<=", patience + 30, "s"))


def _beside(effort: Effort, folder: Path) -> Finding:
    """Return the speed of a free host beside a throttled one, relative to its speed alone."""
    items, concurrency = effort.size(2_000, 40), 20

    def rate(*, is_alone: bool) -> float:
        with _server({"delay": 0.05}) as free, _server({"quota": 10, "window": 2, "retry_after": 2}) as throttled:
            urls = free.urls(items)
            if not is_alone:
                others = iter(throttled.urls(-(-items // 80)))
                urls = [url for n, each in enumerate(urls) for url in (each, *([next(others)] if n % 80 == 0 else []))]
            _fetch(folder, urls, concurrency)
            return items / float(free.seen()["seconds"])

    figures = alternate(effort, {"beside": partial(rate, is_alone=False), "alone": partial(rate, is_alone=True)})
    return ratio("speed of a host beside a throttled one", figures["beside"], figures["alone"], Goal(">=", 0.95))


def _cost(effort: Effort, folder: Path) -> Iterator[Finding]:
    """Yield what throttling costs where nothing throttles."""
    count = effort.size(20_000, 300)
    with website(folder) as site:
        urls = site.urls(count)

        def fetch(mode: str) -> Cost:
            config = folder / f"{mode}.toml"
            config.write_text(f'throttle = "{mode}"\n', encoding="utf-8")
            command = [ASYNCWATCH, "--headless", "--config", str(config), "--items", str(urls)]
            return site.cost(partial(cost_of, command), count)

        costs = alternate(effort, {mode: partial(fetch, mode) for mode in ("adaptive", "none")})
    times = {mode: [cost.wall for cost in each] for mode, each in costs.items()}
    yield ratio("nothing throttles: time", times["adaptive"], times["none"], Goal("<=", 1.02))
    goal = Goal("<=", 1.05)
    yield compare("nothing throttles: processor time", costs["adaptive"], costs["none"], goal, unit="s")


class _Server:
    """A running server that limits its clients."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def urls(self, count: int) -> list[str]:
        """Return so many different URLs."""
        return [f"{self._base}/{number}" for number in range(count)]

    def seen(self) -> dict[str, Any]:
        """Return what the server has counted."""
        with urllib.request.urlopen(f"{self._base}/seen") as answer:
            seen: dict[str, Any] = json.load(answer)
        return seen


@contextmanager
def _server(limits: dict[str, Any]) -> Iterator[_Server]:
    """Run a server with these limits in a process of its own inside the context."""
    command = [sys.executable, str(PEERS / "quota_server.py"), json.dumps(limits)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield _Server(json.loads(process.stdout.readline()))
        finally:
            process.terminate()


def _fetch(folder: Path, urls: list[str], concurrency: int, config: str = "", *, succeeds: bool = True) -> None:
    """Fetch the URLs by the command; it has to end as `succeeds` says."""
    items, settings = folder / "urls.txt", folder / "settings.toml"
    items.write_text("\n".join(urls), encoding="utf-8")
    settings.write_text(config, encoding="utf-8")
    command = [ASYNCWATCH, "--headless", "--config", str(settings), "--items", str(items)]
    command += ["--concurrency", str(concurrency)]
    done = subprocess.run(
        command,
        env=environment(),
        cwd=PEERS,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == (0 if succeeds else 1), done.stderr.decode()[-2_000:]
