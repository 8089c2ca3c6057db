"""Rulers and hair: dark lines thinner than a fiftieth of a photo, straight with even ticks, or many and long."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from magic_cli.data.imaging.artefacts.colours import grown

Grey = NDArray[np.int16]

Floats = NDArray[np.float64]

_THIN = 9  # pixels: a dark line that is narrower is filled by a closing of this size

_DARKER = 14  # grey values by which a line is darker than what is on both of its sides

_MOST_POINTS = 6_000  # that vote for lines: more take time and change little

_TRIES = 4  # lines that are looked at for ticks

_SHORTEST = 0.25  # of the longer side: a ruler's edge

_FILLED = 0.8  # of a ruler's edge is dark: a row of hairs or pores is not

_EVEN = 0.5  # autocorrelation at the distance of two ticks, and at twice that, above which ticks are even

_LAGS = (5, 34)  # pixels between ticks

_DEPTHS = (4, 5, 6)  # pixels beside the edge where ticks are looked for

_HAIR = 57  # pixels: a hair is straight for so long; the meshes of a pigment network are shorter

_BLACK = 22  # grey values by which a hair is darker: what is lighter is mostly a wrinkle or a vessel

_BLUR = 20  # pixels: radius over which light is averaged

_WHOLE = 0.85  # of these pixels are dark

_LIGHT = 0.85  # of the lightest parts: pigment networks are darker

_EDGE = 25  # pixels around a lesion where no hair is looked for, either

_ANGLES = tuple(range(0, 180, 15))


class Edge(NamedTuple):
    """A straight dark line, x cos + y sin = rho: its length as a share of the side, and how even its ticks are."""

    angle: int
    rho: int
    length: float
    ticks: float


def thin_lines(photo: Image.Image) -> Grey:
    """Return (H, W) int16: how much darker each pixel is than after a grey closing, as in DullRazor (Lee et al. 1997).

    Only red is looked at: hair and rulers are black, while vessels and pigment networks keep most of their red.

    Args:
        photo: RGB, about 384 pixels on its longer side.
    """
    red = photo.getchannel("R")
    closed = red.filter(ImageFilter.MaxFilter(_THIN)).filter(ImageFilter.MinFilter(_THIN))
    return np.asarray(closed, np.int16) - np.asarray(red, np.int16)


def ruler_edge(lines: Grey) -> Edge | None:
    """Return the edge of a ruler, None where there is none: a straight line of a quarter of the side with even ticks.

    Lines are found by a Hough transform with steps of one degree and one pixel; of the strongest, the one whose ticks
    on one side are the most even counts (autocorrelation of the darkness beside it).

    Args:
        lines: as `thin_lines` returns them.
    """
    dark = lines > _DARKER
    ys, xs = np.nonzero(dark)
    if len(xs) < _MOST_POINTS // 100:
        return None
    if len(xs) > _MOST_POINTS:
        kept = np.linspace(0, len(xs) - 1, _MOST_POINTS).astype(int)
        ys, xs = ys[kept], xs[kept]
    far = int(np.hypot(*dark.shape)) + 2
    votes = np.stack(
        [
            np.bincount(np.rint(xs * np.cos(a) + ys * np.sin(a)).astype(int) + far, minlength=2 * far)
            for a in np.deg2rad(np.arange(180))
        ]
    )
    peaks = votes - np.maximum(np.roll(votes, 7, 1), np.roll(votes, -7, 1))  # a dark area votes for all of its lines
    best: Edge | None = None
    for _ in range(_TRIES):
        angle, place = (int(at) for at in np.unravel_index(int(peaks.argmax()), peaks.shape))
        edge = _edge(lines, dark, angle, place - far)
        if edge is not None and (best is None or edge.ticks > best.ticks):
            best = edge
        peaks[max(0, angle - 4) : angle + 5, max(0, place - 8) : place + 9] = 0
    return best if best is not None and best.ticks > _EVEN else None


def _edge(lines: Grey, dark: NDArray[np.bool_], angle: int, rho: int) -> Edge | None:
    """Return what is known of the longest dark part of a line; None if it is too short, or has gaps."""
    height, width = dark.shape
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    along = np.arange(-(height + width), height + width, dtype=np.float64)
    x, y = rho * cos - along * sin, rho * sin + along * cos
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = x[inside], y[inside]
    hit = np.max([_at(dark, x + k * cos, y + k * sin) for k in (-1, 0, 1)], 0).astype(bool)
    places = np.flatnonzero(hit)
    if not len(places):
        return None
    cuts = np.flatnonzero(np.diff(places) > 5)
    starts, ends = places[np.r_[0, cuts + 1]], places[np.r_[cuts, len(places) - 1]]
    longest = int(np.argmax(ends - starts))
    part = slice(int(starts[longest]), int(ends[longest]) + 1)
    length = (part.stop - part.start) / max(height, width)
    if length < _SHORTEST or hit[part].mean() < _FILLED:
        return None
    beside = (_beside(lines, (x[part], y[part]), (sign * cos, sign * sin)) for sign in (-1, 1))
    return Edge(angle, rho, length, max(map(_evenness, beside)))


def _at(values: NDArray[np.generic], x: Floats, y: Floats) -> Floats:
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    height, width = values.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = values[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)].astype(np.float64)
    return np.where(inside, found, 0.0)


def _beside(lines: Grey, places: tuple[Floats, Floats], step: tuple[float, float]) -> Floats:
    """Return how dark it is a few pixels beside a line, along it, less its running mean."""
    (x, y), (across, down) = places, step
    profile = np.mean([_at(lines, x + k * across, y + k * down) for k in _DEPTHS], 0)
    return np.asarray(profile - np.convolve(profile, np.ones(31) / 31, "same"), np.float64)


def _evenness(profile: Floats) -> float:
    """Return the highest autocorrelation at a lag that peaks there, the lower of that lag and twice it; 0 if none."""
    if profile.std() < 2.5:
        return 0.0
    size = len(profile)
    found = np.correlate(profile, profile, "full")[size - 1 :]
    found = found / found[0] * size / (size - np.arange(size))
    lags = range(_LAGS[0], min(_LAGS[1], size // 4))
    peaks = [lag for lag in lags if found[lag] >= max(found[lag - 1], found[lag + 1])]
    return max((float(min(found[lag], found[2 * lag])) for lag in peaks), default=0.0)


def on_skin(photo: Image.Image) -> NDArray[np.bool_]:
    """Return (H, W): where a photo, smoothed, is about as light as its lightest parts: skin and not a lesion."""
    smooth = np.asarray(photo.getchannel("R").filter(ImageFilter.BoxBlur(_BLUR)), np.float32)
    return ~grown(smooth <= _LIGHT * np.quantile(smooth, 0.85), _EDGE)


def hair_share(lines: Grey, edge: Edge | None, may_be: NDArray[np.bool_]) -> float:
    """Return the share of pixels in the middle of long thin dark lines, the sum over twelve directions.

    Args:
        lines: as `thin_lines` returns them.
        edge: that of a ruler, which is no hair.
        may_be: (H, W), where hair is looked for.
    """
    dark = (lines > _BLACK) & may_be
    if min(dark.shape) < _HAIR:
        return 0.0
    if edge is not None:
        rows, columns = np.ogrid[: dark.shape[0], : dark.shape[1]]
        angle = np.deg2rad(edge.angle)
        dark &= np.abs(columns * np.cos(angle) + rows * np.sin(angle) - edge.rho) > _HAIR // 2
    picture = Image.fromarray(dark.astype(np.uint8) * 255)
    total = 0.0
    for angle in _ANGLES:
        turned = np.asarray(picture.rotate(angle, Image.Resampling.NEAREST)) > 0
        bare = ~turned
        line = turned | np.roll(turned, 1, 0) | np.roll(turned, -1, 0)
        line &= np.roll(bare, 6, 0) & np.roll(bare, -6, 0)  # a net is dark on both sides
        sums = np.cumsum(np.pad(line.astype(np.int32), ((0, 0), (1, 0))), 1)
        total += float((sums[:, _HAIR:] - sums[:, :-_HAIR] >= _WHOLE * _HAIR).mean())
    return total
