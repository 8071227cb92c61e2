"""Clusters: errors grouped by kind and place."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.model.view.groups import STEP, Cluster, Clustering, WaitKey
from tests.rows import a_row

STACK = (
    '  File "/app/jobs.py", line 3, in outer\n    await inner()\n  File "/app/db.py", line 41, in inner\n    raise\n'
)


def cluster_errors(rows: Iterable[Row], stack_of: Callable[[str], str]) -> list[Cluster]:
    """Group the rows at once."""
    clustering = Clustering(rows, stack_of)
    assert not clustering.work(lambda: False)
    return clustering.clusters()


def failed(name: str, error: str, state: WorkerState = WorkerState.FAILED) -> Row:
    """Return the row of a worker that ended in `error`."""
    return a_row(name, state=state, error=error)


def test_clusters_by_kind_and_place_are_ordered_by_size() -> None:
    rows = [
        failed("a", "KeyError: 'x'"),
        failed("b", "ValueError: row 1"),
        failed("c", "ValueError: row 2", WorkerState.EXHAUSTED),
        failed("d", "ValueError: column 2"),
        failed("e", "ValueError: row 3"),
        failed("f", ""),
        failed("g", "ValueError: row 4", WorkerState.SUCCEEDED),
    ]
    stacks = {"e": '  File "/app/other.py", line 9, in f\n'}
    clusters = cluster_errors(rows, lambda name: stacks.get(name, STACK))
    assert [(c.kind, c.place, [row.name for row in c.rows]) for c in clusters] == [
        ("ValueError: row …", "/app/db.py:41 inner", ["b", "c"]),
        ("KeyError: 'x'", "/app/db.py:41 inner", ["a"]),
        ("ValueError: column …", "/app/db.py:41 inner", ["d"]),
        ("ValueError: row …", "/app/other.py:9 f", ["e"]),
    ]


def test_rows_in_flight_are_grouped_by_where_they_wait() -> None:
    at = "client.py:88 fetch · "
    running = WorkerState.RUNNING
    rows = [
        a_row("a", state=running, status=f"{at}sleep (30 s)"),
        a_row("b", state=running, status=f"{at}Queue.get · from crawl.py:3 crawl"),
        a_row("c", state=running, status=f"{at}sleep (1m 05s)"),
        a_row("d", state=running, status=f"{at}Queue.get · from other.py:9 other"),
        a_row("e", state=WorkerState.CANCELLING, status=f"{at}sleep"),
        a_row("f", state=WorkerState.SUCCEEDED, status=f"{at}sleep"),
        a_row("g", state=running),
    ]
    clustering = Clustering(rows, None)
    assert not clustering.work(lambda: False)
    assert [(cluster.key, [row.name for row in cluster.rows]) for cluster in clustering.clusters()] == [
        (WaitKey(f"{at}sleep", ""), ["a", "c", "e"]),
        (WaitKey(f"{at}Queue.get", "crawl.py:3 crawl"), ["b"]),
        (WaitKey(f"{at}Queue.get", "other.py:9 other"), ["d"]),
    ]


def test_clusters_made_in_steps_equal_those_made_at_once() -> None:
    states = [WorkerState.FAILED, WorkerState.EXHAUSTED, WorkerState.EXHAUSTED]
    rows = [failed(f"w{n}", f"ValueError: row {n}", states[n % 3]) for n in range(3 * STEP)]
    clustering = Clustering(rows, lambda _: STACK)
    assert [clustering.work(lambda: True) for _ in range(4)] == [True, True, True, False]
    assert clustering.clusters() == cluster_errors(rows, lambda _: STACK)
    assert clustering.clusters()[0].states == {WorkerState.FAILED: STEP, WorkerState.EXHAUSTED: 2 * STEP}


def test_cluster_place_is_the_innermost_frame_outside_libraries_and_asyncwatch() -> None:
    library = (
        '  File "/v/lib/python3.11/site-packages/aiohttp/client_reqrep.py", line 842, in raise_for_status\n    raise\n'
    )
    own = '  File "/v/lib/python3.11/site-packages/asyncwatch/targets/http.py", line 90, in fetch\n    await\n'
    places = []
    for stack in (STACK + library, own + library, library):
        (cluster,) = cluster_errors([failed("a", "OSError: x")], {"a": stack}.__getitem__)
        places.append(cluster.place)
    assert [place.rpartition("/")[2] for place in places] == [
        "db.py:41 inner",
        "",
        "client_reqrep.py:842 raise_for_status",
    ]


def test_cluster_of_error_without_stack_has_no_place() -> None:
    (cluster,) = cluster_errors([failed("a", "RuntimeError: bad luck")], lambda _name: "")
    assert cluster.place == ""
    assert cluster.key == ("RuntimeError: bad luck", "")
