"""The guard against leaks: no query may tell the class of its case, what was done about it, or which file it is.

It knows the diseases, verdicts, management and histology of the lexicon, all classes of the dataset with their
synonyms, and what a case itself says in columns about its diagnosis. Words count as wholes, in any case, number and
spelling; hyphens, invisible characters and full-width letters hide nothing (data/texts/terms.py).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache

from magic_cli.data.prompts import fold
from magic_cli.data.sources.cells import flag, present
from magic_cli.data.sources.source import LABEL_PATH, LESION, PATIENT
from magic_cli.data.texts.lexicon import CONCEPT, DISEASE, HISTOLOGY, MANAGEMENT, VERDICT, lexicon
from magic_cli.data.texts.ontology import parts_of
from magic_cli.data.texts.query_text import Part, QueryOptions, assemble, parts, sentence_of
from magic_cli.data.texts.sentences import pieces
from magic_cli.data.texts.terms import TermIndex, Words, has_han, joined, normalised, word_key, words_of
from magic_cli.records import Case

FILE_NAME, DIAGNOSIS = "file name", "diagnosis"

_WORDS = {DISEASE: DIAGNOSIS, VERDICT: DIAGNOSIS, MANAGEMENT: MANAGEMENT, HISTOLOGY: HISTOLOGY}

_FILE = re.compile(
    r"\w\.(?:jpe?g|jpe|jfif|png|tiff?|bmp|gif|webp|heic|heif|npz|npy|dcm|csv|json)\b"
    r"|(?<![^\W_])(?:isic|pat|img|dsc|ddi|msk)[ _-]?\d{3,}"
    r"|(?<![^\W_])(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{16,}",
    re.IGNORECASE,
)

_CODE = re.compile(r"(?<![^\W_])[A-Z]\d\d\.\d{1,2}(?![^\W_])")  # of ICD-10: "C43.9"

# columns about the class of a case, its management or its histology; those of symptoms and skin tone are none
_TELLING = re.compile(
    r"(?!.*symptom)(?!.*skin_tone).*(?:diagnos|disease|(?:^|_)dx|label|condition|pathol|histo|biops|manage|treat|therap"
    r"|malig|benign|cancer|melano|partition|(?:^|_)class|lesion_type|target)"
)

_PIECES = re.compile(r"[][(){},;:/|>\"']+")

_LONGEST = 200  # characters of a value in which classes are looked for one by one

_SHORTEST_ID = 4  # letters and digits; a shorter one may be an age

# words that are classes in some datasets, and say nothing about a disease in a text
_NO_CLASS = frozenset("yes no true false y n t f a an the and or of on in with nan none".split())  # noqa: SIM905

# what stands before a class without being one: "01_", "1. ", "L98.4 ", "Grade 3 ", "class: "
_BEFORE = re.compile(
    r"(?:(?:class|label|category|diagnosis|dx|grade|stage|type|group|level)(?![^\W_])|[A-Z]\d\d(?:\.\d+)?(?![^\W_])"
    r"|[IVX]+(?![^\W_])|[\W\d_])*",
    re.IGNORECASE,
)

_LISTED = re.compile(
    r"\s+(?:and|or|vs\.?|versus|with|und|oder|y|et)\s+|\s*[][,;:+&|\\'\"\u2013\u2014]\s*|\s+-+\s+", re.IGNORECASE
)

# endings of diseases, by which parts of a list are told from others: "hand, foot and mouth disease"
_ENDS_AS_DISEASE = re.compile(r"(?:oma|osis|itis|iasis|ema|emia|pathy|derma|plasia|[^l]ia|disease)s?$", re.IGNORECASE)

_ABBREVIATION = re.compile(r"\(([A-Z][A-Za-z]{0,3}[A-Z])\)")

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

_UNSPECIFIED = re.compile(r"[\s,]*\b(?:nos|unspecified|not otherwise specified)\W*$", re.IGNORECASE)


@cache
def _general_terms() -> TermIndex[str]:
    """Return the terms that no query may have, and those with "" that may, though a disease is in their words."""
    index: TermIndex[str] = TermIndex()
    for term in lexicon().synonyms:
        for synonym in lexicon().written(term) if term.kind in _WORDS else ():
            index.add(synonym.rstrip("!"), _WORDS[term.kind], in_capitals=synonym.endswith("!"))
    for term, synonyms in lexicon().synonyms.items():
        for synonym in synonyms if term.kind == CONCEPT else ():
            if index.find(words_of(synonym)):  # milia-like cysts
                index.add(synonym, "")
    return index


@dataclass
class LeakCounts:
    """What the guard took away.

    Attributes:
        queries: queries that were built.
        empty: those of them that say nothing.
        dropped: names of attributes to values that were dropped.
        touched: queries that lost something.
        cut: captions that were cut.
        nothing_left: ids of cases whose caption says nothing before it tells the class.
    """

    queries: int = 0
    empty: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    touched: int = 0
    cut: int = 0
    nothing_left: list[str] = field(default_factory=list)


class LeakGuard:
    """Finds what tells the class of a case in a text; made once for a dataset, from all its classes."""

    def __init__(self, classes: Iterable[str] = ()) -> None:
        """Take labels and paths of labels as the source words them; repeated ones cost little."""
        self._general = _general_terms()
        self._classes: TermIndex[str] = TermIndex()
        for label in dict.fromkeys(classes):
            for name in _names_of(label):
                self._add_class(name)

    def _add_class(self, name: str) -> None:
        keys = words_of(name).keys
        letters = "".join(key for key in keys if not key.isdigit())
        if not has_han(name) and (len(letters) < 2 or name.strip().casefold() in _NO_CLASS):
            return
        self._classes.add(name, DIAGNOSIS)
        term = lexicon().exact(name)
        for synonym in lexicon().written(term) if term is not None else ():
            self._classes.add(synonym.rstrip("!"), DIAGNOSIS, in_capitals=synonym.endswith("!"))

    def leak(self, text: str, case: Case | None = None) -> str:
        """Return what a text tells: "diagnosis", "management", "histology" or "file name"; "" if nothing."""
        if not text:
            return ""
        words = words_of(text)
        whole = joined(text.replace("-year-old", " year old"))  # every query has it
        found = self._in(words) or (self._in(words_of(whole)) if whole else "")
        if found:
            return found
        if _FILE.search(words.text):
            return FILE_NAME
        if _CODE.search(words.text):
            return DIAGNOSIS
        return _own(words, case) if case is not None else ""

    def _in(self, words: Words) -> str:
        for index in (self._general, self._classes):
            for match in (*index.find(words), *index.find_characters(words.text)):
                if match.payload:
                    return match.payload
        return ""

    def query(self, case: Case, options: QueryOptions, counts: LeakCounts) -> str:
        """Return the query of a case from its attributes, without the values that tell its class."""
        kept = parts(case, options)
        text = assemble(kept)
        if not self.leak(text, case):
            return text
        counts.touched += 1
        guilty = [part for part in kept if self.leak(part.words, case)]
        kept = [part for part in kept if part not in guilty]
        while self.leak(text := assemble(kept), case):  # words side by side, or of the template itself
            alone = (part for part in kept if not self.leak(assemble([other for other in kept if other != part]), case))
            guilty.append(next(alone, None) or self._last_guilty(kept, case))
            kept.remove(guilty[-1])
        counts.dropped.update(part.name for part in guilty)
        return text

    def _last_guilty(self, kept: list[Part], case: Case) -> Part:
        """Return the last piece of the first sentence that leaks."""
        for sentence in dict.fromkeys(map(sentence_of, kept)):
            own = [part for part in kept if sentence_of(part) == sentence]
            if self.leak(assemble(own), case):
                return own[-1]
        return kept[-1]

    def caption(self, case: Case, text: str, counts: LeakCounts) -> str:
        """Return a caption up to before the first sentence that tells the class."""
        whole = fold(text)
        if not self.leak(whole, case):
            return whole
        counts.cut += 1
        kept = ""
        for piece in pieces(text):
            longer = fold(f"{kept} {piece}")
            if self.leak(longer, case):
                break
            kept = longer
        if not kept:
            counts.nothing_left.append(case.case_id)
        return kept


def _names_of(label: str) -> list[str]:
    """Return the names that a class has: the whole, its parts at ">" and "/", and what stands before brackets."""
    names = [label]
    for part in (*parts_of(label), *label.split("/")):
        before = part.partition("(")[0]
        names += [part, before, _UNSPECIFIED.sub("", before)]
    names += [_BEFORE.sub("", name, count=1) for name in (*names, label.replace("_", " "))]
    names += [*_listed(label), *(name for name in _ABBREVIATION.findall(label) if not re.fullmatch("[IVX]+|NOS", name))]
    known = (piece for piece in _PIECES.split(label) if lexicon().exact(piece) is not None)
    return [name for name in dict.fromkeys([*names, *known]) if name.strip()]


def _listed(label: str) -> Iterator[str]:
    """Yield the diseases that a class lists: "acne and rosacea", "['a', 'b']"; also "AcneRosacea"."""
    for part in (*_LISTED.split(label), *_CAMEL.split(label)):
        name = _BEFORE.sub("", part.partition("(")[0], count=1).strip()
        known = lexicon().exact(name)
        if known.kind == DISEASE if known is not None else len(name) > 5 and _ENDS_AS_DISEASE.search(name):
            yield name


def _own(words: Words, case: Case) -> str:
    """Return what a text tells of the case itself: its class, its ids, values of columns about its diagnosis."""
    said = f" {' '.join(words.keys)} "
    for name in (
        case.case_id,
        case.group_id,
        *case.image_ids,
        *(case.attributes.get(k, "") for k in (PATIENT, LESION)),
    ):
        if _is_in(_id_key(name), said):
            return FILE_NAME
    told = (text for name, text in case.attributes.items() if _is_telling(name))
    is_told = any(_is_in(key, said) for text in (case.label or "", *told) for key in _value_keys(text))
    return DIAGNOSIS if is_told else ""


def _is_in(key: str, said: str) -> bool:
    return bool(key) and f" {key} " in said


@lru_cache(1 << 12)
def _id_key(name: str) -> str:
    """Return the words of an id; "" for one that may be another word or number."""
    written = words_of(name).written
    size = sum(map(len, written))
    has_digit = any(word.isdigit() for word in written)
    return " ".join(map(word_key, written)) if size >= _SHORTEST_ID and (has_digit or size > 12) else ""


@lru_cache(1 << 12)
def _is_telling(column: str) -> bool:
    name = re.sub(r"[\s-]+", "_", column.casefold())
    return name == LABEL_PATH or _TELLING.match(name) is not None


@lru_cache(1 << 12)
def _value_keys(text: str) -> tuple[str, ...]:
    """Return the parts of a value about the class, as keys; numbers, flags and words of one or two letters are none."""
    if present(text) is None or flag(text) is not None:
        return ()
    kept = [text, *_PIECES.split(normalised(text)), *_names_of(text[:_LONGEST])]
    keys = {" ".join(words_of(piece).keys): piece for piece in kept}
    return tuple(key for key in keys if len(re.sub(r"[\W\d_]", "", key)) > 2 and key not in _NO_CLASS)
