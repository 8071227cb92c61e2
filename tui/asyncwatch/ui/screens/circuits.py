"""The circuit breakers of the run, the workers that wait for each, and what can be done about one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from asyncwatch import text as units
from asyncwatch.commands import CloseCircuit, Command, IsolateCircuit, ProbeCircuit
from asyncwatch.model.limits import KnownCircuit, waiting_by_key
from asyncwatch.model.rows import Row
from asyncwatch.policies.circuit import CircuitState
from asyncwatch.ui.actions import names
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.messages import CommandsRequested
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import TENTH
from asyncwatch.ui.render.spans import Line, Span, crop_line, crop_path, join, pad, width_of
from asyncwatch.ui.render.tree import countdown
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import Block
from asyncwatch.ui.widgets.pick_list import PICKS, Item, PickList

KEYS = (
    Key("escape", "dismiss", "back", "back to the fleet", "esc", footer=1),
    Key("i", "isolate", "isolate", "start no attempt until it is closed or probed", footer=1),
    Key("c,o", "close", "close it", "let attempts start again", "c", footer=1),
    Key("p", "probe", "probe", "let a few attempts through now", footer=1),
    Key("f", "filter", "not closed", "only circuits that are not closed, or all", footer=1),
)
LOOKS = {
    CircuitState.CLOSED: ("●", "succeeded"),
    CircuitState.OPEN: ("✗", "failed"),
    CircuitState.HALF_OPEN: ("◌", "waiting"),
    CircuitState.ISOLATED: ("■", "cancelled"),
}
"""Glyph and style of each state."""
_RANKS = {CircuitState.OPEN: 0, CircuitState.HALF_OPEN: 1, CircuitState.ISOLATED: 2}
_KEY_WIDTH = 40


def circuit_item(circuit: KnownCircuit, waiting: list[Row], now: float, width: int, key_width: int) -> Item:
    """Return the item of a circuit: key, state, since when and why; then the workers that wait for it, if any."""
    glyph, style = LOOKS.get(circuit.state, ("?", "muted"))
    times: Line = [Span(f"for {units.elapsed(now - circuit.since)}", "muted")]
    if circuit.open_until is not None:
        times = [Span("probed in ", "muted"), Span(countdown(circuit.open_until - now), "strong")]
    elif circuit.probes:
        under_way = f"{units.count(circuit.probes_under_way, 'probe')} under way"
        may_pass = f"{units.count(circuit.probes_free, 'probe')} may pass"
        parts = [(circuit.probes_under_way, under_way), (circuit.probes_free, may_pass)]
        times = [Span(", ".join(text for number, text in parts if number), "muted")]
    why: Line = []
    if circuit.opened:
        opened = units.count(circuit.opened, "time")
        why = [Span(f"opened {opened}, {circuit.failures:,} of {circuit.attempts:,} failed", "muted")]
    name, state = pad(shown_key(circuit, key_width), key_width), pad(f"{glyph} {circuit.state}", 11)
    lines: list[Line] = [join([[Span(name, "strong")], [Span(state, style)], times, why])]
    if waiting:
        many = units.count(len(waiting), "worker waits: ", "workers wait: ")
        lines.append([Span("  "), Span(many, "waiting"), Span(names(waiting), "muted")])
    return Item(circuit.key, [crop_line(line, width) for line in lines])


def shown_key(circuit: KnownCircuit, width: int) -> str:
    """Return the key of a circuit in at most `width` cells."""
    return crop_path(fmt.safe(circuit.key), width)


class CircuitsScreen(Drawable, Screen[None]):
    """One item a circuit, those in trouble first. The order is made when the screen opens, and when the filter is set.

    A circuit that closes under the filter stays while the cursor is on it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._title = Block(id="title")
        self._list = PickList(id="report")
        self._order: dict[str, None] = {}
        self._is_filtered = False

    def compose(self) -> ComposeResult:
        """Yield a title, the list, the keys."""
        yield self._title
        yield self._list
        yield KeyLine((*KEYS, *PICKS))

    def on_mount(self) -> None:
        """Focus the list."""
        self._list.focus()

    @property
    def period(self) -> float:
        """Seconds between two changes of the times of circuits if nothing happens."""
        return TENTH if self._dashboard.fleet.circuits.by_key else float("inf")

    def draw(self) -> None:
        """Show the circuits as they are now."""
        width = self._list.scrollable_content_region.width
        if not width:
            return
        fleet = self._dashboard.fleet
        known = fleet.circuits.by_key
        waiting = waiting_by_key(fleet.notable()) if known else {}
        circuits = self._in_order(known, waiting)
        number = f"  {len(fleet.circuits.not_closed):,} of {len(known):,} not closed" if known else ""
        title = [Span("circuits", "title"), Span(number, "muted")]
        empty = "There are no circuits. Set circuit.enabled in the config to have one for each key."
        if self._is_filtered:
            title.append(Span("  only these", "warning"))
            empty = "All circuits are closed. Press f to show them."
            selected = self._list.selected
            circuits = [
                circuit for circuit in circuits if circuit.state != CircuitState.CLOSED or circuit.key == selected
            ]
        self._title.show([title])
        widest = max((width_of([Span(shown_key(circuit, _KEY_WIDTH))]) for circuit in circuits), default=0)
        facts = self._dashboard.now, width, min(widest, width // 2)
        items = [circuit_item(circuit, waiting.get(circuit.key, []), *facts) for circuit in circuits]
        self._list.show_items(items, [Span(empty, "muted")])

    def _in_order(self, known: Mapping[str, KnownCircuit], waiting: Mapping[str, Sequence[Row]]) -> list[KnownCircuit]:
        """Return the circuits in the order in which they were first shown; new ones last, by urgency."""

        def urgency(key: str) -> tuple[int, int]:
            return _RANKS.get(known[key].state, len(_RANKS)), -len(waiting.get(key, ()))

        for key in self._order.keys() - known.keys():
            del self._order[key]
        new = [key for key in known if key not in self._order]
        self._order.update(dict.fromkeys(sorted(new, key=urgency)))
        return [known[key] for key in self._order]

    def action_filter(self) -> None:
        """Show only the circuits that are not closed, or all again, in a new order."""
        self._is_filtered = not self._is_filtered
        self._order.clear()
        selected = self._list.selected
        circuit = self._dashboard.fleet.circuits.by_key.get(selected) if isinstance(selected, str) else None
        if self._is_filtered and circuit is not None and circuit.state == CircuitState.CLOSED:
            self._list.show_items(())  # so that the cursor goes to the first
        self.draw()

    def action_isolate(self) -> None:
        """Start no attempt of the key."""
        self._request(IsolateCircuit)

    def action_close(self) -> None:
        """Let attempts of the key start again."""
        self._request(CloseCircuit)

    def action_probe(self) -> None:
        """Let a few attempts of the key through."""
        self._request(ProbeCircuit)

    def _request(self, kind: type[IsolateCircuit | CloseCircuit | ProbeCircuit]) -> None:
        if isinstance(key := self._list.selected, str) and self._list.shows_cursor():
            command: Command = kind(key)
            self.post_message(CommandsRequested([command]))
