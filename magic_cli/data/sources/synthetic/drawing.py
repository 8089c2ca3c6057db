"""Drawn photos of skin with lesions, and the outlines that several annotators would draw around them.

Made with numpy and Pillow from a seed: no patient, no licence, no download. Light is attenuated in the logarithmic
domain, as pigment and blood do it, so one lesion colour looks right on every skin tone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from magic_cli.records import Mask

Plane = NDArray[Any]  # float32; (H, W), or (H, W, 3) if the docstring says so

TONES = ((238, 205, 188), (229, 186, 160), (212, 163, 130), (186, 134, 98), (146, 98, 68), (104, 69, 50), (78, 53, 42))

# What a lesion takes from (red, green, blue) light, in natural-log units; "white" kinds are mixed, not absorbed.
ABSORB = {
    "normal skin color": (0.02, 0.07, 0.07),
    "pink": (-0.02, 0.26, 0.20),
    "red": (0.10, 0.62, 0.52),
    "brown": (0.38, 0.62, 0.78),
    "blue": (0.62, 0.42, 0.14),
    "purple": (0.42, 0.78, 0.36),
    "black": (1.25, 1.45, 1.45),
    "white": (-0.12, -0.30, -0.46),
    "hyperpigmentation": (0.24, 0.40, 0.50),
    "hypopigmentation": (-0.06, -0.16, -0.24),
    "combination (please specify)": (0.20, 0.60, 0.55),
}

CLOTHS = ((92, 112, 142), (66, 92, 84), (150, 150, 148), (196, 196, 200), (58, 58, 70), (148, 120, 104))

INFLAMED = ("pink", "red", "purple", "normal skin color", "combination (please specify)")

_PALE, _CRUST, _SLOUGH = (0.93, 0.90, 0.86), (0.56, 0.38, 0.19), (0.80, 0.68, 0.40)


@dataclass(frozen=True, slots=True)
class Look:
    """How the lesions of one patient look; lengths are fractions of the photo's shorter side.

    `edge` is the width of the border (0.05 sharp, 0.5 fading), `height` the elevation (negative: sunken),
    `bumps` its unevenness, `scale`, `crust` and `wet` the covered or glossy part of the surface, all in [0, 1].
    """

    colour: str
    count: tuple[int, int] = (1, 1)
    radius: tuple[float, float] = (0.12, 0.2)
    edge: float = 0.15
    irregular: float = 0.2
    height: float = 0.0
    bumps: float = 0.0
    scale: float = 0.0
    crust: float = 0.0
    wet: float = 0.0


@dataclass(frozen=True, slots=True)
class Photo:
    """A drawn photo, uint8 (H, W, 3), and a signed field per lesion: > 0 inside, 0 on the outline, 1 at the centre."""

    pixels: NDArray[np.uint8]
    fields: tuple[Plane, ...]


@dataclass(frozen=True, slots=True)
class Skin:
    """Planes that lesions are painted into: log-colour (H, W, 3), relief (H, W) in pixels, gloss (H, W) in [0, 1]."""

    logs: Plane
    relief: Plane
    gloss: Plane


Cover = tuple[Plane, tuple[float, float, float]]  # opacity (H, W) in [0, 1], and the paint's colour


def draw_photo(rng: np.random.Generator, look: Look, tone: int, limb: bool, size: tuple[int, int]) -> Photo:
    """Draw one photo of `size` (H, W): skin of TONES[tone], lesions as in `look`, hairs, light and a camera."""
    across, spot = _body(rng, size, limb)
    skin = _skin(rng, size, tone)
    fields = _place(rng, look, size, spot)
    covers: list[Cover] = []
    _paint(rng, look, np.maximum.reduce(fields), skin, covers)
    _moles(rng, skin.logs, tone)
    colour = np.exp(skin.logs)
    for opacity, paint in covers:
        mixed = np.asarray(paint, np.float32) * min(1.0, 0.3 + colour.mean())
        colour += opacity[..., None] * (mixed - colour)
    colour = _lit(rng, colour, skin)
    colour *= (1 - _hairs(rng, size, 0.8 if limb else 0.35))[..., None]
    colour = _behind(rng, colour, across) if limb else colour
    return Photo(_camera(rng, colour), tuple(fields))


def outline(rng: np.random.Generator, fields: tuple[Plane, ...], careful: float) -> Mask:
    """Return one annotator's mask (H, W) uint8 {0, 1}: never empty, shakier and wider for a low `careful` in [0, 1].

    An annotator shifts and widens the true border, cuts its corners, and may overlook a small lesion among many.
    """
    size = fields[0].shape
    loose = (1 - careful) * rng.uniform(-0.2, 0.7)
    wobble = (0.03 + 0.15 * (1 - careful)) * noise(rng, size, max(14, min(size) // 9)) + loose
    largest = max(range(len(fields)), key=lambda i: float((fields[i] > 0).sum()))
    drawn = [f for i, f in enumerate(fields) if i == largest or rng.random() > 0.12 * (1 - careful)]
    inside = np.maximum.reduce([(field + wobble > 0) & (field > -0.9) for field in drawn])
    dy, dx = rng.integers(-2, 3, 2) if careful < 0.8 else (0, 0)
    pad = np.pad(inside, 2)[2 + dy : 2 + dy + size[0], 2 + dx : 2 + dx + size[1]]
    return (pad if pad.any() else fields[largest] >= fields[largest].max()).astype(np.uint8)


def noise(rng: np.random.Generator, size: tuple[int, ...], cell: float, stretch: float = 1.0) -> Plane:
    """Return smooth noise of unit variance with hills about `cell` pixels wide (`stretch` times longer along x)."""
    height, width = size
    rows, columns = int(height / cell) + 3, int(width / (cell * stretch)) + 3
    grid = Image.fromarray(rng.standard_normal((rows, columns)).astype(np.float32))
    box = (1, 1, 1 + max(1.0, columns - 2.5), 1 + max(1.0, rows - 2.5))
    plane: Plane = np.array(grid.resize((width, height), Image.Resampling.BICUBIC, box), np.float32)
    plane /= plane.std() + 1e-6
    return plane


def fractal(rng: np.random.Generator, size: tuple[int, ...], cell: float, octaves: int = 4) -> Plane:
    """Return noise with detail down to `cell` / 2^(octaves - 1) pixels, unit variance."""
    total = sum(noise(rng, size, max(1.5, cell / 2**i)) * 0.6**i for i in range(octaves))
    plane: Plane = np.asarray(total, np.float32)
    plane /= plane.std() + 1e-6
    return plane


def _mesh(size: tuple[int, ...]) -> tuple[Plane, Plane]:
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return rows, columns


def _body(rng: np.random.Generator, size: tuple[int, int], limb: bool) -> tuple[Plane, Plane]:
    """Return how far each pixel is from a limb's axis (1 = its edge) and where lesions may be centred (bool)."""
    rows, columns = _mesh(size)
    angle = rng.normal(0 if size[1] > size[0] else np.pi / 2, 0.25)
    middle_y, middle_x = size[0] * rng.uniform(0.42, 0.58), size[1] * rng.uniform(0.42, 0.58)
    across = -(columns - middle_x) * np.sin(angle) + (rows - middle_y) * np.cos(angle)
    along = (columns - middle_x) * np.cos(angle) + (rows - middle_y) * np.sin(angle)
    half = min(size) * rng.uniform(0.4, 0.56) * (1 + rng.uniform(-0.18, 0.18) * along / max(size))
    distance = across / half + 0.03 * noise(rng, size, min(size) / 2)
    inside = (rows > size[0] * 0.16) & (rows < size[0] * 0.84) & (columns > size[1] * 0.16) & (columns < size[1] * 0.84)
    return distance, inside & (np.abs(distance) < (0.62 if limb else 9))


def _skin(rng: np.random.Generator, size: tuple[int, int], tone: int) -> Skin:
    """Return healthy skin: uneven pigment and blood, creases and pores."""
    short = min(size)
    base = np.asarray(TONES[tone], np.float32) * rng.uniform(0.92, 1.02, 3).astype(np.float32) / 255
    pigment = 0.035 * fractal(rng, size, short / 3) + 0.02 * fractal(rng, size, 9, 3)
    blood = 0.045 * fractal(rng, size, short / 4) + 0.02 * fractal(rng, size, 6, 2)
    logs = np.log(base) - pigment[..., None] * np.array((0.6, 1, 1.35)) - blood[..., None] * np.array((0.1, 1, 0.8))
    grain = rng.uniform(2.6, 4.2)
    creases = np.abs(noise(rng, size, grain, 2.2)) + np.abs(noise(rng, size[::-1], grain, 2.2).T)
    relief = 0.05 * creases + 0.035 * noise(rng, size, 1.6) + 0.7 * noise(rng, size, short / 2)
    return Skin(logs.astype(np.float32), relief.astype(np.float32), np.zeros(size, np.float32))


def _lit(rng: np.random.Generator, colour: Plane, skin: Skin) -> Plane:
    """Light the relief from one side; gloss is scaled by the photo's brightness."""
    angle = rng.uniform(0, 2 * np.pi)
    slope_y, slope_x = np.gradient(skin.relief)
    lit = 1 + np.clip(slope_x * np.cos(angle) + slope_y * np.sin(angle), -0.3, 0.35)
    shine = skin.gloss * np.clip(lit - 1.08, 0, 1) * 1.6 + 0.4 * np.clip(lit - 1.22, 0, 1)
    return np.asarray(colour * lit[..., None] + (shine * (0.25 + 0.75 * colour.mean()))[..., None], np.float32)


def _place(rng: np.random.Generator, look: Look, size: tuple[int, int], spot: Plane) -> list[Plane]:
    """Return the fields of the lesions of one photo, at least one, grouped rather than spread evenly."""
    rows, columns = np.nonzero(spot)
    warp = fractal(rng, size, max(6.0, min(size) * look.radius[1] / 2), 3)
    centres: list[tuple[float, float, float]] = []
    fields: list[Plane] = []
    group, wanted = rng.integers(len(rows)), int(rng.integers(look.count[0], look.count[1] + 1))
    for attempt in range(wanted * 20):
        if len(fields) == wanted:
            break
        pick, pull = rng.integers(len(rows)), rng.random(2) ** 0.6
        y = float(rows[group] + (rows[pick] - rows[group]) * pull[0])
        x = float(columns[group] + (columns[pick] - columns[group]) * pull[1])
        radius = min(size) * rng.uniform(*look.radius) * 0.98 ** (attempt / wanted)  # the last ones must fit too
        if all(np.hypot(y - cy, x - cx) > 1.05 * (radius + cr) for cy, cx, cr in centres):
            centres.append((y, x, radius))
            fields.append(_blob(rng, look.irregular, warp, y, x, radius))
    return fields


def _blob(rng: np.random.Generator, irregular: float, warp: Plane, y: float, x: float, radius: float) -> Plane:
    """Return the field of one lesion: an outline of sine harmonics on a stretched circle, warped by noise."""
    field = np.full(warp.shape, -2, np.float32)
    turn, stretch = rng.uniform(0, np.pi), 1 + rng.uniform(0, 0.2 + 1.6 * irregular)
    reach = radius * (2.6 + stretch)  # the lesion is invisible beyond it, so the field is not computed there
    top, left = max(0, int(y - reach)), max(0, int(x - reach))
    window = (slice(top, int(y + reach) + 1), slice(left, int(x + reach) + 1))
    rows, columns = _mesh(field[window].shape)
    dy, dx = rows + (top - y), columns + (left - x)
    along, aside = dx * np.cos(turn) + dy * np.sin(turn), (dy * np.cos(turn) - dx * np.sin(turn)) * stretch
    angle = np.arctan2(aside, along)
    edge = np.full(angle.shape, radius * np.sqrt(stretch), np.float32)
    for k in range(2, 9):
        edge *= 1 + irregular * rng.normal(0, 0.75) / k * np.sin(k * angle + rng.uniform(0, 2 * np.pi))
    field[window] = 1 - np.hypot(along, aside) / edge + 0.18 * irregular * warp[window]
    return field


def _paint(rng: np.random.Generator, look: Look, field: Plane, skin: Skin, covers: list[Cover]) -> None:
    """Add lesions to the skin: colour with mottling, halo, relief and gloss; flakes and crusts go to `covers`."""
    size, logs, relief = field.shape, skin.logs, skin.relief
    radius = min(size) * sum(look.radius) / 2
    body = _ramp(field, -look.edge / 2, look.edge / 2 + 0.04)
    mottle = fractal(rng, size, max(4.0, radius / 2.5), 4)
    strength = body * np.clip(rng.uniform(0.85, 1.15) + 0.22 * mottle, 0.25, 1.7)
    if look.colour.startswith("combination"):  # two pigments that share the lesion
        other = _ramp(noise(rng, size, max(6.0, radius / 1.6)), -0.2, 0.5)
        logs -= (strength * other)[..., None] * np.array((0.55, 0.45, 0.35))
    logs -= strength[..., None] * np.array(ABSORB[look.colour])
    inflamed = 0.16 if look.colour in INFLAMED else 0.0
    logs -= (inflamed * _ramp(field, -0.7, 0.1) * (1 - 0.5 * body))[..., None] * np.array((0, 1, 0.8))
    dome = _ramp(field, -0.04, 0.45 if look.height > 0 else 0.25)
    relief += dome * look.height * min(radius, 24) * (1 + 0.12 * mottle)
    relief += body * look.bumps * 1.5 * np.abs(noise(rng, size, max(3.0, radius / 5)))
    skin.gloss[...] = body * look.wet
    core = _ramp(field + 0.1 * mottle, 0.05, 0.25)
    if look.scale:
        patches = fractal(rng, size, max(6.0, radius / 2), 4) + 0.9 * noise(rng, size, 2.4, 1.6)
        flakes = core * _ramp(patches + 0.8 * core, 1.9 - 1.5 * look.scale, 3.6 - 1.5 * look.scale)
        covers.append((0.75 * flakes, _PALE))
        relief += flakes * 0.3
    if look.crust:
        plates = core * _ramp(fractal(rng, size, max(5.0, radius / 2), 4) + core, 1.4 - look.crust, 1.9 - look.crust)
        covers.append((0.8 * plates, _CRUST))
        relief += plates * (0.8 + 0.5 * np.abs(noise(rng, size, 3.5)))
    if look.height < 0:
        covers.append((0.55 * core * _ramp(noise(rng, size, max(4.0, radius / 3)), 0.1, 1.3), _SLOUGH))


def _ramp(value: Plane, low: float, high: float) -> Plane:
    """Return 0 below `low`, 1 above `high`, and a smooth step between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _moles(rng: np.random.Generator, logs: Plane, tone: int) -> None:
    """Add freckles and small moles, which are no lesion of interest."""
    size = logs.shape[:2]
    rows, columns = _mesh(size)
    for _ in range(int(rng.poisson(2.2 if tone < 4 else 1.2))):
        y, x, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(0.9, 2.6)
        spot = np.exp(-((((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2)) ** 1.3))
        logs -= (spot * rng.uniform(0.25, 0.8))[..., None] * np.array((0.6, 0.9, 1.1))


def _hairs(rng: np.random.Generator, size: tuple[int, int], density: float) -> Plane:
    """Return the share of light that hairs absorb at each pixel: thin curves in one main direction, drawn at 2x."""
    canvas = Image.new("L", (size[1] * 2, size[0] * 2))
    pen = ImageDraw.Draw(canvas)
    main = rng.uniform(0, 2 * np.pi)
    t = np.linspace(0, 1, 9)
    for _ in range(int(rng.poisson(45 * density * rng.random()))):
        y, x = rng.uniform(0, canvas.height), rng.uniform(0, canvas.width)
        turn, length = main + rng.normal(0, 0.4), rng.uniform(18, 75)
        bend = rng.normal(0, 0.25) * length * t * (1 - t) * 2
        xs = x + length * t * np.cos(turn) - bend * np.sin(turn)
        ys = y + length * t * np.sin(turn) + bend * np.cos(turn)
        pen.line(list(zip(xs.tolist(), ys.tolist(), strict=True)), fill=int(rng.uniform(70, 190)), width=1)
    small = canvas.resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


def _behind(rng: np.random.Generator, colour: Plane, across: Plane) -> Plane:
    """Round the limb off with shading and put cloth, darkened by its shadow, behind it."""
    size = across.shape
    round_off = np.sqrt(np.clip(1 - (np.abs(across) * 0.93) ** 2.6, 0.05, 1))
    weave = 0.05 * noise(rng, size, 2.2) + 0.16 * fractal(rng, size, min(size) / 3, 3)
    cloth = np.asarray(CLOTHS[rng.integers(len(CLOTHS))], np.float32) / 255 * (1 + weave)[..., None]
    shadow = 1 - 0.45 * np.exp(-np.clip(np.abs(across) - 1, 0, 9) * 7)
    limb = _ramp(1 - np.abs(across), -0.008, 0.02)[..., None]
    return np.asarray(limb * colour * round_off[..., None] + (1 - limb) * cloth * shadow[..., None], np.float32)


def _camera(rng: np.random.Generator, colour: Plane) -> NDArray[np.uint8]:
    """Return sRGB pixels: uneven light, vignette, white balance, a little blur and sensor noise."""
    size = colour.shape[:2]
    rows, columns = _mesh(size)
    y, x = rows / size[0] * 2 - 1, columns / size[1] * 2 - 1
    tilt = rng.normal(0, 0.11, 2)
    light = 1 + tilt[0] * x + tilt[1] * y + 0.05 * noise(rng, size, min(size) / 1.6)
    light *= 1 - rng.uniform(0.03, 0.2) * ((x - tilt[1]) ** 2 + (y - tilt[0]) ** 2) / 2
    exposure = rng.uniform(0.9, 1.1) * (0.5 / colour.mean()) ** 0.4  # dark scenes are lifted, as phones do
    colour = colour * (light * exposure)[..., None] * rng.normal(1, 0.02, 3)
    reduce = rng.uniform(0.55, 0.95)  # a phone's focus and resampling: fine detail is lost, not sharpened
    pixels = Image.fromarray((np.clip(colour, 0, 1) * 255).astype(np.uint8))
    small = pixels.resize((int(size[1] * reduce), int(size[0] * reduce)), Image.Resampling.BOX)
    pixels = small.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    grain = rng.normal(0, rng.uniform(1.0, 3.2), (*size, 3))
    return np.clip(np.asarray(pixels, np.float32) + grain, 0, 255).astype(np.uint8)
