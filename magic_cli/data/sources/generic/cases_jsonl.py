"""The adapter of cases in our own schema: cases.jsonl of anyone's making, or of a prepared dataset copied elsewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePath
from typing import NamedTuple

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.names import TABLE_SUFFIXES
from magic_cli.data.prepared import IMAGES, QUESTIONS
from magic_cli.data.questions import NO_QUESTIONS, QuestionSchema, parse_questions
from magic_cli.data.sources.files import SourceFiles, split_of
from magic_cli.data.sources.generic.case_rows import KEYS, Fields, fields_of
from magic_cli.data.sources.generic.mask_files import MaskFiles
from magic_cli.data.sources.generic.photos import find, photos_of
from magic_cli.data.sources.generic.tables import each_object
from magic_cli.data.sources.source import RawCase, RawDataset, RawPhoto, ReadOptions, Source
from magic_cli.errors import DataError, MagicError, problem, redact, shorten
from magic_cli.io.json_files import read_json
from magic_cli.records import Case

_PHOTOS = frozenset({"image_ids", "image", "images"})

_SAMPLE = 5  # rows that decide whether a table holds cases


class CasesJsonl(Source):
    """Cases as schemas/case.schema.json has them, or as rows of texts and subtexts for pretraining."""

    name = "cases"
    title = "cases.jsonl in the schema of magic"
    origin = "yours; schemas/case.schema.json"
    licence = "as each row says"
    expected = "cases.jsonl with case_id, image_ids or image, texts, label, ...; photos; masks as IMG_mask_ann0.png"

    def find(self, files: SourceFiles) -> str:
        """Return the first table whose rows have a case_id, and photos or texts."""
        return next(iter(_tables(files)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:
        """Return the dataset; closed answers need a questions.json.

        Raises:
            DataError: no such table, or a damaged questions.json.
        """
        tables = _tables(files)
        if not tables:
            raise DataError(
                problem(files.root, "no cases.jsonl", "rows with case_id, image_ids or texts", "check --data")
            )
        listed = files.named(QUESTIONS)
        questions = parse_questions(read_json(Path(listed[0])), files.name(listed[0])) if listed else NO_QUESTIONS
        images = files.named(IMAGES)
        reader = _Reader(files, questions, images, options.responses)
        inputs = files.digests(*tables, *images, *listed[:1])
        return RawDataset(
            source=self.name,
            root=files.root,
            cases=reader.cases(tables),
            issues=files.issues,
            inputs=inputs,
            questions=questions,
            has_knowledge=bool(images),  # a prepared dataset, which has the texts that were wanted
        )


SOURCE = CasesJsonl()


def _tables(files: SourceFiles) -> list[str]:
    paths = (path for path in files.tables if PurePath(path).suffix.casefold() in TABLE_SUFFIXES)
    return [path for path in paths if _has_cases(path)]


def _has_cases(path: str) -> bool:
    try:
        rows = [row for _, row in islice(each_object(path, "", IssueLog()), _SAMPLE)]
    except (MagicError, OSError):
        return False
    return any("case_id" in row and (_PHOTOS | {"texts"}) & row.keys() and "sha256" not in row for row in rows)


class _Listed(NamedTuple):
    """A row of images.jsonl: where the photo and the annotators' masks are."""

    path: str
    masks: Mapping[str, str]


class _Reader:
    """Turns rows into cases."""

    def __init__(self, files: SourceFiles, questions: QuestionSchema, images: list[str], responses: bool) -> None:
        self.files, self.questions, self.responses, self.issues = files, questions, responses, files.issues
        self.masks = MaskFiles(files)
        self.unknown: dict[str, int] = {}
        self.without_questions = 0
        self.listed = {image_id: listed for path in images for image_id, listed in _images(path, files)}

    def cases(self, tables: list[str]) -> Iterator[RawCase]:
        """Yield the cases of all tables; what cannot be used is a problem."""
        for path in tables:
            split = split_of(path)
            for where, row in each_object(path, self.files.name(path), self.issues):
                try:
                    raw = self._case(fields_of(row, where), where)
                except DataError as error:
                    self.issues.add_loss(error.problems[0], "cases")
                    continue
                for key in row.keys() - KEYS:
                    self.unknown[key] = self.unknown.get(key, 0) + 1
                yield raw if raw.case.split else replace(raw, case=replace(raw.case, split=split))
        self.masks.note()
        if self.unknown:
            keys = counted(len(self.unknown), "key is", "keys are")
            self.issues.note(f"{keys} not used ({shorten(map(redact, sorted(self.unknown)), 12)})")
        if self.without_questions:
            got = f"closed answers of {self.without_questions:,} cases"
            line = problem(QUESTIONS, f"no such file, but {got}", "the questions", "add it from the same dataset")
            self.issues.add_loss(line, "answers", self.without_questions)

    def _case(self, fields: Fields, where: str) -> RawCase:
        image_ids, photos = self._photos(fields, where)
        texts = {
            role: text for role, text in fields.texts.items() if self.responses or not role.startswith("response-")
        }
        case = Case(
            case_id=fields.case_id,
            split=fields.split,
            image_ids=image_ids,
            texts=texts,
            answers=self._answers(fields, where),
            label=fields.label,
            attributes=fields.attributes,
            group_id=fields.group_id,
            licence=fields.licence,
            question=fields.question,
        )
        return RawCase(case, photos, where)

    def _photos(self, fields: Fields, where: str) -> tuple[tuple[str, ...], tuple[RawPhoto, ...]]:
        if fields.images or fields.masks:
            names = fields.images or fields.image_ids
            image_ids, photos = photos_of(self.files, names, fields.masks, where, self.issues)
        else:
            image_ids = fields.image_ids
            paths = [(image_id, self._path(image_id)) for image_id in image_ids]
            photos = tuple(RawPhoto(image_id, path) for image_id, path in paths if path)
        return image_ids, tuple(photo if photo.masks else self._masked(photo) for photo in photos)

    def _path(self, image_id: str) -> str:
        listed = self.listed.get(image_id)
        return (find(self.files, listed.path) if listed and listed.path else "") or find(self.files, image_id)

    def _masked(self, photo: RawPhoto) -> RawPhoto:
        listed = self.listed.get(photo.image_id)
        found = {name: find(self.files, path, True) for name, path in listed.masks.items()} if listed else {}
        masks = {name: path for name, path in found.items() if path}
        return replace(photo, masks=masks or self.masks.of(photo.image_id, photo.path))

    def _answers(self, fields: Fields, where: str) -> Mapping[str, int] | None:
        if fields.answers is None:
            return None
        if not self.questions.slots:
            self.without_questions += 1
            return None
        fault = next(iter(self.questions.faults(fields.answers, where)), "")
        if fault:
            self.issues.add_loss(fault, "answers")
            return None
        return fields.answers


def _images(path: str, files: SourceFiles) -> Iterator[tuple[str, _Listed]]:
    """Yield the photos of an images.jsonl: paths below the data folder as they are, others by their names."""
    folder = PurePath(path).parent
    for _, row in each_object(path, files.name(path), files.issues):
        image_id, annotators = row.get("image_id"), row.get("annotators")
        if isinstance(image_id, str) and isinstance(annotators, dict):
            masks = {str(name): _located(mask, folder) for name, mask in annotators.items()}
            yield image_id, _Listed(_located(row.get("path"), folder), masks)


def _located(written: object, folder: PurePath) -> str:
    """Return a path of images.jsonl, which is relative to its folder, as absolute; "" if it is none."""
    if not isinstance(written, str) or not written:
        return ""
    parts: list[str] = []
    for part in (folder / written).parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return PurePath(*parts).as_posix()
