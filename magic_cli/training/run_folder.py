"""A new run where an older one lies: it grows beside it, and takes its place when it is whole.

OUT/draft/KIND/         the new run of `train --overwrite`, until it is whole; `--resume` goes on in it
OUT/draft/KIND.whole/   the same while its files replace the older ones; whatever trains in OUT next ends what is left
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from magic_cli.errors import DataError, Interrupted
from magic_cli.io.files import refuse_existing
from magic_cli.io.locks import folder_lock
from magic_cli.io.progress import is_main_process

FOLDER = "draft"


@dataclass(frozen=True)
class Draft:
    """The place of a run in the folder `out`.

    Args:
        out: the run's folder; an older run may lie in it.
        kind: tells runs of several kinds in one folder apart.
        mark: the file that every whole run has.
        ours: yields the files of such a run that are in a folder.
    """

    out: Path
    kind: str
    mark: str
    ours: Callable[[Path], Iterable[Path]]

    def folder(self, resume: bool, overwrite: bool) -> Path:
        """Return where the run works: in `out`, or in its draft where an older one must be kept until the end.

        Raises:
            DataError: an older run is there, and is neither resumed nor overwritten.
        """
        draft = self._folder
        if resume:
            return draft if draft.is_dir() else self.out
        older = [*self.ours(self.out), *([draft] if draft.is_dir() else [])]
        for path in older:
            refuse_existing(path, overwrite)
        return draft if older else self.out

    @contextmanager
    def alone(self, work: Path, resume: bool) -> Iterator[None]:
        """Keep others from training in `out` while the block runs, and make the folder it works in.

        Raises:
            DataError: another process trains there, or did so since `folder` looked; or the folder cannot be written.
            Interrupted: the block was, and can go on.
        """
        if not is_main_process():  # one of several processes; the first one holds the folder
            yield
            return
        try:
            work.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=work):
                pass
        except OSError as error:
            raise DataError(f"{self.out}: cannot be written ({error.strerror}); choose another --out") from None
        with folder_lock(self.out) as held:
            if held is False:
                line = "another process trains here; let it end first, or choose another --out"
                raise DataError(f"{self.out}: {line}")
            for path in self.ours(work) if work == self.out and not resume else ():
                refuse_existing(path, overwrite=False)
            try:
                yield
            except KeyboardInterrupt:  # where nothing waits for a step to end
                if (work / self.mark).is_file():
                    line = "interrupted; the same command with --resume goes on"
                    raise Interrupted(f"{work}: {line}") from None
                raise

    def publish(self, work: Path) -> None:
        """Let the run in `work`, which is whole, take the place of the older one; one process of several does it."""
        if work != self.out and is_main_process():
            work.rename(self._whole)
            self._move()

    def settle(self) -> None:
        """End what a kill broke off in `publish`."""
        if (self.out / FOLDER).is_dir() and is_main_process():
            with folder_lock(self.out) as held:
                if held is not False and self._whole.is_dir():
                    self._move()
                elif held is not False:
                    self._remove_empty(self.out / FOLDER)

    def _move(self) -> None:
        """First what no longer belongs goes, then the mark moves, then the rest: so it can be taken up anywhere."""
        whole, out = self._whole, self.out
        new = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
        if (whole / self.mark).is_file():
            for old in [path for path in self.ours(out) if path.relative_to(out) not in new]:
                old.unlink()
                self._remove_empty(old.parent)
            (whole / self.mark).replace(out / self.mark)
        for name in [name for name in new if name.as_posix() != self.mark]:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (whole / name).replace(out / name)
        for folder, _, _ in os.walk(whole, topdown=False):
            self._remove_empty(Path(folder))
        self._remove_empty(whole.parent)

    @property
    def _folder(self) -> Path:
        return self.out / FOLDER / self.kind

    @property
    def _whole(self) -> Path:
        return self.out / FOLDER / f"{self.kind}.whole"

    def _remove_empty(self, folder: Path) -> None:
        if folder != self.out:
            with suppress(OSError):  # something else is in it
                folder.rmdir()
