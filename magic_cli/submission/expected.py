"""The required content of a submission, and a list of its problems in which equal ones share a line."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from magic_cli.data.issues import by_kind, together
from magic_cli.data.names import key_of
from magic_cli.data.prepared import Prepared
from magic_cli.data.questions import QuestionSchema
from magic_cli.errors import DataError, SubmissionError, printable, problem, redact_key, shorten
from magic_cli.submission.archive import Archive

Size = tuple[int, int]

_MOST = 10  # places that a line names


@dataclass(frozen=True)
class Expected:
    """The content of a submission for one split, from the prepared dataset.

    encounters, images: each id of the split to whether it is required: all in test, elsewhere those with gold.
    sizes: image id to the photo's (height, width), for photos that exist.
    """

    split: str
    questions: QuestionSchema
    encounters: Mapping[str, bool]
    images: Mapping[str, bool]
    sizes: Mapping[str, Size]


def expected_of(prepared: Prepared, split: str) -> Expected:
    """Return the expected content of a submission for a prepared split; DataError if the split has no encounters."""
    encounters = prepared.cases_of(split)
    if not encounters:
        got = f"no encounter in split {split!r}"
        raise DataError(problem(prepared.root, got, "one or more", "choose another --split"))
    all_required = split == "test"
    records = {image.image_id: image for image in prepared.images_of(split)}
    images = {image: all_required for e in encounters for image in e.image_ids}
    images |= {image: all_required or bool(r.mask or r.annotators) for image, r in records.items()}
    sizes = {image: (r.height, r.width) for image, r in records.items() if r.height and r.width}
    required = {e.case_id: all_required or e.answers is not None for e in encounters}
    return Expected(split, prepared.questions, required, images, sizes)


class OtherSplit(SubmissionError):  # noqa: N818  the name says what it is
    """Predictions of which none is for what is scored.

    `got` is the line without the path of the predictions, which only the command knows that opened them.
    """

    def __init__(self, got: str, path: object = "predictions") -> None:
        """Name the predictions by their path, if it is known."""
        self.got = got
        super().__init__(f"{path}: {got}")


@dataclass
class Findings:
    """Problems by kind: of equal ones, the first ten are named and the others counted."""

    archive: Archive
    kinds: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)

    def add(self, where: str, got: str, expected: str, remedy: str, detail: str = "") -> None:
        """Add a problem; those with the same `got`, `expected` and `remedy` share a line."""
        self.kinds.setdefault((got, expected, remedy), []).append(f"{where} ({detail})" if detail else where)

    def lines(self) -> list[str]:
        """Return one line per kind, in order of appearance, unsafe members first."""
        lines = by_kind(self.archive.faults)
        for (got, expected, remedy), places in self.kinds.items():
            message = f"got {got}, expected {expected}; {remedy}"
            if len(places) == 1:
                lines.append(together([self.archive.where(places[0])], message))
            else:
                lines.append(f"{printable(self.archive.source)}: {together(places, message, _MOST)}")
        return lines


def respelled_note(ids: Iterable[str], wanted: Collection[str], kind: str) -> str:
    """Return a hint about predicted ids that differ from wanted ones in capitals or blanks only; "" without any."""
    meant = {key_of(name): name for name in wanted}
    found = [name for name in ids if name and name not in wanted and key_of(name) in meant]
    if not found:
        return ""
    named = shorten((f"{redact_key(name)} for {meant[key_of(name)]}" for name in found), most=3)
    rule = "ids are compared as written: write them as the gold does"
    return f"{len(found)} of the predicted {kind} differ from the gold's in capitals or blanks only ({named}); {rule}"


def other_split(source: str, wanted: Collection[str], predicted: Iterable[str], kind: str) -> OtherSplit:
    """Return the error of predictions without any for the gold.

    Args:
        source: what messages call the gold.
        wanted: its ids.
        predicted: the ids that are predicted instead.
        kind: of them, such as "images".
    """
    none = f"got a prediction for none of {len(wanted)} {kind} ({shorten(wanted)})"
    remedy = "each system must predict the split that is scored: predict that one, or choose another --split"
    hint = respelled_note(predicted, wanted, kind)
    return OtherSplit(f"{none}, expected predictions for {source}; {hint or remedy}")
