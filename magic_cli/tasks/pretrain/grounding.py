"""Grounding of predictions: whether the map of a photo's own text is high on its lesion, and whether others are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from magic_cli.data.imaging.masks import read_mask
from magic_cli.data.imaging.probability_maps import Map, resize_map
from magic_cli.data.pair_gold import PairGold
from magic_cli.metrics.grounding import contrast_to_noise, mean_iou
from magic_cli.metrics.row_scores import Columns, Floats, Groups, RowScores, Scorer

NAMES = ("grounding_cnr", "grounding_abs_cnr", "grounding_miou")

OTHERS = "another photo's map"

_SIDE = 128  # maps and masks are compared at so many pixels, the whole photo as encoders see it

_MOST = 100.0  # of a contrast, of a map that is all but flat on both sides


@dataclass(frozen=True, eq=False)
class Grounding:
    """Maps of photos against their masks.

    Attributes:
        ids: of the photos.
        values: (photos, 3), a column for each of `NAMES`, means over the annotators; NaN where it is undefined.
        baselines: the same of trivial maps, by their name.
    """

    ids: tuple[str, ...]
    values: Floats
    baselines: Mapping[str, Floats]

    def scores(self) -> dict[str, float]:
        """Return the means over the photos, by name."""
        return _means(self.values)

    def trivial(self) -> dict[str, dict[str, float]]:
        """Return the means of trivial maps."""
        return {name: _means(values) for name, values in self.baselines.items()}

    def resampled(self, groups: Groups) -> list[RowScores]:
        """Return the means for resampling encounters."""
        bounds = ((-_MOST, _MOST), (0.0, _MOST), (0.0, 1.0))
        return [
            RowScores(groups.ids, (name,), groups.index, (column,), _mean, limits)
            for name, column, limits in zip(NAMES, self.values.T, bounds, strict=True)
        ]


def grounding(gold: PairGold, maps: Mapping[str, NDArray[np.float32]]) -> Grounding | None:
    """Score maps (h, w) of photos; None where no photo has a map and masks of one lesion at least.

    Trivial maps are the training mean mask, if it is known, and the map of the next photo of another group.
    """
    if gold.masks is None:
        return None
    masks = {name: masks for name in maps if (masks := _masks(gold, name))}
    ids = tuple(sorted(masks))
    if not ids:
        return None
    own = {name: _square(maps[name]) for name in ids}
    trivial = {}
    if gold.masks.prior is not None:
        prior = _square(gold.masks.prior)
        trivial["training mean mask"] = np.array([_scores(prior, masks[name]) for name in ids])
    if len({gold.groups[name] for name in ids}) > 1:
        others = [own[_next(ids, place, gold.groups)] for place in range(len(ids))]
        trivial[OTHERS] = np.array([_scores(other, masks[name]) for name, other in zip(ids, others, strict=True)])
    return Grounding(ids, np.array([_scores(own[name], masks[name]) for name in ids]), trivial)


def _next(ids: Sequence[str], place: int, groups: Mapping[str, str]) -> str:
    turned = [*ids[place + 1 :], *ids[:place]]
    return next(name for name in turned if groups[name] != groups[ids[place]])


def _masks(gold: PairGold, name: str) -> list[NDArray[np.bool_]]:
    """Return the annotators' masks of a photo that are not empty, bool (side, side); [] where there is none."""
    image = gold.masks.images.get(name) if gold.masks is not None else None
    found = []
    for path in () if image is None else image.annotators.values():
        small = Image.fromarray(read_mask(path) * np.uint8(255)).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        mask = np.asarray(small) >= 128
        found += [mask] if mask.any() and not mask.all() else []
    return found


def _square(array: NDArray[np.float32]) -> Map:
    return resize_map(np.asarray(array, np.float32), (_SIDE, _SIDE))


def _scores(array: Map, masks: Sequence[NDArray[np.bool_]]) -> tuple[float, float, float]:
    contrasts = [float(np.clip(contrast_to_noise(array, mask), -_MOST, _MOST)) for mask in masks]
    overlaps = [mean_iou(array, mask) for mask in masks]
    return float(np.mean(contrasts)), float(np.mean(np.abs(contrasts))), float(np.mean(overlaps))


def _means(values: Floats) -> dict[str, float]:
    return dict(zip(NAMES, cast("list[float]", values.mean(0).tolist()), strict=True))


def _mean(columns: Columns, index: NDArray[np.intp]) -> Scorer:
    def scores(weights: Floats) -> Floats:
        rows = weights[index]
        with np.errstate(invalid="ignore"):
            return np.asarray((columns[0] @ rows / rows.sum(0))[:, None], np.float64)

    return scores
