"""How a file of a repeated result differs from the recorded one; differences of provenance are ignored.

Provenance is when, by which command line, with which versions, in which folder and in how much time a file was made.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from magic_cli.data.imaging.masks import read_raw
from magic_cli.errors import MagicError, redact, redact_key
from magic_cli.io.json_files import finite, read_json, read_jsonl
from magic_cli.io.regular_file import read_regular
from magic_cli.submission.archive import open_archive

_MAX_DIFFERENCES = 5

_MAX_BYTES = 1 << 28  # of a file that is compared as a whole

# beginnings and ends of the parts of our HTML pages that say when and how they were made
_VOLATILE = (
    ('<p class="lead">', "</p>"),
    ('<div class="card time">', "</div>"),
    ('<section aria-labelledby="provenance">', "</section>"),
    ("<p>Made by magic ", "</p>"),
)

_UPWARDS = re.compile(r'href="(?:\.\./)+')  # links to photos; how far up depends on the folder of the page


def without_provenance(page: str) -> str:
    """Return one of our HTML pages without the parts that say when and how it was made; one pass for each of them."""
    for start, end in _VOLATILE:
        kept, at = [], 0
        while (begins := page.find(start, at)) >= 0 and (ends := page.find(end, begins)) >= 0:
            kept.append(page[at:begins])
            at = ends + len(end)
        page = "".join([*kept, page[at:]])
    return page


@dataclass(frozen=True, slots=True)
class ResultPaths:
    """Folders of two results and of their commands, so that a path in one result can be matched with the other's.

    Attributes:
        old: folder of the recorded result, on this machine.
        new: folder of the repeated result.
        old_cwd: working folder of the recorded command, perhaps on another machine.
        new_cwd: working folder of the repeated command.
    """

    old: Path
    new: Path
    old_cwd: Path
    new_cwd: Path

    def is_same(self, old: str, new: str) -> bool:
        """Return whether two texts of a result are equal, or paths of the same file in either result."""
        bases = (self.old, self.new), (self.new_cwd, self.new_cwd)
        return old == self.as_old(new) or any(_join(a, old) == self._in_old(b, new) for a, b in bases)

    def as_old(self, text: str) -> str:
        """Return a text of the new result as it would have been written in the old working folder."""
        return text.replace(str(self.new_cwd), str(self.old_cwd))

    def _in_old(self, base: Path, text: str) -> Path:
        path = _join(base, text)
        return self.old / path.relative_to(self.new) if path.is_relative_to(self.new) else path


def _join(base: Path, text: str) -> Path:
    return Path(os.path.normpath(base / text))


def difference(old: Path, new: Path, paths: ResultPaths) -> str:
    """Describe how two files of the same name differ: numbers by how much, masks in how many pixels.

    Args:
        old: a file of the recorded result.
        new: the same file of the repeated result, with other bytes.
        paths: where both results were made.

    Returns:
        At most five differences, "" if only the provenance differs, or why the files cannot be compared.
    """
    try:
        return _COMPARERS.get(old.suffix, _compare_text)(old, new, paths)
    except MagicError as error:
        return f"cannot be compared ({error.problems[0]})"
    except OSError as error:
        return f"cannot be compared ({error.strerror})"
    except RecursionError:
        return "cannot be compared (nested too deeply)"


def _compare_json(old: Path, new: Path, paths: ResultPaths) -> str:
    return _summary(diff_json(_without_provenance(read_json(old)), _without_provenance(read_json(new)), paths))


def _compare_jsonl(old: Path, new: Path, paths: ResultPaths) -> str:
    before, after = ([_without_provenance(row) for row in read_jsonl(path)] for path in (old, new))
    return _summary(diff_json(before, after, paths))


def _without_provenance(value: object) -> object:
    return {k: v for k, v in value.items() if k not in ("provenance", "seconds")} if isinstance(value, dict) else value


def diff_json(old: object, new: object, paths: ResultPaths, where: str = "") -> Iterator[str]:
    """Yield one line per value of a JSON tree that differs: its path, and both values unless they are texts."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{where}.{redact_key(key, words=True)}".lstrip(".")
            yield from diff_json(old.get(key), new.get(key), paths, inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (old_item, new_item) in enumerate(zip(old, new, strict=True), 1):
            yield from diff_json(old_item, new_item, paths, f"{where}[{number}]")
    elif isinstance(old, list) and isinstance(new, list):
        yield f"{where}: {len(old)} items then, {len(new)} now"
    elif isinstance(old, str) and isinstance(new, str):
        if not paths.is_same(old, new):
            yield f"{where}: another text"
    elif type(old) is not type(new) or old != new:
        change = f" ({new - old:+.2g})" if isinstance(old, float) and isinstance(new, float) else ""
        yield f"{where}: {redact(old, words=True)} then, {redact(new, words=True)} now{change}"


def _summary(lines: Iterable[str]) -> str:
    """Join the first five lines; of the others, which may be millions, only their number is kept."""
    rest = iter(lines)
    shown = list(islice(rest, _MAX_DIFFERENCES))
    others = sum(1 for _ in rest)
    return "; ".join(shown) + (f"; and {others} more" if others else "")


def _compare_checkpoints(old: Path, new: Path, paths: ResultPaths) -> str:
    import torch

    from magic_cli.training.checkpoint import load_best

    (old_meta, old_weights), (new_meta, new_weights) = load_best(old), load_best(new)
    lines = []
    if old_weights.keys() != new_weights.keys():
        lines.append(f"{len(old_weights)} tensors then, {len(new_weights)} now, of other names")
    pairs = [(tensor, new_weights[name]) for name, tensor in old_weights.items() if name in new_weights]
    if any(a.shape != b.shape for a, b in pairs):
        lines.append("tensors of another shape")
    elif unequal := [pair for pair in pairs if not torch.equal(*pair)]:
        most = max((a.double() - b.double()).abs().max().item() for a, b in unequal)
        lines.append(f"{len(unequal)} of {len(pairs)} tensors differ, by {most:.2g} at most")
    facts = [finite({k: v for k, v in asdict(meta).items() if k != "versions"}) for meta in (old_meta, new_meta)]
    return _summary([*lines, *diff_json(facts[0], facts[1], paths)])


def _compare_masks(old: Path, new: Path, _: ResultPaths) -> str:
    before, after = read_raw(old), read_raw(new)
    if before.shape != after.shape or before.dtype != after.dtype:
        return f"{before.shape} {before.dtype} then, {after.shape} {after.dtype} now"
    unequal = int(np.count_nonzero(before != after))
    return f"{unequal} of {before.size} pixels differ" if unequal else "the same pixels in other bytes"


def _compare_zips(old: Path, new: Path, _: ResultPaths) -> str:
    before, after = _checksums(old), _checksums(new)
    names = before.keys() | after.keys()
    unequal = sorted(name for name in names if before.get(name) != after.get(name))
    return f"{len(unequal)} of {len(names)} members differ: {_summary(unequal)}" if unequal else "packed in another way"


def _checksums(path: Path) -> dict[str, int]:
    """Return the CRC-32 of each member of a zip."""
    with open_archive(path) as archive:
        return {name: getattr(member, "CRC", 0) for name, member in archive.members.items()}


def _compare_pages(old: Path, new: Path, paths: ResultPaths) -> str:
    pages = (without_provenance(_bytes_of(path).decode("utf-8", "replace")) for path in (old, new))
    before, after = (_UPWARDS.sub('href="', page) for page in pages)
    return _count_unequal(before.splitlines(), paths.as_old(after).splitlines())


def _compare_text(old: Path, new: Path, _: ResultPaths) -> str:
    return _count_unequal(_bytes_of(old).splitlines(), _bytes_of(new).splitlines()) or "other line ends"


def _bytes_of(path: Path) -> bytes:
    return read_regular(path, _MAX_BYTES)


def _count_unequal(old: Sequence[object], new: Sequence[object]) -> str:
    if len(old) != len(new):
        return f"{len(old)} lines then, {len(new)} now"
    count = sum(a != b for a, b in zip(old, new, strict=True))
    return f"{count} of {len(old)} lines differ" if count else ""


_COMPARERS: dict[str, Callable[[Path, Path, ResultPaths], str]] = {
    ".json": _compare_json,
    ".jsonl": _compare_jsonl,
    ".pt": _compare_checkpoints,
    ".tiff": _compare_masks,
    ".zip": _compare_zips,
    ".html": _compare_pages,
}
