"""What a command may replace: the files that the record of an older result lists, and nothing else.

A file in the folder of a result is ours if run.json there lists it (io/run_record.py); whatever else lies there is
somebody's, and stays. Names and glob patterns prove nothing.
"""

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from magic_cli.errors import DataError, MagicError, printable, problem, shorten
from magic_cli.io.files import is_empty, refuse_existing, sha256
from magic_cli.io.json_files import read_json
from magic_cli.io.run_record import FILE, Call

_MARK = "prepare.json"  # of a prepared dataset, which older versions made without a record

_ELSEWHERE = "choose another --out"

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")  # as sha256sum prints it


@dataclass(frozen=True)
class Owned:
    """The result in a folder, as its record tells.

    Attributes:
        kind: what it is a result of, for people: "predict seg".
        files: SHA-256 of its files by their path below the folder; {} of a run that has not ended.
        ended: whether the call has ended.
    """

    kind: str
    files: Mapping[str, str] = field(default_factory=dict)
    ended: bool = False


def kind_of(verb: str, arguments: Mapping[str, object]) -> str:
    """Return the kind of result that a call makes; results of one kind may replace each other."""
    if verb == "vote":
        return "predict cvqa"
    task = arguments.get("task")
    name = {"cross_validate": "train --folds"}.get(verb, verb)
    return f"{name} {task}" if isinstance(task, str) else name


def kind_of_call(call: Call | None) -> str:
    """Return the kind of result that a call makes, "" outside of one."""
    return "" if call is None else kind_of(call.verb, call.arguments)


def read(record: Path) -> Owned | None:
    """Return what a record proves; None if there is none.

    Args:
        record: a run.json, or another list of files in lines as sha256sum prints them.

    Raises:
        DataError: the file is not a record of this program.
    """
    try:
        mode = record.lstat().st_mode
    except OSError:
        return None
    owned = None
    if stat.S_ISREG(mode):
        owned = _from_run(record) if record.name.endswith(FILE) else _from_lines(record)
    if owned is None:
        what = "the folder" if record.name == FILE else "it and what it belongs to"
        remedy = f"move {what} away, or {_ELSEWHERE}"
        line = problem(record, "no record of this program", "that of an older result", remedy)
        raise DataError(line)
    return owned


def _from_run(record: Path) -> Owned | None:
    try:
        row = read_json(record)
    except MagicError:
        return None
    if not isinstance(row, dict) or row.get("format") != "magic-run":
        return None
    verb, arguments = _typed(row.get("argv")) if row.get("schema") == 1 else (row.get("verb"), row.get("arguments"))
    outputs = row.get("outputs")
    if not (isinstance(verb, str) and isinstance(arguments, dict) and isinstance(outputs, dict)):
        return None
    names = {name: digest for name, digest in outputs.items() if is_inside(name) and isinstance(digest, str)}
    return Owned(printable(kind_of(verb, arguments)), names, row.get("exit") is not None)


def _typed(words: object) -> tuple[object, object]:
    """Return the verb and the task of a command line, which is all that records of the first version tell."""
    if not (isinstance(words, list) and words and all(isinstance(word, str) for word in words)):
        return None, None
    verb = "vote" if "--vote" in words else "cross_validate" if "--folds" in words else words[0]
    return verb, {"task": words[1]} if words[0] in ("train", "predict") and len(words) > 1 else {}


def _from_lines(record: Path) -> Owned | None:
    try:
        with record.open(encoding="utf-8", errors="surrogateescape") as file:
            lines = [match for line in file if (match := _LINE.fullmatch(line.rstrip("\n")))]
    except OSError:
        return None
    names = {match[2]: match[1] for match in lines if is_inside(match[2])}
    return Owned("demo", names, True) if names else None


def is_inside(name: str) -> bool:
    """Return whether a name leads to a file below its folder: a record may be a stranger's."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def is_file_of(root: Path, name: str) -> bool:
    """Return whether a name below `root` is a regular file that no link leads to."""
    path = root
    for part in PurePosixPath(name).parts[:-1]:
        path = path / part
        if path.is_symlink():
            return False
    path = root / name
    return path.is_file() and not path.is_symlink()


def replaceable(root: Path, owned: Owned | None, new: Collection[str]) -> set[str]:
    """Return the names of an older result's files below `root` that go when a new result comes.

    A file that has no successor and is not as it was recorded was changed by somebody since, and stays.
    """
    names = set()
    for name, digest in () if owned is None else owned.files.items():
        if is_file_of(root, name) and (name in new or sha256(root / name) == digest):
            names.add(name)
    return names


def refuse_foreign(root: Path, ours: Collection[str], new: Iterable[str]) -> None:
    """Refuse a new result that would replace something that is not ours, or come into a folder behind a link.

    Raises:
        DataError: with all that is in the way.
    """
    folders: set[PurePosixPath] = set()
    found: list[str] = []
    for name in new:
        folders.update(PurePosixPath(name).parents[:-1])
        if name not in ours and os.path.lexists(root / name):
            found.append(name)
    found = [folder.as_posix() for folder in sorted(folders) if _is_no_folder(root / folder)] or sorted(found)
    if found:
        where = root / found[0] if len(found) == 1 else f"{root}: {len(found)} files ({shorten(found, 3)})"
        line = "in the way, and not what the record of an older result lists; move it away, or"
        raise DataError(f"{printable(where)}: {line} {_ELSEWHERE}")


def refuse_unrecorded(out: Path, owned: Owned | None, names: Iterable[str]) -> None:
    """Refuse a folder that holds files of such a result, but no record that lists them.

    Raises:
        DataError: as said; --overwrite does not help.
    """
    found = [] if owned is not None else sorted(names)
    if found:
        files = "1 file" if len(found) == 1 else f"{len(found)} files"
        got = f"{files} of such a result ({shorten(found, 3)}), and no {FILE} that lists what is ours"
        raise DataError(problem(out, got, "a result with its record", f"move the folder away, or {_ELSEWHERE}"))


def _is_no_folder(path: Path) -> bool:
    return os.path.lexists(path) and (path.is_symlink() or not path.is_dir())


def refuse_other(out: Path, kind: str, record: str = FILE) -> Owned | None:
    """Return the older result in the folder `out`; refuse one of another kind.

    Raises:
        DataError: the record there is that of another kind of result, or none of this program.
    """
    owned = read(out / record)
    found = owned.kind if owned is not None else "prepare" if (out / _MARK).is_file() and kind != "demo" else kind
    if kind and found != kind:
        raise DataError(
            problem(out, f"a result of `magic {found}`", f"a new folder, or one of `magic {kind}`", _ELSEWHERE)
        )
    return owned


def check_target(out: Path, kind: str, overwrite: bool, names: Iterable[str] = (), inputs: Iterable[Path] = ()) -> None:
    """Refuse a folder for results before the work begins.

    Args:
        out: the folder, which may not exist yet.
        kind: that of the result (`kind_of`).
        overwrite: whether an older result of this kind may be replaced.
        names: files of the new result, or glob patterns, as far as they are known.
        inputs: files and folders that the command reads.

    Raises:
        DataError: `out` is taken, holds another kind of result or a file of somebody's in the place of a new one, or
            is one of the inputs.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise DataError(problem(out, "no folder", "a folder, or a new name", _ELSEWHERE))
    if not out.is_dir():
        return
    owned = refuse_other(out, kind)
    refuse_inputs(out, {*names, *(owned.files if owned else ())}, inputs)
    if is_empty(out):
        return
    if kind == "prepare" and owned is None:
        got, expected = "a folder without a record of `magic prepare`", "one with it"
        raise DataError(problem(out, got, expected, f"move it away, or {_ELSEWHERE}"))
    refuse_unrecorded(out, owned, (path.relative_to(out).as_posix() for name in names for path in out.glob(name)))
    refuse_existing(out, overwrite)
    refuse_foreign(out, owned.files if owned else (), names)


def refuse_inputs(out: Path, names: Collection[str], inputs: Iterable[Path]) -> None:
    """Refuse a result that is, or would replace, what the command reads, by whatever name: links are followed.

    Args:
        out: the folder or file of the result.
        names: files of the older and the new result below it.
        inputs: files and folders that the command reads.

    Raises:
        DataError: with the first input that would be replaced.
    """
    root = Path(os.path.realpath(out))
    linked: set[tuple[int, int]] | None = None
    for path in inputs:
        place = Path(os.path.realpath(path))
        below = place.relative_to(root).as_posix() if place.is_relative_to(root) else None
        taken = is_same(out, path) or any(name == below or name.startswith(f"{below}/") for name in names if below)
        identity = None if taken else _shared(place)
        if identity is not None:
            linked = _identities(out, names) if linked is None else linked
            taken = identity in linked
        if taken:
            what = "what this command reads" if is_same(out, path) else f"what this command reads ({path})"
            raise DataError(problem(out, what, "another place for its result", _ELSEWHERE))


def _shared(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file with several names; None for others, and for what may not be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) and status.st_nlink > 1 else None


def _identities(out: Path, names: Collection[str]) -> set[tuple[int, int]]:
    """Return device and inode of those files below `out` that are there."""
    states = ((out / name).stat() for name in names if (out / name).is_file())
    return {(state.st_dev, state.st_ino) for state in states}


def is_same(first: Path, second: Path) -> bool:
    """Return whether two paths lead to the same file or folder, by links and hard links too."""
    try:
        return first.resolve() == second.resolve() or first.samefile(second)
    except (OSError, ValueError, RuntimeError):
        return False


def entries(root: Path, ours: Collection[str], folders: Collection[str], below: str = "") -> Iterator[tuple[str, bool]]:
    """Yield what in a folder is not ours: its path below `root`, and whether it is a folder.

    Args:
        root: the folder.
        ours: paths of our files below it.
        folders: paths of the folders below it that are looked into; another folder is yielded as a whole.
        below: begin at this folder of them.
    """
    with os.scandir(root / below) as items:
        found = sorted(items, key=lambda item: item.name)
    for item in found:
        name = f"{below}/{item.name}" if below else item.name
        is_folder = item.is_dir(follow_symlinks=False)
        if is_folder and name in folders:
            yield from entries(root, ours, folders, name)
        elif name not in ours:
            yield name, is_folder
