"""Which artefacts a photo has: ruler, pen, hair, corners, patch; for scores with and without each.

Simple rules, whose thresholds were set after looking at what they found on 480 photos of ISIC 2017 and as many of
PAD-UFES-20. examples/scoring.md has their precision on photos that were looked at only afterwards. What they miss is
not counted: rulers without an edge line, fair or short hair, faint ink.
"""

from dataclasses import dataclass

from PIL import Image

from magic_cli.data.imaging.artefacts.colours import dark_corners, ink_of, patch_share
from magic_cli.data.imaging.artefacts.lines import hair_share, on_skin, ruler_edge, thin_lines

SIDE = 384  # pixels of the longer side at which all sizes are meant

INK, HAIR, PATCH, CORNERS = 0.001, 0.002, 0.015, 3
"""Shares of the pixels, and a number of corners, from which an artefact counts."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What the rules measured on a photo: evenness of a ruler's ticks (0: no ruler), shares of pixels, dark corners."""

    ruler: float
    ink: float
    hair: float
    corners: int
    patch: float

    @property
    def found(self) -> frozenset[str]:
        """The artefacts that count."""
        flags = {
            "ruler": self.ruler > 0,
            "pen": self.ink >= INK,
            "hair": self.hair >= HAIR,
            "corners": self.corners >= CORNERS,
            "patch": self.patch >= PATCH,
        }
        return frozenset(name for name, is_there in flags.items() if is_there)


def measured(photo: Image.Image) -> Measures:
    """Return the measures of a photo of any mode and size."""
    scale = SIDE / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    small = photo.convert("RGB").resize(size, Image.Resampling.BOX)
    lines = thin_lines(small)
    edge, ink = ruler_edge(lines), ink_of(small)
    ticks = 0.0 if edge is None else edge.ticks
    hair = hair_share(lines, edge, on_skin(small) & ~ink)
    return Measures(ticks, float(ink.mean()), hair, dark_corners(small), patch_share(small))
