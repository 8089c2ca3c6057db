"""What a file is, by its name and its first bytes: JSON, another kind, or one that a system or an editor added."""

import re
from pathlib import Path

from magic_cli.io.regular_file import open_regular

# files and folders that macOS, Windows, network disks, Office, notebooks and editors leave beside those of a user
_SYSTEM_FOLDERS = "__MACOSX", ".AppleDouble", ".Trashes", ".Spotlight-V100", ".fseventsd", ".TemporaryItems"
_OTHER_FOLDERS = "$RECYCLE.BIN", "System Volume Information", "@eaDir", "lost+found", ".ipynb_checkpoints", ".git"
_FILES = ".DS_Store", ".localized", ".apdisk", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory"
_PREFIXES = "._", "~$", ".nfs", ".~lock.", ".fuse_hidden", ".Trash-"
_SUFFIXES = ".swp", ".swo", ".swx"

_FOLDER_NAMES = frozenset(name.casefold() for name in (*_SYSTEM_FOLDERS, *_OTHER_FOLDERS))
_FILE_NAMES = frozenset(name.casefold() for name in _FILES)
_LOWER_PREFIXES = tuple(name.casefold() for name in _PREFIXES)

_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}", re.I)

_HEAD = 4096

# the first bytes of a file to what it is
_MAGIC = (
    (b"PK\x03\x04", "a zip"),
    (b"PK\x05\x06", "a zip"),
    (b"PK\x07\x08", "a part of a split zip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"\xd0\xcf\x11\xe0", "an Office document"),
    (b"%PDF", "a PDF"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"\x89PNG", "a PNG"),
    (b"\xff\xd8\xff", "a JPEG"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x02", "a pickle"),
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
)


def is_system_file(name: str) -> bool:
    """Return whether a path with "/" between folders is of a file or folder that no user made.

    Such are ._NAME (macOS, beside each file on a foreign disk), __MACOSX, .DS_Store, Thumbs.db, desktop.ini, @eaDir,
    .Trashes, ~$NAME (Office), .ipynb_checkpoints, .nfs* and *.swp. In a folder they are passed over, in a zip they are
    a problem: the official scorer reads what is in it.

    >>> is_system_file("masks_preds/._IMG_1_mask_sys.tiff"), is_system_file("a/__MACOSX/b"), is_system_file("a.tiff")
    (True, True, False)
    """
    return any(_is_system_part(part.casefold()) for part in name.split("/"))


def _is_system_part(part: str) -> bool:
    if part in _FOLDER_NAMES or part in _FILE_NAMES or part.startswith(_LOWER_PREFIXES):
        return True
    return part.startswith(".") and part.endswith(_SUFFIXES)


def system_pattern(name: str) -> str:
    """Return the pattern that removes such a file, and those of its kind, from a zip: `zip -d FILE PATTERN`.

    >>> system_pattern("masks_preds/._IMG_1_mask_sys.tiff"), system_pattern("__MACOSX/._a"), system_pattern("Thumbs.db")
    ('*/._*', '__MACOSX/*', 'Thumbs.db')
    """
    parts = name.split("/")
    number = next(number for number, part in enumerate(parts) if _is_system_part(part.casefold()))
    part, parent = parts[number], "*/" * (number > 0)
    if number < len(parts) - 1:
        return f"{parent}{part}/*"
    prefix = next((prefix for prefix in _PREFIXES if part.casefold().startswith(prefix.casefold())), "")
    if prefix:
        return f"{parent}{prefix}*"
    suffix = next((suffix for suffix in _SUFFIXES if part.casefold().endswith(suffix)), "")
    return f"{parent}*{suffix}" if suffix else f"{parent}{part}"


def is_json(path: Path) -> bool:
    """Return whether a file is named as JSON, in any case: .json, .JSON."""
    return path.suffix.casefold() == ".json"


def kind_of(path: Path) -> str:
    """Return what a file is for a message: the end of its name, and what it holds where that is something else.

    >>> kind_of(Path("answers.csv")), kind_of(Path("answers"))
    ('a .csv file', 'a file without an extension')
    """
    name, found = _by_name(path), content_of(path)
    suffix = path.suffix[1:].casefold()
    says_so = bool(suffix) and any(word.startswith(suffix) for word in found.casefold().split())  # gz: "a gzip file"
    return name if not found or says_so else f"{name} that holds {found}"


def content_of(path: Path) -> str:
    """Return what the first bytes of a file say it is: "a zip", "JSON" (a list), "nothing"; "" if no such kind."""
    try:
        with open_regular(path) as file:
            return content(file.read(_HEAD) or b"")
    except OSError:
        return ""


def _by_name(path: Path) -> str:
    suffix = path.suffix
    if suffix.casefold() in (".gz", ".bz2", ".xz", ".zst") and path.with_suffix("").suffix.casefold() == ".tar":
        suffix = path.with_suffix("").suffix + suffix
    if not suffix:
        return "a file without an extension"
    return f"a {suffix} file" if all(map(_SUFFIX.fullmatch, re.findall(r"\.[^.]*", suffix))) else "a file"


def content(head: bytes) -> str:
    """Return what a file is by its first bytes, as `content_of`."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, kind in _MAGIC:
        if head.startswith(start) or (start.startswith(b"<") and text.lower().startswith(start)):
            return kind
    if not head:
        return "nothing"
    if not head.strip(b"\0"):
        return "null bytes"
    return "JSON" if text.startswith(b"[") else ""


def kind_of_no_json(head: bytes) -> str:
    """Return what a file is that is no JSON by its first bytes, for people; "" if it may be JSON that is damaged.

    >>> kind_of_no_json(b"id,age"), kind_of_no_json(b"notes"), kind_of_no_json(b"[1,")
    ('a table (CSV)', 'text that is no JSON', '')
    """
    kind = content(head)
    if kind not in ("", "nothing", "JSON"):
        return kind
    encoding = _other_encoding(head)
    if encoding:
        return f"text in {encoding}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head):
        return "a file of another kind"
    if not text or text.startswith((b"[", b"{")):
        return ""
    if text.startswith(b"<"):
        return "an HTML or XML page"
    first = text.partition(b"\n")[0]
    return "a table (CSV)" if max(first.count(mark) for mark in (b",", b";", b"\t")) else "text that is no JSON"


def _other_encoding(head: bytes) -> str:
    """Return the name of the encoding of JSON that is not in UTF-8, "" for other files."""
    for name in ("utf-32", "utf-16", "utf-16-le", "utf-16-be"):
        text = head[: len(head) // 4 * 4].decode(name, "ignore").lstrip("\ufeff").lstrip()
        if text[:1] in ("[", "{") and text[:64].isascii():
            return name.upper()[:6]
    return ""
