"""Answers about texts that a language model gave elsewhere, as JSON lines: disease terms and visual concepts.

A line is {"case_id": ...} or {"image_id": ...} with "disease" (text, list or null) and "concepts" (list, text or null).
The prompts of MAKE demand a disease in words of the text, and concepts of a closed list; else "[No definitive
diagnosis]" and "[No matching attributes]", which mean none.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from magic_cli.data.issues import counted
from magic_cli.data.prompts import strip_html
from magic_cli.data.sources.cells import present
from magic_cli.data.texts.lexicon import CONCEPT, lexicon, occurs
from magic_cli.errors import DataError, problem, redact_key
from magic_cli.io.json_files import each_row
from magic_cli.records import Case

_NONE = re.compile(r"\[?\s*no (?:definitive diagnosis|matching attributes)\s*\]?[.\s]*", re.IGNORECASE)

_DISEASE_KEYS = ("disease", "diseases", "standardized_disease", "disease_label")

_CONCEPT_KEYS = ("concepts", "concept", "skin_concept_standarized", "skin_concept", "visual_concept")

_DIVIDED = re.compile(r"\s*[;,]\s*")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a language model found in the text of a case."""

    diseases: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()


@dataclass
class LlmCache:
    """Answers by the id of a case or photo.

    Attributes:
        path: the file.
        answers: what it holds.
        used: ids of `answers` that a case had.
        refused: terms that do not occur in the text, or are of no list.
    """

    path: Path
    answers: dict[str, Answer]
    used: set[str] = field(default_factory=set)
    refused: int = 0

    def restart(self) -> None:
        """Forget what was counted."""
        self.used.clear()
        self.refused = 0

    def answer(self, case: Case, text: str) -> Answer | None:
        """Return the answer about a case without the terms that the prompts rule out; None if there is no answer."""
        name = next((name for name in (case.case_id, *case.image_ids) if name in self.answers), None)
        if name is None:
            return None
        self.used.add(name)
        answer = self.answers[name]
        diseases = tuple(term for term in answer.diseases if occurs(term, text))
        concepts = tuple(term for term in answer.concepts if _is_concept(term) or occurs(term, text))
        self.refused += len(answer.diseases) - len(diseases) + len(answer.concepts) - len(concepts)
        return Answer(diseases, concepts)

    def notes(self) -> list[str]:
        """Return what people should know: how many answers were used, unknown or refused."""
        unknown = len(self.answers) - len(self.used)
        lines = [f"{self.path.name}: {counted(len(self.used), 'answer is', 'answers are')} used"]
        if unknown:
            answers = counted(unknown, "answer is for an id", "answers are for ids")
            lines.append(f"{self.path.name}: {answers} that no case has")
        if self.refused:
            terms = counted(self.refused, "term is", "terms are")
            lines.append(f"{self.path.name}: {terms} refused: not in the text, and no concept of the lexicon")
        return lines


def says_nothing(text: str) -> bool:
    """Return whether a text is missing, such as "nan", or "[No definitive diagnosis]" in place of one."""
    return present(strip_html(text)) is None or _NONE.fullmatch(text.strip()) is not None


def read_llm_cache(path: Path) -> LlmCache:
    """Read answers, one JSON object per line.

    Raises:
        DataError: a line is damaged, or has no id; one line.
    """
    answers: dict[str, Answer] = {}
    if not path.is_file():
        raise DataError(problem("--llm-cache", f"no file {path}", "JSON lines", "check the path"))
    try:
        for number, row in enumerate(each_row(path), 1):
            name, answer = _parse(row, f"{path}:{number}")
            if answers.setdefault(name, answer) != answer:
                raise DataError(problem(f"{path}:{number}", f"{redact_key(name)} twice", "once", "remove one line"))
    except DataError as error:
        raise DataError(
            [line.replace("; run `magic prepare` again", "; fix the line") for line in error.problems]
        ) from None
    return LlmCache(path, answers)


def _parse(row: object, where: str) -> tuple[str, Answer]:
    if not isinstance(row, dict):
        raise DataError(
            problem(where, "no object", '{"case_id": ..., "disease": ..., "concepts": [...]}', "fix the line")
        )
    name = row.get("case_id") or row.get("image_id")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str):
        raise DataError(problem(where, "no case_id or image_id", "one of them, as text", "fix the line"))
    diseases = _terms(next((row[key] for key in _DISEASE_KEYS if key in row), None), f"{where}:disease", divided=False)
    concepts = _terms(next((row[key] for key in _CONCEPT_KEYS if key in row), None), f"{where}:concepts", divided=True)
    return name, Answer(diseases, concepts)


def _terms(value: object, where: str, divided: bool) -> tuple[str, ...]:
    """Return the terms of an answer; those that mean none are left out."""
    items = [value] if isinstance(value, str | None) else value
    if not isinstance(items, list) or not all(isinstance(item, str | None) for item in items):
        raise DataError(problem(where, "another type", "text, a list of texts, or null", "fix the line"))
    texts = [text for item in items if (text := present(item)) is not None and not _NONE.fullmatch(text)]
    parts = [part for text in texts for part in (_DIVIDED.split(text) if divided else [text])]
    return tuple(dict.fromkeys(part.strip(" .[]") for part in parts if part.strip(" .[]")))


def _is_concept(term: str) -> bool:
    known = lexicon().exact(term)
    return known is not None and known.kind == CONCEPT
