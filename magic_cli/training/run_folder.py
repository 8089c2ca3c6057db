"""Overwriting a run: the new run is written to a draft folder and replaces the older one when it is complete.

OUT/draft/KIND/         the new run of `train --overwrite` until it is complete; `--resume` continues it
OUT/draft/KIND.whole/   the same while its files replace the older ones; if that is interrupted, the next training
                        in OUT completes it
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from magic_cli.errors import DataError, Interrupted
from magic_cli.io import ownership
from magic_cli.io.files import StrPath, check_watched, keep_mode, refuse_existing, watched
from magic_cli.io.locks import folder_lock
from magic_cli.io.progress import is_main_process

FOLDER = "draft"

_STATE = "state.pt"


def complete_folder(work: Path) -> Path:
    """Return where the files of a run in a working folder are once it is complete."""
    return work.parents[1] if work.parent.name == FOLDER else work


@dataclass(frozen=True)
class Draft:
    """Where a new run is written: in the folder `out`, or in a draft while `out` holds an older run.

    Args:
        out: the run's folder; it may hold an older run.
        kind: distinguishes several kinds of runs in one folder.
        mark: the file that every complete run has.
        record: path of run.json in such a run.
        ours: yields the files of such a run in a folder, but run.json.
        result: kind of the run (`ownership.kind_of`).
    """

    out: Path
    kind: str
    mark: str
    record: str
    ours: Callable[[Path], Iterable[Path]]
    result: str

    def folder(self, resume: bool, overwrite: bool) -> Path:
        """Return the run's working folder: `out`, or the draft while an older run is preserved.

        Raises:
            DataError: an older run exists, and is neither resumed nor overwritten; or `out` holds another kind of
                result, or a file that no record lists in the place of one of the run.
        """
        owned = ownership.refuse_other(self.out, self.result, self.record)
        draft = self._folder
        if ownership.refuse_other(draft, self.result, self.record) is None:
            ownership.refuse_foreign(draft, (), (path.relative_to(draft).as_posix() for path in self.ours(draft)))
        if resume:
            return draft if draft.is_dir() else self.out
        older = [*self.files(self.out), *([draft] if draft.is_dir() else [])]
        names = [path.relative_to(self.out).as_posix() for path in self.ours(self.out)]
        ownership.refuse_unrecorded(self.out, owned, names)
        for path in older:
            refuse_existing(path, overwrite, remedy="--overwrite, --resume to go on with that run")
        # of a run that has not ended, names are the proof; a state is no result, and never listed
        proven = [n for n in names if owned and (not owned.ended or n in owned.files or n.endswith(_STATE))]
        ownership.refuse_foreign(self.out, [n for n in proven if ownership.is_file_of(self.out, n)], names)
        return draft if older else self.out

    def files(self, folder: Path) -> list[Path]:
        """Return the files of a run in a folder; a record alone belongs to a run that has not begun."""
        found = list(self.ours(folder))
        record = folder / self.record
        return [*found, record] if found and record.is_file() else found

    @contextmanager
    def alone(self, work: Path, resume: bool) -> Iterator[None]:
        """Lock `out` against other training processes during the block, and make the working folder.

        Raises:
            DataError: another process trains in `out`, or has since `folder` checked; or `out` cannot be written.
            Interrupted: the block was interrupted and can be resumed.
        """
        if not is_main_process():  # of several processes, the main one holds the lock
            yield
            return
        try:
            work.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=work):
                pass
        except OSError as error:
            raise DataError(f"{self.out}: cannot be written ({error.strerror}); choose another --out") from None
        with ExitStack() as stack:
            if stack.enter_context(folder_lock(self.out)) is False:
                line = "another process trains here; let it end first, or choose another --out"
                raise DataError(f"{self.out}: {line}")
            for folder in (self.out, work):
                stack.enter_context(watched(folder))
            for path in self.files(work) if work == self.out and not resume else ():
                refuse_existing(path, overwrite=False, remedy="--overwrite, --resume to go on with that run")
            try:
                yield
            except KeyboardInterrupt:  # outside the training loop, which raises Interrupted itself
                if (work / self.mark).is_file():
                    line = "interrupted; the same command with --resume goes on"
                    raise Interrupted(f"{work}: {line}") from None
                raise

    def publish(self, work: Path) -> None:
        """Replace the older run with the complete run in `work`; only the main process does so.

        Raises:
            DataError: a file that is not the older run's is in the place of one of the new run, which stays a draft.
        """
        if work != self.out and is_main_process():
            check_watched(work / self.mark)
            new = [path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file()]
            ours = [path.relative_to(self.out).as_posix() for path in self.files(self.out)]
            ownership.refuse_foreign(self.out, [*ours, self.record], new)
            work.rename(self._finished)
            self._move()

    def settle(self) -> None:
        """Complete a `publish` that was killed; remove an empty draft folder."""
        if (self.out / FOLDER).is_dir() and is_main_process():
            with folder_lock(self.out) as held:
                if held is not False and self._finished.is_dir():
                    self._move()
                elif held is not False:
                    self._remove_empty(self.out / FOLDER)

    def _move(self) -> None:
        """Delete stale files, move the mark, then the other files: in this order, an interrupted move can continue."""
        finished, out = self._finished, self.out
        new = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
        if (finished / self.mark).is_file():
            for old in [path for path in self.files(out) if path.relative_to(out) not in new]:
                old.unlink()
                self._remove_empty(old.parent)
            self._replace(self.mark)
        for name in [name for name in new if name.as_posix() != self.mark]:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            self._replace(name)
        for folder, _, _ in os.walk(finished, topdown=False):
            self._remove_empty(Path(folder))
        self._remove_empty(finished.parent)

    def _replace(self, name: StrPath) -> None:
        """Move a file of the finished run into `out`; it gets the permissions of the one that it replaces."""
        keep_mode(self.out / name, self._finished / name)
        (self._finished / name).replace(self.out / name)

    @property
    def _folder(self) -> Path:
        return self.out / FOLDER / self.kind

    @property
    def _finished(self) -> Path:
        return self.out / FOLDER / f"{self.kind}.whole"

    def _remove_empty(self, folder: Path) -> None:
        if folder != self.out:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
