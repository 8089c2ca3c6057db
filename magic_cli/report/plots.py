"""Plots as inline SVG: text stays text, colours come from the page, and the same numbers give the same bytes.

matplotlib (the extra `report`) is imported inside functions, so that this module loads without it.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magic_cli.errors import ExtraError, printable

REMEDY = "pip install matplotlib"

BINS = 20

POINTS = 2_000  # in one plot: tens of thousands make a page of megabytes that a browser scrolls slowly

_SIZE = (4.7, 3.1)  # inches of 72 units: 10-unit text is about 9 pixels on a phone and 14 on a desk

# Placeholders that matplotlib draws with and the page's own colours, light or dark, that replace them.
_COLOURS = {
    "#000001": "currentColor",
    "#000002": "var(--mark, #2f7fc1)",
    "#000003": "var(--second, #c2570c)",
    "#000004": "var(--third, #7a58b5)",
}

_INK, *_SERIES = _COLOURS

_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))

_MARKERS = ("o", "s", "^")

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "magic",
    "text.parse_math": False,
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
} | dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK)


@dataclass(frozen=True, slots=True)
class Group:
    """Points with x in [low, high]: their number, and the quartiles of their y."""

    low: float
    high: float
    size: int
    quartiles: tuple[float, float, float]


def bins(values: Sequence[float]) -> NDArray[np.int64]:
    """Count values in [0, 1] in 20 bins of 0.05; the last one includes 1."""
    return np.histogram(np.asarray(values, float), BINS, (0, 1))[0].astype(np.int64)


def groups(x: Sequence[float], y: Sequence[float], most: int = 4) -> tuple[Group, ...]:
    """Return groups of equal size by rising x (the last may differ by one), each with the quartiles of y.

    >>> [(g.low, g.high, g.quartiles[1]) for g in groups([4, 1, 2, 3], [0.4, 0.1, 0.2, 0.3], 2)]
    [(1.0, 2.0, 0.15000000000000002), (3.0, 4.0, 0.35)]
    """
    order = np.argsort(np.asarray(x, float), kind="stable")
    parts = []
    for part in np.array_split(order, min(most, max(1, len(order) // 2))):
        if part.size:
            xs, ys = np.asarray(x, float)[part], np.asarray(y, float)[part]
            low, middle, high = (float(q) for q in np.quantile(ys, (0.25, 0.5, 0.75)))
            parts.append(Group(float(xs[0]), float(xs[-1]), part.size, (low, middle, high)))
    return tuple(parts)


def histogram(values: Sequence[float], *, name: str, title: str, axis: str, things: str = "images") -> str:
    """Return the histogram of values in [0, 1] with a line at their median, 20 bins.

    Args:
        values: finite, at least one. name: prefix of the SVG's ids, different for each plot of a page.
        title, axis, things: title of the plot, label of its x axis, and what is counted.

    Raises:
        ExtraError: matplotlib is not installed.
    """
    median = float(np.median(values))
    label = f"{title}: histogram of {len(values)} {things} over {axis}, median {median:.2f}."
    with _axes(name, label) as (axes, svg):
        _words(axes, title, axis, f"number of {things}")
        axes.bar(np.arange(BINS) / BINS, bins(values), 1 / BINS, align="edge", color=_SERIES[0], linewidth=0)
        axes.axvline(median, color=_SERIES[1], linewidth=1.8, linestyle=_DASHES[1])
        side = "right" if median > 0.5 else "left"
        shift = -4 if side == "right" else 4
        where = {"xy": (median, 1), "xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate(f"median {median:.2f}", xytext=(shift, -9), ha=side, **where)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, max(1, int(bins(values).max())) * 1.18)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.get_major_locator().set_params(integer=True)
    return svg[0]


def scatter(x: Sequence[float], y: Sequence[float], *, name: str, title: str, x_axis: str, y_axis: str) -> str:
    """Return points of y in [0, 1] over x, a share in (0, 1] on a log axis, with the median of each quarter of x.

    At most POINTS points are drawn, evenly spaced by rank of x; the medians are of all points. Arguments and errors as
    for `histogram`; x and y have the same length, at least 1.
    """
    medians, drawn = groups(x, y), _drawn(x)
    values = ", ".join(f"{group.quartiles[1]:.2f}" for group in medians)
    label = f"{title}: {len(x)} points; median {y_axis} by rising {x_axis}: {values}."
    with _axes(name, label) as (axes, svg):
        _words(axes, title, x_axis, y_axis)
        axes.set_xscale("log")
        points = [x[k] for k in drawn], [y[k] for k in drawn]
        axes.plot(*points, "o", markersize=4, color=_SERIES[0], alpha=0.5, markeredgewidth=0)
        for number, group in enumerate(medians):
            words = "median of a quarter of the images" if len(medians) == 4 else "median of a group of images"
            line = {"color": _SERIES[1], "linewidth": 2.4, "label": words if not number else None}
            axes.plot([group.low, group.high], [group.quartiles[1]] * 2, **line)
        axes.set_xlim(10 ** min(-1.0, np.floor(np.log10(min(x)))), 1)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), borderaxespad=0, fontsize=9)
    return svg[0]


def _drawn(x: Sequence[float]) -> Sequence[int]:
    """Return the indices of the points that are drawn, sorted; the lowest and the highest x are among them."""
    if len(x) <= POINTS:
        return range(len(x))
    picked = np.argsort(np.asarray(x, float), kind="stable")[np.linspace(0, len(x) - 1, POINTS).round().astype(int)]
    return sorted(picked.tolist())


def curves(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], *, name: str, title: str, axis: str, best: str = ""
) -> str:
    """Return curves of up to three values of a run's metrics.jsonl over its epochs; rows without a number are skipped.

    Args:
        rows: dicts with "epoch" (1-based) and the keys. best: key whose highest value is marked.
        name, title: as for `histogram`; axis: label of the y axis.
    """
    drawn = [(key, *_series(rows, key)) for key in keys[:3]]
    ranges = "; ".join(f"{key} from {ys[0]:.3f} to {ys[-1]:.3f}" for key, _, ys in drawn if ys)
    with _axes(name, f"{title} over {len(rows)} epochs: {ranges}.") as (axes, svg):
        _words(axes, title, "epoch", axis)
        for number, (key, xs, ys) in enumerate(drawn):
            look = {"color": _SERIES[number], "linestyle": _DASHES[number], "marker": _MARKERS[number]}
            axes.plot(xs, ys, label=printable(key), linewidth=1.8, markersize=3.5, **look)
            if key == best and ys:
                top = int(np.argmax(ys))
                axes.axvline(xs[top], color=_INK, linewidth=0.8, alpha=0.5)
                where = {"xy": (xs[top], 0), "xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
                side = "right" if xs[top] > np.mean(xs) else "left"
                text = f"best: epoch {xs[top]:g}"
                axes.annotate(text, xytext=(-4 if side == "right" else 4, 5), ha=side, **where)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.margins(y=0.14)
        if len(drawn) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), borderaxespad=0, fontsize=9, ncols=3)
    return svg[0]


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(row["epoch"], row[key]) for row in rows if isinstance(row.get(key), (int, float))]
    return [float(x) for x, _ in points], [float(y) for _, y in points]


@contextmanager
def _axes(name: str, label: str) -> Iterator[tuple[Any, list[str]]]:
    """Yield axes to draw on and a list that holds the SVG after the block."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise ExtraError(f"plots need matplotlib, which is not installed; {REMEDY}") from None
    svg: list[str] = []
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that matplotlib's font lacks; the browser has others
        figure = Figure(figsize=_SIZE, layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.subplots()
        axes.patch.set_visible(False)
        axes.grid(axis="y", color=_INK, alpha=0.15, linewidth=0.8)
        yield axes, svg
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    svg.append(_inline(buffer.getvalue(), name, label))


def _words(axes: Any, title: str, x_axis: str, y_axis: str) -> None:
    axes.set_title(printable(title))
    axes.set_xlabel(printable(x_axis))
    axes.set_ylabel(printable(y_axis))


def _inline(svg: str, name: str, label: str) -> str:
    """Turn matplotlib's document into an element of a page: no size, no style sheet, ids with a prefix."""
    body = svg[svg.index("<g id=") : svg.rindex("</svg>")]
    body = re.sub(r"font-family: [^;\"]*", "font-family: inherit", body)
    body = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), body)
    body = re.sub(r"\s*\n\s*", " ", body).replace("xlink:href", "href")
    used = set(re.findall(r"(?:href=\"|url\()#([\w.]+)", body))
    prefix = re.sub(r"\W", "-", name)
    body = re.sub(r" id=\"([^\"]*)\"", lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r"(href=\"|url\()#", rf"\1#{prefix}-", body)
    for placeholder, colour in _COLOURS.items():
        body = body.replace(placeholder, colour)
    box = re.search(r"viewBox=\"([\d. ]+)\"", svg)
    style = "stroke-linejoin:round;stroke-linecap:butt;font-family:inherit"
    head = f'viewBox="{box[1] if box else ""}" role="img" aria-label="{html.escape(printable(label))}"'
    return f'<svg {head} style="{style}" fill="currentColor">{body.strip()}</svg>'
