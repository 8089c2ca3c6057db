"""Score masks on both tracks, photo by photo: each file is read once, and only a few numbers per photo are stored.

The formulas are those of metrics/mask_scores.py; the official track follows examples/official-scorer.md.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from sys import intern
from typing import TYPE_CHECKING

import numpy as np

from magic_cli.data.gold import OFFICIAL, MaskGold, TaskGold
from magic_cli.data.imaging.lesion_share import LesionShare
from magic_cli.data.issues import by_kind
from magic_cli.errors import DataError, SubmissionError, first_lines, problem
from magic_cli.metrics.mask_scores import OFFICIAL as OFFICIAL_RULE
from magic_cli.metrics.mask_scores import column_terms, image_terms, jaccard_and_dice
from magic_cli.metrics.overlap import (
    Bits,
    Cells,
    Counts,
    Overlap,
    count_cells,
    majority,
    memberships,
    overlap_of,
    pack,
)
from magic_cli.records import Prediction, Rules, Submitted, TaskScores
from magic_cli.submission.expected import other_split
from magic_cli.submission.reader import SubmittedMask
from magic_cli.tasks.seg.decide import MaskPrediction, mean_mask, to_mask
from magic_cli.tasks.seg.image_score import (
    EMPTY,
    GOLD,
    MORE,
    GoldMasks,
    ImageScore,
    MaskScores,
    PredictedMask,
    Shape,
    Terms,
    read_gold,
    read_predicted,
)
from magic_cli.tasks.seg.report import report_of
from magic_cli.training.task import RULES, of_class

if TYPE_CHECKING:
    from concurrent.futures import Future

Predicted = Prediction | Submitted


def score(gold: TaskGold, predictions: Iterable[Predicted], rules: Rules = RULES, workers: int = 1) -> TaskScores:
    """Score masks one at a time, on both tracks (records.TaskScores); only a few numbers per image are stored.

    The scores are the official six, strict, and the number of images counted. A mask that is missing, unreadable,
    of another shape or with other values counts as zero and is listed. Predictions without gold are left out.

    Args:
        gold: a MaskGold, whose images have one to nine annotators each.
        predictions: MaskPrediction of models, or SubmittedMask of files.
        rules: rules of the strict scores.
        workers: number of threads; it does not affect the scores.

    Raises:
        DataError: there are no gold masks, or some are damaged or differ in size from their siblings; all are listed.
        SubmissionError: no prediction belongs to the gold (another split?), or an image has two predictions.
    """
    masks = of_class(gold, MaskGold)
    return report_of(masks, rules, score_images(masks, predictions, rules, workers))


Result = tuple[str, ImageScore | DataError]


class _Priors:
    """The training mean mask as a decided, packed mask at full size; the last few sizes are cached."""

    def __init__(self, gold: MaskGold) -> None:
        self.prior, self.cached = gold.prior, dict[Shape, Bits | None]()

    def at(self, shape: Shape) -> Bits | None:
        if self.prior is None:
            return None
        if shape not in self.cached:
            if len(self.cached) >= 4:
                self.cached.clear()
            self.cached[shape] = pack(mean_mask(self.prior, (shape[0], shape[1])))
        return self.cached.get(shape)


def score_images(gold: MaskGold, predictions: Iterable[Predicted], rules: Rules, workers: int) -> MaskScores:
    """Score every photo of `gold`, including those without a prediction; arguments and errors as for `score`."""
    if not gold.images:
        raise DataError(problem(gold.source, "no gold masks", "IMG_*_mask_ann[0-3].tiff", "give their folder"))
    seen: set[str] = set()
    ignored: list[str] = []
    found = 0
    priors = _Priors(gold)

    def score_photo(image: str, prediction: Predicted | None) -> Result:
        try:
            masks = read_gold(gold.images[image])
        except DataError as error:
            return image, error
        predicted = read_predicted(_submitted(prediction), masks.shape, rules)
        return image, score_image(predicted, masks, priors.at(masks.shape), rules)

    def work() -> Iterator[tuple[str, Predicted | None]]:
        nonlocal found
        for prediction in predictions:
            found += not isinstance(prediction, SubmittedMask) or prediction.is_found_officially
            if prediction.id not in gold.images:
                ignored.append(prediction.id)
            elif prediction.id in seen:
                raise SubmissionError(problem(prediction.id, "two predictions", "one", "remove one"))
            else:
                seen.add(prediction.id)
                yield prediction.id, prediction
        if ignored and not seen:
            raise other_split(gold.source, gold.images, ignored, "images")
        yield from ((image, None) for image in gold.images if image not in seen)

    results = dict(_spread(score_photo, work(), workers))
    damaged = [line for result in results.values() if isinstance(result, DataError) for line in result.problems]
    if damaged:
        raise DataError(first_lines(by_kind(damaged), gold.source))
    images = {image: result for image in gold.images if isinstance(result := results[image], ImageScore)}
    return MaskScores(images, any_found=found > 0, ignored=tuple(ignored))


def _submitted(prediction: Predicted | None) -> SubmittedMask | None:
    """Return a model's decided mask in the form of a submitted file; submitted masks are returned unchanged."""
    if prediction is None or isinstance(prediction, SubmittedMask):
        return prediction
    mask = to_mask(of_class(prediction, MaskPrediction))
    return SubmittedMask(prediction.id, mask=mask, stored=mask)


def _spread(
    score_photo: Callable[[str, Predicted | None], Result], work: Iterator[tuple[str, Predicted | None]], workers: int
) -> Iterator[Result]:
    """Yield the results of all work, on `workers` threads; at most two photos per thread are pending."""
    if workers <= 1:
        yield from (score_photo(*item) for item in work)
        return
    from concurrent.futures import ThreadPoolExecutor  # unused with one worker

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in work:
            waiting.append(pool.submit(score_photo, *item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def score_image(predicted: PredictedMask, gold: GoldMasks, prior: Bits | None, rules: Rules) -> ImageScore:
    """Score one photo on both tracks; also trivial masks, and each annotator in place of the system.

    Args:
        prior: the training mean mask, decided at the photo's size and packed; None without one.
        rules: how strict scores count empty masks.
    """
    differs = predicted.official is not None and predicted.official is not predicted.strict
    empty_mask = np.zeros_like(next(iter(gold.planes.values())))
    planes = [empty_mask if predicted.strict is None else predicted.strict]
    planes += [predicted.official] if differs and predicted.official is not None else []
    planes += [prior] if prior is not None else []
    pixels = gold.shape[0] * gold.shape[1]
    cells = count_cells([*planes, *gold.planes.values()], pixels)
    overlap = overlap_of(cells, len(planes))
    fault = predicted.strict is None
    pairs = overlap.against_annotators(0)
    has_empty_pair = not fault and not all(map(any, pairs))
    known = any(name in OFFICIAL for name in gold.planes)
    official: Terms | None = None
    if known and predicted.official is not None and not predicted.official_error:
        official = _official(cells, overlap, gold, int(differs))
    baselines = [_constant(overlap, 0, rules.empty), _constant(overlap, pixels, rules.empty)]
    if prior is not None:
        baselines.append(column_terms(overlap, len(planes) - 1, rules.empty))
    human, system = _left_out(overlap, rules.empty, fault)
    return ImageScore(
        fault=predicted.fault,
        detail=predicted.detail,
        official_error=predicted.official_error or ("" if known else "KeyError: none of ann0 to ann3"),
        causes=predicted.causes + _gold_causes(gold) + ((EMPTY,) if has_empty_pair else ()),
        strict=array("d", image_terms(pairs, overlap.against_majority(0), rules.empty, fault)),
        official=official,
        annotators=tuple(map(intern, gold.planes)),
        pairs=_flat(jaccard_and_dice(pair, rules.empty, fault) for pair in pairs),
        pixels=pixels,
        lesion=sum(overlap.area(len(planes) + k) for k in range(overlap.annotators)) / overlap.annotators / pixels,
        has_empty_pair=has_empty_pair,
        baselines=_flat(baselines),
        human=human,
        system=system,
        predicted_lesion=None if fault else LesionShare(overlap.area(0) / pixels, predicted.edge),
        appearance=predicted.appearance,
        gold_appearances=gold.appearances,
    )


def _gold_causes(gold: GoldMasks) -> tuple[str, ...]:
    """Return the reasons in the gold why the tracks may differ."""
    bright = (GOLD,) if gold.bright else ()
    return bright if set(gold.planes) <= set(OFFICIAL) else (*bright, MORE)


def _flat(parts: Iterable[Terms]) -> Terms:
    """Return all terms in one flat array, which takes half the memory of a list; a photo has a dozen of them."""
    return array("d", chain.from_iterable(parts))


def _constant(overlap: Overlap, size: int, empty: str) -> Terms:
    """Return the terms of a mask that is empty (size 0) or full (size: all pixels)."""
    areas = [overlap.area(column) for column in range(overlap.systems, overlap.majority + 1)]
    pairs = [Counts(area, size - area, 0) if size else Counts(0, 0, area) for area in areas]
    return image_terms(pairs[:-1], pairs[-1], empty)


def _left_out(overlap: Overlap, empty: str, fault: bool) -> tuple[Terms, Terms]:
    """Return the terms of each annotator, and of the system, against the other annotators; none with only one."""
    if overlap.annotators < 2:
        return (), ()
    numbers = range(overlap.annotators)
    human = _flat(column_terms(overlap, overlap.systems + k, empty, without=k) for k in numbers)
    return human, _flat(column_terms(overlap, 0, empty, fault, without=k) for k in numbers)


def _official(cells: Cells, overlap: Overlap, gold: GoldMasks, system: int) -> Terms:
    """Return the official terms: only ann0 to ann3; 255 is not foreground but weighs 255 in the majority vote.

    Votes are summed in uint8: 255 and 1 are 0 together (case 45b).
    """
    names = list(gold.planes)
    used = [k for k, name in enumerate(names) if name in OFFICIAL]
    if len(used) == len(names) and not gold.bright:
        return array("d", column_terms(overlap, system, OFFICIAL_RULE))
    members = memberships(overlap.systems + overlap.annotators)
    votes = sum(members[:, overlap.systems + k] * (255 if names[k] in gold.bright else 1) for k in used)
    agreed = majority(np.asarray(votes) % 256, len(used))
    area = overlap.area(system)
    pairs = [
        Counts(0, area, 0) if names[k] in gold.bright else overlap.counts(system, overlap.systems + k) for k in used
    ]
    tp = int(cells[agreed & members[:, system]].sum())
    return array("d", image_terms(pairs, Counts(tp, area - tp, int(cells[agreed].sum()) - tp), OFFICIAL_RULE))
