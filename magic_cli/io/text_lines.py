"""Lines of a text of a user, with their numbers: UTF-8, with a byte-order mark or not, of any length of file."""

from collections.abc import Iterator
from pathlib import Path

from magic_cli.errors import MagicError, problem
from magic_cli.io.regular_file import open_regular


def text_lines(path: Path, error: type[MagicError]) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line that is not blank.

    Args:
        path: of a text in UTF-8.
        error: raised if it cannot be read, or a line is no text.
    """
    number = 0
    try:
        with open_regular(path) as file:
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield number, text
    except UnicodeDecodeError:
        got = f"what is no text in UTF-8 in line {number}"
        raise error(problem(path, got, "text", "save it as UTF-8")) from None
    except OSError as wrong:
        raise error(problem(path, wrong.strerror or "what cannot be read", "a text", "check the path")) from None
