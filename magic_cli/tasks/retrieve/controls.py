"""Controls of case retrieval: rankings that a model has to be better than, as similarities (Q, G) like a model's own.

None of them learns from queries, and none is trained for long; numpy only. `random` and `majority_first` know nothing
of the query, `text_only` sees no photo, `attribute_overlap` needs the attributes of the gallery, `image_cosine` and
`hash64` do not read. `text_only` and `majority_first` rank by the true classes of the gallery, which no similarity of
photos knows. Similarities are computed in float64 and rounded to float32, so that equal cases tie.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.hashed_words import bag_of_words
from magic_cli.data.retrieval.attributes import agreement_table
from magic_cli.data.retrieval.gold import RetrievalGold
from magic_cli.metrics.calibration import softmax
from magic_cli.metrics.retrieval import rank_classes

BITS = 64

SHARES = tuple(step / 10 for step in range(11))
"""Shares of the image in `late_fusion` that are tried."""

MOST_NODES = 6000
"""Queries and gallery together for which `snf` is computed: its matrices have as many rows and columns."""

_NEIGHBOURS, _ROUNDS, _WIDTH = 20, 20, 0.5  # K, t and mu of Wang et al. 2014, who suggest 10-30, 10-20 and 0.3-0.8

_BUCKETS = 1024

_FOLDS = 5

_MOST_TRIED = 1000  # photos of the gallery that choose the share

_STEPS, _LEAST = 2000, 1e-6

Floats = NDArray[np.float64]

Similar = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ControlInput:
    """What controls are made of.

    Attributes:
        gold: queries and gallery, with classes, groups and attributes.
        query_vectors, gallery_vectors: (Q, d) and (G, d) features of photos by any encoder; None without.
        query_texts, gallery_texts: the words of each query and of each photo of the gallery, "" without.
        seed: of random numbers.
    """

    gold: RetrievalGold
    query_vectors: NDArray[np.floating] | None
    gallery_vectors: NDArray[np.floating] | None
    query_texts: Sequence[str]
    gallery_texts: Sequence[str]
    seed: int = 0


def controls(given: ControlInput) -> dict[str, Similar]:
    """Return the similarities (Q, G) of every control that can be computed, by name; see `left_out`."""
    missing = left_out(given)
    return {name: make(given) for name, make in _MAKERS.items() if name not in missing}


def left_out(given: ControlInput) -> dict[str, str]:
    """Return why controls cannot be computed, by name."""
    gold = given.gold
    reasons: dict[str, str] = {}
    has_attributes = all(any(gold.attributes.get(photo) for photo in ids) for ids in (gold.queries, gold.gallery))
    if given.query_vectors is None or given.gallery_vectors is None:
        reasons |= dict.fromkeys(("image_cosine", "hash64", "late_fusion", "snf"), "no vectors of photos")
    if not has_attributes:
        words = "no attributes of queries and gallery"
        reasons |= {name: words for name in ("attribute_overlap", "late_fusion", "snf") if name not in reasons}
    if not has_attributes and not (any(given.query_texts) and any(given.gallery_texts)):
        reasons |= dict.fromkeys(("text_only", "text_only_unlabelled"), "no words of queries and gallery")
    if len(gold.queries) + len(gold.gallery) > MOST_NODES:
        reasons.setdefault("snf", f"more than {MOST_NODES} photos")
    return reasons


def random(given: ControlInput) -> Similar:
    """Return seeded random similarities."""
    size = (len(given.gold.queries), len(given.gold.gallery))
    return np.random.default_rng(given.seed).random(size, np.float32)


def majority_first(given: ControlInput) -> Similar:
    """Return how frequent the class of each photo is in the gallery: the same for every query."""
    classes = _gallery_classes(given.gold)
    share = np.bincount(classes)[classes] / len(classes)
    return np.broadcast_to(share.astype(np.float32), (len(given.gold.queries), len(classes))).copy()


def image_cosine(given: ControlInput) -> Similar:
    """Return cosines of vectors of photos, as of a classifier's penultimate layer (Tschandl et al. 2019)."""
    queries, gallery = _vectors(given)
    return (_unit(queries) @ _unit(gallery).T).astype(np.float32)


def hash64(given: ControlInput) -> Similar:
    """Return the share of equal bits of 64-bit codes: signs of a random projection (Charikar 2002), gallery-centred."""
    queries, gallery = _vectors(given)
    mean = gallery.mean(0)
    planes = np.random.default_rng(given.seed).standard_normal((gallery.shape[1], BITS))
    codes = [np.where((vectors - mean) @ planes > 0, 1.0, -1.0) for vectors in (queries, gallery)]
    return ((codes[0] @ codes[1].T / BITS + 1) / 2).astype(np.float32)


def attribute_overlap(given: ControlInput) -> Similar:
    """Return the agreement of attributes, 0 where none is shared."""
    gold = given.gold
    return _agreement(gold, gold.queries)


def _agreement(gold: RetrievalGold, queries: Sequence[str]) -> Similar:
    first, second = ([gold.attributes.get(photo, {}) for photo in ids] for ids in (queries, gold.gallery))
    return np.nan_to_num(agreement_table(first, second).rows(slice(None)))


def late_fusion(given: ControlInput) -> Similar:
    """Return a * image cosine + (1 - a) * agreement of attributes.

    The share a of SHARES has the highest macro mAP of photos of the gallery that ask for others, their own group left
    out: at most 1,000 of them, drawn by the seed.
    """
    gold = given.gold
    _, gallery = _vectors(given)
    count = len(gold.gallery)
    drawn = np.sort(np.random.default_rng(given.seed).permutation(count)[:_MOST_TRIED])
    cosine = (_unit(gallery)[drawn] @ _unit(gallery).T).astype(np.float32)
    agreed = _agreement(gold, [gold.gallery[at] for at in drawn])
    groups = _codes([gold.groups.get(photo, photo) for photo in gold.gallery])
    cosine[groups[drawn][:, None] == groups] = np.nan
    classes = _gallery_classes(gold)
    scores = []
    for share in SHARES:
        found = rank_classes(_fused(cosine, agreed, share), (classes[drawn], classes), (1,)).found.ap
        kept = ~np.isnan(found)
        of_class = [found[kept & (classes[drawn] == number)] for number in np.unique(classes[drawn][kept])]
        scores.append(float(np.mean([values.mean() for values in of_class])) if of_class else 0.0)
    return _fused(image_cosine(given), attribute_overlap(given), SHARES[int(np.argmax(scores))])


def _fused(cosine: Similar, agreed: Similar, share: float) -> Similar:
    return np.asarray(np.float32(share) * cosine + np.float32(1 - share) * agreed, np.float32)


def text_only(given: ControlInput) -> Similar:
    """Return how probable the class of each photo is by the words and attributes of the query; no photo is seen.

    Multinomial logistic regression on hashed words, learned from the gallery. Where queries and gallery have groups in
    common, it is learned five times, each without a fifth of the groups, for queries of these.
    """
    mine, theirs = (_groups(given.gold, ids) for ids in (given.gold.queries, given.gold.gallery))
    classes = _gallery_classes(given.gold)
    chances = _held_out(_bags(given), (mine, theirs), classes, given.seed)
    return chances[:, classes].astype(np.float32)


def text_only_unlabelled(given: ControlInput) -> Similar:
    """Return the probability, by their words alone, that query and photo are of one class; no true class is used.

    As `text_only`, but classes of the gallery are predicted from its own words, too, each group without having been
    learned from.
    """
    bags, theirs = _bags(given), _groups(given.gold, given.gold.gallery)
    classes = _gallery_classes(given.gold)
    query = _held_out(bags, (_groups(given.gold, given.gold.queries), theirs), classes, given.seed)
    gallery = _held_out((bags[1], bags[1]), (theirs, theirs), classes, given.seed)
    return (query @ gallery.T).astype(np.float32)


def _bags(given: ControlInput) -> tuple[Floats, Floats]:
    """Return hashed words of queries and gallery, (Q, buckets) and (G, buckets)."""
    gold = given.gold
    query, gallery = (
        np.stack([_bag(text, gold.attributes.get(photo, {})) for photo, text in zip(ids, texts, strict=True)])
        for ids, texts in ((gold.queries, given.query_texts), (gold.gallery, given.gallery_texts))
    )
    return query, gallery


def _groups(gold: RetrievalGold, photos: Sequence[str]) -> list[str]:
    return [gold.groups.get(photo, photo) for photo in photos]


def _held_out(
    bags: tuple[Floats, Floats], groups: tuple[list[str], list[str]], classes: NDArray[np.int64], seed: int
) -> Floats:
    """Return the probability of each class for queries (Q, classes), never learned from photos of the own group."""
    codes = _codes([*groups[0], *groups[1]])
    mine, theirs = codes[: len(groups[0])], codes[len(groups[0]) :]
    if not np.isin(mine, theirs).any():
        return class_probabilities(bags[1], classes, bags[0])
    fold_of = np.random.default_rng(seed).permutation(codes.max() + 1) % _FOLDS
    chances = np.zeros((len(mine), int(classes.max()) + 1))
    for fold in range(_FOLDS):
        asked, kept = fold_of[mine] == fold, fold_of[theirs] != fold
        if asked.any() and kept.any():
            chances[asked] = class_probabilities(bags[1][kept], classes[kept], bags[0][asked], chances.shape[1])
    return chances


def _bag(text: str, attributes: Mapping[str, str]) -> Floats:
    """Return hashed words of a text, and of attributes with their values as one word each, float64 (buckets,)."""
    told = " ".join(re.sub(r"[\W_]", "", name + value) for name, value in attributes.items())
    return bag_of_words(f"{text} {told}", _BUCKETS).astype(np.float64)


def class_probabilities(rows: Floats, classes: NDArray[np.int64], others: Floats, number: int | None = None) -> Floats:
    """Return (M, classes) of a multinomial logistic regression: `LogisticRegression()` of scikit-learn, in numpy.

    Minimises the sum of cross-entropies + ||W||^2 / 2, the intercept not penalised, by steps with a fixed upper bound
    of the Hessian, which never overshoot (Boehning 1992), extrapolated by Nesterov with restarts.

    Args:
        rows: (N, D) features to learn from, and their `classes` (N,).
        classes: indices from 0.
        others: (M, D) features.
        number: of classes; None: as many as `classes` has.
    """
    number = int(classes.max()) + 1 if number is None else number
    present, target = np.unique(classes, return_inverse=True)
    found = np.zeros((len(others), number))
    used = (rows != 0).any(0)
    design = np.hstack([rows[:, used], np.ones((len(rows), 1))])
    penalty = np.ones(design.shape[1])
    penalty[-1] = 1e-9
    bound = np.linalg.inv(design.T @ design / 2 + np.diag(penalty))
    is_class = np.eye(len(present))[target]
    weights = np.zeros((design.shape[1], len(present)))
    ahead, momentum = weights, 1.0
    for _ in range(_STEPS):
        gradient = design.T @ (is_class - softmax(design @ ahead)) - penalty[:, None] * ahead
        stepped = ahead + bound @ gradient
        moved = stepped - weights
        if np.abs(gradient).max() < _LEAST:
            break
        is_back = float((gradient * moved).sum()) < 0
        following = 1.0 if is_back else (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = stepped if is_back else stepped + (momentum - 1) / following * moved
        weights, momentum = stepped, following
    found[:, present] = softmax(np.hstack([others[:, used], np.ones((len(others), 1))]) @ weights)
    return found


def snf(given: ControlInput) -> Similar:
    """Return similarities after similarity network fusion of photos and attributes (Wang et al., Nature Methods 2014).

    Transductive: queries and gallery are one network, so a ranking depends on all queries. No class is seen.
    """
    gold = given.gold
    every = (*gold.queries, *gold.gallery)
    vectors = _unit(np.concatenate(_vectors(given)))
    attributes = [gold.attributes.get(photo, {}) for photo in every]
    agreed = np.nan_to_num(agreement_table(attributes, attributes).rows(slice(None))).astype(np.float64)
    count = min(_NEIGHBOURS, len(every) - 1)
    networks = [_affinity(1 - near, count) for near in (vectors @ vectors.T, agreed)]
    full, local = [_normalised(w) for w in networks], [_local(w, count) for w in networks]
    for _ in range(_ROUNDS):
        new = [_spread(local[one], full[1 - one]) for one in (0, 1)]
        full = [_normalised((p + p.T) / 2) for p in new]
    fused = (full[0] + full[1]) / 2
    mine = len(gold.queries)
    return ((fused + fused.T) / 2)[:mine, mine:].astype(np.float32)


def _affinity(distance: Floats, count: int) -> Floats:
    """Return exp(-d^2 / (mu e)), e the mean of d and of both mean distances to the nearest neighbours."""
    distance = np.maximum(distance, 0.0)
    np.fill_diagonal(distance, 0.0)
    near = np.partition(distance, count, 1)[:, 1 : count + 1].mean(1)
    scale = (near[:, None] + near + distance) / 3 + 1e-12
    return np.asarray(np.exp(-(distance**2) / (_WIDTH * scale)), np.float64)


def _normalised(network: Floats) -> Floats:
    """Return rows that sum to 1, half of it on the diagonal."""
    made = network.copy()
    np.fill_diagonal(made, 0.0)
    made /= np.maximum(2 * made.sum(1, keepdims=True), 1e-300)
    np.fill_diagonal(made, 0.5)
    return made


def _local(network: Floats, count: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the nearest neighbours (n, count) of each row, and their weights, which sum to 1."""
    others = network.copy()
    np.fill_diagonal(others, -1.0)
    nearest = np.argpartition(-others, count - 1, 1)[:, :count]
    weights = np.take_along_axis(network, nearest, 1)
    return nearest, weights / np.maximum(weights.sum(1, keepdims=True), 1e-300)


def _spread(local: tuple[NDArray[np.intp], Floats], network: Floats) -> Floats:
    """Return S P S^T for S of neighbours and weights."""

    def times(matrix: Floats) -> Floats:
        made = np.zeros_like(matrix)
        for column in range(local[0].shape[1]):
            made += local[1][:, column, None] * matrix[local[0][:, column]]
        return made

    return times(times(network).T).T


def _vectors(given: ControlInput) -> tuple[Floats, Floats]:
    """Return the vectors of queries and gallery.

    Raises:
        ValueError: there are none.
    """
    if given.query_vectors is None or given.gallery_vectors is None:
        raise ValueError("no vectors of photos")
    return np.asarray(given.query_vectors, np.float64), np.asarray(given.gallery_vectors, np.float64)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float64)


def _codes(names: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.array(names, str), return_inverse=True)[1].astype(np.int64)


def _gallery_classes(gold: RetrievalGold) -> NDArray[np.int64]:
    """Return (G,) class indices; photos without a class share one."""
    return _codes([gold.labels.get(photo, "") for photo in gold.gallery])


_MAKERS: Mapping[str, Callable[[ControlInput], Similar]] = {
    "random": random,
    "majority_first": majority_first,
    "text_only": text_only,
    "text_only_unlabelled": text_only_unlabelled,
    "attribute_overlap": attribute_overlap,
    "image_cosine": image_cosine,
    "late_fusion": late_fusion,
    "hash64": hash64,
    "snf": snf,
}
