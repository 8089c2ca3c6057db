"""data/hashed_words.py: words in buckets, the same ones on every machine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magic_cli.data.hashed_words import bag_of_words, idf

SIZE = 4096


def words(text: str) -> set[int]:
    return set(np.flatnonzero(bag_of_words(text, SIZE)).tolist())


def test_words_are_lower_case_and_of_two_letters_or_more() -> None:
    assert words("Red, RED; red!") == words("red")
    assert words("a b c - 1") == set()
    assert len(words("itchy red hand")) == 3


def test_buckets_do_not_depend_on_the_process() -> None:
    assert words("itchy") == {2212}


def test_counts_grow_slowly() -> None:
    once, thrice = bag_of_words("red", SIZE), bag_of_words("red red red", SIZE)
    assert once.max() == 1
    assert thrice.max() == pytest.approx(1 + np.log(3))


def test_chinese_is_read_in_pairs() -> None:
    assert words("红色斑点") == words("红色") | words("色斑") | words("斑点")
    assert len(words("痒")) == 1
    assert words("背部红斑 with papules") == words("背部红斑") | words("with") | words("papules")


@settings(deadline=None, derandomize=True)
@given(st.text(), st.integers(1, 50))
def test_any_text_fits_any_size(text: str, size: int) -> None:
    found = bag_of_words(text, size)
    assert found.shape == (size,)
    assert found.dtype == np.float32
    assert not found.flags.writeable
    assert np.isfinite(found).all()


def test_rare_words_weigh_more() -> None:
    weights = idf(bag_of_words(text, SIZE) for text in ("red hand", "red foot", "red"))
    [red], [hand] = words("red"), words("hand")
    assert weights[red] == pytest.approx(1.0)  # in every text
    assert weights[hand] == pytest.approx(np.log(4 / 2) + 1)
    assert weights.max() == pytest.approx(np.log(4) + 1)  # in none: what training never saw has no weight to learn
    assert weights.dtype == np.float32
