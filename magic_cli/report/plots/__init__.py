"""Plots for pages: histograms, points, curves and strips, each an inline SVG of our own."""

from magic_cli.report.plots.curves import Line, curves, lines
from magic_cli.report.plots.distributions import POINTS, Counts, Group, count_bars, groups, histogram, scatter
from magic_cli.report.plots.strips import strip, strip_axis

__all__ = [
    "POINTS",
    "Counts",
    "Group",
    "Line",
    "count_bars",
    "curves",
    "groups",
    "histogram",
    "lines",
    "scatter",
    "strip",
    "strip_axis",
]
