"""What a training has seen: the photos and texts that it learned from, and those that chose its epoch or settings.

best.pt keeps them as sorted 64-bit hashes, so that predictions for them are not taken for predictions of new ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.hashed_words import text_hash
from magic_cli.data.lazy_samples import LazySamples
from magic_cli.records import Sample
from magic_cli.setting import SettingValue

Hashes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Seen:
    """Sorted hashes (`hashes_of`), int64 (n,), of what was learned from, and of what an epoch was chosen on."""

    learned: Hashes
    chosen: Hashes

    @classmethod
    def of(cls, train: Sequence[Sample], valid: Sequence[Sample]) -> "Seen":
        """Return what a training on these samples sees; pairs in shards, whose photos have no hash, are left out."""
        return cls(_all_hashes(train), _all_hashes(valid))


NOTHING = Seen(np.zeros(0, np.int64), np.zeros(0, np.int64))


def hashes_of(sample: Sample) -> frozenset[int]:
    """Return the hashes of a sample's photos, or, without any, of its case and its words."""
    case = sample.case
    keys = [photo.content_key for photo in sample.images] or [f"{case.case_id} {case.question}"]
    return frozenset(map(text_hash, keys))


def _all_hashes(samples: Sequence[Sample]) -> Hashes:
    if isinstance(samples, LazySamples):
        return NOTHING.learned
    return np.array(sorted({number for sample in samples for number in hashes_of(sample)}), np.int64)


def ids_among(samples: Sequence[Sample], hashes: Hashes) -> frozenset[str]:
    """Return the ids of the samples of which a photo, or the text, is among sorted hashes; of pairs in shards none."""
    if isinstance(samples, LazySamples) or not hashes.size:
        return frozenset()
    known = frozenset(hashes.tolist())
    return frozenset(sample.id for sample in samples if not known.isdisjoint(hashes_of(sample)))


def overlap_lines(samples: Sequence[Sample], earlier: Seen) -> list[str]:
    """Return a line if runs that a training starts from learned from samples that it is scored on, else none.

    Args:
        samples: validation samples, or those that the folds hold out; pairs in shards have no hashes.
        earlier: what those runs have seen.
    """
    known = len(ids_among(samples, earlier.learned))
    if not known:
        return []
    total = len({sample.id for sample in samples})
    start = f"the runs that this one starts from learned from {known} of {total} samples that it is scored on"
    return [f"{start}: scores on them are not those of new ones"]


@dataclass(frozen=True)
class Exposure:
    """How many samples of a prediction their models have seen.

    Attributes:
        samples: all of them.
        learned: those that every model learned from: nothing new was predicted.
        held_out: those that some models learned from, and that only the others predicted, as in cross-validation.
        chosen: those that an epoch or a setting of a model was chosen on, none of which learned from them.
    """

    samples: int
    learned: int
    held_out: int
    chosen: int

    @classmethod
    def of(cls, samples: Sequence[Sample], models: Sequence[Seen]) -> "Exposure":
        """Return the exposure of samples that the mean of models predicts."""
        total = len(samples if isinstance(samples, LazySamples) else {sample.id for sample in samples})
        learned = [ids_among(samples, model.learned) for model in models]
        by_all, by_any = frozenset.intersection(*learned), frozenset.union(*learned)
        chosen = frozenset.union(*(ids_among(samples, model.chosen) for model in models)) - by_any
        return cls(total, len(by_all), len(by_any - by_all), len(chosen))

    def to_json(self) -> dict[str, SettingValue]:
        """Return the counts as settings of run.json, which `magic score` reads."""
        counts = {"learned_from": self.learned, "held_out": self.held_out, "chosen_on": self.chosen}
        return {"predicted": self.samples, **counts}


def exposure_lines(counts: Mapping[str, object]) -> list[str]:
    """Return what the counts of `Exposure.to_json` mean for scores: a line for each that is not 0."""
    total, learned, held_out, chosen = (counts.get(n) for n in ("predicted", "learned_from", "held_out", "chosen_on"))
    lines = []
    if learned:
        lines.append(f"{learned} of {total} samples were learned from: scores on them are not those of new ones")
    if held_out:
        lines.append(f"{held_out} of {total} samples are predicted by those models alone that did not learn from them")
    if chosen:
        lines.append(f"on {chosen} of {total} samples an epoch or setting was chosen: scores on them are optimistic")
    return lines
