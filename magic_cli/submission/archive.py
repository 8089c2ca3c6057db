"""A folder, a zip or a JSON file as a flat list of named members; nothing is extracted to disk."""

import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from magic_cli.errors import DataError, SubmissionError, printable, problem
from magic_cli.io.file_kinds import content_of, is_json, is_system_file, kind_of
from magic_cli.io.regular_file import binary_size, irregular_kind, open_regular
from magic_cli.submission.zip_limits import MAX_MEMBER, MAX_MEMBERS, NoZip, check_directory, check_members, member_fault

_DEEPEST = 32  # folders below each other that are looked into


@dataclass(frozen=True)
class Archive:
    """The files below a folder or in a zip, by path relative to the root, with "/" between folders.

    `members` maps names to None for a folder (see `path`), to the entries of the central directory for a zip.
    `faults` are lines about members that are refused (and not in `members`): unsafe names, encryption, a declared
    size over 256 MiB, duplicate names. `folders` are names of folders ("masks_preds/"): all below a folder, or those
    with an entry in the zip. `system_files` are members of a zip that a system or an editor added (io/file_kinds.py);
    they are not in `members`, and those below a folder are passed over.
    """

    source: str
    is_zip: bool
    members: Mapping[str, zipfile.ZipInfo | None]
    folders: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    system_files: tuple[str, ...] = ()
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
            SubmissionError: the member is over 256 MiB, cannot be read, or fails its checksum.
        """
        member = self.members[name]
        try:
            if self.size(name) > MAX_MEMBER:
                got = f"a file of {binary_size(self.size(name))}"
                expected = f"at most {binary_size(MAX_MEMBER)}"
                raise SubmissionError(problem(self.where(name), got, expected, "check the file"))
            if member is None:
                return open_regular(self.root / name)
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
    if handle is None and is_json(source) and source.is_file():
        yield Archive(printable(source.parent), False, {source.name: None}, root=source.parent)
        return
    with ExitStack() as stack:
        yield _list_zip(name, _open_zip(stack, source, handle))


def _open_zip(stack: ExitStack, source: Path, handle: IO[bytes] | None) -> zipfile.ZipFile:
    """Open a zip whose list of members is known to fit into memory; raises as `open_archive`."""
    name = printable(source)
    try:
        file = stack.enter_context(open_regular(source)) if handle is None else handle
        check_directory(file, name)
        return stack.enter_context(zipfile.ZipFile(file))
    except FileNotFoundError:
        raise DataError(f"{name}: no such file or folder; check the path") from None
    except SubmissionError:
        raise
    except NoZip as error:
        raise _another_kind(source, str(error)) from None
    except OSError as error:
        if source.exists() and irregular_kind(source.stat()):
            got = f"no regular file ({irregular_kind(source.stat())})"
            raise SubmissionError(problem(name, got, "a folder or a zip", "save it to a file")) from None
        remedy = "check the path and its permissions"
        raise SubmissionError(f"{name}: cannot be read ({error.strerror}); {remedy}") from None
    except Exception as error:  # a damaged zip raises whatever its bytes lead to
        got = f"a zip that cannot be read ({error})"
        raise SubmissionError(problem(name, got, "a whole zip", "zip the files again")) from None


def _another_kind(source: Path, damage: str) -> SubmissionError:
    """Return the error for a file that is no zip: what it is, and what to give instead."""
    suffix, content = source.suffix.casefold(), content_of(source)
    remedy = "zip the predictions again" if suffix == ".zip" else _WRITE
    if content == "JSON":
        remedy = "rename it to .json"
    elif suffix in _PACKED:
        remedy = "unpack it, and give the folder"
    got = kind_of(source)
    if damage or suffix == ".zip":
        got = f"no zip ({damage or content})".replace(" ()", "")
    return SubmissionError(problem(printable(source), got, "a .json file, a folder or a zip", remedy))


_WRITE = 'write a JSON list, [{"encounter_id": ...}, ...], or zip the predictions'

_PACKED = (".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar")


def _list_folder(root: Path) -> tuple[list[str], list[str]]:
    """Return the folders and the files below a folder, sorted by the parts of their paths.

    Links to files count as files; links to folders, and folders more than 32 levels down, are not looked into.

    Raises:
        SubmissionError: there are more than 200,000 files.
    """
    folders: list[str] = []
    files: list[str] = []
    waiting = [("", 0)]
    while waiting:
        parent, depth = waiting.pop()
        for entry in _entries(root / parent):
            name = f"{parent}{entry.name}"
            if is_system_file(entry.name):
                continue
            if _is_folder(entry):
                folders.append(name)
                if depth < _DEEPEST and not entry.is_symlink():
                    waiting.append((f"{name}/", depth + 1))
            elif _is_file(entry):
                files.append(name)
        if len(files) > MAX_MEMBERS:
            remedy = "give the folder of the predictions"
            raise SubmissionError(problem(printable(root), "more files", f"at most {MAX_MEMBERS}", remedy))
    return sorted(folders, key=_parts), sorted(files, key=_parts)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:  # what cannot be looked into holds nothing for us
        return []


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _parts(name: str) -> list[str]:
    return name.split("/")


def _list_zip(source: str, file: zipfile.ZipFile) -> Archive:
    infos = file.infolist()
    check_members(source, infos)
    members: dict[str, zipfile.ZipInfo | None] = {}
    folders, faults, system_files = [], [], []
    for info in infos:
        fault = member_fault(info, twice=info.filename in members)
        if fault:
            got, expected, remedy = fault
            faults.append(problem(f"{source}:{info.filename}", got, expected, remedy))
        elif is_system_file(info.filename.rstrip("/")):
            system_files.append(info.filename)
        elif info.is_dir():
            folders.append(info.filename)
        else:
            members[info.filename] = info
    return Archive(source, True, members, tuple(folders), tuple(faults), tuple(system_files), _zip=file)
