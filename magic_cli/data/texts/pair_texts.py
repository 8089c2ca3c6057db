"""The texts that a photo is paired with in pretraining: raw, disease, concept, subtexts; and the class of its case.

The order of the texts is fixed: 0 raw, 1 disease, 2 concept, 3 and on the subtexts.
"""

import re
from dataclasses import dataclass, replace

from magic_cli.data.prompts import fold, in_english
from magic_cli.data.questions import NO_QUESTIONS, QuestionSchema
from magic_cli.data.sources.source import RAW
from magic_cli.data.texts.captions import CONCEPT_TEXT, DISEASE_TEXT, SUBTEXT, KnowledgeOptions, limited, with_knowledge
from magic_cli.data.texts.lexicon import DISEASE, lexicon
from magic_cli.data.texts.sentences import sentences
from magic_cli.records import Case

KNOWLEDGE = (RAW, DISEASE_TEXT, CONCEPT_TEXT)
"""Roles of the knowledge set, in their order."""

_MERGED = KnowledgeOptions(overflow="merge")

_DIAGNOSED = re.compile(r"This is a skin photo diagnosed as (.+)\.")
_SHOWS = re.compile(r"This skin photo shows (.+)\.")


@dataclass(frozen=True, slots=True)
class PairTexts:
    """The texts of a photo; "" where there is none. `subtexts` are the sentences of the raw text."""

    raw: str = ""
    disease: str = ""
    concept: str = ""
    subtexts: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """The texts in their fixed order, missing ones as ""."""
        return (self.raw, self.disease, self.concept, *self.subtexts)


def with_pair_texts(case: Case, questions: QuestionSchema = NO_QUESTIONS) -> Case:
    """Return a case with all texts that can be made for pretraining, under the roles of data/prepared.py.

    Texts of the source under these roles are kept. Of a case with patients' and clinicians' texts, raw is all that the
    prepared query and answer say, and the subtexts are its sentences; of one with attributes only, raw is the query.
    """
    made = with_knowledge(case, KnowledgeOptions(questions=questions))
    said = fold(f"{case.question} {case.answer}")
    if not said or any(case.text(RAW).values()):
        return made
    texts = {role: text for role, text in made.texts.items() if role != RAW and not role.startswith(SUBTEXT)}
    texts[RAW] = {"en": said}
    subtexts = {role: text for role, text in case.texts.items() if role.startswith(SUBTEXT)}
    own = limited(sentences(said), KnowledgeOptions())
    texts |= subtexts or {f"{SUBTEXT}{number}": {"en": sentence} for number, sentence in enumerate(own, 1)}
    return replace(made, texts=texts)


def pair_texts(case: Case) -> PairTexts:
    """Return the texts under the roles "raw", "disease", "concept", "subtext-1", ...; English where there is any.

    Of more than `MOST_SUBTEXTS` subtexts the last one holds the rest, so that all batches have the same places.
    """
    raw, disease, concept = (_english(case, role) for role in KNOWLEDGE)
    numbers = sorted(int(role.removeprefix(SUBTEXT)) for role in case.texts if role.startswith(SUBTEXT))
    subtexts = [text for number in numbers if (text := _english(case, f"{SUBTEXT}{number}"))]
    return PairTexts(raw, disease, concept, tuple(limited(subtexts, _MERGED)))


def _english(case: Case, role: str) -> str:
    return fold(in_english(case.text(role)))


def class_of(case: Case) -> str:
    """Return the class of a case that has its pair texts, in words: its label, else what its disease text names.

    "" without a diagnosis. A source's code such as "seborrheic_keratosis" becomes words.
    """
    path = disease_path_of(case)
    return path[-1] if path else (case.label or "").replace("_", " ").strip()


def disease_path_of(case: Case) -> tuple[str, ...]:
    """Return the classes that the disease text of a case names, from the widest on; () if it names none."""
    found = _DIAGNOSED.fullmatch(_english(case, DISEASE_TEXT))
    if found:
        return tuple(part for part in found[1].split(", ") if part)
    mentions = lexicon().mentions(_english(case, DISEASE_TEXT))
    named = [mention.term for mention in mentions if mention.term.kind == DISEASE and not mention.is_negated]
    return (*named[0].path, named[0].name) if named else ()


def concepts_of(case: Case) -> tuple[str, ...]:
    """Return what the concept text of a case lists; () if it lists nothing."""
    found = _SHOWS.fullmatch(_english(case, CONCEPT_TEXT))
    return tuple(part for part in found[1].split(", ") if part) if found else ()


def has_text(case: Case) -> bool:
    """Return whether a case says anything that a photo can be paired with: a caption, a knowledge text, a prompt."""
    roles = (text for role, text in case.texts.items() if role in KNOWLEDGE or role.startswith(SUBTEXT))
    return any(written.strip() for text in (*roles, {"": case.question, " ": case.answer}) for written in text.values())
