"""One row of an encounter table: whether it is one, the photos that it lists, and the case that it becomes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from sys import intern
from typing import Any

from magic_cli.data.names import PHOTO_SUFFIXES, composed, id_fault, key_of
from magic_cli.data.prepared import case_row
from magic_cli.data.prompts import prompt_halves, replace_surrogates
from magic_cli.errors import is_shown, problem, redact
from magic_cli.io import schema
from magic_cli.records import CONTENT, RESPONSE, TITLE, Case

_LANGUAGE = re.compile("[a-z]{2}")

_TEXTS = ("query_title_", "query_content_")


@dataclass(frozen=True, slots=True)
class Listed:
    """A photo as a row lists it: its id, the file name without folders, and the folders, "" without any."""

    image_id: str
    name: str
    folder: str


def row_fault(row: Any, where: str) -> str:
    """Return why a row is not a valid encounter, "" if it is; no value is quoted that may be a patient's text."""
    fault = id_fault(row.get("encounter_id") if isinstance(row, dict) else None, where)
    if fault:
        return fault
    names, place, expected = row.get("image_ids"), f"{where}:image_ids", "a list of file names"
    if "image_ids" not in row or names is None:
        return problem(
            place, "null" if "image_ids" in row else "no such key", expected, "write [] if there is no photo"
        )
    if not isinstance(names, list):
        remedy = "put it into brackets" if isinstance(names, str) else "fix the row"
        return problem(place, redact(names), expected, remedy)
    for name in names:
        if not isinstance(name, str):
            remedy = "write the photo's file name, in quotes"
            return problem(place, f"{redact(name)} in the list", expected, remedy)
        if listed(name) is None:
            return problem(
                place, redact(name), "file names of photos in the list", "name the file, or remove the entry"
            )
    responses = row.get("responses") or []
    if not isinstance(responses, list) or not all(isinstance(response, dict) for response in responses):
        return problem(f"{where}:responses", "another type", "a list of objects", "fix the row")
    return ""


def listed(text: str) -> Listed | None:
    """Return the photo that an entry of image_ids names; None if it cannot be the name of a file.

    Folders are cut off, with "/" or "\\\\" between them, if what follows has the form of a photo's name.
    """
    text = composed(text)
    folder, _, name = text.replace("\\", "/").rpartition("/")
    name = composed(name)
    suffix = PurePath(name).suffix
    is_photo = suffix.casefold() in PHOTO_SUFFIXES
    image_id = composed(name[: -len(suffix)] if is_photo else name)
    if folder and not (is_photo or is_shown(image_id)):
        return None
    if not image_id.isprintable() or schema.problems("case", _case_with(image_id), "", most=1):
        return None
    return Listed(image_id, name, folder)


def _case_with(image_id: str) -> dict[str, object]:
    return case_row(Case("ENC", "train", (image_id,)))


def case_of(row: Mapping[str, Any], split: str, prompt: str, responses: bool) -> Case:
    """Return the case of a valid row: texts and image ids composed, each photo once."""
    title, content = _texts(row, _TEXTS[0]), _texts(row, _TEXTS[1])
    rows = (row.get("responses") or []) if responses else []
    answers = tuple(_texts(response, "content_") for response in rows)
    question, answer = prompt_halves(title, content, answers, prompt)
    ids: dict[str, str] = {}
    for photo in filter(None, map(listed, row["image_ids"])):
        ids.setdefault(key_of(photo.image_id), photo.image_id)
    texts = {TITLE: title, CONTENT: content}
    texts |= {intern(f"{RESPONSE}{number}"): text for number, text in enumerate(answers, 1)}
    eid = composed(row["encounter_id"])
    return Case(eid, split, tuple(ids.values()), texts, question, answer, group_id=eid)


def _texts(row: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Return language to text from keys such as `query_title_en`; null counts as no text."""
    by_lang = {key.removeprefix(prefix): text for key, text in row.items() if key.startswith(prefix)}
    return {
        lang: replace_surrogates(text)
        for lang, text in by_lang.items()
        if _LANGUAGE.fullmatch(lang) and isinstance(text, str)
    }


def unread_texts(row: Mapping[str, Any]) -> int:
    """Return how many texts of a query are under a key that does not end in a language of two letters."""
    keys = (key for key, text in row.items() if key.startswith(_TEXTS) and isinstance(text, str) and text)
    return sum(not _LANGUAGE.fullmatch(key[max(len(p) for p in _TEXTS if key.startswith(p)) :]) for key in keys)
