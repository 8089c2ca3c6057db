"""Strips from 0 to 1 for the cells of a table: a score, its interval, and others to compare with."""

import math
from collections.abc import Sequence
from typing import TypeGuard

from markupsafe import Markup

from magic_cli.report.plots.frame import SERIES, units

_HIGH = 30.0  # pixels


def strip(value: float, interval: tuple[float, float] | None = None, ticks: Sequence[float | None] = ()) -> Markup:
    """Return a score in [0, 1] for a cell of any width: its mark, its interval as a band, and others as short ticks.

    It says nothing to screen readers: the numbers stand in the cells beside it. `strip_axis` draws the axis above.
    Ticks that are None or NaN are left out; of a NaN, there is no mark.
    """
    band = ""
    if interval is not None:
        low, high = (min(1.0, max(0.0, end)) for end in interval)
        size = f'width="{_at(high - low)}" height="40%"'
        band = f'<rect x="{_at(low)}" y="30%" {size} rx="2" fill="{SERIES[0]}" opacity=".38"/>'
    line = '<line x1="0" x2="100%" y1="50%" y2="50%" stroke="currentColor" opacity=".3"/>'
    others = "".join(_upright(tick, 30, f'stroke="{SERIES[1]}" stroke-width="2"') for tick in ticks if _is_number(tick))
    mark = _upright(value, 16, f'stroke="{SERIES[0]}" stroke-width="4"') if _is_number(value) else ""
    return _strip(_gridlines(0, 100, ".14") + line + band + others + mark)


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _upright(value: float, gap: int, look: str) -> str:
    """Return a line at a place from 0 to 1, `gap` percent of the height away from both ends."""
    place = _at(value)
    return f'<line x1="{place}" x2="{place}" y1="{gap}%" y2="{100 - gap}%" {look}/>'


def strip_axis() -> Markup:
    """Return the axis of strips for the head of their column: 0, 0.5 and 1."""
    texts = "".join(
        f'<text x="{_at(value)}" y="62%" text-anchor="{anchor}">{value:g}</text>'
        for value, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    return _strip(texts + _gridlines(80, 100, ".5"))


def _strip(body: str) -> Markup:
    head = f'<svg class="strip" width="100%" height="{units(_HIGH)}" overflow="visible" aria-hidden="true"'
    return Markup(f'{head} fill="currentColor" font-size="12">{body}</svg>')  # noqa: S704 - numbers alone


def _gridlines(top: int, bottom: int, opacity: str) -> str:
    places = (_at(k / 4) for k in range(5))
    return "".join(
        f'<line x1="{x}" x2="{x}" y1="{top}%" y2="{bottom}%" stroke="currentColor" opacity="{opacity}"/>'
        for x in places
    )


def _at(share: float) -> str:
    return f"{units(100 * min(1.0, max(0.0, share)))}%"
