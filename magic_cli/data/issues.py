"""Issues of data: the log of `magic prepare`, and how equal problems share a line, in every verb."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from magic_cli.errors import printable, shorten
from magic_cli.records import SPLITS

# what differs between problems of one kind: ids, numbers, and the lists of them
_VARIES = re.compile(r"'[^']*'|[^\s(){},;:]*\d[^\s(){},;:]*")

_LIST = re.compile(r"#(?:(?:, | x )(?:#|\.\.\.))+")

# "3 photos are ..." counts already, and so does what is said of a whole split: their numbers are what they tell
_COUNTED = re.compile(rf"(?:{'|'.join(SPLITS)})|[\d,]+ \w+ (?:is|are|has|have|looks?) .*", re.DOTALL)


MOST, MOST_LINES, _MOST_KINDS = 2_000, 20_000, 1_000  # problems of a kind, and of all, that are listed


@dataclass
class IssueLog:
    """`problems` are losses of data, one line each, counted in `left_out`; `notes` are choices that lose nothing.

    `refused_masks` are those of the problems that are about a file of a mask. Of one kind 2,000 problems are listed, in
    all 20,000; further ones are counted, as a table of a million rows may have as many.
    """

    problems: list[str] = field(default_factory=list)
    refused_masks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    _kinds: Counter[str] = field(default_factory=Counter)
    _others: dict[str, tuple[int, str]] = field(default_factory=dict)  # by kind: problems not listed, the first of them

    @property
    def number(self) -> int:
        """Number of problems, listed or not."""
        return len(self.problems) + sum(number for number, _ in self._others.values())

    def lines(self) -> list[str]:
        """Return a line for each kind of which there are more problems than are listed, then those that are listed."""
        return [*(_of_others(number, first) for number, first in self._others.values()), *self.problems]

    def add_loss(self, line: str, what: str = "", count: int = 1) -> None:
        """List a problem; `what` and `count` say what it costs: encounters, images, masks or answers."""
        kind = _kind(*_split(line))
        kind = kind if kind in self._kinds or len(self._kinds) < _MOST_KINDS else ""
        self._kinds[kind] += 1
        if self._kinds[kind] <= MOST and len(self.problems) < MOST_LINES:
            self.problems.append(line)
        else:
            number, first = self._others.get(kind, (0, line))
            self._others[kind] = number + 1, first
        if what:
            self.left_out[what] += count
        if what == "masks":
            self.refused_masks.append(line)

    def note(self, line: str) -> None:
        """List a choice or an oddity that loses nothing."""
        self.notes.append(line)


def by_kind(lines: Iterable[str], most: int = 3) -> list[str]:
    """Return lines "WHERE: MESSAGE" in which those of one kind share a line, in order of appearance.

    Messages are of one kind if they differ in ids and numbers at most; the shared line has the first of them. What is
    said of a whole split, or counts items itself, stays a line of its own.

    Args:
        lines: problems, as `errors.problem` formats them.
        most: how many places are named; the others are counted.

    >>> by_kind(["a: got no photo; copy it", "b: got no photo; copy it", "c: got no mask; copy it"])
    ['2 items: a, b: got no photo; copy it', 'c: got no mask; copy it']
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        where, message = _split(line)
        is_alone = not message or _COUNTED.fullmatch(where)
        kinds.setdefault(line if is_alone else _kind(where, message), []).append((where, message))
    return [_of_kind(places, most) for places in kinds.values()]


def counted(number: int, single: str, several: str) -> str:
    """Return the beginning of a sentence about a number of things.

    >>> counted(1, "photo is", "photos are"), counted(1204, "photo is", "photos are")
    ('1 photo is', '1,204 photos are')
    """
    return f"{number:,} {single if number == 1 else several}"


def together(places: Sequence[str], message: str, most: int = 3) -> str:
    """Return the line of a problem that several places have: how many, the first `most` of them, and the problem.

    >>> together(["a", "b", "c"], "got no photo, expected one; copy it", most=2)
    '3 items: a, b, ...: got no photo, expected one; copy it'
    """
    where = places[0] if len(places) == 1 else f"{len(places):,} items: {shorten(places, most)}"
    return printable(f"{where}: {message}")


def _split(line: str) -> tuple[str, str]:
    """Return where a problem is, whose name may have a colon itself, and its message; "" if the line has only one."""
    where, got, message = line.partition(": got ")
    if got:
        return where, f"got {message}"
    where, _, message = line.partition(": ")
    return where, message


def _kind(where: str, message: str) -> str:
    """Return what problems of one kind have in common."""
    return _LIST.sub("#", _VARIES.sub("#", message or where))


def _of_others(number: int, first: str) -> str:
    """Return the line of problems that are not listed; it stays alone in `by_kind`."""
    return f"{counted(number, 'problem is', 'problems are')} not listed, as thousands are, the first: {first}"


def _of_kind(places: Sequence[tuple[str, str]], most: int) -> str:
    where, message = places[0]
    if not message:
        return where
    differ = " (words of the first one)" if any(other != message for _, other in places) else ""
    return together([place for place, _ in places], message + differ, most)
