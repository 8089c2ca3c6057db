"""All errors that a user can meet, with their exit codes; helpers for error messages.

MagicError                1  an error with a message but without a class of its own
├── PeerError             1  another process of a distributed run ended
├── UsageError            2  the command line is invalid
├── DataError             3  data or a file is invalid
│   └── EmptySplit        3  a split contains nothing that a task needs
├── ResourceError         3  memory, shared memory, open files or threads are not enough
├── ConfigError           3  a setting is unknown or out of range
├── CheckpointError       3  a checkpoint is damaged, of another task or another format
├── SubmissionError       4  the submission would be rejected or silently score zero
├── WeightsError          5  pretrained weights are not on this machine
├── ExtraError            6  an optional extra is not installed
└── Interrupted         130  SIGINT, SIGTERM or SIGHUP; state was saved
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_LONGEST = 4000  # characters of a line; an id may be as long as its file

_WORD = re.compile(r"[\w.,:+-]{0,40}", re.ASCII)

# ids, qids and numbers have a digit and no blank; letters with accents are allowed, scripts without blanks are not
_ID = re.compile(r"(?=\D*\d)[A-Za-z0-9\u00c0-\u024f_.,+-]{1,64}")

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    type(None): "null",
    list: "a list",
    dict: "an object",
}

_FIELD = re.compile(
    r"|train|valid|val|validation|dev|test|encounter_id|author_id|image_ids|responses|qid"
    r"|(?:query_title|query_content|content|question|options)_[a-z]{2}"
)


def printable(value: object) -> str:
    """Return `value` as text with unprintable characters escaped, so that data cannot control the terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))


def problem(where: object, got: object, expected: object, remedy: str) -> str:
    """Return the one-line form of a problem: `WHERE: got X, expected Y; remedy`."""
    return printable(f"{where}: got {got}, expected {expected}; {remedy}")


def is_shown(text: str) -> bool:
    """Return whether a text of a data row may be quoted: an id, a qid, a number, a split or a field of the challenge.

    >>> is_shown("IMG_ENC00001_00001"), is_shown("CQID010-001"), is_shown("valid"), is_shown("psoriasis")
    (True, True, True, False)
    """
    return bool(_ID.fullmatch(text) or _FIELD.fullmatch(text))


def redact(value: object, words: bool = False) -> str:
    """Format a value for an error message without leaking patient text, of which one word may be a name.

    Numbers, booleans, null and what `is_shown` are verbatim, anything else is named by its type.

    Args:
        value: of any type, from a row of data.
        words: show any single word of up to 40 ASCII characters: for settings and records, which hold no data.

    >>> redact(7), redact("ENC00001"), redact("Alice"), redact("Alice", words=True)
    ('7', "'ENC00001'", 'text of 5 characters', "'Alice'")
    """
    if isinstance(value, str):
        is_plain = is_shown(value) or (words and _WORD.fullmatch(value))
        return repr(value) if is_plain else f"text of {len(value)} characters"
    if value is None or isinstance(value, bool | int | float):
        return f"{value!r:.40}"
    return kind_in_words(type(value))


def kind_in_words(kind: type) -> str:
    """Return what a message calls a type of values, of settings or JSON; types of other values keep their names.

    >>> kind_in_words(int), kind_in_words(dict)
    ('a whole number', 'an object')
    """
    return _KINDS.get(kind, kind.__name__)


def redact_key(key: object, words: bool = False) -> str:
    """Format a key or an id for an error message like `redact`, without quotation marks."""
    return redact(key, words).strip("'")


def shorten(names: Iterable[str], most: int = 10, total: bool = False) -> str:
    """Join names for a message: at most the first `most` of them, then "..." and, if `total`, how many there are.

    >>> shorten(["a", "b", "c"], most=2, total=True)
    'a, b, ... 3 in all'
    """
    listed = list(names)
    more = f", ... {len(listed)} in all" if total else ", ..."
    return ", ".join(listed[:most]) + (more if len(listed) > most else "")


def did_you_mean(word: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Return a question with the known word nearest to a mistyped one; where none is near, `otherwise`, or all known.

    >>> did_you_mean("Smal", ["small", "tiny"]), did_you_mean("x", ["small", "tiny"]), did_you_mean("x", ["a"], "")
    ('did you mean small?', 'known: small, tiny', '')
    """
    words = [each for each in known if each]
    by_key = {each.casefold(): each for each in words}
    close = get_close_matches(word.casefold(), by_key, 1)
    if close:
        return f"did you mean {by_key[close[0]]}?"
    return f"known: {', '.join(words) or 'none'}" if otherwise is None else otherwise


def first_lines(lines: Sequence[str], where: object, most: int = 20) -> list[str]:
    """Return at most the first `most` lines; if there are more, a last line "WHERE: N more problems of this kind"."""
    more = [f"{where}: {len(lines) - most} more problems of this kind"] if len(lines) > most else []
    return [*lines[:most], *more]


class MagicError(Exception):
    """One or more problems, one line each; `exit_code` is the exit code of the process."""

    exit_code = 1

    def __init__(self, problems: str | Sequence[str]) -> None:
        lines = [problems] if isinstance(problems, str) else list(problems)
        shown = (printable(line) for line in lines)
        self.problems = tuple(line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..." for line in shown)
        super().__init__("\n".join(self.problems))


class PeerError(MagicError):
    """Another process of a distributed run ended; its own message is above, or it was killed."""


class UsageError(MagicError):
    """The command line is invalid."""

    exit_code = 2


class DataError(MagicError):
    """A file of the user is missing, damaged or contradicts another."""

    exit_code = 3


class EmptySplit(DataError):  # noqa: N818  the name says what it is
    """A split contains nothing that a task needs; other invalid data is a plain DataError."""


class ConfigError(MagicError):
    """A setting is unknown or out of range."""

    exit_code = 3


class CheckpointError(MagicError):
    """A checkpoint is damaged, of another task, or of another format."""

    exit_code = 3


class SubmissionError(MagicError):
    """The submission would crash the official scorer or silently score zero."""

    exit_code = 4


class ResourceError(MagicError):
    """This machine, or a limit on the process, has too little memory, shared memory, open files or processes."""

    exit_code = 3


class WeightsError(MagicError):
    """Pretrained weights are not on this machine."""

    exit_code = 5


class ExtraError(MagicError):
    """An optional extra is not installed."""

    exit_code = 6


class Interrupted(MagicError):  # noqa: N818  an interruption is not an error
    """SIGINT, SIGTERM or SIGHUP; everything that could be saved was saved."""

    exit_code = 130
