"""`--text`: what is written about cases of own photos: words or a text file for one case, or a table for several."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.names import IMAGE_COLUMNS, PAIR_TABLES, TABLE_SUFFIXES, key_of
from magic_cli.data.own_photos.files import OwnPhoto
from magic_cli.data.prompts import fold, prompt_halves, replace_surrogates
from magic_cli.data.sources.csv_rows import open_csv
from magic_cli.data.sources.dermavqa.rows import case_of, row_fault
from magic_cli.data.sources.generic.tables import each_object
from magic_cli.errors import ConfigError, DataError, printable, problem, shorten
from magic_cli.io.regular_file import read_regular
from magic_cli.records import CONTENT

IDS = ("case_id", "encounter_id", "case", "id", "folder", *IMAGE_COLUMNS)
"""Columns that name a case or one of its photos; the first that a table has."""

TEXTS = ("text", "query", "question", "content", "description", "history", "caption")
"""Columns of what is written; the first that a table has. Those of the challenge, `query_content_en`, are read too."""

_QUERIES = ("query_title_", "query_content_")

_TEXT_FILES = (".txt", ".md", *TABLE_SUFFIXES, *PAIR_TABLES)

_LONGEST = 1 << 20  # bytes of a text file


@dataclass(frozen=True, slots=True)
class CaseText:
    """What is written about a case: texts by role and language, and the two halves of the prompt."""

    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    question: str = ""
    answer: str = ""


def text_file(text: str) -> Path | None:
    """Return the file that `--text` names; None for words.

    Raises:
        DataError: it looks like the name of a file, and there is none.
    """
    try:
        if Path(text).is_file():
            return Path(text)
    except (OSError, ValueError):  # too long for a name
        return None
    if PurePath(text).suffix.casefold() in _TEXT_FILES and len(text.split()) == 1:
        raise DataError(problem(f"--text {text}", "no such file", "a file, or words", "check the name"))
    return None


def read_texts(text: str, photos: Sequence[OwnPhoto], issues: IssueLog) -> dict[str, CaseText]:
    """Return what is written about cases, by case id.

    Args:
        text: words or a text file about the only case, or a table (.csv, .tsv, .json, .jsonl) whose rows name a case, a
            photo or its file. Rows of the challenge are read as `magic prepare` reads them.
        photos: with their cases.
        issues: rows that cannot be used go there.

    Raises:
        ConfigError: one text for several cases. DataError: the file cannot be read, or none of its rows is about these
            photos.
    """
    path = text_file(text)
    if path is not None and path.suffix.casefold() in (*TABLE_SUFFIXES, *PAIR_TABLES):
        return _from_table(path, photos, issues)
    cases = list(dict.fromkeys(photo.case_id for photo in photos))
    if len(cases) > 1:
        got = f"one text for {len(cases)} cases ({shorten(cases, 3)})"
        remedy = "give a table with columns case_id and text; photos of one folder are one case"
        raise ConfigError(problem("--text", got, "one case", remedy))
    return {cases[0]: _written(text if path is None else _read(path))}


def _written(text: str) -> CaseText:
    content = {"en": replace_surrogates(text)}
    return CaseText({CONTENT: content}, *prompt_halves({}, content, ()))


def _read(path: Path) -> str:
    try:
        return read_regular(path, _LONGEST).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(problem(path, "no UTF-8", "a text in UTF-8", "save it as UTF-8")) from None
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be read ({error.strerror}); check --text") from None


def _from_table(path: Path, photos: Sequence[OwnPhoto], issues: IssueLog) -> dict[str, CaseText]:
    owner = _names_of(photos)
    found: dict[str, list[CaseText]] = {}
    others = 0
    for name, text in _rows(path, issues):
        case = owner.get(key_of(name)) or owner.get(key_of(PurePath(name.replace("\\", "/")).name), "")
        others += not case
        if case and text not in found.setdefault(case, []):
            found[case].append(text)
    cases = len({photo.case_id for photo in photos})
    if not found:
        got, expected = f"{counted(others, 'row', 'rows')}, none about these photos", "names of cases, photos or files"
        raise DataError(problem(path, got, expected, "check its first column"))
    if len(found) < cases:
        issues.note(f"{cases - len(found)} of {cases} cases have no text in {path}: they are read from photos alone")
    return {case: texts[0] if len(texts) == 1 else _joined(texts) for case, texts in found.items()}


def _names_of(photos: Sequence[OwnPhoto]) -> dict[str, str]:
    """Return the case of each name that a row may have; one that several cases have is left out."""
    owners: dict[str, set[str]] = {}
    for photo in photos:
        file = PurePath(photo.shown)
        names: Collection[str] = {photo.case_id, photo.image_id, file.name, file.stem, photo.shown}
        for name in names:
            owners.setdefault(key_of(name), set()).add(photo.case_id)
    cases = {key_of(photo.case_id): photo.case_id for photo in photos}
    return {name: next(iter(of)) for name, of in owners.items() if len(of) == 1} | cases


def _joined(texts: Sequence[CaseText]) -> CaseText:
    """Return what several rows say about a case, such as one of each photo."""
    return _written(fold(" ".join(text.question for text in texts)))


def _rows(path: Path, issues: IssueLog) -> Iterator[tuple[str, CaseText]]:
    """Yield the name in each row, and what it says."""
    rows: Iterator[tuple[str, Mapping[str, object]]]
    if path.suffix.casefold() in TABLE_SUFFIXES:
        rows = iter(each_object(str(path), printable(path), issues))
    else:
        rows = ((row.where, row.cells) for row in open_csv(str(path), None).rows(issues))
    for where, row in rows:
        if "encounter_id" in row and any(key.startswith(_QUERIES) for key in row):
            responses = row.get("responses")
            full = {**row, "image_ids": [], "responses": responses if isinstance(responses, list) else []}
            fault = row_fault(full, where)
            if fault:
                issues.add_loss(fault)
                continue
            case = case_of(full, "test", "qa", responses=True)
            yield case.case_id, CaseText(case.texts, case.question, case.answer)
            continue
        name, text = (next((row[key] for key in keys if row.get(key)), None) for keys in (IDS, TEXTS))
        if isinstance(name, str) and isinstance(text, str):
            yield name.strip(), _written(text)
        else:
            expected = f"{', '.join(IDS[:2])} or file, and {', '.join(TEXTS[:2])} or {TEXTS[2]}"
            issues.add_loss(problem(where, "a row without a name or a text", expected, "rename its columns"))
