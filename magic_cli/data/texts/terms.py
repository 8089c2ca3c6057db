"""Find terms in texts, whatever their case, plural, spelling, hyphens and invisible characters: word by word.

Every term is filed under its first word, so that a text costs one look-up per word, however many terms there are.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Generic, NamedTuple, TypeVar

Payload = TypeVar("Payload")

HAN = "\u2e80-\u9fff\uf900-\ufaff"  # scripts without blanks between words, as a range of a character class

_LETTER = rf"[^\W\d_{HAN}]"

_WORD = re.compile(rf"{_LETTER}+(?:['\u2019]{_LETTER}{{1,2}}(?!{_LETTER}))?|\d+")

_HAN = re.compile(f"[{HAN}]")

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")

_UNSEEN = frozenset({"Mn", "Me", "Cf", "Cc", "Cs", "Co", "Cn"})  # categories: accents, controls, what has no glyph

# letters that look like Latin ones, and traditional Chinese characters of diseases, as they are looked for
_LOOK_ALIKES = str.maketrans(
    "АВЕКМНОРСТХУІЈЅаесорхуіјѕӏԁԛԝмкΑΒΕΖΗΙΚΜΝΟΡΤΥΧοıɑɡ"
    "細膚銀濕蕁帶狀皰瘡膿瘍惡檢診斷術組織學療蒼燒贅癬癰脫異應觸溫熱過敏鱗狀紅狼瘡黃汗瘢腫囊",
    "ABEKMHOPCTXYIJSaecopxyijsldqwmkABEZHIKMNOPTYXoiag"
    "细肤银湿荨带状疱疮脓疡恶检诊断术组织学疗苍烧赘癣痈脱异应触温热过敏鳞状红狼疮黄汗瘢肿囊",
)

_LETTERS = re.compile(  # "B.C.C.", "b c c"
    rf"(?<![^\W_])(?:(?:{_LETTER}\.)+{_LETTER}|(?:{_LETTER}[ ._*\u00b7-]{{1,2}}){{2,}}{_LETTER})(?![^\W_])"
)

_HAN_GAP = re.compile(rf"(?<=[{HAN}])[\s._*\u00b7-]+(?=[{HAN}])")

_HYPHEN = re.compile(rf"(?<={_LETTER})[-\u2010-\u2015\u2212]\s*(?={_LETTER})")

# endings of plurals and what they become, so that both numbers of a word have one key: "keratosis", "keratoses"
_ENDINGS = (
    ("sses", "ss"),
    ("ies", "y"),
    ("sis", "s"),
    ("ses", "s"),
    ("se", "s"),
    ("xes", "x"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("mata", "ma"),
    ("ae", "a"),
    ("ss", "ss"),
    ("us", "us"),
    ("is", "is"),
    ("s", ""),
)

_SHORTEST_JOINED = 6  # letters of a term whose words are also found without the blanks between them

_MOST_JOINED = 4  # words of a term that is found with any of its blanks missing


def normalised(text: str) -> str:
    """Return a text in composed, compatible form, without accents and without characters that show nothing.

    Cyrillic and Greek letters that look like Latin ones become these, traditional Chinese characters simplified ones.

    >>> normalised("m\u00e9la\u200bnome \uff22\uff23\uff23")
    'melanome BCC'
    """
    if text.isascii() and _CONTROL.search(text) is None:
        return text
    parts = unicodedata.normalize("NFKD", text)
    kept = "".join(char for char in parts if char.isspace() or unicodedata.category(char) not in _UNSEEN)
    return unicodedata.normalize("NFC", kept).translate(_LOOK_ALIKES)


@lru_cache(1 << 17)
def word_key(word: str) -> str:
    """Return what a word has in common with its plural, its capitals and its British spelling.

    >>> word_key("Naevi") == word_key("nevus"), word_key("Tumours") == word_key("tumor")
    (True, True)
    """
    key = re.split("['\u2019]", word.casefold(), maxsplit=1)[0]
    if len(key) > 2:
        key = _singular(key)
    if len(key) > 4:
        key = key.replace("ae", "e").replace("oe", "e")
        key = f"{key[:-3]}or" if key.endswith("our") else key
    return key


def _singular(key: str) -> str:
    if len(key) > 3 and key.endswith("i"):
        return f"{key[:-1]}us"
    for ending, single in _ENDINGS:
        if key.endswith(ending) and (len(key) > len(ending) + 1 or ending == "s"):
            return key[: len(key) - len(ending)] + single
    return key


class Words(NamedTuple):
    """The words of a text as written, and the key of each; `text` is its normalised form."""

    text: str
    written: list[str]
    keys: list[str]


def words_of(text: str) -> Words:
    """Return the words of a text: runs of letters, and runs of digits."""
    normal = normalised(text)
    written = _WORD.findall(normal)
    return Words(normal, written, [word_key(word) for word in written])


def joined(text: str) -> str:
    """Return a text with words that a hyphen divides put together, and with single letters; "" if there are none.

    >>> joined("B.C.C. of a mel-anoma"), joined("a red spot")
    ('BCC. of a melanoma', '')
    """
    normal = normalised(text)
    whole = _HYPHEN.sub("", _LETTERS.sub(lambda match: re.sub(r"[\W_]", "", match.group()), normal))
    whole = whole if whole.isascii() else _HAN_GAP.sub("", whole)
    return "" if whole == normal else whole


def has_han(text: str) -> bool:
    """Return whether a text has Chinese characters."""
    return not text.isascii() and _HAN.search(text) is not None


class Found(NamedTuple, Generic[Payload]):
    """A term in a text: from which word to before which, or which characters if it has no words; and its payload."""

    start: int
    end: int
    payload: Payload


class _Entry(NamedTuple, Generic[Payload]):
    keys: list[str]
    payload: Payload
    in_capitals: bool


class TermIndex(Generic[Payload]):
    """Terms with a payload each, found by longest match from left to right."""

    def __init__(self) -> None:
        self._by_word: dict[str, list[_Entry[Payload]]] = {}
        self._by_character: dict[str, list[tuple[str, Payload]]] = {}

    def add(self, term: str, payload: Payload, in_capitals: bool = False) -> None:
        """Add a term; `in_capitals`: only where it is written in capitals. A term that is there already stays."""
        if has_han(term):
            characters = normalised(term).strip()
            entries = self._by_character.setdefault(characters[0], [])
            entries.append((characters, payload))
            entries.sort(key=lambda entry: -len(entry[0]))
            return
        written = words_of(term).written
        for spelling in _spellings(written):
            self._add(_Entry([word_key(word) for word in spelling], payload, in_capitals))

    def _add(self, entry: _Entry[Payload]) -> None:
        if not entry.keys:
            return
        entries = self._by_word.setdefault(entry.keys[0], [])
        if all(other.keys != entry.keys or other.in_capitals != entry.in_capitals for other in entries):
            entries.append(entry)
            entries.sort(key=lambda other: (-len(other.keys), other.in_capitals))

    def find(self, words: Words) -> list[Found[Payload]]:
        """Return the terms among the words of a text, those without words (Chinese) excepted."""
        found: list[Found[Payload]] = []
        by_word, end = self._by_word, 0
        for start in [number for number, key in enumerate(words.keys) if key in by_word]:
            if start < end:
                continue
            for entry in by_word[words.keys[start]]:
                size = len(entry.keys)
                if words.keys[start : start + size] == entry.keys and (
                    not entry.in_capitals or _is_in_capitals(words.written[start : start + size])
                ):
                    end = start + size
                    found.append(Found(start, end, entry.payload))
                    break
        return found

    def find_characters(self, text: str) -> Iterator[Found[Payload]]:
        """Yield the terms in a normalised text that are found by their characters."""
        if not self._by_character or text.isascii():
            return
        position = 0
        while position < len(text):
            for characters, payload in self._by_character.get(text[position], ()):
                if text.startswith(characters, position):
                    yield Found(position, position + len(characters), payload)
                    position += len(characters) - 1
                    break
            position += 1

    def occurs(self, words: Words) -> bool:
        """Return whether any term is in a text."""
        return bool(self.find(words)) or next(self.find_characters(words.text), None) is not None


def _is_in_capitals(words: list[str]) -> bool:
    return all(word.isupper() or (word[:-1].isupper() and word.endswith("s")) for word in words)


def _spellings(words: list[str]) -> Iterator[list[str]]:
    """Yield the words of a term, and the term with any of its blanks missing."""
    yield words
    if len(words) < 2 or len("".join(words)) < _SHORTEST_JOINED or any(word.isdigit() for word in words):
        return
    if len(words) > _MOST_JOINED:
        yield ["".join(words)]
        return
    for joined in product((False, True), repeat=len(words) - 1):
        if any(joined):
            spelling = [words[0]]
            for word, is_joined in zip(words[1:], joined, strict=True):
                if is_joined:
                    spelling[-1] += word
                else:
                    spelling.append(word)
            yield spelling
