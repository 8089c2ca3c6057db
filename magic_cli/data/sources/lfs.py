"""Git LFS pointers: the few lines of text that a clone without Git LFS has in the place of a large file."""

from magic_cli.errors import DataError, problem
from magic_cli.io.regular_file import open_regular

START = b"version https://git-lfs"

REMEDY = "run `git lfs pull` in its repository, or download the file itself"


def is_pointer(path: str) -> bool:
    """Return whether a file is a Git LFS pointer; False where it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(len(START)) == START
    except OSError:
        return False


def refuse_pointer(path: str, name: str, expected: str = "the file itself") -> None:
    """Raise DataError if a file, `name` in messages, is a Git LFS pointer."""
    if is_pointer(path):
        raise DataError(problem(name, "a Git LFS pointer", expected, REMEDY))
