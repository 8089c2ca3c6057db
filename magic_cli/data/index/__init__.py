"""Case indexes: cases with vectors, searched exactly, in a folder, in LanceDB or on a Qdrant server."""

from pathlib import Path
from typing import Literal

from magic_cli.data.index.base import CaseIndex, IndexInfo
from magic_cli.errors import UsageError, problem


def open_index(location: str | Path) -> CaseIndex:
    """Open the case index of a location: a folder, "lance:FOLDER", or "http(s)://HOST:6333/COLLECTION".

    Raises:
        DataError: there is none, or it is damaged.
        ExtraError: what it needs is not installed.
        UsageError: a URL of another form, or one that would send cases unprotected.
    """
    match kind_of(location):
        case "lance":
            from magic_cli.data.index.lance import LanceIndex, lance_folder

            return LanceIndex(lance_folder(str(location)))
        case "qdrant":
            from magic_cli.data.index.qdrant import QdrantIndex, connect

            return QdrantIndex(*connect(str(location)))
    from magic_cli.data.index.folder import FolderIndex

    return FolderIndex(Path(location))


def has_index(location: str | Path) -> bool:
    """Return whether there is an index at a location, readable or not; raises as `open_index`."""
    match kind_of(location):
        case "lance":
            from magic_cli.data.index.lance import has_lance, lance_folder

            return has_lance(lance_folder(str(location)))
        case "qdrant":
            from magic_cli.data.index.qdrant import connect, has_qdrant

            return has_qdrant(*connect(str(location)))
    from magic_cli.data.index.folder import MANIFEST

    return (Path(location) / MANIFEST).exists()


def create_index(location: str | Path, info: IndexInfo) -> CaseIndex:
    """Make an empty case index.

    Raises:
        DataError: there is one already, or the place cannot be written; the others as `open_index`.
    """
    match kind_of(location):
        case "lance":
            from magic_cli.data.index.lance import create_lance, lance_folder

            return create_lance(lance_folder(str(location)), info)
        case "qdrant":
            from magic_cli.data.index.qdrant import connect, create_qdrant

            return create_qdrant(*connect(str(location)), info)
    from magic_cli.data.index.folder import create_folder

    return create_folder(Path(location), info)


def rebuild_index(location: str | Path, info: IndexInfo) -> CaseIndex:
    """Begin a new index in the place of an older one, which is searched as before until `CaseIndex.publish`.

    One that was begun with the same `info` (its date aside) and not published, as by a killed process, is returned.

    Raises:
        DataError: there is no index; the others as `open_index`.
    """
    match kind_of(location):
        case "lance":
            from magic_cli.data.index.lance import lance_folder, rebuild_lance

            return rebuild_lance(lance_folder(str(location)), info)
        case "qdrant":
            from magic_cli.data.index.qdrant import connect, rebuild_qdrant

            return rebuild_qdrant(*connect(str(location)), info)
    from magic_cli.data.index.folder import rebuild_folder

    return rebuild_folder(Path(location), info)


def kind_of(location: str | Path) -> Literal["folder", "lance", "qdrant"]:
    """Return where an index of a location is: in a folder, in LanceDB or on a Qdrant server; UsageError for ""."""
    if location in ("", "lance:"):  # Path("") would be the working folder
        raise UsageError(problem("the index", "an empty path", "a folder or an address", "is a variable unset?"))
    text = str(location) if isinstance(location, str) else ""
    return "lance" if text.startswith("lance:") else "qdrant" if text.startswith(("http://", "https://")) else "folder"
