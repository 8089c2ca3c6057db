"""How viewers show a mask file, where that differs from the array that the official scorer reads: tags say so.

tifffile, hence the official scorer, ignores white-is-zero, the colours of a palette and the orientation tag; viewers
and most editors apply them (examples/official-scorer.md, cases 65 to 67). Masks are taken as the official scorer reads
them, and each such file is named.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.imaging.lesion_share import lesion_share
from magic_cli.errors import shorten

ORIENTATION, PHOTOMETRIC = 274, 262  # TIFF tags; the first is EXIF's too

_SUBTRACTIVE = (0, 5)  # white is zero; inks, of which 0 is none

_PALETTE = 3

_OWN_BILEVEL = "tifffile.py"  # it writes bool arrays white-is-zero, whatever they mean: only their look tells (case 37)


class Difference(NamedTuple):
    """One way in which viewers show another mask than the official scorer reads.

    what: what the file is, after "is".
    seen: what viewers do with it.
    official: how the official scorer reads it instead.
    remedy: how to make both agree.
    """

    what: str
    seen: str
    official: str
    remedy: str


WHITE_IS_ZERO = Difference("white-is-zero", "viewers show 0 as white", "inverted", "write MINISBLACK 0/1")

PALETTE = Difference(
    "with a palette that shows 0 as the brighter colour",
    "viewers show the background as lesion",
    "inverted",
    "write MINISBLACK 0/1, without a palette",
)

TURNED = Difference(
    "with an orientation tag other than 1",
    "viewers turn it",
    "as stored, not turned",
    "write it upright, without the tag",
)


@dataclass(frozen=True, slots=True)
class Appearance:
    """How viewers show a mask.

    inverted: WHITE_IS_ZERO or PALETTE if viewers show 0 as the brighter value; None otherwise.
    orientation: EXIF orientation, 1..8, by which viewers turn it.
    """

    inverted: Difference | None = None
    orientation: int = 1

    def differences(self) -> Iterator[Difference]:
        """Yield each way in which viewers show another mask than the stored one."""
        if self.inverted is not None:
            yield self.inverted
        if self.orientation != 1:
            yield TURNED


AS_STORED = Appearance()


def tiff_appearance(page: Any, array: NDArray[Any]) -> Appearance:
    """Return how viewers show a page of a tifffile.TiffFile, whose pixels are `array`."""
    orientation = page.tags.valueof(ORIENTATION, 1)
    orientation = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    photometric = int(page.photometric)
    if photometric == _PALETTE:
        colours = page.colormap
        is_inverted = colours is not None and shows_inverted(array, np.asarray(colours).T)
        return Appearance(PALETTE if is_inverted else None, orientation)
    is_inverted = photometric in _SUBTRACTIVE
    if is_inverted and array.dtype == bool and array.ndim == 2 and page.software == _OWN_BILEVEL:
        is_inverted = lesion_share(array).looks_inverted
    return Appearance(WHITE_IS_ZERO if is_inverted else None, orientation)


def shows_inverted(array: NDArray[Any], colours: NDArray[Any]) -> bool:
    """Return whether a palette shows the lower of two indices as the brighter colour (or both alike).

    Args:
        array: palette indices.
        colours: (N, 3) colours of the indices.
    """
    if not array.size or array.dtype.kind not in "bu" or int(array.max()) >= len(colours):
        return False
    low, high = int(array.min()), int(array.max())
    light = colours.astype(np.int64).sum(1)
    if low != high:
        return bool(light[low] >= light[high])
    return bool(light[low] == 0 if low else light[0] == 3 * (65535 if colours.max() > 255 else 255))


def appearance_lines(pairs: Iterable[tuple[str, Appearance]], whose: str = "") -> Iterator[str]:
    """Yield one sentence per difference, with the number and names of the masks.

    Args:
        pairs: names of masks, and how viewers show them.
        whose: a word before "masks", such as "predicted".
    """
    names: dict[Difference, list[str]] = {}
    for name, appearance in pairs:
        for difference in appearance.differences():
            names.setdefault(difference, []).append(name)
    for difference, masks in names.items():
        count = f"1 {whose} mask is" if len(masks) == 1 else f"{len(masks):,} {whose} masks are"
        read = "read as stored, as the official scorer does"
        yield (
            f"{count.replace('  ', ' ')} {difference.what} ({shorten(masks)}): {difference.seen}; "
            f"{read}; {difference.remedy}"
        )
