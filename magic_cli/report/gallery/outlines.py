"""Outlines of masks as paths of SVG: a few hundred bytes each, so that hundreds of photos fit on a page."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from magic_cli.report.overlays import contours, smooth

UNITS = 2  # of a path to a pixel of the mask: whole numbers are precise enough

_TOLERANCE = 0.4  # pixels that a simplified outline may be off

_SPECK = 6.0  # square pixels; of several areas, those below it are left out: nobody sees them


def outline(mask: NDArray[np.bool_]) -> str:
    """Return the outlines of a mask's areas, holes included, as the `d` of an SVG path; "" for an empty mask.

    Args:
        mask: (H, W), at the size of the picture; the path has UNITS units to a pixel, (0, 0) is the upper left.

    >>> outline(np.pad(np.ones((2, 4), bool), 1))
    'M2 2h8v4h-8z'
    """
    loops = [smooth(loop) for loop in contours(mask)]
    areas = [abs(_area(loop)) for loop in loops]
    most = max(areas, default=0.0)
    kept = (loop for loop, area in zip(loops, areas, strict=True) if area >= min(_SPECK, most))
    return "".join(_path(simplified(loop)) for loop in kept)


def simplified(loop: NDArray[np.float64], tolerance: float = _TOLERANCE) -> NDArray[np.float64]:
    """Return a closed path with as few of its points as stay within `tolerance` of it (Douglas and Peucker, 1973).

    Args:
        loop: (n, 2) points, the first and the last the same.
        tolerance: the largest distance of a point that is left out, in the unit of the points.
    """
    if len(loop) < 5:
        return loop
    far = int(np.argmax(np.hypot(*(loop - loop[0]).T)))
    keep = np.zeros(len(loop), bool)
    keep[[0, far, len(loop) - 1]] = True
    parts = [(0, far), (far, len(loop) - 1)]
    while parts:
        start, end = parts.pop()
        if end - start < 2:
            continue
        distances = _distances(loop[start + 1 : end], loop[start], loop[end])
        worst = int(np.argmax(distances))
        if distances[worst] > tolerance:
            middle = start + 1 + worst
            keep[middle] = True
            parts += [(start, middle), (middle, end)]
    return loop[keep]


def _distances(
    points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distances (n,) of points from a line, or from a point where it has no length."""
    along = end - start
    length = float(np.hypot(*along))
    offsets = points - start
    if length == 0:
        return np.asarray(np.hypot(*offsets.T))
    return np.asarray(np.abs(offsets[:, 0] * along[1] - offsets[:, 1] * along[0]) / length)


def _area(loop: NDArray[np.float64]) -> float:
    x, y = loop[:-1].T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _path(loop: NDArray[np.float64]) -> str:
    points = np.round(loop * UNITS).astype(int)[:-1]
    first, steps = points[0], np.diff(points, axis=0)
    return f"M{first[0]} {first[1]}{''.join(_steps(steps))}z"


def _steps(steps: NDArray[np.int_]) -> Iterator[str]:
    """Yield the steps of a path as relative commands, each as short as SVG allows."""
    last = ""
    for x, y in steps.tolist():
        if not (x or y):
            continue
        command, values = ("h", (x,)) if not y else ("v", (y,)) if not x else ("l", (x, y))
        text = "".join(str(value) if number == 0 or value < 0 else f" {value}" for number, value in enumerate(values))
        is_repeated = command == last == "l"  # then it need not be named
        text = (text if x < 0 else f" {text}") if is_repeated else f"{command}{text}"
        last = command
        yield text
