"""Pairs written as WebDataset tars: KEY.jpg or KEY.png, KEY.txt with the caption, KEY.json with all that is said."""

import json
import os
import shutil
import tarfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from magic_cli.data.imaging.photo_file import photo_file
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.shards.shard_plan import ShardPlan, group_of
from magic_cli.data.texts.pair_texts import pair_texts, with_pair_texts
from magic_cli.errors import DataError, problem
from magic_cli.records import Case, ImageRecord

FOLDER = "shards"  # in the folder of the prepared dataset

_MOST_OPEN = 64  # files

_BLOCK = tarfile.BLOCKSIZE

_SPARE = 64 << 20  # bytes that a disk keeps free


def write_shards(
    folder: Path, pairs: Iterable[tuple[Case, ImageRecord]], plan: ShardPlan, questions: QuestionSchema
) -> None:
    """Write the tars of a plan into a new folder; the same pairs give the same bytes, whatever the day and the user.

    Args:
        folder: that has none of them yet.
        pairs: each photo with its case, in prepared order; a photo's path is where it is now.
        plan: made from the same cases and photos.
        questions: those that the cases answer.

    Raises:
        DataError: a photo is not the one that was prepared, or pairs are not those of the plan; one line.
        OSError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [0] * len(plan.pairs)
    with _Tars([folder / name for name in plan.names]) as tars:
        for number, (case, image) in enumerate(pairs):
            shard = plan.shard_of(case)
            tars.add(shard, f"{number:09}", _members(with_pair_texts(case, questions), image))
            written[shard] += 1
    if tuple(written) != plan.pairs:
        got, expected = f"{sum(written):,} pairs", f"the {sum(plan.pairs):,} that were planned"
        raise DataError(problem(folder, got, expected, "run `magic prepare` again"))


def check_room(folder: Path, sizes: Iterable[int]) -> None:
    """Raise DataError if the disk of a folder has no room for photos of these sizes (bytes) and their texts."""
    need = sum(size + 4 * _BLOCK for size in sizes) + _SPARE
    free = shutil.disk_usage(folder).free
    if free < need:
        got, expected = f"{free / 1e9:.1f} GB free", f"about {need / 1e9:.1f} GB for the shards"
        raise DataError(problem(folder, got, expected, "free space, or choose another --out"))


def _members(case: Case, image: ImageRecord) -> Iterator[tuple[str, bytes]]:
    """Yield the suffix and the bytes of each member of a pair, whose case has its pair texts."""
    said = pair_texts(case)
    yield photo_file(image)
    if said.raw:
        yield "txt", said.raw.encode("utf-8", "replace")
    row = {
        "image_id": image.image_id,
        "case_id": case.case_id,
        "group": group_of(case),
        "label": case.label,
        "texts": {"disease": said.disease, "concept": said.concept},  # also where empty: none are to be made
        "subtexts": list(said.subtexts),
        "attributes": dict(case.attributes),
        "license": case.licence,
    }
    yield "json", json.dumps(row, sort_keys=True).encode()


class _Tars:
    """Tars that grow in turn; only some are open at a time."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._open: OrderedDict[int, IO[bytes]] = OrderedDict()

    def __enter__(self) -> "_Tars":
        """Return the tars, which are closed after the block."""
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """End every tar, unless there was an error."""
        with ExitStack() as stack:
            for file in self._open.values():
                stack.callback(file.close)
        for path in self.paths if error is None else ():
            with path.open("ab") as file:
                file.write(bytes(2 * _BLOCK))

    def add(self, shard: int, key: str, members: Iterable[tuple[str, bytes]]) -> None:
        """Append the members of a pair."""
        file = self._open.pop(shard, None) or self.paths[shard].open("ab")
        self._open[shard] = file
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        for suffix, data in members:
            head = tarfile.TarInfo(f"{key}.{suffix}")  # of nobody, at no time
            head.size = len(data)
            file.write(head.tobuf(tarfile.USTAR_FORMAT))
            file.write(data)
            file.write(bytes(-len(data) % _BLOCK))


def sizes_of(images: Iterable[ImageRecord]) -> Iterator[int]:
    """Yield the size in bytes of each photo's file; 0 for one that is gone."""
    for image in images:
        try:
            yield os.stat(image.path or "").st_size  # noqa: PTH116  a third of the time of Path
        except OSError:
            yield 0
