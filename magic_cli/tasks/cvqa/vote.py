"""Merge submissions of answers, from any source, by a vote over each parent's options."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from magic_cli.data.questions import QuestionSchema
from magic_cli.metrics.answer_sets import credit_per_option
from magic_cli.tasks.cvqa.answers import AnswerPrediction

Rows = Mapping[str, Mapping[str, int]]

Sets = Sequence[frozenset[int]]


@dataclass(frozen=True)
class Ballot:
    """The form of a parent's answers: number of slots and of options, index of "Not mentioned" or None."""

    slots: int
    options: int
    padding: int | None

    def elect(self, sets: Sets) -> tuple[frozenset[int], bool]:
        """Return the set that agrees best with all submissions, and whether other sets tie with it.

        Each submission's set follows the convention of the gold: values, and "Not mentioned" if they leave a slot free.
        Among all such sets, the one with the highest mean |S ∩ P| / max(|S|, |P|) over the submitted sets P wins: its
        expected accuracy if all submissions are equally reliable. So every submission gives each of its options
        1 / max(|S|, |P|) of a vote; the options with most votes make the best set of each size, and the votes choose
        among sizes. With one slot this is the most frequent answer. Ties: the set that the submission
        listed first agrees with more, then the second, and so on; then the smaller set, the lower indices.
        """
        unit = lcm(*range(1, self.slots + 1))  # integer votes, so that ties are exact
        numbers = [len(submitted) for submitted in sets]
        shares = [
            [unit // credit_per_option(size, number).denominator for number in numbers]
            for size in range(1, self.slots + 1)
        ]
        first = 1 if self.padding is None else 0
        candidates = [self._best(sets, n, shares) for n in range(first, min(self.slots, self.options) + 1)]
        votes = [sum(rank) for rank, _, _ in candidates]
        # min keeps the first of equals: the smaller set
        rank, chosen, tied = min(candidates, key=lambda best: (-sum(best[0]), [-vote for vote in best[0]]))
        return chosen, tied or votes.count(sum(rank)) > 1

    def _best(self, sets: Sets, values: int, shares: Sequence[Sequence[int]]) -> tuple[list[int], frozenset[int], bool]:
        """Return each submission's votes for the best set with this many values, that set, and whether votes were tied.

        `shares` holds, for each size of a set from 1 on, the votes that each submission gives to each of its options.
        """
        fill = frozenset({self.padding} if self.padding is not None and values < self.slots else ())
        share = shares[values + len(fill) - 1]
        ranks = {
            option: [worth * (option in submitted) for worth, submitted in zip(share, sets, strict=True)]
            for option in range(self.options)
            if option != self.padding
        }
        order = sorted(ranks, key=lambda option: (-sum(ranks[option]), [-vote for vote in ranks[option]], option))
        tied = 0 < values < len(order) and sum(ranks[order[values - 1]]) == sum(ranks[order[values]])
        chosen = frozenset(order[:values]) | fill
        votes = [worth * len(chosen & submitted) for worth, submitted in zip(share, sets, strict=True)]
        return votes, chosen, tied


def merge(submissions: Sequence[Rows], questions: QuestionSchema) -> tuple[dict[str, dict[str, int]], int]:
    """Return one canonical row per encounter, in the order of the first submission, and the number of tied answers.

    Args:
        submissions: complete rows {qid: option index} by encounter, in the order that decides ties; all of the same
            encounters.
    """
    merged, ties = {}, 0
    ballots = {parent: _ballot(questions, parent, qids) for parent, qids in questions.parents.items()}
    for encounter in submissions[0]:
        votes = [questions.to_sets(questions.canonical(rows[encounter])) for rows in submissions]
        sets = {parent: ballot.elect([vote[parent] for vote in votes]) for parent, ballot in ballots.items()}
        ties += sum(tied for _, tied in sets.values())
        merged[encounter] = questions.to_slots({parent: chosen for parent, (chosen, _) in sets.items()})
    return merged, ties


def _ballot(questions: QuestionSchema, parent: str, qids: Sequence[str]) -> Ballot:
    return Ballot(len(qids), questions.by_qid[qids[0]].size, questions.not_mentioned(parent))


def shares(submissions: Sequence[Rows], questions: QuestionSchema) -> Iterator[AnswerPrediction]:
    """Yield per-slot option frequencies over the submissions, as probabilities."""
    for encounter in submissions[0]:
        rows = [questions.canonical(rows[encounter]) for rows in submissions]
        counts = {qid: np.bincount([row[qid] for row in rows], minlength=q.size) for qid, q in questions.by_qid.items()}
        frequencies = {qid: (count / len(rows)).astype(np.float32) for qid, count in counts.items()}
        yield AnswerPrediction(encounter, frequencies)
