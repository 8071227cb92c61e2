"""The wait that an error requests, in a run."""

from __future__ import annotations

from typing import Any

from asyncwatch import RetryPolicy, Run
from tests.engine.fleets import raiser, worker


class AskingError(Exception):
    """An error that says how long to wait."""

    def __init__(self, retry_after: object = None, headers: object = None) -> None:
        super().__init__()
        self.retry_after = retry_after
        self.headers = headers


def test_retry_after_of_an_error_replaces_the_backoff(run: Any) -> None:
    """A date in the past requests no wait."""

    async def main(**request: object) -> float:
        policy = RetryPolicy(backoff="constant", base=1.0, cap=1.0, max_attempts=4, transient=lambda _error: True)
        error = AskingError(**request)
        (outcome,) = await Run([worker("a", raiser, error, retry=policy)], seed=1).gather()
        return outcome.elapsed

    assert run(lambda: main(retry_after=2)) == 6.0
    assert run(lambda: main(retry_after=0)) == 0.0
    assert run(lambda: main(headers={"Retry-After": "0"})) == 0.0
    assert run(lambda: main(headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})) == 0.0
    assert run(main) == 3.0
