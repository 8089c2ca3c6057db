"""MM-Skin: questions about photos of textbooks, attributes and categories of photos, and conversations."""

import re
from collections.abc import Iterator, Sequence

from magic_cli.data.sources.cells import texts
from magic_cli.data.sources.csv_rows import CsvTable, Row, note_unknown, open_csv, tables_with
from magic_cli.data.sources.files import SourceFiles, innermost_split
from magic_cli.data.sources.lfs import is_pointer, refuse_pointer
from magic_cli.data.sources.qa_pairs import Facts, Pair, PhotoQuestions, add_conversations, is_conversations
from magic_cli.data.sources.source import CONCEPTS, LONGEST_ATTRIBUTE, RawCase, RawDataset, ReadOptions, Source
from magic_cli.errors import DataError, problem

_ATTRIBUTES = ("atributes", "attributes")  # the first is theirs

_CLASSES = ("image", "categories")

_QUESTIONS = ("image", "question", "answer")

_KNOWN = frozenset({*_QUESTIONS, *_CLASSES, *_ATTRIBUTES})

_NAME = re.compile(r"mm[-_ ]?skin|pretrain/vqa_[^/]*\.jsonl?$", re.I)

_PLAIN = re.compile(r"[^()\[\]{}=_]+")  # one item without a list around it


class MmSkin(Source):
    """Tables of questions and of classes, and the conversations for pretraining."""

    name = "mm-skin"
    title = "MM-Skin, photos and questions of dermatology textbooks"
    origin = "https://github.com/ZwQ803/MM-Skin"
    licence = "unclear: photos of textbooks"
    expected = "MM-Skin_*.csv with image, question, answer or image, atributes, categories; Pretrain/vqa_*.json"

    def find(self, files: SourceFiles) -> str:
        """Return the first table of its columns and name, or with "atributes", or a JSON file of its name."""
        return next(iter(_tables(files, is_named=True)), "")

    def read(self, files: SourceFiles, options: ReadOptions) -> RawDataset:  # noqa: ARG002  nothing to choose
        """Return a case per photo, with all questions about it, its attributes and its category.

        Git LFS pointers among other files are problems.

        Raises:
            DataError: no such file, or nothing but Git LFS pointers.
        """
        paths = _tables(files, is_named=True) or _tables(files, is_named=False)
        tables = [path for path in paths if not is_pointer(path)]
        for path in paths:
            try:
                refuse_pointer(path, files.name(path))
            except DataError as error:
                if not tables:
                    raise
                files.issues.add_loss(error.problems[0])
        if not tables:
            raise DataError(problem(files.root, "no table of MM-Skin", self.expected, "check --data and --source"))
        return RawDataset(self.name, files.root, _cases(tables, files), files.issues, files.digests(*tables))


SOURCE = MmSkin()


def is_of_mm_skin(path: str, files: SourceFiles) -> bool:
    """Return whether a file is named as those of MM-Skin, or is in such a folder."""
    return bool(_NAME.search(files.name(path)))


def _tables(files: SourceFiles, is_named: bool) -> list[str]:
    """Return the tables and JSON files; `is_named`: what others might have too only under names of MM-Skin."""
    sure = set(tables_with(files, "image", "categories", _ATTRIBUTES[0]))
    may_be = {*tables_with(files, *_QUESTIONS), *tables_with(files, "image", "categories", _ATTRIBUTES[1])}
    return [
        path
        for path in files.tables
        if path in sure
        or ((is_of_mm_skin(path, files) or not is_named) and (path in may_be or is_conversations(path)))
        or (is_of_mm_skin(path, files) and is_pointer(path))
    ]


def _cases(tables: Sequence[str], files: SourceFiles) -> Iterator[RawCase]:
    questions = PhotoQuestions(files, MmSkin.licence)
    for path in tables:
        split = innermost_split(files.name(path))
        if is_conversations(path):
            add_conversations(path, files, split, questions)
            continue
        table = open_csv(path, files)
        note_unknown(table, _KNOWN, files.issues)
        for row in table.rows(files.issues):
            try:
                part = _pair(row) if table.has(*_QUESTIONS) else _facts(row, table)
                image = _required(row, "image")
            except DataError as error:
                files.issues.add_loss(f"{error.problems[0]}; left out", "cases")
                continue
            questions.add((split, [image]), row.where, part)
    yield from questions.cases()


def _required(row: Row, column: str) -> str:
    text = row.get(column)
    if text is None:
        raise DataError(problem(row.where, f"no {column}", "one", "complete the row"))
    return text


def _pair(row: Row) -> Pair:
    answer = row.cells["answer"].strip()  # "None" and "NA" may be answers
    if not answer:
        raise DataError(problem(row.where, "no answer", "one", "complete the row"))
    return Pair(_required(row, "question"), answer)


def _facts(row: Row, table: CsvTable) -> Facts:
    """Return the category and the attributes of a photo, lists of text as Python writes them."""
    column = next(column for column in _ATTRIBUTES if column in table.columns)
    seen, categories = _list(row, column), _list(row, "categories")
    own = {name: text[:LONGEST_ATTRIBUTE] for name in (column, "categories") if (text := row.get(name))}
    concepts = {CONCEPTS: "; ".join(seen)[:LONGEST_ATTRIBUTE]} if seen else {}
    return Facts("; ".join(categories)[:200] or None, own | concepts)


def _list(row: Row, column: str) -> tuple[str, ...]:
    text = row.get(column)
    return (text,) if text and _PLAIN.fullmatch(text) else texts(text, f"{row.where}:{column}")
