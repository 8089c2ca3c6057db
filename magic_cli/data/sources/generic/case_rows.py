"""One row of cases.jsonl, read leniently: ids and values that are numbers, texts with or without languages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from magic_cli.data.prompts import replace_surrogates
from magic_cli.data.sources.cells import present
from magic_cli.data.sources.generic.row_facts import split_word
from magic_cli.data.sources.source import LONGEST_ATTRIBUTE, SOURCE
from magic_cli.errors import DataError, problem, redact

KEYS = frozenset(
    {
        *("case_id", "split", "image_ids", "image", "images", "mask", "masks", "texts", "subtexts", "question"),
        *("answer", "answers", "label", "attributes", "group_id", "licence", "source"),
    }
)  # "answer", half of a prompt, is known, and not used


@dataclass(frozen=True, slots=True)
class Fields:
    """What a row says; `images` and `masks` are written paths, `image_ids` names."""

    case_id: str
    split: str
    image_ids: tuple[str, ...]
    images: tuple[str, ...]
    masks: tuple[str, ...]
    texts: Mapping[str, Mapping[str, str]]
    answers: Mapping[str, int] | None
    label: str | None
    attributes: Mapping[str, str]
    group_id: str
    licence: str
    question: str = ""


def fields_of(row: Mapping[str, object], where: str) -> Fields:
    """Return what a row says.

    Texts are {role: text} in English, or {role: {language: text}}; null and "nan" are absent. Subtexts become the roles
    "subtext-1", "subtext-2", ..., the source an attribute.

    Raises:
        DataError: no case_id, or a value of another type; one line.
    """
    case_id = _text(row, "case_id", where)
    if not case_id:
        raise DataError(problem(where, "no case_id", "a text", "complete the row; left out"))
    attributes = _attributes(row.get("attributes"), where)
    source = _text(row, "source", where)
    if source:
        attributes = {SOURCE: source[:LONGEST_ATTRIBUTE], **attributes}
    return Fields(
        case_id=case_id,
        split=split_word(_text(row, "split", where), where),
        image_ids=_texts(row.get("image_ids"), "image_ids", where),
        images=_texts(row.get("image"), "image", where) + _texts(row.get("images"), "images", where),
        masks=_texts(row.get("mask"), "mask", where) + _texts(row.get("masks"), "masks", where),
        texts=_by_role(row, where),
        answers=_answers(row.get("answers"), where),
        label=_text(row, "label", where) or None,
        attributes=attributes,
        group_id=_text(row, "group_id", where),
        licence=_text(row, "licence", where),
        question=_text(row, "question", where),
    )


def _text(row: Mapping[str, object], key: str, where: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, bool | float) or not isinstance(value, str | int):
        raise DataError(problem(where, f"{key} {redact(value)}", "a text", "write it in quotation marks; left out"))
    text = str(value).strip()
    if key == "label":  # "NA" may be a class; "nan" is what pandas writes for none
        return "" if text.casefold() == "nan" else text
    return text if key in ("case_id", "group_id") else present(text) or ""


def _texts(value: object, key: str, where: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [] if value is None else [value]
    found = [str(item).strip() for item in items if isinstance(item, str | int) and not isinstance(item, bool)]
    if len(found) != len(items):
        raise DataError(problem(where, f"{key} {redact(value)}", "a text or a list of texts", "fix the row; left out"))
    return tuple(dict.fromkeys(filter(None, found)))


def _by_role(row: Mapping[str, object], where: str) -> dict[str, dict[str, str]]:
    written = row.get("texts")
    if written is None:
        written = {}
    if not isinstance(written, dict):
        raise DataError(problem(where, f"texts {redact(written)}", "an object", "fix the row; left out"))
    texts = {role: _by_language(value, where) for role, value in written.items()}
    for number, text in enumerate(_texts(row.get("subtexts"), "subtexts", where), 1):
        texts[f"subtext-{number}"] = {"en": text}
    return {role: text for role, text in texts.items() if text}


def _by_language(value: object, where: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for lang, text in value.items() if isinstance(value, dict) else [("en", value)]:
        if text is not None and not isinstance(text, str):
            expected = "text, null or an object"
            raise DataError(problem(where, f"a text that is {redact(text)}", expected, "fix the row; left out"))
        if present(text) is not None:
            texts[str(lang)] = replace_surrogates(text or "")
    return texts


def _attributes(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(problem(where, f"attributes {redact(value)}", "an object", "fix the row; left out"))
    written = ((name, _joined(item)) for name, item in value.items())
    return {name: text[:LONGEST_ATTRIBUTE] for name, text in written if name and present(text) is not None}


def _joined(value: object) -> str:
    """Return a value as text, the items of a list joined by semicolons; "" for what has no text form."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return "; ".join(filter(None, map(_joined, value))) if isinstance(value, list) else ""


def _answers(value: object, where: str) -> dict[str, int] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(type(index) is int for index in _values(value)):
        raise DataError(
            problem(where, f"answers {redact(value)}", "qids to numbers of options", "fix the row; left out")
        )
    return dict(value)


def _values(value: Mapping[str, object]) -> Iterable[object]:
    return value.values()
