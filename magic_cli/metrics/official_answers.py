"""The official scorer's closed-question scores, bug for bug.

Source: examples/official-scorer.md, cases 01 to 25.

Its behaviour: an id ends at the first dash, rows with the same id are united, keys are selected by their length
alone, and values go into Python sets unchanged ("0" never equals 0; 0.0 and False do). Sets are made of the nine
parents in the gold's encounters only, so that lists and objects elsewhere do not crash it (cases 12 and 12b). It
crashes at the first error; here all errors are listed. The number of encounters is that of the gold's rows, even
where their ids unite (case 16b).
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from magic_cli.errors import redact_key, shorten
from magic_cli.metrics.answer_sets import iom

SLOTS = {"CQID010": 1, "CQID011": 6, "CQID012": 6, "CQID015": 1, "CQID020": 9, "CQID025": 1}

SLOTS |= {"CQID034": 1, "CQID035": 1, "CQID036": 1}

QIDS = frozenset(f"{parent}-{number:03}" for parent, count in SLOTS.items() for number in range(1, count + 1))

KEY_LENGTH = len("CQID010-001")

Sets = dict[str, dict[str, set[Hashable]]]


def head(encounter: str) -> str:
    """Return the part of an encounter's id that the official scorer uses (case 16)."""
    return encounter.split("-")[0]


def official_answers(
    gold: Mapping[str, Mapping[str, Any]], rows: Sequence[Any]
) -> tuple[dict[str, float] | None, tuple[str, ...]]:
    """Return the official scores under the official keys, or None and one line per cause of a crash.

    Args:
        gold: encounter id to {qid: option index}, with the qids of QIDS.
        rows: the parsed rows of a submission, unchanged.

    Without rows all accuracies and the number of encounters are 0, as official (case 06).
    """
    errors: list[str] = []
    truth = _sets([{"encounter_id": encounter, **row} for encounter, row in gold.items()], [], map(head, gold))
    submitted = _sets(rows, errors, truth)
    if not rows:
        return _with_mean(dict.fromkeys(SLOTS, 0.0), 0), ()
    errors += _missing(truth, submitted)
    if errors:
        return None, tuple(errors)
    means = {
        parent: sum(iom(submitted[encounter][parent], sets[parent]) for encounter, sets in truth.items()) / len(truth)
        for parent in SLOTS
    }
    return _with_mean(means, len(gold)), ()


def _with_mean(means: Mapping[str, float], count: int) -> dict[str, float]:
    scores = {f"accuracy_{parent}": value for parent, value in means.items()}
    return scores | {"accuracy_all": sum(means.values()) / len(means), "number_cvqa_instances": count}


def _sets(rows: Iterable[Any], errors: list[str], truth: Iterable[str]) -> Sets:
    """Return the sets of values by encounter and parent; append causes of a crash while reading to `errors`.

    `truth`: the gold's encounters. Unhashable values of others, or of no question, are left out.
    """
    sets: Sets = {}
    wanted = frozenset(truth)
    faults: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        encounter = row.get("encounter_id") if isinstance(row, Mapping) else None
        if not isinstance(encounter, str):
            faults.setdefault("KeyError, AttributeError or TypeError: no encounter_id that is text", []).append(
                f"row {number}"
            )
            continue
        parents = sets.setdefault(head(encounter), {})
        for key, value in row.items():
            if len(key) != KEY_LENGTH:
                continue
            parent, dash, rest = key.partition("-")
            if not dash or "-" in rest:
                faults.setdefault("ValueError: a key of 11 characters without exactly one dash", []).append(
                    f"{redact_key(encounter)}:{redact_key(key)}"
                )
            elif isinstance(value, Hashable):
                parents.setdefault(parent, set()).add(value)
            elif parent in SLOTS and head(encounter) in wanted:
                faults.setdefault("TypeError: a list or an object cannot be in a set", []).append(
                    f"{redact_key(encounter)}:{redact_key(key)}"
                )
                parents.setdefault(parent, set())
    errors += [f"{cause} ({shorten(items, total=True)})" for cause, items in faults.items()]
    return sets


def _missing(truth: Sets, submitted: Sets) -> list[str]:
    """Return one line for missing encounters, then one per parent question that has no answers somewhere."""
    absent = [encounter for encounter in truth if encounter not in submitted]
    lines: list[str] = []
    if absent:
        lines.append(f"KeyError: {len(absent)} of {len(truth)} encounters have no row ({shorten(absent, total=True)})")
    for parent in SLOTS:
        bare = [encounter for encounter in truth if encounter in submitted and parent not in submitted[encounter]]
        if bare:
            count = f"{len(bare)} of {len(truth)} encounters"
            lines.append(f"KeyError: {parent} has no answer in {count} ({shorten(bare, total=True)})")
    return lines
