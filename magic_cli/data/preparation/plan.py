"""What is decided once all photos are read: the split and the group of every case."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

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

CASE = "case"  # `--split-by case`: every case is a group of its own

_GROUPS = "groups of the source (patient, else lesion, else photo)"


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """How cases are grouped and dealt to splits.

    `by` names the group that is never divided: "patient", "lesion", "case", or an attribute; "" for that of the source.
    """

    rule: SplitRule = field(default_factory=SplitRule)
    by: str = ""


@dataclass(frozen=True)
class Plan:
    """The split and the group of each case, by its number in the store; `split_rule` says where splits are from."""

    splits: Sequence[str]
    groups: Sequence[str]
    split_rule: str = OFFICIAL


def plan(raw: RawDataset, store: CaseStore, options: PlanOptions) -> Plan:
    """Decide on groups and splits, and note what was done.

    Raises:
        ConfigError: no case has the attribute that `options.by` names.
    """
    names, labels = _groups(store, options.by), store.column("label")
    splits = [NO_SPLIT if not split else SPLITS.index(split) for split in store.column("split")]
    official, groups = np.array(splits, np.int8), _numbers(names)
    if raw.is_challenge or not len(official):
        return Plan([SPLITS[number] for number in splits], names)
    settled, rule = settle_splits(official, groups, _numbers(labels), options.rule)
    for line in _notes(official, settled, rule, options):
        raw.issues.note(line)
    for line in _remarks(settled, groups, labels, rule):
        raw.issues.note(line)
    return Plan([SPLITS[number] for number in settled.tolist()], names, rule)


def _groups(store: CaseStore, by: str) -> list[str]:
    """Return the name of each case's group; a case without the attribute keeps that of the source."""
    own = [group or "" for group in store.column("group_id")]
    if not by:
        return own
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


def _numbers(names: Sequence[str | None]) -> NDArray[np.int64]:
    """Return a number for each name, the same for equal ones, in the order of the names; -1 for None."""
    order = {name: number for number, name in enumerate(sorted({name for name in names if name is not None}))}
    return np.fromiter((-1 if name is None else order[name] for name in names), np.int64, len(names))


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
        cases = "1 case has" if blank == 1 else f"{blank:,} cases have"
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
        verb = "1 group has" if several == 1 else f"{several:,} groups have"
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
        verb = "1 label has" if len(unlearned) == 1 else f"{len(unlearned):,} labels have"
        lines.append(f"{verb} no case in train: {shorten(unlearned, 5)}")
    return lines
