"""Log of the issues of `magic prepare`: data that was lost, choices that were made, and what the losses cost."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from magic_cli.errors import shorten

# what differs between problems of one kind: ids, numbers, and the lists of them
_VARIES = re.compile(r"'[^']*'|[^\s(){},;:]*\d[^\s(){},;:]*")

_LIST = re.compile(r"#(?:(?:, | x )(?:#|\.\.\.))+")


@dataclass
class IssueLog:
    """`problems` are losses of data, one line each, counted in `left_out`; `notes` are choices that lose nothing.

    `refused_masks` are those of the problems that are about a file of a mask.
    """

    problems: list[str] = field(default_factory=list)
    refused_masks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add_loss(self, line: str, what: str = "", count: int = 1) -> None:
        """List a problem; `what` and `count` say what it costs: encounters, images, masks or answers."""
        self.problems.append(line)
        if what:
            self.left_out[what] += count
        if what == "masks":
            self.refused_masks.append(line)

    def note(self, line: str) -> None:
        """List a choice or an oddity that loses nothing."""
        self.notes.append(line)


def by_kind(lines: Iterable[str], most: int = 3) -> list[str]:
    """Return lines "WHERE: MESSAGE" in which those of one kind share a line, in order of appearance.

    Messages are of one kind if they differ in ids and numbers at most; the shared line has the first of them.

    Args:
        lines: problems, as `errors.problem` formats them.
        most: how many places are named; the others are counted.

    >>> by_kind(["a: got no photo; copy it", "b: got no photo; copy it", "c: got no mask; copy it"])
    ['2 items: a, b: got no photo; copy it', 'c: got no mask; copy it']
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        where, colon, message = line.partition(": ")
        kind = _LIST.sub("#", _VARIES.sub("#", message)) if colon else line
        kinds.setdefault(kind, []).append((where, message))
    return [_together(places, most) for places in kinds.values()]


def _together(places: list[tuple[str, str]], most: int) -> str:
    where, message = places[0]
    if not message:
        return where
    if len(places) == 1:
        return f"{where}: {message}"
    differ = " (words of the first one)" if any(other != message for _, other in places) else ""
    names = shorten((place for place, _ in places), most)
    return f"{len(places):,} items: {names}: {message}{differ}"
