"""A folder, a zip or a JSON file as a flat list of named members; nothing is extracted to disk."""

import io
import os
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from magic_cli.data.limits import MAX_BYTES
from magic_cli.errors import DataError, SubmissionError, printable, problem

MAX_MEMBERS = 200_000

MAX_TOTAL = 1 << 36

_MAX_DIRECTORY = 1 << 23  # bytes of a zip's list of members

_END, _END64, _TAIL = b"PK\x05\x06", b"PK\x06\x06", 66_000

_ENCRYPTED = 1


@dataclass(frozen=True)
class Archive:
    """The files below a folder or in a zip, by path relative to the root, with "/" between folders.

    `members` maps names to None for a folder (see `path`), to the entries of the central directory for a zip.
    `faults` are lines about members that are refused (and not in `members`): unsafe names, encryption, a declared
    size over 1 GiB, duplicate names. `folders` are names of folders ("masks_preds/"): all below a folder, or those
    with an entry in the zip.
    """

    source: str
    is_zip: bool
    members: Mapping[str, zipfile.ZipInfo | None]
    folders: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    root: Path = Path()
    _zip: zipfile.ZipFile | None = field(default=None, repr=False)

    def where(self, name: str) -> str:
        """Return the name of a member in messages: its path; in a zip, after the path of the zip."""
        return f"{self.source}:{name}" if self.is_zip else printable(Path(self.source) / name)

    def path(self, name: str) -> Path | None:
        """Return the path of a member's file; None in a zip."""
        return None if self.is_zip else self.root / name

    def size(self, name: str) -> int:
        """Return the size of a member in bytes, as declared in a zip; 0 if it cannot be determined."""
        member = self.members[name]
        try:
            return member.file_size if member else (self.root / name).stat().st_size
        except OSError:
            return 0

    def read(self, name: str) -> IO[bytes]:
        """Return a member as a seekable stream, which the caller closes; members of a zip are unpacked in memory.

        Raises:
            SubmissionError: the member is over 1 GiB, cannot be read, or fails its checksum.
        """
        member = self.members[name]
        try:
            if self.size(name) > MAX_BYTES:
                got = f"{self.size(name)} bytes"
                raise SubmissionError(problem(self.where(name), got, "at most 1 GiB", "check the file"))
            if member is None:
                return (self.root / name).open("rb")
            assert self._zip is not None  # noqa: S101  a ZipInfo came from this zip
            return io.BytesIO(self._zip.read(member))
        except SubmissionError:
            raise
        except Exception as error:  # decompressors have no common base class of errors
            remedy = "check its permissions" if isinstance(error, PermissionError) else "make it again"
            got = f"an unreadable file ({getattr(error, 'strerror', None) or type(error).__name__})"
            raise SubmissionError(problem(self.where(name), got, "a whole file", remedy)) from None


@contextmanager
def open_archive(source: Path, handle: IO[bytes] | None = None) -> Iterator[Archive]:
    """Open a folder, a zip or one JSON file for reading.

    `handle` is an open zip, which messages call `source`.

    Raises:
        DataError: there is nothing at `source`.
        SubmissionError: it is not a folder, zip or JSON file, or has too many members.
    """
    name = printable(source)
    if handle is None and source.is_dir():
        folders, files = _list_folder(source)
        yield Archive(name, False, dict.fromkeys(files), tuple(f"{folder}/" for folder in folders), root=source)
        return
    if handle is None and source.suffix == ".json" and source.is_file():
        yield Archive(printable(source.parent), False, {source.name: None}, root=source.parent)
        return
    try:
        if handle is None:
            _check_directory(source)
        file = zipfile.ZipFile(handle or source)
    except FileNotFoundError:
        raise DataError(f"{name}: no such file or folder; check the path") from None
    except SubmissionError:
        raise
    except Exception as error:  # a damaged zip raises whatever its bytes lead to
        raise SubmissionError(problem(name, f"no zip ({error})", "a folder or a zip", "build it again")) from None
    with file:
        yield _list_zip(name, file)


def _list_folder(root: Path) -> tuple[list[str], list[str]]:
    """Return the folders and the files below a folder, sorted by the parts of their paths."""
    folders: list[str] = []
    files: list[str] = []
    for folder, inner, names in os.walk(root):
        parent = Path(folder).relative_to(root)
        folders += [(parent / name).as_posix() for name in inner]
        files += [(parent / name).as_posix() for name in names if Path(folder, name).is_file()]
    return sorted(folders, key=_parts), sorted(files, key=_parts)


def _parts(name: str) -> list[str]:
    return name.split("/")


def _check_directory(source: Path) -> None:
    """Refuse a central directory that is too large for memory, as zipfile would read all of it.

    Raises:
        SubmissionError: it is over 8 MiB, or `source` is not a regular file.
    """
    if source.exists() and not source.is_file():  # a pipe would block, a device would fill the memory
        raise SubmissionError(problem(printable(source), "no regular file", "a folder or a zip", "save it to a file"))
    with source.open("rb") as file:
        file.seek(max(0, source.stat().st_size - _TAIL))
        tail = file.read()
    end, end64 = tail.rfind(_END), tail.rfind(_END64)
    size = struct.unpack_from("<I", tail, end + 12)[0] if end >= 0 else 0
    if end64 >= 0:
        size = max(size if size < 2**32 - 1 else 0, struct.unpack_from("<Q", tail, end64 + 40)[0])
    if size > _MAX_DIRECTORY:
        line = problem(printable(source), f"a list of members of {size} bytes", "at most 8 MiB", "build it again")
        raise SubmissionError(line)


def _list_zip(source: str, file: zipfile.ZipFile) -> Archive:
    infos = file.infolist()
    if len(infos) > MAX_MEMBERS:
        raise SubmissionError(problem(source, f"{len(infos)} members", f"at most {MAX_MEMBERS}", "build it again"))
    total = sum(info.file_size for info in infos)
    if total > MAX_TOTAL:
        raise SubmissionError(problem(source, f"{total / (1 << 30):.0f} GiB", "at most 64 GiB", "build it again"))
    members: dict[str, zipfile.ZipInfo | None] = {}
    folders, faults = [], []
    for info in infos:
        fault = _fault(info, twice=info.filename in members)
        if fault:
            got, expected, remedy = fault
            faults.append(problem(f"{source}:{info.filename}", got, expected, remedy))
        elif info.is_dir():
            folders.append(info.filename)
        else:
            members[info.filename] = info
    return Archive(source, True, members, tuple(folders), tuple(faults), _zip=file)


def _fault(info: zipfile.ZipInfo, twice: bool) -> tuple[str, str, str] | None:
    """Return (got, expected, remedy) for a member that must not be read."""
    if not info.filename:
        return "no name", "a file's name", "build the zip again"
    path = PurePosixPath(info.orig_filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\\" in info.orig_filename or ":" in "".join(path.parts[:1]):
        return "an unsafe path", "a relative path with /", "zip the files from inside their folder"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "a symbolic link", "a file", "zip the file itself"
    if info.flag_bits & _ENCRYPTED:
        return "an encrypted member", "a plain zip", "zip it without a password"
    if info.file_size > MAX_BYTES:
        return f"{info.file_size} bytes", "at most 1 GiB", "check the file"
    if twice:
        return "the same name twice", "once", "build the zip again"
    return None
