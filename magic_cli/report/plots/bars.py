"""Rows of a chart: stacked bars and boxes with their names, and strips from 0 to 1 for the cells of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from markupsafe import Markup

from magic_cli.report.plots.frame import SERIES, SIZE, WIDTH, Axis, Frame, fitted, round_axis, units, width_of, words

_ROW, _THICK = 17.0, 10.0

_NAMES = 0.42  # of the width, at most, for the names of rows

_HIGH = 30.0  # of a strip, in pixels


@dataclass(frozen=True, slots=True)
class Box:
    """Values of a row: lowest, lower quartile, median, upper quartile and highest, and how many there are."""

    name: str
    values: tuple[float, float, float, float, float]
    number: int


def bar_chart(
    rows: Sequence[tuple[str, Sequence[float]]], *, title: str, axis: str, series: Sequence[str] = ()
) -> Markup:
    """Return a horizontal bar for each row, its name before and the sum of its values behind it.

    Args:
        rows: name and values, which are stacked; at least one row, values from 0.
        title: of the chart. axis: what the values count: "cases".
        series: names of the values, up to six, for the legend and for who points at a bar; () if there is one value.
    """
    sums = [sum(values) for _, values in rows]
    label = f"{title}: " + ", ".join(f"{name} {total:,g}" for (name, _), total in zip(rows, sums, strict=True)) + "."
    room = width_of(f"{max(sums):,g}") + 4
    left = _left([name for name, _ in rows])
    share = (WIDTH - left - room) / (WIDTH - left)  # of the axis, so that the number fits behind the longest bar
    base = round_axis("", 0.0, (max(sums) or 1.0) / share, 5)
    frame = _Rows(title, label, Axis("", base.low, base.high, ()), Axis("", 0.0, 1.0, ()), _ROW * len(rows), left)
    marks = []
    for number, ((name, values), total) in enumerate(zip(rows, sums, strict=True)):
        y, before = frame.middle(number), 0.0
        marks.append(frame.name(number, name))
        for part, value in enumerate(values):
            x, end = frame.across(before), frame.across(before + value)
            which = f"{name}, {series[part]}" if series else name
            marks.append(
                f'<rect x="{units(x)}" y="{units(y - _THICK / 2)}" width="{units(end - x)}" height="{units(_THICK)}"'
                f' fill="{SERIES[part % len(SERIES)]}"><title>{words(f"{which}: {value:,g} {axis}")}</title></rect>'
            )
            before += value
        marks.append(f'<text x="{units(frame.across(total) + 4)}" y="{units(y + 3.5)}">{total:,g}</text>')
    legend = [
        (f'<rect y="-5" width="18" height="{units(_THICK)}" fill="{SERIES[k % len(SERIES)]}"/>', name)
        for k, name in enumerate(series)
    ]
    return frame.svg(marks, legend)


def boxes(rows: Sequence[Box], *, title: str, axis: str, is_share: bool = False) -> Markup:
    """Return a box for each row: its quartiles with the median, and lines to the lowest and highest value.

    Args:
        rows: at least one.
        title: of the chart. axis: what the values are.
        is_share: values are in [0, 1], shown as percent.
    """
    ends = [value for row in rows for value in (row.values[0], row.values[-1])]
    medians = ", ".join(f"{row.name} {_shown(row.values[2], is_share)} (of {row.number:,})" for row in rows)
    horizontal = round_axis(axis, min([*ends, 0.0]), max(ends), 5)
    if is_share:
        ticks = tuple((value, f"{100 * value:g} %") for value, _ in horizontal.ticks)
        horizontal = Axis(axis, horizontal.low, horizontal.high, ticks)
    left = _left([row.name for row in rows])
    label = f"{title}, median {axis}: {medians}."
    frame = _Rows(title, label, horizontal, Axis("", 0.0, 1.0, ()), _ROW * len(rows), left)
    marks = []
    for number, row in enumerate(rows):
        y = frame.middle(number)
        low, first, median, third, high = (frame.across(value) for value in row.values)
        said = f"{row.name}: median {_shown(row.values[2], is_share)} of {row.number:,}"
        whisker = f"M{units(low)} {units(y)}H{units(first)}M{units(third)} {units(y)}H{units(high)}"
        marks.append(
            f"{frame.name(number, row.name)}<g><title>{words(said)}</title>"
            f'<path d="{whisker}" stroke="{SERIES[0]}" stroke-width="1.4"/>'
            f'<rect x="{units(first)}" y="{units(y - _THICK / 2)}" width="{units(max(1.0, third - first))}"'
            f' height="{units(_THICK)}" fill="{SERIES[0]}" opacity=".45"/>'
            f'<path d="M{units(median)} {units(y - _THICK / 2 - 1)}v{units(_THICK + 2)}" stroke="{SERIES[1]}"'
            ' stroke-width="2.2"/></g>'
        )
    return frame.svg(marks)


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


def _left(names: Sequence[str]) -> float:
    """Return where bars begin: behind the longest name, or at most at a part of the width."""
    return min(_NAMES * WIDTH, 9.0 + max(width_of(name) for name in names))


def _shown(value: float, is_share: bool) -> str:
    return f"{100 * value:.3g} %" if is_share else f"{value:,.4g}"


class _Rows(Frame):
    """A frame whose y axis has names of rows, from the top, instead of numbers."""

    def middle(self, row: int) -> float:
        """Return the height of the middle of a row."""
        return self.top + _ROW * (row + 0.5)

    def name(self, row: int, text: str) -> str:
        """Return the name of a row, cut where it is too long; who points at it sees all."""
        place = f'x="{units(self.left - 6)}" y="{units(self.middle(row) + 3.5)}" text-anchor="end"'
        shown = fitted(text, self.left - 8, SIZE)
        whole = f"<title>{words(text)}</title>" if shown != text else ""
        return f"<text {place}>{words(shown)}{whole}</text>"
