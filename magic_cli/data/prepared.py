"""The prepared dataset: the one format that train, predict, score and package read.

prepared/cases.jsonl        one case per line             schemas/case.schema.json
prepared/images.jsonl       one photo per line            schemas/image.schema.json
prepared/questions.json     the closed questions          schemas/definitions.schema.json; absent without any
prepared/masks/             merged masks at full size     uint8 {0, 1} TIFF; absent without any
prepared/prepare.json       what was read and done        schemas/prepared.schema.json
prepared/mean_mask.png      mean of the train masks       64 x 64 8-bit grey, 255 = all; absent without any
prepared/index.html         a page for people             never read by magic
prepared/run.json           the call that wrote it        schemas/run.schema.json

Roles of texts: "title", "content", "response-1", ... of the challenge; "raw" what a source says about the photo. Pairs
of images and texts also have "truncated" and "augmented" (variants of the caption), "disease" and "concept" (knowledge
texts), "subtext-1", "subtext-2", ... Sets of questions have "qa-question-1", "qa-answer-1", "qa-question-2", ...

This is format 2, which prepare.json states as "schema". Format 1 named cases encounters, had no texts by role and no
labels, and needed questions.json; it is refused, as `magic prepare` makes the new one from the same data.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from sys import intern
from typing import TYPE_CHECKING, Any

from magic_cli.data.limits import MAX_PIXELS
from magic_cli.data.prompts import replace_surrogates
from magic_cli.data.questions import NO_QUESTIONS, QuestionSchema, parse_questions
from magic_cli.errors import DataError, printable, problem
from magic_cli.io import schema
from magic_cli.io.files import StrPath
from magic_cli.io.json_files import each_row, read_json
from magic_cli.records import SPLITS, Case, ImageRecord

if TYPE_CHECKING:
    from magic_cli.data.manifest import PrepareManifest

CASES, IMAGES, QUESTIONS, MANIFEST = "cases.jsonl", "images.jsonl", "questions.json", "prepare.json"

MEAN_MASK, PAGE = "mean_mask.png", "index.html"

TABLES = (MANIFEST, CASES, IMAGES, QUESTIONS, MEAN_MASK)  # what runs read, besides photos and masks

_EMPTY: Mapping[str, Any] = {}  # shared by all cases


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset in memory: text and paths, no pixels.

    `cases` and `images` keep file order. A case's `image_ids` are those of the source; an id that is not in `images`
    belongs to a photo that is absent or was left out. `questions` has no slots where the dataset has no closed
    questions. `sha256` is that of prepare.json.
    """

    root: Path
    manifest: "PrepareManifest"
    questions: QuestionSchema
    cases: Mapping[str, Case]
    images: Mapping[str, ImageRecord]
    sha256: str

    @cached_property
    def _by_split(self) -> dict[str, tuple[tuple[Case, ...], tuple[ImageRecord, ...]]]:
        return {
            split: (
                tuple(case for case in self.cases.values() if case.split == split),
                tuple(image for image in self.images.values() if image.split == split),
            )
            for split in SPLITS
        }

    def _of(self, split: str) -> tuple[tuple[Case, ...], tuple[ImageRecord, ...]]:
        if split not in SPLITS:
            raise DataError(problem("--split", split, " or ".join(SPLITS), "choose one of these"))
        return self._by_split[split]

    def cases_of(self, split: str) -> tuple[Case, ...]:
        """Return the cases of a split in file order; DataError for a split other than train, valid, test."""
        return self._of(split)[0]

    def images_of(self, split: str) -> tuple[ImageRecord, ...]:
        """Return the photos of a split in file order; DataError for a split other than train, valid, test."""
        return self._of(split)[1]


def link(target: str, root: Path) -> str:
    """Return `target` as it is written into a row: relative to `root`, absolute if on another drive; "/" everywhere."""
    folder, name = os.path.split(target)
    return (_folder_link(folder, root) / name).as_posix()


@lru_cache(maxsize=4096)  # a relative path takes ten times as long as joining two
def _folder_link(folder: str, root: Path) -> PurePath:
    try:
        return PurePath(os.path.relpath(folder, root))
    except ValueError:
        return PurePath(folder)


def _resolve(root: Path, written: str) -> str:
    return os.path.normpath(root / written)


def case_row(case: Case) -> dict[str, object]:
    """Return the line of cases.jsonl that holds a case."""
    return {
        "case_id": case.case_id,
        "split": case.split,
        "image_ids": list(case.image_ids),
        "texts": {role: dict(text) for role, text in case.texts.items()},
        "question": case.question,
        "answer": case.answer,
        "answers": None if case.answers is None else dict(case.answers),
        "label": case.label,
        "attributes": dict(case.attributes),
        "group_id": case.group_id,
        "licence": case.licence,
    }


def image_row(image: ImageRecord, root: Path) -> dict[str, Any]:
    """Return the line of images.jsonl that holds a photo, with paths relative to `root`."""
    return {
        "image_id": image.image_id,
        "case_id": image.case_id,
        "split": image.split,
        "path": None if image.path is None else link(image.path, root),
        "height": image.height,
        "width": image.width,
        "upright": image.upright,
        "mask": None if image.mask is None else link(image.mask, root),
        "annotators": {name: link(path, root) for name, path in image.annotators.items()},
        "sha256": image.sha256,
    }


def case_of_row(row: Mapping[str, Any], texts: bool = True) -> Case:
    """Return the case of a line of cases.jsonl that its schema allows; `texts` False leaves out all text."""
    case_id, group_id, label = row["case_id"], row["group_id"], row["label"]
    return Case(
        case_id=case_id,
        split=intern(row["split"]),
        image_ids=tuple(row["image_ids"]),
        texts={intern(role): _text(text) for role, text in row["texts"].items()} if texts else _EMPTY,
        question=replace_surrogates(row["question"]) if texts else "",
        answer=replace_surrogates(row["answer"]) if texts else "",
        answers=None if row["answers"] is None else {intern(qid): int(index) for qid, index in row["answers"].items()},
        label=None if label is None else intern(label),
        attributes=_with_shared_keys(row["attributes"]) or _EMPTY,
        group_id=case_id if group_id == case_id else group_id,
        licence=intern(row["licence"]),
    )


def _text(row: Mapping[str, str]) -> Mapping[str, str]:
    return {intern(lang): replace_surrogates(text) for lang, text in row.items()} or _EMPTY


def _with_shared_keys(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with interned keys: the parser makes new ones for each line, and they take most of its memory."""
    return {intern(key): value for key, value in row.items()}


def _image(row: Mapping[str, Any], root: Path) -> ImageRecord:
    files = {key: None if row[key] is None else _resolve(root, row[key]) for key in ("path", "mask")}
    annotators = {intern(name): _resolve(root, path) for name, path in row["annotators"].items()}
    names = {name: intern(row[name]) for name in ("case_id", "split")}
    return ImageRecord(**{**row, **files, **names, "annotators": annotators})


def valid_rows(name: str, rows: Iterable[Any], where: str, lines: list[str]) -> Iterator[Any]:
    """Yield the rows that schema `name` allows; append a line per violation to `lines`; rows count from 1."""
    for number, row in enumerate(rows, 1):
        faults = schema.problems(name, row, f"{where}:{number}")
        lines += faults
        if not faults:
            yield row


def open_prepared(root: StrPath, texts: bool = True) -> Prepared:
    """Read prepared/ and check every row of it; paths become absolute, photos and masks are not opened.

    Args:
        root: the folder that `magic prepare` wrote.
        texts: False leaves out the texts of the cases, which take most of the memory.

    Raises:
        DataError: no prepared dataset there, or its format is another or it is damaged; all problems at once.
    """
    root = Path(root)
    from magic_cli.data.manifest import PrepareManifest  # imported here: gold files are scored without

    manifest_path = root / MANIFEST
    if not manifest_path.is_file():
        raise DataError(printable(_not_prepared(root)))
    real = root.resolve()
    row = read_json(manifest_path)
    _refuse_older(row, root)
    lines = schema.problems("prepared", row, str(manifest_path))
    # row by row: parsed rows take several times the memory of the records made from them
    rows = valid_rows("case", each_row(root / CASES), str(root / CASES), lines)
    cases = [case_of_row(row, texts) for row in rows]
    rows = valid_rows("image", each_row(root / IMAGES), str(root / IMAGES), lines)
    images = [_image(row, real) for row in rows]
    _raise(lines, root)
    manifest = PrepareManifest.from_json(row)
    questions = _read_questions(root, cases)
    _raise([*_lost(root, manifest, cases, images), *_contradictions(root, cases, images, questions)], root)
    return Prepared(
        root=root,
        manifest=manifest,
        questions=questions,
        cases={case.case_id: case for case in cases},
        images={image.image_id: image for image in images},
        sha256=hashlib.sha256(manifest_path.read_bytes()).hexdigest(),
    )


def _not_prepared(root: Path) -> str:
    """Return what is there instead of a prepared dataset, and what to do."""
    remedy = "run `magic prepare` first"
    if not root.is_dir():
        have = "got a file" if root.exists() else "no such folder"
        return f"{root}: {have}, expected a prepared dataset; {remedy if have.startswith('no') else 'give its folder'}"
    is_raw = any(any(root.glob(f"{depth}{split}.json")) for depth in ("", "*/", "*/*/") for split in SPLITS)
    if is_raw:
        remedy = f"run `magic prepare --data {root}` first, and give what it writes"
    have = "a raw dataset" if is_raw else f"a folder without {MANIFEST}"
    return f"{root}: got {have}, expected a prepared dataset; {remedy}"


def _refuse_older(manifest: object, root: Path) -> None:
    written = manifest.get("schema") if isinstance(manifest, dict) else None
    from magic_cli.data.manifest import FORMAT

    if type(written) is int and written != FORMAT and written > 0:
        remedy = f"run `magic prepare --data ... --out {root} --overwrite` once more"
        remedy = remedy if written < FORMAT else f"update magic, or {remedy}"
        raise DataError(problem(root, f"a prepared dataset of format {written}", f"format {FORMAT}", remedy))


def _read_questions(root: Path, cases: Sequence[Case]) -> QuestionSchema:
    """Read questions.json; it may be missing only if no case has closed answers."""
    path = root / QUESTIONS
    if not path.exists() and all(case.answers is None for case in cases):
        return NO_QUESTIONS
    return parse_questions(read_json(path), str(path))


def _raise(lines: list[str], root: Path) -> None:
    if lines:
        remedy = f"run `magic prepare --data ... --out {root} --overwrite`"
        raise DataError([*lines, f"these files were changed by hand or damaged: {remedy}"])


def _lost(
    root: Path, manifest: "PrepareManifest", cases: Sequence[Case], images: Sequence[ImageRecord]
) -> Iterator[str]:
    """Yield a line per split whose number of rows differs from prepare.json: a file cut at a line's end parses well."""
    splits = (
        (CASES, "cases", [case.split for case in cases]),
        (IMAGES, "images", [image.split for image in images]),
    )
    for name, key, rows in splits:
        for split in SPLITS:
            number, written = rows.count(split), manifest.counts[split].number(key)
            if number != written:
                yield problem(root / name, f"{number} {key} of split {split}", f"{written}", "was the file cut off?")


def _contradictions(
    root: Path, cases: Sequence[Case], images: Sequence[ImageRecord], questions: QuestionSchema
) -> Iterator[str]:
    """Yield a line per repeated id, per photo without its case and per answer that the questions do not allow."""
    splits: dict[str, str] = {}
    for number, case in enumerate(cases, 1):
        where = f"{root / CASES}:{number}"
        if case.case_id in splits:
            yield problem(where, f"{case.case_id} twice", "once", "remove one row")
        splits[case.case_id] = case.split
        if case.answers is not None:
            yield from questions.faults(case.answers, f"{where}:answers")
    seen: set[str] = set()
    for number, image in enumerate(images, 1):
        where = f"{root / IMAGES}:{number}"
        if image.image_id in seen:
            yield problem(where, f"{image.image_id} twice", "once", "remove one row")
        seen.add(image.image_id)
        if image.height * image.width > MAX_PIXELS:
            yield problem(where, f"{image.height} x {image.width} pixels", "at most 200 megapixels", "prepare again")
        if splits.get(image.case_id) != image.split:
            got = f"{image.case_id} in {image.split}"
            yield problem(where, got, f"a case of {CASES}", "prepare again")
