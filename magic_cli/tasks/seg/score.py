"""Scoring one photo after the other: each file is read once, and a few numbers per photo are kept."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from magic_cli.data.gold import Gold
from magic_cli.errors import DataError, SubmissionError, first_lines, problem
from magic_cli.metrics.overlap import Bits, pack
from magic_cli.records import Rules, TaskScores
from magic_cli.submission.reader import SubmittedMask, missing_lines
from magic_cli.tasks.seg.decide import MaskPrediction, mean_mask, to_mask
from magic_cli.tasks.seg.image_score import ImageScore, MaskScores, Shape, read_gold, read_predicted, score_image
from magic_cli.tasks.seg.report import report_of

if TYPE_CHECKING:
    from concurrent.futures import Future

_RULES = Rules()

Predicted = MaskPrediction | SubmittedMask


def score(gold: Gold, predictions: Iterable[Predicted], rules: Rules = _RULES, workers: int = 1) -> TaskScores:
    """Score masks as they come, on both tracks (records.TaskScores); only a few numbers per image are kept.

    The scores are the official six, strict, and the number of images that count. A mask that is missing, unreadable,
    of another shape or with other values counts as zero and is listed. Predictions without gold are left out.

    Args:
        gold: its images, with one to nine annotators each.
        predictions: of models, or of files (Submission.submitted_masks).
        rules: what the strict scores decide.
        workers: threads; scores do not depend on their number.

    Raises:
        DataError: there is no gold mask, or some are damaged or differ in size from their siblings, all at once.
        SubmissionError: no prediction belongs to the gold (another split?), or an image has two predictions.
    """
    return report_of(gold, rules, score_images(gold, predictions, rules, workers))


Result = tuple[str, ImageScore | DataError]


class _Priors:
    """The training mean mask as a decided, packed mask at full size; the last few sizes are cached."""

    def __init__(self, gold: Gold) -> None:
        self.prior, self.cached = gold.prior, dict[Shape, Bits | None]()

    def at(self, shape: Shape) -> Bits | None:
        if self.prior is None:
            return None
        if shape not in self.cached:
            if len(self.cached) >= 4:
                self.cached.clear()
            self.cached[shape] = pack(mean_mask(self.prior, (shape[0], shape[1])))
        return self.cached.get(shape)


def score_images(gold: Gold, predictions: Iterable[Predicted], rules: Rules, workers: int) -> MaskScores:
    """Score every photo of `gold`, those without a prediction too; arguments and errors as for `score`."""
    if not gold.images:
        raise DataError(problem(gold.source, "no gold masks", "IMG_*_mask_ann[0-3].tiff", "give their folder"))
    seen: set[str] = set()
    counts = {"found": 0, "ignored": 0}
    priors = _Priors(gold)

    def score_one(image: str, prediction: Predicted | None) -> Result:
        try:
            masks = read_gold(gold.images[image])
        except DataError as error:
            return image, error
        predicted = read_predicted(_submitted(prediction), masks.shape, rules)
        return image, score_image(predicted, masks, priors.at(masks.shape), rules)

    def work() -> Iterator[tuple[str, Predicted | None]]:
        for prediction in predictions:
            counts["found"] += isinstance(prediction, MaskPrediction) or prediction.is_found_officially
            if prediction.id not in gold.images:
                counts["ignored"] += 1
            elif prediction.id in seen:
                raise SubmissionError(problem(prediction.id, "two predictions", "one", "remove one"))
            else:
                seen.add(prediction.id)
                yield prediction.id, prediction
        if counts["ignored"] and not seen:
            raise SubmissionError(missing_lines(list(gold.images), gold.images, "images"))
        yield from ((image, None) for image in gold.images if image not in seen)

    results = dict(_spread(score_one, work(), workers))
    damaged = [line for result in results.values() if isinstance(result, DataError) for line in result.problems]
    if damaged:
        raise DataError(first_lines(damaged, gold.source))
    images = {image: result for image in gold.images if isinstance(result := results[image], ImageScore)}
    return MaskScores(images, any_found=counts["found"] > 0, ignored=counts["ignored"])


def _submitted(prediction: Predicted | None) -> SubmittedMask | None:
    """Return a model's decided mask as if a file held it; what a file holds stays as it is."""
    if not isinstance(prediction, MaskPrediction):
        return prediction
    mask = to_mask(prediction)
    return SubmittedMask(prediction.id, mask=mask, stored=mask)


def _spread(
    score_one: Callable[[str, Predicted | None], Result], work: Iterator[tuple[str, Predicted | None]], workers: int
) -> Iterator[Result]:
    """Yield the results of all work, from a few threads if asked; at most two photos per thread are open."""
    if workers <= 1:
        yield from (score_one(*item) for item in work)
        return
    from concurrent.futures import ThreadPoolExecutor  # needless for one worker

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in work:
            waiting.append(pool.submit(score_one, *item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
