"""Names of systems and files for people: short, and without folders that are only of the user's machine."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

_SHOWN = 2  # last parts of a path that is not below the working folder


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return names without the folders that all have in common, where the rest is still one for each.

    >>> short_names(["runs/clip/valid", "runs/make/valid"])
    {'runs/clip/valid': 'clip', 'runs/make/valid': 'make'}
    """
    parts = [list(PurePosixPath(name).parts) for name in names]
    while len(parts) > 1 and all(len(row) > 1 for row in parts) and len({row[0] for row in parts}) == 1:
        parts = [row[1:] for row in parts]
    while len(parts) > 1 and all(len(row) > 1 for row in parts) and len({row[-1] for row in parts}) == 1:
        parts = [row[:-1] for row in parts]
    short = ["/".join(row) if len(parts) > 1 else name for name, row in zip(names, parts, strict=True)]
    return dict(zip(names, short if len(set(short)) == len(names) else names, strict=True))


def system_names(names: Sequence[str]) -> dict[str, str]:
    """Return short names of systems, which are paths of predictions, by these.

    >>> system_names(["/home/ann/runs/valid/seg"])
    {'/home/ann/runs/valid/seg': 'valid/seg'}
    """
    local = {name: without_folders(name, [name]) for name in names}
    if len(set(local.values())) < len(local):  # of the same last parts
        return short_names(list(names))
    short = short_names(list(local.values()))
    return {name: short[place] for name, place in local.items()}


def without_place(value: object) -> str:
    """Return a value as text; of an absolute path, which tells names of users and folders, the last name alone.

    >>> without_place("/home/ann/weights"), without_place(0.5)
    ('weights', '0.5')
    """
    text = str(value)
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(text).is_absolute():
            return kind(text).name
    return text


def without_folders(text: str, paths: Iterable[str] = ()) -> str:
    """Return a text without absolute paths: relative to the working folder, or the last two parts of known ones.

    Args:
        text: such as a message or a command line.
        paths: files and folders that may be named in it; those below the working folder need not be.
    """
    here, home = str(Path.cwd()), str(Path.home())
    known = {here: ".", home: "~"} if len(here) > 1 else {home: "~"}
    for path in paths:
        if PurePosixPath(path).is_absolute() and not path.startswith(f"{here}/"):
            known[path] = "/".join(PurePosixPath(path).parts[1:][-_SHOWN:])
    for folder, short in sorted(known.items(), key=lambda pair: -len(pair[0])):
        if len(folder) > 1:
            text = text.replace(f"{folder}/", "" if folder == here else f"{short}/")
            text = text.replace(folder, short)
    return text
