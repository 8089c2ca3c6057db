"""What is decided once all photos are read: the split and the group of every case."""

from collections.abc import Sequence
from dataclasses import dataclass

from magic_cli.data.preparation.store import CaseStore


@dataclass(frozen=True)
class Plan:
    """The split and the group of each case, by its number in the store."""

    splits: Sequence[str]
    groups: Sequence[str]


def plan(store: CaseStore) -> Plan:
    """Return the splits of the source, "train" where it has none, and its groups."""
    splits = [split or "train" for split in store.column("split")]
    return Plan(splits, [group or "" for group in store.column("group_id")])
