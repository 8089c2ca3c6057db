"""How the new file of a result differs from the old one, where their bytes do; "" where nothing of the result does.

A file may say when, by which line, by which versions and in which folder it was made: that is no part of a result.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from magic_cli.data.masks import read_raw
from magic_cli.errors import MagicError, redact, redact_key
from magic_cli.io.files import finite, read_json, read_jsonl
from magic_cli.submission.archive import open_archive

_MOST = 5

_CIRCUMSTANCES = re.compile(
    '<p class="lead">.*?</p>|<section aria-labelledby="provenance">.*?</section>|<p>Made by magic .*?</p>', re.DOTALL
)


@dataclass(frozen=True)
class Places:
    """Where the old and the new result lie, and which working folders their commands had: paths of one are the other's.

    `old` and `new` are folders that are here; the folder `then` may have been another one.
    """

    old: Path
    new: Path
    then: Path
    now: Path

    def same(self, old: str, new: str) -> bool:
        """Tell whether two texts of a result are the same, or name the same file of either."""
        bases = (self.old, self.new), (self.now, self.now)
        return old == self.moved(new) or any(_path(one, old) == self._before(other, new) for one, other in bases)

    def moved(self, text: str) -> str:
        """Return a text of the new result as it was said in the old working folder."""
        return text.replace(str(self.now), str(self.then))

    def _before(self, base: Path, text: str) -> Path:
        path = _path(base, text)
        return self.old / path.relative_to(self.new) if path.is_relative_to(self.new) else path


def _path(base: Path, text: str) -> Path:
    return Path(os.path.normpath(base / text))


def difference(old: Path, new: Path, places: Places) -> str:
    """Return how two files of the same name differ, for people: figures by how much, masks in how many pixels.

    Args:
        old: a file of the recorded result.
        new: the one that came out now.
        places: where both results were made.
    """
    try:
        return _KINDS.get(old.suffix, _lines)(old, new, places)
    except MagicError as error:
        return f"cannot be compared ({error.problems[0]})"


def _json(old: Path, new: Path, places: Places) -> str:
    return _told(list(_leaves(_result(read_json(old)), _result(read_json(new)), places)))


def _rows(old: Path, new: Path, places: Places) -> str:
    return _told(list(_leaves(read_jsonl(old), read_jsonl(new), places)))


def _result(value: Any) -> Any:
    """Return a report without its provenance; any other value as it is."""
    return {k: v for k, v in value.items() if k != "provenance"} if isinstance(value, dict) else value


def _leaves(old: Any, new: Any, places: Places, where: str = "") -> Iterator[str]:
    """Yield a line for each value of a JSON tree that differs: numbers with both, of a text its place."""
    kind = type(old) if type(old) is type(new) else None
    if kind is dict:
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _leaves(old.get(key), new.get(key), places, f"{where}.{redact_key(key)}".lstrip("."))
    elif kind is list and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True), 1):
            yield from _leaves(one, other, places, f"{where}[{number}]")
    elif kind is list:
        yield f"{where}: {len(old)} items then, {len(new)} now"
    elif kind is str:
        if not places.same(old, new):
            yield f"{where}: another text"
    elif kind is None or old != new:
        apart = f" ({new - old:+.2g})" if kind is float else ""
        yield f"{where}: {redact(old)} then, {redact(new)} now{apart}"


def _told(lines: list[str]) -> str:
    more = f"; and {len(lines) - _MOST} more" if len(lines) > _MOST else ""
    return "; ".join(lines[:_MOST]) + more


def _tensors(old: Path, new: Path, places: Places) -> str:
    import torch

    from magic_cli.training.checkpoint import load_best

    (meta, weights), (meta_now, weights_now) = load_best(old), load_best(new)
    then, now = (finite({k: v for k, v in asdict(one).items() if k != "versions"}) for one in (meta, meta_now))
    lines = []
    if weights.keys() != weights_now.keys():
        lines.append(f"{len(weights)} tensors then, {len(weights_now)} now, of other names")
    pairs = [(weights[name], weights_now[name]) for name in weights if name in weights_now]
    if any(one.shape != other.shape for one, other in pairs):
        lines.append("tensors of another shape")
    elif unequal := [pair for pair in pairs if not torch.equal(*pair)]:
        most = max((one.double() - other.double()).abs().max().item() for one, other in unequal)
        lines.append(f"{len(unequal)} of {len(pairs)} tensors differ, by {most:.2g} at most")
    return _told([*lines, *_leaves(then, now, places)])


def _mask(old: Path, new: Path, _: Places) -> str:
    one, other = read_raw(old, str(old)), read_raw(new, str(new))
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.shape} {one.dtype} then, {other.shape} {other.dtype} now"
    unequal = int(np.count_nonzero(one != other))
    return f"{unequal} of {one.size} pixels differ" if unequal else "the same pixels in other bytes"


def _members(old: Path, new: Path, _: Places) -> str:
    with open_archive(old) as one, open_archive(new) as other:
        names = one.members.keys() | other.members.keys()
        sums = [{name: getattr(member, "CRC", 0) for name, member in found.members.items()} for found in (one, other)]
    unequal = sorted(name for name in names if sums[0].get(name) != sums[1].get(name))
    return f"{len(unequal)} of {len(names)} members differ: {_told(unequal)}" if unequal else "packed in another way"


def _page(old: Path, new: Path, places: Places) -> str:
    one, other = (_CIRCUMSTANCES.sub("", path.read_text(encoding="utf-8", errors="replace")) for path in (old, new))
    return _unequal(one.splitlines(), places.moved(other).splitlines())


def _lines(old: Path, new: Path, _: Places) -> str:
    return _unequal(*(path.read_bytes().splitlines() for path in (old, new))) or "other ends of lines"


def _unequal(old: list[Any], new: list[Any]) -> str:
    if len(old) != len(new):
        return f"{len(old)} lines then, {len(new)} now"
    count = sum(one != other for one, other in zip(old, new, strict=True))
    return f"{count} of {len(old)} lines differ" if count else ""


_KINDS: dict[str, Callable[[Path, Path, Places], str]] = {
    ".json": _json,
    ".jsonl": _rows,
    ".pt": _tensors,
    ".tiff": _mask,
    ".zip": _members,
    ".html": _page,
}
