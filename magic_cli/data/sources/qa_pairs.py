"""Questions and answers about photos, grouped by photo in a temporary database: rows of one photo may lie far apart.

The texts of a case are "qa-question-1", "qa-answer-1", "qa-question-2", ... in the order of the source. No query is
made of them (`Case.question` stays ""): an answer names what a query must not know, and questions often do.
"""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from magic_cli.data.issues import counted
from magic_cli.data.names import TABLE_SUFFIXES
from magic_cli.data.prompts import replace_surrogates
from magic_cli.data.sources.cells import image_id_of, present
from magic_cli.data.sources.files import SourceFiles
from magic_cli.data.sources.lfs import refuse_pointer
from magic_cli.data.sources.source import LONGEST_ATTRIBUTE, SOURCE, RawCase, RawPhoto
from magic_cli.errors import DataError, problem, redact, redact_key, shorten
from magic_cli.io.json_files import MAX_LINE, parse_json, read_json
from magic_cli.io.regular_file import open_regular
from magic_cli.records import Case

QUESTION, ANSWER = "qa-question-", "qa-answer-"  # roles of texts; a number from 1 follows

_HEAD = 1 << 20  # bytes in which the first record lies

_ASKS, _ANSWERS = frozenset({"human", "user"}), frozenset({"gpt", "assistant", "model"})

_IMAGE_TOKEN = re.compile(r"\s*</?(?:image|img|ImageHere)>\s*", re.I)

_PAD_PATIENT = re.compile(r"PAT_\d+(?=_\d+_\d+)")  # photos of PAD-UFES-20 name their patient

_KEYS = frozenset({"id", "image", "images", "conversations", "question", "answer", "source", "dataset"})

MAX_LIST = 1 << 30  # bytes of a JSON list, which is parsed as a whole

_TABLES = """
CREATE TABLE photos (number INTEGER PRIMARY KEY, split TEXT, names TEXT, place TEXT, UNIQUE (split, names));
CREATE TABLE parts (number INTEGER PRIMARY KEY, photo INTEGER, question TEXT, answer TEXT, facts TEXT);
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """A question about photos and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of photos besides: a label and attributes."""

    label: str | None
    attributes: Mapping[str, str]


class PhotoQuestions:
    """All that a dataset says about its photos, by photo."""

    def __init__(self, files: SourceFiles, licence: str) -> None:
        self._files, self._licence = files, licence
        self._database = sqlite3.connect("")
        self._database.executescript(_TABLES)

    def add(self, photos: tuple[str, Sequence[str]], where: str, *parts: Pair | Facts) -> None:
        """Add what a row says about photos: their split, and their names as written."""
        split, names = photos[0], json.dumps([_plain(name) for name in photos[1]])
        self._database.execute("INSERT OR IGNORE INTO photos VALUES (NULL, ?, ?, ?)", (split, names, where))
        query = "SELECT number FROM photos WHERE split = ? AND names = ?"
        ((number,),) = self._database.execute(query, (split, names))
        for part in parts:
            row = (part.question, part.answer, None) if isinstance(part, Pair) else (None, None, _as_text(part))
            self._database.execute("INSERT INTO parts VALUES (NULL, ?, ?, ?, ?)", (number, *row))

    def cases(self) -> Iterator[RawCase]:
        """Yield a case per photo, or per photos that are asked about together, in the order of their first rows."""
        self._database.execute("CREATE INDEX by_photo ON parts (photo, number)")
        self._database.execute("CREATE INDEX by_names ON photos (names)")
        for number, split, names, where in self._database.execute("SELECT * FROM photos ORDER BY number"):
            earlier = "SELECT 1 FROM photos WHERE names = ? AND number < ?"
            is_again = self._database.execute(earlier, (names, number)).fetchone() is not None
            yield self._case(number, split, json.loads(names), (where, is_again))
        self._database.close()

    def _case(self, number: int, split: str, names: list[str], place: tuple[str, bool]) -> RawCase:
        where, is_again = place
        ids = list(dict.fromkeys(_image_id(name) for name in names))
        found = [(_image_id(name), self._files.photo(name)) for name in dict.fromkeys(names)]
        pairs, label, attributes = self._parts(number)
        patient = _PAD_PATIENT.search(ids[0])
        case = Case(
            case_id=f"{ids[0]}#{split or where}" if is_again else ids[0],
            split=split,
            image_ids=tuple(ids),
            texts=_texts(pairs),
            label=label,
            attributes=attributes,
            group_id=patient[0] if patient else "",
            licence=self._licence,
        )
        return RawCase(case, tuple(RawPhoto(image_id, path) for image_id, path in found if path), where)

    def _parts(self, number: int) -> tuple[list[Pair], str | None, dict[str, str]]:
        pairs: dict[Pair, None] = {}
        label, attributes = None, dict[str, str]()
        query = "SELECT question, answer, facts FROM parts WHERE photo = ? ORDER BY number"
        for question, answer, facts in self._database.execute(query, (number,)):
            if facts is None:
                pairs.setdefault(Pair(question, answer))
            else:
                row = json.loads(facts)
                label = label or row["label"]
                attributes = row["attributes"] | attributes
        return list(pairs), label, attributes


def _as_text(facts: Facts) -> str:
    return json.dumps({"label": facts.label, "attributes": dict(facts.attributes)})


def _plain(name: str) -> str:
    """Return a path with "/" between its folders, and without "./" or "/" before it."""
    return re.sub(r"^(?:\.?/)+", "", name.strip().replace("\\", "/")).rstrip("/")


def _image_id(name: str) -> str:
    """Return the id of a photo by its path, folders included, as names of several collections repeat."""
    return image_id_of(name.replace("/", "_"))


def _texts(pairs: Sequence[Pair]) -> dict[str, dict[str, str]]:
    texts: dict[str, dict[str, str]] = {}
    for number, pair in enumerate(pairs, 1):
        texts[f"{QUESTION}{number}"] = {"en": pair.question}
        texts[f"{ANSWER}{number}"] = {"en": pair.answer}
    return texts


def is_conversations(path: str) -> bool:
    """Return whether a JSON file holds conversations about photos, told from its first record."""
    if Path(path).suffix.casefold() not in TABLE_SUFFIXES:
        return False
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return b'"image' in head and b'"conversations"' in head and b'"value"' in head


def add_conversations(path: str, files: SourceFiles, split: str, questions: PhotoQuestions) -> None:
    """Add the records of a JSON list or of JSON lines: "image", and "conversations" of "from" and "value".

    Records with "question" and "answer" instead of a conversation are read too. One that cannot be used is a problem.

    Raises:
        DataError: a Git LFS pointer, or no JSON.
    """
    name = files.name(path)
    refuse_pointer(path, name)
    unanswered, unknown = 0, Counter[str]()
    for where, record in _records(path, files):
        try:
            names = _photos(record, where)
            pairs, lost = _pairs(record, where)
            if not pairs:
                raise DataError(problem(where, "no question with an answer", "at least one", "complete the record"))
        except DataError as error:
            files.issues.add_loss(f"{error.problems[0]}; left out", "cases")
            continue
        unanswered += lost
        unknown.update(key for key in record if key not in _KEYS)
        questions.add((split, names), where, *pairs, _facts(record, names))
    if unanswered:
        got = counted(unanswered, "turn", "turns")
        files.issues.add_loss(problem(name, f"{got} without a counterpart", "a question and its answer", "left out"))
    if unknown:
        verb = counted(len(unknown), "key is", "keys are")
        files.issues.note(f"{name}: {verb} not used ({shorten(map(redact_key, unknown), 12)})")


def _records(path: str, files: SourceFiles) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the place of each record, and the record if it is an object; others are problems."""
    name = files.name(path)
    with open_regular(path) as file:
        is_list = file.read(_HEAD).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    rows = _items(path, name) if is_list else _lines(path, files)
    for where, record in rows:
        if isinstance(record, dict):
            yield where, record
        else:
            line = problem(where, redact(record), "an object with image and conversations", "fix the record; left out")
            files.issues.add_loss(line, "cases")


def _items(path: str, name: str) -> Iterator[tuple[str, object]]:
    for number, record in enumerate(read_json(Path(path), MAX_LIST)):
        yield f"{name}[{number}]", record


def _lines(path: str, files: SourceFiles) -> Iterator[tuple[str, object]]:
    with open_regular(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
            where = f"{files.name(path)}:{number}"
            try:
                if line.strip():
                    yield where, parse_json(line)
            except (ValueError, RecursionError):
                files.issues.add_loss(problem(where, "no JSON", "an object per line", "fix it; left out"), "cases")


def _photos(record: Mapping[str, object], where: str) -> list[str]:
    value = record.get("image", record.get("images"))
    names = value if isinstance(value, list) else [value]
    found = [name.strip() for name in names if isinstance(name, str) and present(name)]
    if not found or len(found) < len(names):
        raise DataError(problem(where, "no image", "the path of a photo", "complete the record"))
    return found


def _facts(record: Mapping[str, object], names: Sequence[str]) -> Facts:
    """Return the collection that photos are from: as the record says, else the first folder of their path."""
    own = record.get("source", record.get("dataset"))
    folder, slash, _ = _plain(names[0]).partition("/")
    source = present(own) if isinstance(own, str) else folder if slash else None
    return Facts(None, {SOURCE: source[:LONGEST_ATTRIBUTE]} if source else {})


def _pairs(record: Mapping[str, object], where: str) -> tuple[list[Pair], int]:
    """Return the pairs of a conversation, and how many turns have no counterpart or are no text."""
    turns = record.get("conversations")
    if turns is None and "question" in record:
        turns = [{"from": "human", "value": record["question"]}, {"from": "gpt", "value": record.get("answer")}]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(problem(where, redact(turns), "conversations: a list of from and value", "fix the record"))
    pairs: list[Pair] = []
    question, said = "", 0
    for turn in turns:
        speaker, value = str(turn.get("from")).casefold(), turn.get("value")
        text = _IMAGE_TOKEN.sub("\n", replace_surrogates(value)).strip() if isinstance(value, str) else ""
        said += speaker in _ASKS or speaker in _ANSWERS
        if speaker in _ASKS:
            question = text
        elif speaker in _ANSWERS and question and text:
            pairs.append(Pair(question, text))
            question = ""
    return pairs, said - 2 * len(pairs)
