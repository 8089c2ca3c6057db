"""Curves: scores over the epochs of a run, and those of several runs in one plot."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from magic_cli.report.plots.frame import SERIES, Axis, Frame, round_axis, units, words
from magic_cli.report.score_text import SCORE_NAMES

_DASHES = ("", "6 2.5", "1.8 2.2")

_MARKERS = (  # around (0, 0)
    '<circle r="{0}"/>',
    '<path d="M-{0} -{0}H{0}V{0}H-{0}Z"/>',
    '<path d="M0 -{0}L{0} {0}H-{0}Z"/>',
)

_MOST_MARKERS = 40  # of one curve: more hide its line


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: its name, its points (x, y) by rising x, and the position of the point that is marked as the best."""

    name: str
    points: Sequence[tuple[float, float]]
    best: int | None = None


def curves(
    rows: Sequence[Mapping[str, object]], keys: Sequence[str], *, title: str, axis: str, best: str = "", epochs: int = 0
) -> Markup:
    """Return curves of up to three values of a run's metrics.jsonl over its epochs; rows without a number are skipped.

    Args:
        rows: with "epoch" (1-based) and the keys.
        keys: what is drawn, under the names that reports have for scores.
        title: of the plot. axis: what the values are.
        best: key whose highest value is marked.
        epochs: of the whole run, so that the axis shows how many are left; 0: those of `rows`.
    """
    drawn = []
    for key in keys[:3]:
        points = [
            (x, y) for row in rows if (x := _number(row.get("epoch"))) and (y := _number(row.get(key))) is not None
        ]
        top = max(range(len(points)), key=lambda k: (points[k][1], -k)) if key == best and points else None
        drawn.append(Line(SCORE_NAMES.get(key, (key, ""))[0], points, top))
    return lines(drawn, title=title, x_axis="epoch", y_axis=axis, last=epochs)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def lines(drawn: Sequence[Line], *, title: str, x_axis: str, y_axis: str, last: float = 0) -> Markup:
    """Return several curves in one plot, of six colours and three dashes; `last` is where the x axis ends at least."""
    ranges = "; ".join(f"{line.name} {_range(line)}" for line in drawn if line.points)
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    margin = 0.08 * (max(ys) - min(ys)) if ys else 0.0
    horizontal = _whole(round_axis(x_axis, min([*xs, 1.0]), max([*xs, 1.0, last]), 10))
    vertical = round_axis(y_axis, min(ys) - margin, max(ys) + margin) if ys else round_axis(y_axis, 0.0, 1.0)
    most = f" over {max(xs):g} {x_axis}s" if xs else ""
    frame = Frame(title, f"{title}{most}: {ranges or 'nothing yet'}.", horizontal, vertical)
    bests = [line.points[line.best] for line in drawn if line.best is not None]
    marks = [frame.mark(bests[0][0], f"best: {x_axis} {bests[0][0]:g}", "bottom")] if len(bests) == 1 else []
    marks += [_curve(frame, line, number) for number, line in enumerate(drawn)]
    swatches = [(_swatch(number), line.name) for number, line in enumerate(drawn)]
    return frame.svg(marks, swatches if len(drawn) > 1 else ())


def _whole(axis: Axis) -> Axis:
    """Return an axis with those ticks alone that are whole: there is no half epoch."""
    ticks = [(value, text) for value, text in axis.ticks if abs(value - round(value)) < 1e-9]
    return Axis(axis.name, axis.low, axis.high, tuple((value, f"{round(value):,}") for value, _ in ticks))


def _range(line: Line) -> str:
    values = [y for _, y in line.points]
    best = "" if line.best is None else f", best {values[line.best]:.3f} at {line.points[line.best][0]:g}"
    return f"from {values[0]:.3f} to {values[-1]:.3f}{best}"


def _look(number: int) -> tuple[str, str, str]:
    """Return colour, dashes and marker of a curve: no two of the first eighteen look the same."""
    row = number // len(SERIES)
    return SERIES[number % len(SERIES)], _DASHES[(number + row) % 3], _MARKERS[(number + row) % 3]


def _stroke(number: int) -> str:
    colour, dashes, _ = _look(number)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"{dashed}'


def _curve(frame: Frame, line: Line, number: int) -> str:
    places = [(units(frame.across(x)), units(frame.up(y))) for x, y in line.points]
    if not places:
        return ""
    colour, _, marker = _look(number)
    path = "L".join(f"{x} {y}" for x, y in places)
    markers = []
    for k, ((x, y), (epoch, value)) in enumerate(zip(places, line.points, strict=True)):
        if len(places) <= _MOST_MARKERS or k in (0, len(places) - 1, line.best):
            title = f"<title>{words(f'{line.name}, {frame.x.name} {epoch:g}: {value:.4f}')}</title>"
            shape = marker.format("2.2")
            if k == line.best:
                shape = f'<circle r="5" fill="none" stroke="{colour}" stroke-width="1.6"/>{shape}'
            markers.append(f'<g transform="translate({x} {y})">{title}{shape}</g>')
    return f'<path d="M{path}" {_stroke(number)}/><g fill="{colour}">{"".join(markers)}</g>'


def _swatch(number: int) -> str:
    colour, _, marker = _look(number)
    shape = f'<g fill="{colour}" transform="translate(10 0)">{marker.format("2.4")}</g>'
    return f'<path d="M0 0H20" {_stroke(number)}/>{shape}'
