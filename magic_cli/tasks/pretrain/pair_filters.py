"""Filters of training pairs: by the length of the caption, and by how similar photo and caption are to another model.

The second is the CLIP score filter of DataComp (Gadre et al., NeurIPS 2023): a fraction of the pairs is kept, those
with the highest cosine of photo and text. The vectors are those of `magic predict pretrain --split train`; those
of a model that learned from the same pairs rank them too high. Held-out pairs are never filtered.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from magic_cli.data.lazy_samples import LazySamples
from magic_cli.data.texts.pair_texts import pair_texts
from magic_cli.errors import ConfigError, DataError, problem
from magic_cli.records import Sample
from magic_cli.submission.pairs import find_pairs, read_pairs
from magic_cli.tasks.pretrain.config import PretrainConfig


class Filtered(NamedTuple):
    """The pairs that are kept, in their order, and one line that counts the others by reason; "" if all are kept."""

    samples: Sequence[Sample]
    line: str


def filtered(samples: Sequence[Sample], config: PretrainConfig) -> Filtered:
    """Return what the settings `min_words`, `max_words` and `keep_pairs` keep of training pairs.

    A pair without a caption, with knowledge texts alone, has no length to be judged by.

    Raises:
        ConfigError: pairs of shards, which are not read before they are learned from.
        DataError: vectors are missing, or no pair is kept.
    """
    if not config.filters_pairs:
        return Filtered(samples, "")
    if isinstance(samples, LazySamples):
        got = "min_words, max_words or keep_pairs with shards"
        raise ConfigError(problem("--set", got, "a prepared dataset", "leave them out, or filter before sharding"))
    words = [len(pair_texts(sample.case).raw.split()) for sample in samples]
    short = [0 < count < config.min_words for count in words]
    long = [bool(config.max_words) and count > config.max_words for count in words]
    rest = [s for s, *out in zip(samples, short, long, strict=True) if not any(out)]
    reasons = [f"{sum(short):,} with fewer than {config.min_words} words"] if any(short) else []
    reasons += [f"{sum(long):,} with more than {config.max_words} words"] if any(long) else []
    kept: Sequence[Sample] = rest
    if config.keep_pairs < 1:
        kept, more = _most_similar(rest, config)
        reasons += more
    if not kept:
        raise DataError(problem("--set", "filters that leave no pair", "one or more", "filter less"))
    total = len(samples) - len(kept)
    return Filtered(
        kept, f"{total:,} of {len(samples):,} training pairs left out: {', '.join(reasons)}" if total else ""
    )


def _most_similar(samples: Sequence[Sample], config: PretrainConfig) -> tuple[Sequence[Sample], list[str]]:
    """Return the pairs with the highest cosines, ties in their order, and why others are left out."""
    found = find_pairs(Path(config.pair_vectors))
    if found is None or found.vectors is None:
        got, remedy = "no vectors of photos and texts", "name a folder of magic predict pretrain --split train"
        raise DataError(problem(config.pair_vectors, got, "embeddings.safetensors", remedy))
    known = {p.id: float(p.image @ p.text) for p in read_pairs(found) if p.image is not None and p.text is not None}
    scores = np.array([known.get(sample.id, np.nan) for sample in samples])
    order = [place for place in np.argsort(-scores, kind="stable") if not np.isnan(scores[place])]
    number = round(config.keep_pairs * len(order))
    chosen, without = sorted(order[:number]), len(samples) - len(order)
    reasons = [f"{without:,} without vectors in {config.pair_vectors}"] if without else []
    if number < len(order):
        cosines = f"below {scores[order[number - 1]]:.3f}" if number else "all"
        reasons.append(f"{len(order) - number:,} of the least similarity (cosine {cosines})")
    return [samples[place] for place in chosen], reasons
