"""The frame of a plot as inline SVG: scales, ticks, grid, axes, title and legend.

Text stays text in the page's font, colours are the page's (light, dark or printed), nothing has an id, and the same
numbers give the same bytes. Sizes are units of the view, which a page stretches: text of 10 is about 10 pixels high on
a phone and 15 on a desk.
"""

import html
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from magic_cli.errors import printable

WIDTH = 360.0

SIZE = 10.0  # of text

SERIES = (
    "var(--mark, #2f7fc1)",
    "var(--second, #c2570c)",
    "var(--third, #7a58b5)",
    "var(--fourth, #12806a)",
    "var(--fifth, #b03a73)",
    "var(--sixth, #7a6a12)",
)

_TITLE, _BASELINE, _TICK, _LEGEND_ROW, _SWATCH = 14.0, 3.5, 3.0, 15.0, 24.0

_HALO = 'stroke="var(--sheet, #fff)" stroke-width="3" stroke-linejoin="round" paint-order="stroke"'


def units(value: float) -> str:
    """Return a length of the view with at most two decimals.

    >>> units(12.0), units(0.125), units(-0.001)
    ('12', '0.12', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def words(text: str) -> str:
    """Return text as it may stand in an element or a quoted attribute: escaped, control characters made visible."""
    return html.escape(printable(text))


def width_of(text: str, size: float = SIZE) -> float:
    """Return about how wide a text is at most: the font is the reader's. Chinese letters count as nearly two."""
    return size * sum(_letter(letter) for letter in printable(text))


def _letter(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.05
    return 0.9 if letter in "%@mwMW" else 0.35 if letter in " ijlt.,:;|'()" else 0.62


def fitted(text: str, width: float, size: float = SIZE) -> str:
    """Return a text that is at most about `width` wide: what is too long ends in an ellipsis.

    >>> fitted("Location", 100), fitted("Location", 30)
    ('Location', 'Loc…')
    """
    if width_of(text, size) <= width:
        return text
    kept = printable(text)
    while kept and width_of(kept + "…", size) > width:
        kept = kept[:-1]
    return kept.rstrip() + "…"


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: what it measures, its range (low < high), and its ticks with their texts; `is_log` needs low > 0."""

    name: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Return where a value lies on the axis, 0 at the low end and 1 at the high one."""
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return (value - low) / (high - low)


def round_axis(name: str, low: float, high: float, most: int = 6) -> Axis:
    """Return an axis over [low, high] with up to `most` round ticks; a range of nothing is widened.

    >>> [text for _, text in round_axis("loss", 0.11, 0.52).ticks]
    ['0.2', '0.3', '0.4', '0.5']
    """
    if high - low < 1e-9 * max(1.0, abs(low)):
        gap = abs(low) / 10 or 0.5
        low, high = low - gap, high + gap
    scale = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(scale * factor for factor in (1, 2, 2.5, 5, 10, 20) if (high - low) / (scale * factor) <= most)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if abs(step / 2.5 - scale) < 1e-9 * scale else 0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(name, low, high, tuple((k * step, f"{k * step:,.{decimals}f}") for k in range(first, last + 1)))


def count_axis(name: str, most: float) -> Axis:
    """Return an axis from 0 for counts up to `most`, with whole ticks and room above.

    >>> [text for _, text in count_axis("photos", 51).ticks], [text for _, text in count_axis("photos", 1).ticks]
    (['0', '10', '20', '30', '40', '50'], ['0', '1'])
    """
    step = next(s for power in range(20) for f in (1, 2, 5) if (s := f * 10**power) * 5.5 >= most)
    ticks = range(0, max(math.ceil(most), step) + 1, step)
    return Axis(name, 0.0, max(most * 1.15, ticks[-1]), tuple((float(k), f"{k:,}") for k in ticks))


@dataclass(frozen=True)
class Frame:
    """The frame of a plot; `label` is what a screen reader says, `height` that of the plotting area.

    The name of the y axis stands above it, so that it is read without turning the head and takes no width.
    """

    title: str
    label: str
    x: Axis
    y: Axis
    height: float = 150.0

    @cached_property
    def left(self) -> float:
        """The left end of the plotting area: what is left of it is for the ticks of the y axis."""
        return 8.0 + max((width_of(text) for _, text in self.y.ticks), default=0.0)

    @property
    def right(self) -> float:
        """The right end of the plotting area; half of the last tick's text may stand beyond it."""
        return WIDTH - (max(6.0, width_of(self.x.ticks[-1][1]) / 2) if self.x.ticks else 6.0)

    @property
    def top(self) -> float:
        """The upper end of the plotting area."""
        return 40.0 if self.y.name else 26.0

    @property
    def bottom(self) -> float:
        """The lower end of the plotting area."""
        return self.top + self.height

    def across(self, value: float) -> float:
        """Return where a value of the x axis lies."""
        return self.left + (self.right - self.left) * self.x.share(value)

    def up(self, value: float) -> float:
        """Return where a value of the y axis lies."""
        return self.bottom - self.height * self.y.share(value)

    def mark(self, value: float, text: str, place: str = "top", row: int = 0) -> str:
        """Return a dashed line across the plot at `value` of the x axis, with a text at its top or bottom.

        `row` puts the text of another line lower (or higher), so that close ones do not overlap.
        """
        x = self.across(value)
        is_right = x > (self.left + self.right) / 2
        y = self.top + 9 + 12 * row if place == "top" else self.bottom - 6 - 12 * row
        where = (
            f'x="{units(x - 5 if is_right else x + 5)}" y="{units(y)}" text-anchor="{"end" if is_right else "start"}"'
        )
        line = f'<path d="M{units(x)} {units(self.top)}V{units(self.bottom)}" stroke="{SERIES[1]}"'
        return f'{line} stroke-width="1.6" stroke-dasharray="5 2.5"/><text {where} {_HALO}>{words(text)}</text>'

    def svg(self, marks: Iterable[str], legend: Sequence[tuple[str, str]] = ()) -> Markup:
        """Return the plot: marks over the grid, axes over the marks, the legend below.

        Args:
            marks: SVG elements in units of the view, their texts escaped (`words`).
            legend: swatches, SVG elements from (0, 0) to about (20, 0), and what they stand for.
        """
        below = list(self._legend(legend))
        rows = 1 + max((row for row, _ in below), default=-1)
        height = self._low + _LEGEND_ROW * rows + (5.0 if rows else 2.0)
        body = [self._head(height), self._grid(), *marks, self._axes()]
        body += [element for _, element in below]
        return Markup("".join([*body, "</svg>"]))  # noqa: S704 - our own elements around escaped words

    @property
    def _low(self) -> float:
        """Where the texts of the x axis end."""
        return self.bottom + (32.0 if self.x.name else 17.0 if self.x.ticks else 4.0)

    def _head(self, height: float) -> str:
        label = f'<svg viewBox="0 0 {units(WIDTH)} {units(height)}" role="img" aria-label="{words(self.label)}"'
        title = f'<text x="0" y="{units(_TITLE - 3)}" font-size="11" font-weight="650">'
        title += f"{words(fitted(self.title, WIDTH, 11.5))}</text>"
        name = f'<text x="0" y="{units(_TITLE + 13)}" opacity=".75">{words(fitted(self.y.name, WIDTH))}</text>'
        return f'{label} font-size="{units(SIZE)}" fill="currentColor">{title}{name if self.y.name else ""}'

    def _grid(self) -> str:
        span = f"H{units(self.right)}"
        lines = "".join(f"M{units(self.left)} {units(self.up(y))}{span}" for y, _ in self.y.ticks)
        return f'<path d="{lines}" stroke="currentColor" stroke-width=".8" opacity=".14"/>' if lines else ""

    def _axes(self) -> str:
        left, right, top, bottom = (units(v) for v in (self.left, self.right, self.top, self.bottom))
        ticks = "".join(f"M{units(self.across(x))} {bottom}v{units(_TICK)}" for x, _ in self.x.ticks)
        path = f'<path d="M{left} {top}V{bottom}H{right}{ticks}" fill="none" stroke="currentColor" stroke-width=".8"/>'
        below, name = units(self.bottom + 14), units((self.left + self.right) / 2)
        texts = [
            f'<text x="{units(self.across(x))}" y="{below}" text-anchor="middle">{words(text)}</text>'
            for x, text in self.x.ticks
        ]
        beside = f'<text x="{units(self.left - 5)}" text-anchor="end"'
        texts += [f'{beside} y="{units(self.up(y) + _BASELINE)}">{words(text)}</text>' for y, text in self.y.ticks]
        if self.x.name:
            place = f'x="{name}" y="{units(self.bottom + 28)}" text-anchor="middle"'
            texts.append(f'<text {place} opacity=".75">{words(fitted(self.x.name, WIDTH))}</text>')
        return path + "".join(texts)

    def _legend(self, entries: Sequence[tuple[str, str]]) -> Iterator[tuple[int, str]]:
        """Yield the row and the element of each entry: as many in a row as fit."""
        row, x = 0, 0.0
        for swatch, text in entries:
            shown = fitted(text, WIDTH - _SWATCH - 4)
            width = _SWATCH + width_of(shown) + 14
            if x and x + width - 14 > WIDTH:
                row, x = row + 1, 0.0
            y = self._low + _LEGEND_ROW * row + 11
            place = f"translate({units(x)} {units(y - _BASELINE)})"
            text_place = f'x="{units(_SWATCH)}" y="{units(_BASELINE)}"'
            yield row, f'<g transform="{place}">{swatch}<text {text_place}>{words(shown)}</text></g>'
            x += width
