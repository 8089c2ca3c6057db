"""The terms of dermatology that ship with magic, found in any text: diseases, what is seen, management, histology.

They are in data/texts/dermatology.toml. Matching is that of data/texts/terms.py; a term is negated if one of the three
words before it says so (no, without, absence of, negative for, non-), within its sentence.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from magic_cli.data.texts.terms import TermIndex, Words, has_han, word_key, words_of

FILE = Path(__file__).with_name("dermatology.toml")

DISEASE, CONCEPT, VERDICT, MANAGEMENT, HISTOLOGY = "diseases", "concepts", "verdicts", "management", "histology"

WINDOW = 3  # words before a term among which a negation counts

_NEGATIONS = frozenset({"no", "not", "without", "denies", "denied", "deny", "denying", "never", "neither", "nor"})

# words that negate if another one follows: "absence of scale"; "a negative network" negates nothing
_NEGATING_PHRASES = frozenset(
    {("absence", "of"), ("lack", "of"), ("free", "of"), ("negative", "for"), ("ruled", "out")}
)

_NON = "non"  # negates what follows at once: "non-scaly plaque"

_NEGATION_KEYS = frozenset(map(word_key, {*_NEGATIONS, *(first for first, _ in _NEGATING_PHRASES), _NON}))

_TURNS = frozenset({"but", "however", "except", "although", "though", "yet"})

_SENTENCE_END = re.compile(r"[.;:!?]+(?=\s|$)|[\n\u3002\uff1b\uff01\uff1f]+")

_HAN_NEGATION = re.compile("(?:不是|没有|未见|否认|排除|并非|无|非|不)[^，。；！？,.;!?\\s]{0,3}$")

_HAN_WINDOW = 6  # characters before a Chinese term that are looked at


@dataclass(frozen=True, slots=True)
class Term:
    """A term of the lexicon: its name, its kind (one of the words above), its classes from the widest on."""

    name: str
    kind: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mention:
    """A term in a text, and whether it is negated."""

    term: Term
    is_negated: bool = False


class Lexicon:
    """All terms, and the index by which they are found."""

    def __init__(self, tables: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
        """Take the tables of the file: kind to group to name to "SYNONYM; SYNONYM"."""
        self.synonyms: dict[Term, tuple[str, ...]] = {}
        self._written: dict[Term, tuple[str, ...]] = {}
        self._index: TermIndex[Term] = TermIndex()
        self._whole: dict[tuple[str, ...], Term] = {}
        for kind, groups in tables.items():
            for group, terms in groups.items():
                path = tuple(group.split(" > ")) if kind == DISEASE else ()
                for name, synonyms in terms.items():
                    self._add(Term(name, kind, path), [name, *filter(None, synonyms.split("; "))])

    def _add(self, term: Term, synonyms: Iterable[str]) -> None:
        self._written[term] = tuple(synonyms)
        self.synonyms[term] = tuple(synonym.rstrip("!") for synonym in synonyms)
        for synonym in synonyms:
            written = synonym.rstrip("!")
            self._index.add(written, term, in_capitals=synonym.endswith("!"))
            self._whole.setdefault(_key(written), term)

    def written(self, term: Term) -> tuple[str, ...]:
        """Return the synonyms of a term as the file writes them, "AK!" for one that counts in capitals only."""
        return self._written[term]

    def mentions(self, text: str, kinds: frozenset[str] = frozenset({DISEASE, CONCEPT})) -> list[Mention]:
        """Return the terms of these kinds in a text, longest match first, in their order."""
        mentions: list[Mention] = []
        for sentence in _SENTENCE_END.split(text):
            words = words_of(sentence)
            has_negation = not _NEGATION_KEYS.isdisjoint(words.keys)
            mentions += [
                Mention(match.payload, has_negation and _is_negated(words, match.start))
                for match in self._index.find(words)
                if match.payload.kind in kinds
            ]
            for match in self._index.find_characters(words.text):
                if match.payload.kind in kinds:
                    before = words.text[max(0, match.start - _HAN_WINDOW) : match.start]
                    mentions.append(Mention(match.payload, _HAN_NEGATION.search(before) is not None))
        return mentions

    def exact(self, text: str) -> Term | None:
        """Return the term that a text is as a whole, such as the class "BCC"; None if it is none."""
        return self._whole.get(_key(text))


@lru_cache(1 << 14)
def _key(text: str) -> tuple[str, ...]:
    return tuple(words_of(text).keys) or (text.strip(),)


@cache
def lexicon() -> Lexicon:
    """Read the lexicon."""
    return Lexicon(tomllib.loads(FILE.read_text(encoding="utf-8")))


def occurs(term: str, text: str) -> bool:
    """Return whether all words of a term stand in a text, side by side and in order; plural and case do not matter."""
    if has_han(term):
        return term.strip() in text
    wanted: TermIndex[None] = TermIndex()
    wanted.add(term, None)
    return wanted.occurs(words_of(text))


def _is_negated(words: Words, start: int) -> bool:
    """Return whether a negation is among the words before a term, with no "but" in between."""
    before = [word.casefold() for word in words.written[max(0, start - WINDOW) : start]]
    if before[-1:] == [_NON]:
        return True
    for number, word in reversed([*enumerate(before)]):
        if word in _TURNS:
            return False
        if word in _NEGATIONS or (word, *before[number + 1 : number + 2]) in _NEGATING_PHRASES:
            return True
    return False
