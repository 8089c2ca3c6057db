"""A row of `magic doctor`: one check, its result and what to do."""

from dataclasses import dataclass

OK, NOTE, MISSING = "ok", "note", "missing"


@dataclass(frozen=True, slots=True)
class Row:
    """One check; `status` is "ok", "note" (optional things) or "missing" (magic cannot work); `remedy` may be ""."""

    group: str
    name: str
    value: str
    status: str = OK
    remedy: str = ""
