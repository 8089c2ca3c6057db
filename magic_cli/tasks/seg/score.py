"""Judging photo after photo: each file is read once, and a few numbers a photo are kept."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from magic_cli.data.gold import Gold
from magic_cli.errors import DataError, SubmissionError, first_lines, problem
from magic_cli.metrics.overlap import Bits, pack
from magic_cli.records import Prediction, Rules, TaskScores
from magic_cli.submission.reader import Unread, missing_lines
from magic_cli.tasks.seg.baselines import guesses as guesses
from magic_cli.tasks.seg.baselines import strata as strata
from magic_cli.tasks.seg.decide import mean_mask, to_mask
from magic_cli.tasks.seg.image_score import Bench, Judged, Shape, judge, read_found, read_truth
from magic_cli.tasks.seg.report import report_of

if TYPE_CHECKING:
    from concurrent.futures import Future


_RULES = Rules()


def score(gold: Gold, predictions: Iterable[Prediction], rules: Rules = _RULES, workers: int = 1) -> TaskScores:
    """Score masks as they come, on both tracks (records.TaskScores); only a few numbers an image are kept.

    `scores` are the official six, strict, and the number of images that count. A mask that is missing, unreadable,
    of another shape or with other values counts as zero and is in `rejected`. Predictions without gold are left out.

    Args:
        gold: its images, with one to nine annotators each.
        predictions: of models, or of files with what they hold (Submission.of).
        rules: what the strict figures decide.
        workers: threads; figures do not depend on them.

    Raises:
        DataError: there is no gold mask, or some are damaged or of a size unlike their siblings', all at once.
        SubmissionError: no prediction belongs to the gold (a split mistaken), or an image has two predictions.
    """
    return report_of(gold, rules, judge_all(gold, predictions, rules, workers))


Result = tuple[str, Judged | DataError]


class _Priors:
    """The training mean mask as a decided mask at full size; the last few sizes are kept."""

    def __init__(self, gold: Gold) -> None:
        self.prior, self.kept = gold.prior, dict[Shape, Bits | None]()

    def at(self, shape: Shape) -> Bits | None:
        if self.prior is None:
            return None
        if shape not in self.kept:
            if len(self.kept) >= 4:
                self.kept.clear()
            self.kept[shape] = pack(mean_mask(self.prior, (shape[0], shape[1])))
        return self.kept.get(shape)


def judge_all(gold: Gold, predictions: Iterable[Prediction], rules: Rules, workers: int) -> Bench:
    """Judge every photo of `gold`, those without a prediction too; see tasks.seg.score."""
    if not gold.images:
        raise DataError(problem(gold.source, "no gold masks", "IMG_*_mask_ann[0-3].tiff", "give their folder"))
    seen: set[str] = set()
    extra = {"found": 0, "ignored": 0}
    priors = _Priors(gold)

    def one(image: str, prediction: Prediction | None) -> Result:
        try:
            truth = read_truth(gold.images[image])
        except DataError as error:
            return image, error
        prior = priors.at(truth.shape)
        mask = to_mask(prediction) if prediction is not None and "mask" in prediction.arrays else None
        return image, judge(read_found(prediction, mask, truth.shape, rules), truth, prior, rules)

    def work() -> Iterator[tuple[str, Prediction | None]]:
        for prediction in predictions:
            extra["found"] += prediction.raw != Unread() if isinstance(prediction.raw, Unread) else 1
            if prediction.id not in gold.images:
                extra["ignored"] += 1
            elif prediction.id in seen:
                raise SubmissionError(problem(prediction.id, "two predictions", "one", "remove one"))
            else:
                seen.add(prediction.id)
                yield prediction.id, prediction
        if extra["ignored"] and not seen:
            raise SubmissionError(missing_lines(list(gold.images), gold.images, "images"))
        yield from ((image, None) for image in gold.images if image not in seen)

    results = dict(_spread(one, work(), workers))
    damaged = [line for result in results.values() if isinstance(result, DataError) for line in result.problems]
    if damaged:
        raise DataError(first_lines(damaged, gold.source))
    whole = {image: result for image in gold.images if isinstance(result := results[image], Judged)}
    return Bench(whole, extra["found"] > 0, extra["ignored"])


def _spread(
    one: Callable[[str, Prediction | None], Result], work: Iterator[tuple[str, Prediction | None]], workers: int
) -> Iterator[Result]:
    """Yield the results of all work, from a few threads if asked; never more than two photos a thread are open."""
    if workers <= 1:
        yield from (one(*item) for item in work)
        return
    from concurrent.futures import ThreadPoolExecutor  # one worker does without

    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in work:
            waiting.append(pool.submit(one, *item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
