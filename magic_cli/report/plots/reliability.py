"""Reliability and risk: how often answers of each confidence are right, and what is wrong among the surest."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from magic_cli.metrics.calibration import Bin
from magic_cli.report.plots.frame import SERIES, Axis, Frame, round_axis, units, words

_LARGEST = 9.0  # radius of a bin that holds all answers

_SHARES = tuple((k / 5, f"{k / 5:g}") for k in range(6))


def reliability_plot(bins: Sequence[Bin], answers: int) -> Markup:
    """Return the share of right answers over their mean confidence, a point per bin, with the diagonal.

    Args:
        bins: those that hold answers.
        answers: how many there are in all.
    """
    pairs = ", ".join(f"{row.confidence:.2f}: {row.correct:.2f}" for row in bins)
    label = f"Reliability of {answers:,} answers; confidence and share that is right of each bin: {pairs}."
    frame = Frame("Reliability", label, Axis("confidence", 0, 1, _SHARES), Axis("right", 0, 1.05, _SHARES))
    marks = [_path(frame, [(0, 0), (1, 1)], 'stroke="currentColor" stroke-dasharray="5 3" opacity=".6"')]
    places = [(row.confidence, row.correct) for row in bins]
    marks.append(_path(frame, places, f'stroke-width="1.4" opacity=".5" stroke="{SERIES[0]}"'))
    for row in bins:
        radius = max(1.8, _LARGEST * math.sqrt(row.answers / answers))
        text = f"{row.answers:,} answers of {row.low:.2f} to {row.high:.2f}: {100 * row.correct:.1f} % right"
        where = f'cx="{units(frame.across(row.confidence))}" cy="{units(frame.up(row.correct))}"'
        fill = f'fill="{SERIES[0]}" fill-opacity=".75"'
        marks.append(f'<circle {where} r="{units(radius)}" {fill}><title>{words(text)}</title></circle>')
    dashes = '<path d="M0 0H20" stroke="currentColor" stroke-dasharray="5 3" opacity=".6"/>'
    return frame.svg(marks, [(dashes, "perfect calibration")])


def risk_plot(
    risks: Sequence[tuple[float, float, tuple[float, float] | None]],
    wrong: float,
    oracle: Sequence[tuple[float, float]],
) -> Markup:
    """Return the share of wrong answers among the surest ones, over the share of answers that are given.

    Args:
        risks: coverage, risk and its interval, by rising coverage.
        wrong: the share of wrong answers among all: that of an order by chance at any coverage.
        oracle: coverage and risk of the best order.
    """
    top = max([wrong, *(risk for _, risk, _ in risks), *(pair[1] for *_, pair in risks if pair)], default=0.0)
    named = ", ".join(f"{coverage:.0%} {risk:.3f}" for coverage, risk, _ in risks[3::4])
    label = f"Risk by coverage: share of wrong answers among the surest: {named}; by chance {wrong:.3f}."
    vertical = round_axis("wrong among the answers given", 0.0, max(1.1 * top, 0.01))
    frame = Frame("Selective prediction", label, Axis("share of the answers that is given", 0, 1, _SHARES), vertical)
    known = [(coverage, pair) for coverage, _, pair in risks if pair]
    marks = []
    if known:
        edge = [(c, pair[0]) for c, pair in known] + [(c, pair[1]) for c, pair in reversed(known)]
        marks.append(f'<path d="{_along(frame, edge)}Z" fill="{SERIES[0]}" opacity=".18"/>')
    marks.append(_path(frame, [(0.0, wrong), (1.0, wrong)], f'stroke-dasharray="6 3" stroke="{SERIES[1]}"'))
    marks.append(_path(frame, oracle, f'stroke-dasharray="1.8 2.4" stroke="{SERIES[3]}"'))
    points = [(coverage, risk) for coverage, risk, _ in risks]
    marks.append(_path(frame, points, f'stroke-width="2" stroke="{SERIES[0]}"'))
    swatches = [
        (f'<path d="M0 0H20" stroke="{SERIES[0]}" stroke-width="2"/>', "system"),
        (f'<path d="M0 0H20" stroke="{SERIES[1]}" stroke-dasharray="6 3"/>', "order by chance"),
        (f'<path d="M0 0H20" stroke="{SERIES[3]}" stroke-dasharray="1.8 2.4"/>', "wrong answers last"),
    ]
    return frame.svg(marks, swatches)


def _along(frame: Frame, places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{units(frame.across(x))} {units(frame.up(y))}" for x, y in places)


def _path(frame: Frame, places: Sequence[tuple[float, float]], style: str) -> str:
    return f'<path d="{_along(frame, places)}" fill="none" {style}/>'
