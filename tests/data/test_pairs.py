"""Pairs for pretraining: which photos of a prepared dataset have a text, and sequences that are never lists."""

from dataclasses import replace
from pathlib import Path

import pytest

from magic_cli.data.lazy_samples import JoinedSamples, LazySamples, blocks_of, chained
from magic_cli.data.pairs import pair_notes, pair_samples
from magic_cli.data.prepared import open_prepared
from magic_cli.data.texts.pair_texts import has_text
from magic_cli.records import Case, Sample


def test_one_sample_per_photo_whose_case_says_something(drawn_prepared: Path) -> None:
    prepared = open_prepared(drawn_prepared)
    pairs = pair_samples(prepared, "train")
    assert [pair.id for pair in pairs] == [image.image_id for image in prepared.images_of("train")]
    assert all(pair.case.case_id == pair.images[0].case_id for pair in pairs)
    assert pair_notes(prepared, "train") == ()
    first, second = prepared.images_of("train")[0], prepared.images_of("train")[-1]
    silent = replace(prepared.cases[first.case_id], question="", answer=" ", texts={})
    changed = replace(
        prepared,
        cases={**prepared.cases, first.case_id: silent},
        images={**prepared.images, second.image_id: replace(second, path=None)},
    )
    left = sum(image.case_id == first.case_id for image in prepared.images_of("train"))
    assert len(pair_samples(changed, "train")) == len(pairs) - left - 1
    line = f"split train: {left + 1} of {len(pairs)} photos make no pair: {left} without any text, 1 without their file"
    assert pair_notes(changed, "train") == (line,)


@pytest.mark.parametrize("role", ["raw", "disease", "concept", "subtext-1", "subtext-12"])
def test_texts_of_any_aspect_make_a_pair(role: str) -> None:
    case = Case("E", "train", (), {role: {"en": "plaque"}})
    assert has_text(case)
    assert not has_text(replace(case, texts={role: {"en": "  "}}))
    assert not has_text(Case("E", "train", ()))
    assert has_text(Case("E", "train", (), question="itch"))


class Counted(LazySamples):
    """Samples 0..n-1, whose makings are counted."""

    def __init__(self, count: int) -> None:
        self.count, self.made = count, 0

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> Sample:
        self.made += 1
        return Sample(str(index), Case("E", "train", ()), ())


def test_lazy_sequences_are_joined_without_making_a_sample() -> None:
    lazy, kept = Counted(5), [Sample("a", Case("E", "train", ()), ())]
    both = chained([lazy, kept, Counted(2)])
    assert isinstance(both, JoinedSamples)
    assert (len(both), lazy.made, list(blocks_of(both))) == (8, 0, [5, 1, 2])
    assert [both[index].id for index in (0, 4, 5, 6, -1)] == ["0", "4", "a", "0", "1"]
    assert [sample.id for sample in both[3:7]] == ["3", "4", "a", "0"]
    with pytest.raises(IndexError):
        both[8]
    assert chained([kept, kept]) == [*kept, *kept]
    assert chained([lazy]) is lazy
