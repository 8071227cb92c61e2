"""The limits of each key: its throttle, its circuit, the workers that wait, and what can be done about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from asyncwatch import text as units
from asyncwatch.commands import CloseCircuit, Command, HoldKey, IsolateCircuit, ProbeCircuit, ReleaseKey, ResetKey
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import KnownCircuit, KnownKey, hold_phrase, learned, waiting_by_key
from asyncwatch.model.rows import Row
from asyncwatch.policies.circuit import CircuitState
from asyncwatch.ui.actions import names
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import Key, bindings, offered
from asyncwatch.ui.messages import CommandsRequested
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import TENTH
from asyncwatch.ui.render.header import budget_lines
from asyncwatch.ui.render.spans import Line, Span, crop_line, crop_path, join, pad, width_of, wrap
from asyncwatch.ui.render.tree import countdown
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import Block
from asyncwatch.ui.widgets.pick_list import PICKS, Item, PickList

KEYS = (
    Key("escape", "dismiss", "back", "back to the fleet", "esc", footer=1),
    Key("r", "release", "release", "let a probe of the key start now", footer=1),
    Key("h", "hold", "hold", "start no attempt of the key until it is released", footer=1),
    Key("x", "reset", "reset", "forget the limits that were learned", footer=1),
    Key("i", "isolate", "isolate", "isolate its circuit: start no attempt until it is closed or probed", footer=2),
    Key("c,o", "close_circuit", "close", "close its circuit: let attempts start again", "c", footer=2),
    Key("p", "probe", "probe", "let a few attempts through its circuit now", footer=2),
    Key("f", "filter", "limited", "only keys that are limited, or all", footer=1),
)
_ON_A_KEY = ("release", "hold", "reset", "move(1)")
"""Actions that need a key."""
_OF_CIRCUITS = ("isolate", "close_circuit", "probe")
LOOKS = {
    CircuitState.CLOSED: ("●", "succeeded"),
    CircuitState.OPEN: ("✗", "failed"),
    CircuitState.HALF_OPEN: ("◌", "waiting"),
    CircuitState.ISOLATED: ("■", "cancelled"),
}
"""Glyph and style of each state of a circuit."""
_RANKS = {CircuitState.OPEN: 0, CircuitState.HALF_OPEN: 2, CircuitState.ISOLATED: 3}
_KEY_WIDTH = 40
_STATE_WIDTH = 11
_NAMED = 1_000
"""Waiting workers up to which they are named: they are looked for in each frame."""


class Limits(NamedTuple):
    """What is known of one key."""

    key: str
    throttle: KnownKey | None
    circuit: KnownCircuit | None
    waiting: int

    @property
    def rank(self) -> int:
        """The lower, the more it needs attention; keys that limit nothing have the highest."""
        throttle, circuit = self.throttle, self.circuit
        of_throttle = 4 if throttle is None or not throttle.is_limiting else 1 if throttle.is_held else 3
        return min(of_throttle, 4 if circuit is None else _RANKS.get(circuit.state, 4))

    @property
    def is_limited(self) -> bool:
        """Whether the key holds workers back, or may."""
        return self.rank < 4 or bool(self.waiting)


def limits_of(fleet: Fleet) -> dict[str, Limits]:
    """Return what is known of each key."""
    keys, circuits = fleet.keys, fleet.circuits.by_key
    known = dict.fromkeys((*circuits, *keys.by_key))
    return {key: Limits(key, keys.by_key.get(key), circuits.get(key), keys.waiting_for(key)) for key in known}


def limits_item(limits: Limits, waiting: Sequence[Row], rate: object, now: float, width: int, key_width: int) -> Item:
    """Return the item of a key: its throttle and its circuit, then how many workers wait, and some of them.

    `rate` is the key's rate limit, None for none.
    """
    throttle, circuit = limits.throttle, limits.circuit
    parts: list[Line] = []
    if throttle is not None and (throttle.is_limiting or throttle.refused or circuit is None):
        parts += _throttle_parts(throttle, now)
    if circuit is not None:
        parts += [[Span("circuit", "muted")] if parts else [], *_circuit_parts(circuit, now)]
    if rate is not None:
        parts.append([Span(f"rate limit {fmt.setting_value(rate)}", "muted")])
    lines: list[Line] = []
    for part in wrap(filter(None, parts), max(1, width - key_width - 2)):
        name = "" if lines else shown_key(limits.key, key_width)
        lines.append([Span(pad(name, key_width), "strong"), Span("  "), *part])
    if limits.waiting:
        many = units.count(limits.waiting, "worker waits", "workers wait")
        shown = [Span(f"{many}: ", "waiting"), Span(names(waiting), "muted")] if waiting else [Span(many, "waiting")]
        lines.append([Span("  "), *shown])
    return Item(limits.key, [crop_line(line, width) for line in lines])


def _throttle_parts(throttle: KnownKey, now: float) -> list[Line]:
    phrase = hold_phrase(throttle, now, has_tenths=True)
    if throttle.is_held_by_person:
        look, style = "■ held", "cancelled"
    elif throttle.is_held:
        look, style = ("◌ throttled", "waiting") if throttle.held_until > now else ("◌ probing", "waiting")
    else:
        look, style = ("● limited", "running") if throttle.is_limiting else ("● free", "succeeded")
    facts = [phrase if throttle.held_until > now else "", *learned(throttle)]
    if throttle.refused and not throttle.is_held:
        facts.append(f"{throttle.in_flight:,} in flight")
    facts.append(f"{throttle.refused:,} throttled" if throttle.refused else "")
    return [[Span(pad(look, _STATE_WIDTH), style)], *([Span(fact, "muted")] for fact in facts if fact)]


def _circuit_parts(circuit: KnownCircuit, now: float) -> list[Line]:
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
    # In one piece: wrapped, it would say half of what it means.
    return [join([[Span(pad(f"{glyph} {circuit.state}", _STATE_WIDTH), style)], times]), why]


def shown_key(key: str, width: int) -> str:
    """Return a key in at most `width` cells."""
    return crop_path(fmt.safe(key), width)


class LimitsScreen(Drawable, Screen[None]):
    """One item a key, those in trouble first. The order is made when the screen opens, and when the filter is set.

    A key that is limited no more stays under the filter while the cursor is on it.
    """

    HELP_PAGE = ("the limits", (*KEYS, *PICKS), ())
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._title = Block(id="title")
        self._list = PickList(id="report")
        self._keys = KeyLine(offered((*KEYS, *PICKS), dashboard.role))
        self._order: dict[str, None] = {}
        self._is_filtered = False

    def compose(self) -> ComposeResult:
        """Yield a title, the list, the keys."""
        yield self._title
        yield self._list
        yield self._keys

    def on_mount(self) -> None:
        """Focus the list."""
        self._list.focus()

    @property
    def period(self) -> float:
        """Seconds between two changes of the times of keys if nothing happens."""
        fleet = self._dashboard.fleet
        return TENTH if fleet.circuits.by_key or fleet.keys.by_key else float("inf")

    def draw(self) -> None:
        """Show the keys as they are now."""
        width = self._list.scrollable_content_region.width
        if not width:
            return
        fleet = self._dashboard.fleet
        known = limits_of(fleet)
        shown = self._in_order(known)
        limited = sum(limits.is_limited for limits in shown)
        number = f"  {limited:,} of {units.count(len(known), 'key')} limited" if known else ""
        title = [Span("limits", "title"), Span(number, "muted")]
        empty = "No host or key is limited. Throttled ones would be here, and circuits with circuit.enabled = true."
        if fleet.keys.total("budget"):
            empty = "Retries wait for the budget of the run, not for a key."
        if self._is_filtered:
            title.append(Span("  only these", "warning"))
            empty = "No key is limited. Press f to show all."
            selected = self._list.selected
            shown = [limits for limits in shown if limits.is_limited or limits.key == selected]
        budget = budget_lines(fleet, self._dashboard.statistics)
        self._title.show([title, *(crop_line(line, width) for line in budget)])
        waiting = waiting_by_key(fleet.notable()) if 0 < sum(each.waiting for each in shown) <= _NAMED else {}
        widest = max((width_of([Span(shown_key(limits.key, _KEY_WIDTH))]) for limits in shown), default=0)
        facts = self._dashboard.now, width, min(widest, width // 2)
        items = [
            limits_item(limits, waiting.get(limits.key, []), self._rate_of(limits.key), *facts) for limits in shown
        ]
        self._list.show_items(items, empty)
        without = () if fleet.circuits.by_key else _OF_CIRCUITS
        self._keys.hint(dict.fromkeys(without if shown else (*_ON_A_KEY, *_OF_CIRCUITS)))

    def _rate_of(self, key: str) -> object:
        """Return the rate limit of a key, None for none."""
        settings = self._dashboard.fleet.settings
        return settings.value("rate", settings.value("rate per key"), key)

    def _in_order(self, known: dict[str, Limits]) -> list[Limits]:
        """Return the keys in the order in which they were first shown; new ones last, by urgency."""
        for key in self._order.keys() - known.keys():
            del self._order[key]
        new = [limits for key, limits in known.items() if key not in self._order]
        new.sort(key=lambda limits: (limits.rank, -limits.waiting))
        self._order.update(dict.fromkeys(limits.key for limits in new))
        return [known[key] for key in self._order]

    def action_filter(self) -> None:
        """Show only the keys that are limited, or all again, in a new order."""
        self._is_filtered = not self._is_filtered
        self._order.clear()
        selected = self._list.selected
        limits = limits_of(self._dashboard.fleet).get(selected) if isinstance(selected, str) else None
        if self._is_filtered and limits is not None and not limits.is_limited:
            self._list.show_items(())  # so that the cursor goes to the first
        self.draw()

    def action_release(self) -> None:
        """Let a probe of the key start now."""
        self._request(ReleaseKey)

    def action_hold(self) -> None:
        """Start no attempt of the key."""
        self._request(HoldKey)

    def action_reset(self) -> None:
        """Forget the limits that were learned for the key."""
        self._request(ResetKey)

    def action_isolate(self) -> None:
        """Isolate the circuit of the key: start no attempt."""
        self._request(IsolateCircuit)

    def action_close_circuit(self) -> None:
        """Close the circuit of the key: let attempts start again."""
        self._request(CloseCircuit)

    def action_probe(self) -> None:
        """Let a few attempts of the key through its circuit."""
        self._request(ProbeCircuit)

    def _request(
        self, kind: type[ReleaseKey | HoldKey | ResetKey | IsolateCircuit | CloseCircuit | ProbeCircuit]
    ) -> None:
        if isinstance(key := self._list.selected, str) and self._list.shows_cursor():
            command: Command = kind(key)
            self.post_message(CommandsRequested([command]))
