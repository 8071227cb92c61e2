"""Makes rows by hand, as a Fleet would have them."""

from __future__ import annotations

from array import array
from typing import Any

from asyncwatch.model.rows import Block, Extra, Row

_COLUMNS = {"bad_luck": "lucks", "first_started_at": "started", "ended_at": "ended"}


def a_row(name: str, index: int = 0, group: str = "", max_attempts: int = 3, **values: Any) -> Row:
    """Return the row of a worker alone in its block; `values` are the columns that are not as by default."""
    row = Row(name, Block(index, 1, group, max_attempts), 0)
    for key, value in values.items():
        if key in _COLUMNS:
            setattr(row.block, _COLUMNS[key], array("d", [float("nan") if value is None else value]))
        else:
            setattr(row.own_extra() if key in Extra.__struct_fields__ else row, key, value)
    return row


def columns_of(row: Row) -> dict[str, Any]:
    """Return all that a row says, by name."""
    properties = (name for name, value in vars(Row).items() if isinstance(value, property))
    return {key: getattr(row, key) for key in (*properties, "name", "state", "attempt", "version", "result")}
