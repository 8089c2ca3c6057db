"""Results are built in a hidden folder and put in place in one step, so that a partial result is never visible.

OUT/../.magic-0123456789abcdef/     or in OUT, where OUT cannot be exchanged for another folder
    made-by-magic.txt               the name of the result; without it, nothing is ever swept
    new/                            the result
    old/, plan.json                 while OUT also holds folders of others: files that go, and which ones come

An older result is what its record lists (io/ownership.py): that goes, and everything else stays.
"""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

from magic_cli.errors import DataError, MagicError, printable, problem
from magic_cli.io import ownership, run_record
from magic_cli.io.exchange import exchange, move
from magic_cli.io.files import (
    STAGE_MARK,
    check_watched,
    elsewhere,
    is_temporary_name,
    keep_mode,
    sha256,
    sweep,
    temporary_path,
    watched,
    write_text,
)
from magic_cli.io.json_files import read_json, write_json
from magic_cli.io.locks import folder_lock
from magic_cli.io.progress import is_main_process

_NEW, _OLD, _PLAN = "new", "old", "plan.json"

_SYNC_THREADS = 8


@contextmanager
def replace_results(out: Path, record: str = run_record.FILE) -> Iterator[Path]:
    """Yield an empty folder whose content is moved into `out` when the block ends; the older result is removed.

    The result comes with a record that lists its files, and the older result is what the record in `out` lists.
    Everything else in `out` is kept: the same files, as they are linked, not copied. A kill leaves the complete older
    result or the complete new one. Only if `out` contains other folders, or cannot be exchanged for another folder,
    each file is replaced separately; if that is interrupted, the next command that writes there completes it. What
    the other ones of several processes write is not kept.

    Args:
        out: the folder, which may not exist yet.
        record: name of the record; for another one than run.json, a list of the files is added to it.

    Raises:
        DataError: the folder cannot be made or written, or holds another kind of result, or something of somebody's
            in the place of a new file. Then `out` is as before.
    """
    if not is_main_process():
        with tempfile.TemporaryDirectory(prefix="magic-") as discarded:
            yield Path(discarded)
        return
    named, typed = out.absolute(), out
    check_watched(named / record)
    out = out.resolve()
    with _stage(out, typed) as stage:
        new = stage / _NEW
        yield new
        _add_record(new, out, record)
        _flush(new)
        check_watched(named / record)
        _put_in_place(stage, out, record)


def _add_record(new: Path, out: Path, record: str) -> None:
    digests = {path.relative_to(new).as_posix(): sha256(path) for path in sorted(new.rglob("*")) if path.is_file()}
    if record == run_record.FILE:
        place, call = out / record, run_record.running_call()
        if call is not None and call.verb == "cross_validate":  # its record is in the folder of the predictions
            digests = {f"{out.name}/{name}": digest for name, digest in digests.items()}
        run_record.stage(new / record, place, digests)
    else:
        lines = [f"{digest}  {name}" for name, digest in digests.items() if name != record]
        head = (new / record).read_text(encoding="utf-8")
        write_text(new / record, "\n".join((head, *lines, "")))


def _put_in_place(stage: Path, out: Path, record: str) -> None:
    """Put stage/new in the place of `out`; raises DataError where something of somebody's is in the way."""
    new = stage / _NEW
    if not os.path.lexists(out) and _try_rename(new, out):
        return
    if out.is_symlink() or not out.is_dir():
        raise DataError(problem(out, "something else by now", "the folder that was there", "choose another --out"))
    owned = _owned(out, record)
    names = {path.relative_to(new).as_posix() for path in new.rglob("*") if not path.is_dir()}
    ours = ownership.replaceable(out, owned, names)
    ours |= {record} if owned is not None else set()
    ownership.refuse_foreign(out, ours, names)
    folders = {folder.as_posix() for name in (*names, *ours) for folder in PurePosixPath(name).parents} - {"."}
    folders = {name for name in folders if (out / name).is_dir() and not (out / name).is_symlink()}
    _keep_modes(out, new, names, record)
    others = list(ownership.entries(out, ours, folders))
    if not (
        stage.parent == out.parent
        and not any(is_folder for _, is_folder in others)
        and _replace_whole(new, out, [name for name, _ in others], (ours, folders))
    ):
        _replace_each(stage, out, names, ours, record)


def _owned(out: Path, record: str) -> ownership.Owned | None:
    """Return the older result in `out`, its files by their path below `out`; raises DataError for another kind."""
    call = run_record.running_call()
    kind = ownership.kind_of_call(call) if record == run_record.FILE else "demo"
    owned = ownership.refuse_other(out, kind, record)
    if owned is None or call is None or call.verb != "cross_validate":
        return owned
    prefix = f"{out.name}/"
    files = {name.removeprefix(prefix): sha for name, sha in owned.files.items() if name.startswith(prefix)}
    return ownership.Owned(owned.kind, files, owned.ended)


def _keep_modes(out: Path, new: Path, names: Collection[str], record: str) -> None:
    """Give a new result the permissions of the older one, so that what was private stays so."""
    for path in sorted(new.rglob("*"), reverse=True):
        name = path.relative_to(new).as_posix()
        if name not in names or os.path.lexists(out / name):
            keep_mode(out / name, path)
        elif (out / record).is_file():
            path.chmod(path.stat().st_mode & ((out / record).stat().st_mode | 0o7700))
    keep_mode(out, new)


def _replace_whole(
    new: Path, out: Path, others: Collection[str], known: tuple[Collection[str], Collection[str]]
) -> bool:
    """Link the other files of `out` into `new`, then exchange both folders; return False if that is not possible."""
    inodes: dict[str, int] = {}
    for name in others:
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        keep_mode((out / name).parent, (new / name).parent)
        if not _try_link(out / name, new / name):
            break
        inodes[name] = (new / name).lstat().st_ino
    if len(inodes) < len(others) or not exchange(new, out):
        for name in inodes:
            (new / name).unlink()
        return False
    for name, _ in ownership.entries(new, *known):  # `new` is the old folder now; move what was saved in it meanwhile
        if (new / name).lstat().st_ino != inodes.get(name):
            (new / name).replace(out / name)
    return True


def _try_link(source: Path, target: Path) -> bool:
    """Hard-link a file or symbolic link; return False if the disk or the system refuses."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        return False
    return True


def _replace_each(stage: Path, out: Path, names: Collection[str], ours: Collection[str], record: str) -> None:
    """Replace each file of the older result; an error puts the older ones back."""
    new = stage / _NEW
    # the record goes first and comes last: it is never there beside files of another result
    going = sorted(ours, key=lambda name: (name != record, name))
    order = sorted(names, key=lambda name: (name == record, (new / name).stat().st_mtime_ns, name))
    write_json(stage / _PLAN, {"old": going, "new": order})
    done: list[tuple[Path, Path]] = []
    try:
        _carry_out(stage, out, {"old": going, "new": order}, done)
    except BaseException:
        for source, target in reversed(done):
            move(target, source)
        (stage / _PLAN).unlink(missing_ok=True)
        raise


def _carry_out(stage: Path, out: Path, plan: Mapping[str, Collection[str]], done: list[tuple[Path, Path]]) -> None:
    """Move the older result's files away and the new ones in, in the order of the plan; go on with what was begun."""
    new, old = stage / _NEW, stage / _OLD
    for name in plan["old"]:
        is_done = os.path.lexists(old / name) or (name in plan["new"] and not os.path.lexists(new / name))
        if not is_done and ownership.is_file_of(out, name):
            _carry(out / name, old / name, done)
    for name in plan["new"]:
        if os.path.lexists(new / name):
            _carry(new / name, out / name, done)
            keep_mode(new / PurePosixPath(name).parent, (out / name).parent)
    for name in plan["old"]:
        for folder in PurePosixPath(name).parents[:-1]:
            with suppress(OSError):  # it is not empty
                (out / folder).rmdir()


def _carry(source: Path, target: Path, done: list[tuple[Path, Path]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    move(source, target)
    done.append((source, target))


def _try_rename(new: Path, out: Path) -> bool:
    """Rename `new` to `out`; return False if another process created `out` first."""
    try:
        new.rename(out)
    except OSError:
        if not out.is_dir():
            raise
        return False
    return True


def _flush(folder: Path) -> None:
    """Fsync all files below a folder, several at a time: one after the other takes ten times as long."""
    from concurrent.futures import ThreadPoolExecutor  # not at the top: `magic score` loads this module and is timed

    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        for _ in pool.map(_sync, [path for path in folder.rglob("*") if path.is_file()]):
            pass


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


@contextmanager
def _stage(out: Path, typed: Path) -> Iterator[Path]:
    """Yield a hidden folder with an empty folder in it, removed at the end; error messages name `out` as typed."""
    made: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            if out.exists():  # otherwise a hidden folder may hold the only copy of a result
                _sweep(out)
            made = _make_hidden(out.parent if _is_exchangeable(out) else out, out, stack)
            stack.enter_context(watched(made / _NEW))
            yield made
        _sweep(out)
    except OSError as error:
        line = f"{typed}: cannot be written ({error.strerror or error}); {elsewhere(error)}"
        raise DataError(printable(line)) from None
    except DataError as error:  # about a file in the hidden folder, whose name means nothing to the user
        names = printable(f"{made}/{_NEW}"), printable(out)
        lines = [line.replace(names[0], names[1]).replace(names[1], printable(typed)) for line in error.problems]
        raise type(error)(lines) from None
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _is_exchangeable(out: Path) -> bool:
    """Return whether a folder may be exchanged, or made: no mount, not the working folder, in a writable parent."""
    if not out.is_dir():
        return True
    is_mount = out.stat().st_dev != out.parent.stat().st_dev
    return not is_mount and not Path.cwd().is_relative_to(out) and os.access(out.parent, os.W_OK)


def _make_hidden(parent: Path, out: Path, stack: ExitStack) -> Path:
    """Create a hidden folder that this process locks until the end of the stack."""
    while True:
        made = temporary_path(parent / out.name, is_folder=True)
        made.mkdir()  # its mode follows the umask
        is_held = stack.enter_context(folder_lock(made))
        if is_held is not False and made.exists():
            (made / STAGE_MARK).write_text(_marked(out), encoding="utf-8", errors="backslashreplace")
            (made / _NEW).mkdir()
            return made


def _marked(out: Path) -> str:
    return f"An unfinished result of magic, which the next command removes: {printable(out.name)}\n"


def _sweep(out: Path) -> None:
    """Remove what killed commands left of this result, beside it and in it; what running ones use stays."""
    for folder in (out.parent, out):
        sweep(folder)
        with suppress(OSError):
            for path in [path for path in folder.iterdir() if is_temporary_name(path.name, is_folder=True)]:
                with suppress(OSError, MagicError):
                    _sweep_stage(path, out)


def _sweep_stage(stage: Path, out: Path) -> None:
    if stage.is_symlink() or not stage.is_dir():
        return
    with folder_lock(stage) as is_held:
        if not is_held:
            return
        mark, names = stage / STAGE_MARK, [path.name for path in stage.iterdir()]
        if STAGE_MARK in names and mark.is_file() and mark.read_text(encoding="utf-8") == _marked(out):
            if (stage / _PLAN).is_file() and out.is_dir():
                plan = read_json(stage / _PLAN)
                if all(map(ownership.is_inside, (*plan["old"], *plan["new"]))):
                    _carry_out(stage, out, plan, [])
            shutil.rmtree(stage, ignore_errors=True)
        elif names in ([], [STAGE_MARK]):  # nothing was begun
            mark.unlink(missing_ok=True)
            stage.rmdir()
