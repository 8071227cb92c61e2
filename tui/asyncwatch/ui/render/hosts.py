"""The processes of a cluster, on a page of their own. Pure."""

from __future__ import annotations

from asyncwatch import text as units
from asyncwatch.model.hosts import KnownHost
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.snapshot import Snapshot
from asyncwatch.ui.render.spans import Line, Span, crop_line, join, pad

_LATE = 0.1
"""Seconds of lag from which it is shown as a warning."""
_SILENT = 5.0
"""Seconds without a sign from which it is shown as a warning."""
_COLUMNS = (("SLOTS", 6), ("ATTEMPTS", 9), ("CPU", 6), ("MEMORY", 8), ("LOOP LAG", 9), ("LAST HEARD", 11))
_NOTHING = (
    "This run has no cluster: its attempts run in the process of the run.",
    "asyncwatch --engine dask ... runs them in processes of this machine,",
    "asyncwatch --engine tls://HOST:8786 ... on a Dask cluster. asyncwatch guide cluster says more.",
)


def host_lines(snapshot: Snapshot, width: int) -> list[Line]:
    """Return the page, in at most `width` cells a line: processes that take attempts, then those that were lost."""
    hosts = snapshot.fleet.hosts
    if not hosts.by_address:
        return [[Span(text, "muted")] for text in _NOTHING]
    widest = max(len(fmt.safe(host.host)) for host in hosts.by_address.values())
    name = max(7, min(widest, width - sum(size + 1 for _, size in _COLUMNS)))
    head = [Span(pad("PROCESS", name), "strong")]
    head += [Span(f" {pad(title, size, right=True)}", "strong") for title, size in _COLUMNS]
    lines = [head, *(_host_line(host, snapshot.now, name) for host in hosts.present)]
    if not hosts.present:
        lines.append([Span("none is left: attempts wait for one", "warning")])
    lost = [host for host in hosts.by_address.values() if host.lost_at is not None]
    if lost:
        lines += [[], [Span("LOST", "heading"), Span(f"  {units.count(hosts.lost, 'process', 'processes')}", "muted")]]
        lines += [_lost_line(host, name) for host in reversed(lost)]
    return [crop_line(line, width) for line in lines]


def _host_line(host: KnownHost, now: float, name: int) -> Line:
    silent = max(0.0, now - host.heard_at)
    cells = (
        (str(host.slots), ""),
        (f"{host.attempts:,}", ""),
        (f"{host.cpu:.0f}%", ""),
        (f"{host.memory / 1e6:,.0f} MB", ""),
        (units.duration(host.lag), "warning" if host.lag >= _LATE else ""),
        (f"{silent:.0f} s ago", "warning" if silent >= _SILENT else "muted"),
    )
    line = [Span(pad(fmt.safe(host.host), name))]
    for (text, style), (_, size) in zip(cells, _COLUMNS, strict=True):
        line.append(Span(f" {pad(text, size, right=True)}", style))
    return line


def _lost_line(host: KnownHost, name: int) -> Line:
    when = units.clock(host.lost_at or 0.0)
    lost = f"{units.count(host.attempts, 'attempt')} lost" if host.attempts else "no attempt lost"
    return join([[Span(pad(fmt.safe(host.host), name), "muted")], [Span(f" {when}", "muted")], [Span(f"  {lost}")]])
