"""Seeds that give the demo something to show. Pure: bad luck is a hash, so a seed tells beforehand how workers end."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from asyncwatch.config.load import demo_config
from asyncwatch.config.schema import Config, Group
from asyncwatch.policies.bad_luck import BadLuck, Luck, draw_seed
from asyncwatch.policies.classify import is_transient
from asyncwatch.policies.settings import as_policy

_MOST_DRAWS = 200
"""Seeds to try: 10 ms if none is eventful. One in three is at the demo's own threshold."""


def draw_eventful_seed(config: Config, workers: Sequence[str]) -> int | None:
    """Return the seed of a demo in which a worker ends without success and a retry helps another one.

    Return None if `config` is not the demo, if one of its options could change how workers end, or if its threshold
    hardly ever gives such a run. The site's latency changes nothing: it stays below the limit of a request, and all
    attempts of a worker take less time than the run may take.
    """
    if len(config.groups) != 1 or config.seed is not None:
        return None
    (group,), demo = config.groups, demo_config()
    luck = replace(demo.groups[0].bad_luck, threshold=group.bad_luck.threshold)
    same = replace(demo, output=config.output, groups=(replace(demo.groups[0], bad_luck=luck),))
    if config != same:
        return None
    return next(filter(lambda seed: is_eventful(seed, group, workers), (draw_seed() for _ in range(_MOST_DRAWS))), None)


def is_eventful(seed: int, group: Group, workers: Sequence[str]) -> bool:
    """Return whether bad luck makes one of the workers end without success, and a retry helps another one."""
    ends = {attempts_needed(Luck(seed), group, worker) for worker in workers}
    return None in ends and any(end is not None and end > 1 for end in ends)


def attempts_needed(luck: Luck, group: Group, worker: str) -> int | None:
    """Return the number of the attempt that succeeds if only bad luck makes attempts fail; None if none does."""
    policy = as_policy(BadLuck, group.bad_luck)
    for attempt in range(1, group.retry.max_attempts + 1):
        if luck.draw("luck", worker, 1, attempt) <= policy.threshold:
            return attempt
        if not is_transient(policy.fault(luck.draw("fault", worker, 1, attempt))):
            return None
    return None
