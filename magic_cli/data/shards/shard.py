"""A shard: pairs in one file, each made into a sample when it is asked for."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from magic_cli.data.shards.pair_record import PairRecord
from magic_cli.data.shards.shard_index import ShardIndex
from magic_cli.data.texts.captions import with_knowledge
from magic_cli.records import Case, ImageRecord, PackedPhoto, Sample


@dataclass(frozen=True, slots=True)
class ShardPhoto(PackedPhoto):
    """A photo in the shard at `path`; `digest` is that of the shard, `name` tells shard and pair in messages."""

    path: str
    name: str
    digest: str

    @property
    def place(self) -> str:
        """The shard and the pair."""
        return self.name


@dataclass(frozen=True)
class Shard(ABC):
    """One file of pairs; picklable, and small in memory.

    Attributes:
        path: absolute.
        name: its path below the dataset's folder, as messages and ids have it.
        index: where its pairs are.
        window: as `LazySamples.window`.
    """

    window: ClassVar[int] = 0

    path: str
    name: str
    index: ShardIndex

    @abstractmethod
    def read(self, row: int, key: str) -> tuple[PairRecord, str, PackedPhoto | None]:
        """Return what a pair says, the file with its photo, and where in it that lies; None if it is the file itself.

        Args:
            row: of the index.
            key: the pair's.

        Raises:
            DataError: the shard cannot be read any more, or is another one; one line.
        """

    def sample(self, row: int, split: str) -> Sample:
        """Return a pair as a sample of a split; its texts are made as `magic prepare` makes them.

        Raises:
            DataError: the shard cannot be read any more; one line.
        """
        key = self.index.key(row)
        record, path, packed = self.read(row, key)
        name = f"{self.name.rpartition('.')[0]}/{key}"
        case = Case(
            case_id=record.case_id or name,
            split=split,
            image_ids=(name,),
            texts={role: {"en": text} for role, text in record.texts.items()},
            label=record.label,
            attributes=record.attributes,
            group_id=record.group,
            licence=record.licence,
        )
        case = case if record.has_knowledge else with_knowledge(case)
        image = ImageRecord(name, case.case_id, split, path, 0, 0, upright=True, packed=packed)
        return Sample(name, case, (image,))
