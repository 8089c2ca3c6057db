"""Plots for pages: histograms, points, curves, bars, boxes and strips, each an inline SVG of our own."""

from magic_cli.report.plots.bars import Box, bar_chart, boxes, strip, strip_axis
from magic_cli.report.plots.curves import Line, curves, lines
from magic_cli.report.plots.distributions import (
    BINS,
    POINTS,
    Counts,
    Group,
    bins,
    count_bars,
    groups,
    histogram,
    scatter,
    share_histogram,
)

__all__ = [
    "BINS",
    "POINTS",
    "Box",
    "Counts",
    "Group",
    "Line",
    "bar_chart",
    "bins",
    "boxes",
    "count_bars",
    "curves",
    "groups",
    "histogram",
    "lines",
    "scatter",
    "share_histogram",
    "strip",
    "strip_axis",
]
