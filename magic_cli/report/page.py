"""Pages: one self-contained HTML file from a template and data, which loads nothing and runs no script.

Every value in a template is escaped, and control characters are shown as \\x1b and the like, so that no markup,
terminal escape or change of writing direction gets from an id into a page.
"""

import base64
import io
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from magic_cli import __version__
from magic_cli.errors import printable

if TYPE_CHECKING:
    from jinja2 import Environment


TEMPLATES = Path(__file__).parent / "templates"

MISSING = "–"

_QUALITIES = (88, 82, 76, 70, 62, 54, 46)

_SMALLEST = 64


def render(template: str, **context: object) -> str:
    """Return the HTML of a template of report/templates; every value in it is escaped.

    Filters besides jinja's: `figure` (0.1234), `signed` (+0.1234), `share` (12.3 %), `count` (1,234), `pvalue`;
    None and NaN are shown as a dash. Functions: `strip` and `strip_axis` (report/plots/strips.py). HTML of our own
    making, such as an inline SVG, is passed as `markupsafe.Markup`.

    Raises:
        jinja2.UndefinedError: the template uses a name that the context lacks, which is a bug.
    """
    return _environment().get_template(template).render(**context)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # 60 ms: only when a page is written

    from magic_cli.report.plots import strip, strip_axis

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"version": __version__, "strip": strip, "strip_axis": strip_axis}
    environment.filters |= {"figure": figure, "signed": signed, "share": share, "count": count, "pvalue": pvalue}
    return environment


def _shown(value: Any) -> Any:
    """Return what a template's expression prints: text without control characters, a dash for None."""
    if value is None:
        return MISSING
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def figure(value: float | None, digits: int = 4) -> str:
    """Return a score with `digits` decimals, "–" for None and NaN.

    >>> figure(0.5, 3), figure(None)
    ('0.500', '–')
    """
    return f"{value:.{digits}f}" if value is not None and _is_number(value) else MISSING


def signed(value: float | None, digits: int = 4) -> str:
    """Return a difference with its sign, "–" for None and NaN.

    >>> signed(0.5, 3), signed(-0.5, 1)
    ('+0.500', '−0.5')
    """
    if value is None or not _is_number(value):
        return MISSING
    return f"{value:+.{digits}f}".replace("-", "−")


def share(value: float | None, digits: int = 1) -> str:
    """Return a share in [0, 1] as percent, with enough decimals that a small lesion is not 0.0 %.

    >>> share(0.5), share(0.00031), share(None)
    ('50.0 %', '0.031 %', '–')
    """
    if value is None or not _is_number(value):
        return MISSING
    percent = 100 * value
    return f"{percent:.{digits}f} %" if percent == 0 or abs(percent) >= 0.1 else f"{percent:.2g} %"


def count(value: float | None) -> str:
    """Return a number with thousands separators; one or two decimals if it is not whole.

    >>> count(1234), count(2.5), count(None)
    ('1,234', '2.5', '–')
    """
    if value is None or not _is_number(value):
        return MISSING
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}".rstrip("0")


def pvalue(value: float | None) -> str:
    """Return a p-value as it is usually printed.

    >>> pvalue(0.00002), pvalue(0.0312), pvalue(None)
    ('< 0.001', '0.031', '–')
    """
    if value is None or not _is_number(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def data_uri(image: Image.Image, side: int = 480, most: int = 30_000, is_photo: bool = False) -> str:
    """Return a picture as a JPEG data URI that holds only its pixels: no EXIF, no comment, no colour profile.

    Args:
        image: any mode; transparency is laid on white.
        side: pixels that neither side exceeds; nothing is enlarged.
        most: maximal bytes of the JPEG. Quality is reduced first, then size, down to 64 pixels at least.
        is_photo: nothing is drawn on it, so that colours may have half its resolution.
    """
    picture = _plain(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    while True:
        for quality in _QUALITIES:
            data = _jpeg(picture, quality, is_photo)
            if len(data) <= most:
                break
        if len(data) <= most or max(picture.size) <= _SMALLEST:
            return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
        smaller = (max(1, picture.width * 4 // 5), max(1, picture.height * 4 // 5))
        picture = picture.resize(smaller, Image.Resampling.LANCZOS)


def _plain(image: Image.Image) -> Image.Image:
    """Return a new RGB picture without anything that came with the file."""
    picture = Image.new("RGB", image.size, "white")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        picture.paste(layer, mask=layer.getchannel("A"))
    else:
        picture.paste(image.convert("RGB"))
    return picture


def _jpeg(picture: Image.Image, quality: int, is_photo: bool) -> bytes:
    buffer = io.BytesIO()
    # Full colour resolution: thin coloured contours would fade otherwise. No `optimize`: libjpeg then fails on noise.
    picture.save(buffer, "JPEG", quality=quality, subsampling=2 if is_photo else 0)
    return buffer.getvalue()
