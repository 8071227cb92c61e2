"""The circuit breakers of the run, who waits for each, and what to do about one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from asyncwatch.commands import CloseCircuit, Command, IsolateCircuit, ProbeCircuit
from asyncwatch.model.circuits import CLOSED, HALF_OPEN, ISOLATED, OPEN, KnownCircuit, waiting_by_key
from asyncwatch.model.fleet import Row
from asyncwatch.redact import mask_secrets
from asyncwatch.ui import asks
from asyncwatch.ui import format as fmt
from asyncwatch.ui.branches import countdown
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.lines import Line, Span, crop_line, crop_path, join, pad
from asyncwatch.ui.messages import CommandsRequested
from asyncwatch.ui.scene import Scene
from asyncwatch.ui.widgets.key_line import KeyLine
from asyncwatch.ui.widgets.lines_widget import Block
from asyncwatch.ui.widgets.pick_list import PICKS, Item, PickList

KEYS = (
    Key("escape", "dismiss", "back", "back to the fleet", "esc", footer=1),
    Key("i", "isolate", "isolate", "let no attempt start until it is closed or probed", footer=1),
    Key("c,o", "close", "close it", "let all attempts start again", "c", footer=1),
    Key("p", "probe", "probe", "let a few attempts try it now", footer=1),
)
LOOKS = {
    CLOSED: ("●", "succeeded"),
    OPEN: ("✗", "failed"),
    HALF_OPEN: ("◌", "waiting"),
    ISOLATED: ("■", "cancelled"),
}
"""Glyph and paint of each state."""


def circuit_item(circuit: KnownCircuit, waiting: list[Row], now: float, width: int) -> Item:
    """Return how a circuit reads: its key, its state and for how long; then why, and who waits."""
    glyph, paint = LOOKS.get(circuit.state, ("?", "muted"))
    key = crop_path(fmt.clean(mask_secrets(circuit.key)), 40)
    times: Line = [Span(f"for {fmt.elapsed(now - circuit.since)}", "muted")]
    if circuit.open_until is not None:
        times = [Span("probed in ", "muted"), Span(countdown(circuit.open_until - now), "strong")]
    elif circuit.probes:
        under_way = f"{fmt.count(circuit.probes_under_way, 'probe')} under way"
        may_pass = f"{fmt.count(circuit.probes_free, 'probe')} may pass"
        told = [(circuit.probes_under_way, under_way), (circuit.probes_free, may_pass)]
        times = [Span(", ".join(text for number, text in told if number), "muted")]
    head = join(
        [[Span(pad(key, min(40, width // 2)), "strong")], [Span(pad(f"{glyph} {circuit.state}", 12), paint)], times]
    )
    why: Line = []
    if circuit.opened:
        failed = f"{circuit.failures:,} of {fmt.count(circuit.attempts, 'attempt')} had failed"
        last = "the last time " if circuit.opened > 1 else ""
        why = [Span(f"opened {fmt.count(circuit.opened, 'time')}, {last}as {failed}", "muted")]
    who: Line = [Span("nobody waits", "faint")]
    if waiting:
        who = [
            Span(fmt.count(len(waiting), "worker waits: ", "workers wait: "), "waiting"),
            Span(asks.named(waiting), "muted"),
        ]
    return Item(
        circuit.key, [crop_line(line, width) for line in (head, [Span("  "), *who], [Span("  "), *why]) if line]
    )


class CircuitsScreen(Screen[None]):
    """One item a circuit: those that are not closed when it opens come first. Later none changes its place."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._scene = scene
        self._title = Block(id="title")
        self._list = PickList(id="report")
        self._order: dict[str, None] = {}

    def compose(self) -> ComposeResult:
        """Yield a title, the list, the keys."""
        yield self._title
        yield self._list
        yield KeyLine((*KEYS, *PICKS))

    def on_mount(self) -> None:
        """Let the list have the keys."""
        self._list.focus()

    def on_resize(self) -> None:
        """Fit the lines to the new width."""
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Show the circuits as they are now."""
        width = self._list.scrollable_content_region.width
        if not width:
            return
        fleet = self._scene.fleet
        circuits = self._in_order(fleet.circuits.by_key)
        waiting = waiting_by_key(fleet.notable()) if circuits else {}
        told = f"{len(fleet.circuits.not_closed):,} of {len(circuits):,} not closed" if circuits else ""
        self._title.show([[Span("circuits", "title"), Span(f"  {told}", "muted")]])
        items = [circuit_item(circuit, waiting.get(circuit.key, []), self._scene.now, width) for circuit in circuits]
        self._list.show_items(items, [Span("No circuit has opened so far.", "muted")])

    def _in_order(self, known: Mapping[str, KnownCircuit]) -> list[KnownCircuit]:
        """Return the circuits in the order in which they were first shown; new ones come last."""
        new = [key for key in known if key not in self._order]
        self._order.update(dict.fromkeys(sorted(new, key=lambda key: known[key].state == CLOSED)))
        return [known[key] for key in self._order]

    def action_isolate(self) -> None:
        """Let no attempt of the key start."""
        self._request(IsolateCircuit)

    def action_close(self) -> None:
        """Let all attempts of the key start."""
        self._request(CloseCircuit)

    def action_probe(self) -> None:
        """Let a few attempts of the key try it."""
        self._request(ProbeCircuit)

    def _request(self, kind: type[IsolateCircuit | CloseCircuit | ProbeCircuit]) -> None:
        if isinstance(key := self._list.selected, str):
            command: Command = kind(key)
            self.post_message(CommandsRequested(command))
