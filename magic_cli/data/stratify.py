"""Assign cases to the folds of a cross-validation so that labels are spread evenly.

Iterative stratification (Sechidis, Tsoumakas & Vlahavas, On the Stratification of Multi-Label Data, 2011): the
cases of the rarest label come first, each goes to the fold that lacks the label most, or of several to the one with
most room. Unlike in the paper, the sizes of folds differ by at most one case, and labels with fewer cases than folds
are left to chance.
"""

import random
from collections import Counter
from collections.abc import Collection, Mapping

from magic_cli.errors import ConfigError, problem


def assign_folds(labels: Mapping[str, Collection[str]], folds: int, seed: int) -> tuple[tuple[str, ...], ...]:
    """Return the case ids of each fold, sorted; every case is in exactly one.

    Args:
        labels: case id to its labels, none or several; order does not matter.
        folds: at least 2, at most one per case.
        seed: for shuffling and ties; the same seed gives the same folds.

    Raises:
        ConfigError: too few or too many folds.
    """
    if not 2 <= folds <= len(labels):
        expected = f"2 to {len(labels)}, one per encounter with gold in split train"
        raise ConfigError(problem("--folds", folds, expected, "choose fewer folds or prepare more data"))
    draw = random.Random(seed)  # noqa: S311  not a secret
    unassigned = sorted(labels)
    draw.shuffle(unassigned)
    number = len(unassigned)
    room = [number // folds + (fold < number % folds) for fold in range(folds)]
    share = [size / number for size in room]
    count = Counter(label for own in labels.values() for label in set(own))
    rarest_first = sorted(count.items(), key=lambda item: (item[1], item[0]))
    common = [label for label, frequency in rarest_first if frequency >= folds]
    lacking = [{label: count[label] * part for label in common} for part in share]
    members: list[list[str]] = [[] for _ in range(folds)]
    while unassigned:
        rest = Counter(label for case in unassigned for label in set(labels[case]) if label in lacking[0])
        rarest = min(rest, key=lambda label: (rest[label], label), default="")
        for case in [case for case in unassigned if not rarest or rarest in labels[case]]:
            open_folds = [fold for fold in range(folds) if room[fold]]
            most = max(open_folds, key=lambda fold: (lacking[fold].get(rarest, 0.0), room[fold], draw.random()))
            members[most].append(case)
            room[most] -= 1
            for label in set(labels[case]) & lacking[most].keys():
                lacking[most][label] -= 1
        unassigned = [case for case in unassigned if rarest and rarest not in labels[case]]
    return tuple(tuple(sorted(part)) for part in members)
