"""Prompt lengths: what a window keeps, by hand, and that it is what encoders keep."""

from collections import Counter

import pytest

from magic_cli.data.prompt_lengths import BINS, SPECIAL, PromptWindow, length_histogram, window_use


def use_of(sizes: list[tuple[int, int]]) -> PromptWindow:
    return window_use({"train": Counter(sizes)}, 77, "CLIP")


def test_window_by_hand() -> None:
    # 77 - 2 special tokens: 75 fit, half of them 38 + 37
    assert use_of([(40, 35)]).exceed == 0
    assert use_of([(40, 36)]).exceed == 1
    use = use_of([(100, 50), (10, 50), (75, 0), (0, 150)])
    assert (use.tokens, use.prompts, use.exceed) == (77, 4, 2)
    assert use.kept_question == pytest.approx((38 / 100 + 1 + 1) / 3, abs=1e-6)
    assert use.kept_answer == pytest.approx((37 / 50 + 1 + 75 / 150) / 3, abs=1e-6)


def test_without_a_half_there_is_no_share() -> None:
    assert use_of([(3, 0)]).kept_answer is None
    assert use_of([]) == PromptWindow(77, 0, 0, None, None, "CLIP", {"train": 0})


def test_histogram_counts_special_tokens_and_keeps_the_longest() -> None:
    found = length_histogram(Counter([(0, 0), (7, 6), (7, 7), (500, 9), (500, 10), (10_000, 0)]))
    assert (found[0], found[1], found[-2], found[-1]) == (2, 1, 0, 3)
    assert length_histogram({(500, 8): 1, (493, 0): 1})[-2:] == (1, 1)
    assert (len(found), sum(found)) == (BINS, 6)
    assert length_histogram({}) == (0,) * BINS


def test_encoders_keep_what_is_said() -> None:
    from magic_cli.models.encoders import TextEncoder
    from magic_cli.tasks.encoding import text_item

    class Letters(TextEncoder):
        """Start and end token as CLIP and BERT have them; a token a letter."""

        def ids(self, text: str) -> list[int]:
            return [ord(letter) for letter in text]

    encoder = Letters(77, ([1], [2]))
    encoder.record_weights()
    use, ids = use_of([(100, 50)]), text_item(encoder, "q" * 100, "a" * 50).load()
    assert len(ids) == 77
    assert encoder.room == 77 - SPECIAL
    assert ids.count(ord("q")) == round(use.kept_question * 100) == 38
    assert ids.count(ord("a")) == round(use.kept_answer * 50) == 37
