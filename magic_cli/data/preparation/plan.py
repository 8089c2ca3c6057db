"""What is decided once all photos are read: the split and the group of every case."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.manifest import DuplicateReport
from magic_cli.data.preparation.duplicate_lines import Situation
from magic_cli.data.preparation.duplicate_lines import report as report_duplicates
from magic_cli.data.preparation.duplicates import Clusters, Duplicates, find_duplicates
from magic_cli.data.preparation.splits import (
    DEALT,
    NO_SPLIT,
    OFFICIAL,
    TEST,
    TRAIN,
    VALID,
    VALID_DEALT,
    SplitRule,
    divided,
    settle_splits,
)
from magic_cli.data.preparation.store import CaseStore
from magic_cli.data.sources.source import LESION, PATIENT, RawDataset
from magic_cli.errors import ConfigError, printable, problem, shorten
from magic_cli.records import SPLITS

KEEP, DROP, GROUP = DUPLICATES = ("keep", "drop", "group")

CASE = "case"  # `--split-by case`: every case is a group of its own

_GROUPS = "groups of the source (patient, else lesion, else photo)"


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How cases are grouped and dealt to splits.

    `by` names the group that is never divided: "patient", "lesion", "case", or an attribute; "" for that of the source.
    `duplicates` is KEEP, DROP (all but one of duplicate photos are left out: one of the last split stays, and of those
    the first) or GROUP (groups that share a photo become one).
    """

    rule: SplitRule = field(default_factory=SplitRule)
    by: str = ""
    duplicates: str = GROUP

    def check(self) -> None:
        """Raise ConfigError for shares that are none, and for another way to treat duplicates."""
        self.rule.check()
        if self.duplicates not in DUPLICATES:
            expected = " or ".join(DUPLICATES)
            raise ConfigError(problem("--duplicates", self.duplicates, expected, "choose one of these"))


@dataclass(frozen=True)
class Plan:
    """The split and the group of each case, by its number in the store; `split_rule` says where splits are from.

    `dropped` are the numbers of the photos that are left out as duplicates, `emptied` those of the cases that then have
    no photo left.
    """

    splits: Sequence[str]
    groups: Sequence[str]
    duplicates: DuplicateReport
    split_rule: str = OFFICIAL
    dropped: frozenset[int] = frozenset()
    emptied: frozenset[int] = frozenset()


def plan(raw: RawDataset, store: CaseStore, options: PlanOptions) -> Plan:
    """Decide on groups and splits, and note what was done.

    Raises:
        ConfigError: no case has the attribute that `options.by` names.
    """
    names, labels = _groups(store, options.by), store.column("label")
    written = [NO_SPLIT if not split else SPLITS.index(split) for split in store.column("split")]
    official, owners = np.array(written, np.int8), store.owners()
    hashes, known = store.hashes()
    found = find_duplicates(store.digests(), hashes, known, store.thumbnails())
    dropped = _dropped(found, official[owners]) if options.duplicates == DROP else frozenset()
    emptied = frozenset() if raw.is_challenge else _emptied(owners, dropped)
    if options.duplicates == GROUP:
        names = _joined(names, found, owners, raw.issues)
    settled, rule = official, OFFICIAL
    if not raw.is_challenge and len(official):
        settled, rule = _settle(raw, (official, names, labels), options, emptied)
    situation = Situation(found, owners, settled, labels, dropped)
    report = report_duplicates(situation, store, raw.issues)
    raw.issues.left_out["cases"] += len(emptied)
    return Plan([SPLITS[number] for number in settled.tolist()], names, report, rule, dropped, emptied)


def _settle(
    raw: RawDataset,
    columns: tuple[NDArray[np.int8], Sequence[str], Sequence[str | None]],
    options: PlanOptions,
    emptied: frozenset[int],
) -> tuple[NDArray[np.int8], str]:
    """Return the splits of the cases and what was done, and note it; cases that are left out get any."""
    keep = np.ones(len(columns[0]), np.bool_)
    keep[list(emptied)] = False
    official, names, labels = columns[0][keep], list(compress(columns[1], keep)), list(compress(columns[2], keep))
    groups = _numbered(names)[1]
    settled, rule = settle_splits(official, groups, _numbered(labels)[1], options.rule)
    for line in (*_notes(official, settled, rule, options), *_remarks(settled, groups, labels, rule)):
        raw.issues.note(line)
    whole = np.zeros(len(keep), np.int8)
    whole[keep] = settled
    return whole, rule


def _dropped(duplicates: Duplicates, splits: NDArray[np.int8]) -> frozenset[int]:
    """Return all photos but one of each cluster: of those in its last split, the first stays."""
    order = np.lexsort((np.arange(len(splits)), -splits, duplicates.cluster))
    clusters = duplicates.cluster[order]
    return frozenset(order[1:][clusters[1:] == clusters[:-1]].tolist())


def _emptied(owners: NDArray[np.int64], dropped: frozenset[int]) -> frozenset[int]:
    """Return the cases all of whose photos are dropped."""
    gone = np.bincount(owners[list(dropped)], minlength=1) if dropped else np.zeros(1, np.int64)
    total = np.bincount(owners, minlength=len(gone))[: len(gone)]
    return frozenset(np.flatnonzero((gone > 0) & (gone == total)).tolist())


def _joined(names: Sequence[str], duplicates: Duplicates, owners: NDArray[np.int64], issues: IssueLog) -> list[str]:
    """Return the groups of the cases after those that share a photo became one, named by the first in their order."""
    order, groups = _numbered(names)
    linked = np.flatnonzero(duplicates.cluster != np.arange(len(owners)))
    one, other = groups[owners[linked]], groups[owners[duplicates.cluster[linked]]]
    union = Clusters(np.arange(len(order)))
    union.join(one, other)
    first = union.first()
    number = int(np.count_nonzero(first != np.arange(len(order))))
    if number:
        verb = counted(number, "group is", "groups are")
        issues.note(f"{verb} joined to another one, as they share a photo or nearly the same one (--duplicates group)")
    return [order[first[group]] for group in groups.tolist()]


def _groups(store: CaseStore, by: str) -> list[str]:
    """Return the name of each case's group; a case without the attribute keeps that of the source."""
    own = [group or "" for group in store.column("group_id")]
    if not by:
        return _with_patients(store, own)
    if by == CASE:
        return list(store.ids())
    values = store.attribute(by)
    if not any(values):
        have = shorten([CASE, *store.attribute_names()], 40)
        raise ConfigError(problem("--split-by", f"{by}, which no case has", f"one of {have}", "choose one of these"))
    if by != LESION:
        return [value or group for value, group in zip(values, own, strict=True)]
    # numbers of lesions may count from 1 for each patient, as in PAD-UFES-20
    patients = store.attribute(PATIENT)
    named = [f"{p} {value}" if p and value else value for p, value in zip(patients, values, strict=True)]
    return [value or group for value, group in zip(named, own, strict=True)]


def _with_patients(store: CaseStore, own: list[str]) -> list[str]:
    """Return the groups once cases that name no patient, but a lesion of one patient, are in that patient's group."""
    lesions = store.attribute(LESION)
    if not any(lesions):
        return own
    rows = list(zip(lesions, store.attribute(PATIENT), own, strict=True))
    owners: dict[str, set[str]] = {}
    for lesion, patient, group in rows:
        if lesion and patient:
            owners.setdefault(lesion, set()).add(group)
    sole = {lesion: next(iter(groups)) for lesion, groups in owners.items() if len(groups) == 1}
    return [sole.get(group, group) if not patient and group == lesion else group for lesion, patient, group in rows]


def _numbered(names: Sequence[str | None]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct names in their order, and for each name its place among them; -1 for None."""
    order = sorted({name for name in names if name is not None})
    place = {name: number for number, name in enumerate(order)}
    return order, np.fromiter((-1 if name is None else place[name] for name in names), np.int64, len(names))


def _notes(official: NDArray[np.int8], settled: NDArray[np.int8], rule: str, options: PlanOptions) -> list[str]:
    """Return what was done, in the words of a note."""
    share, by = options.rule, f"values of {options.by}" if options.by else _GROUPS
    how = f"whole {by}, labels spread evenly, seed {share.seed}"
    counts = _counts(settled)
    if rule == DEALT:
        why = "the source has train alone" if np.any(official == TRAIN) else "the source has none"
        return [f"splits: {why}: dealt, valid {share.valid:.0%} and test {share.test:.0%}: {how}: {counts}"]
    blank = int(np.count_nonzero(official == NO_SPLIT))
    lines = [f"splits: those of the source: {counts}"]
    if rule == VALID_DEALT:
        lines = [f"splits: the source has no valid: {share.valid:.0%} of its train became valid: {how}: {counts}"]
    if blank:
        cases = counted(blank, "case has", "cases have")
        lines.append(f"{cases} no split in the source: to the last one that their group has there, else to train")
    return lines


def _counts(settled: NDArray[np.int8]) -> str:
    return ", ".join(f"{name} {np.count_nonzero(settled == number):,}" for number, name in enumerate(SPLITS)) + " cases"


def _remarks(
    settled: NDArray[np.int8], groups: NDArray[np.int64], labels: Sequence[str | None], rule: str
) -> list[str]:
    """Return what a reader should know of the splits: labels, empty splits, groups that the source itself divides."""
    lines = _label_lines(settled, labels)
    if rule == DEALT:
        number = len(np.unique(groups))
        empty = [SPLITS[split] for split in (VALID, TEST) if not np.any(settled == split)]
        if empty and number < 10:
            lines.append(
                f"no case in {' and '.join(empty)}: {number:,} {'group is' if number == 1 else 'groups are'} too few"
            )
        return lines
    several = divided(settled, groups)
    if several:
        verb = counted(several, "group has", "groups have")
        lines.append(f"{verb} cases in several of the source's splits: scores there may be too high")
    return lines


def _label_lines(settled: NDArray[np.int8], labels: Sequence[str | None]) -> list[str]:
    counts = Counter(zip(labels, settled.tolist(), strict=True))
    totals = Counter[str]()
    for (label, _), number in counts.items():
        if label is not None:
            totals[label] += number
    if not totals:
        return []
    frequent = sorted(totals, key=lambda label: (-totals[label], label))
    cells = [
        f"{printable(label)[:40]} {' / '.join(f'{counts[label, split]:,}' for split in range(len(SPLITS)))}"
        for label in frequent
    ]
    lines = [f"cases of train / valid / test by label: {shorten(cells, 10)}"]
    unlearned = [printable(label)[:40] for label in frequent if not counts[label, TRAIN]]
    if unlearned:
        verb = counted(len(unlearned), "label has", "labels have")
        lines.append(f"{verb} no case in train: {shorten(unlearned, 5)}")
    return lines
