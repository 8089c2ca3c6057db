"""data/texts/windows.py: a text that is too long is divided, never cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magic_cli.data.texts.windows import windows


def by_word(text: str) -> list[int]:
    """One token per word; a full stop belongs to its word."""
    return [len(word) for word in text.split()]


def by_character(text: str) -> list[int]:
    return [ord(char) for char in text if not char.isspace()]


@settings(deadline=None, derandomize=True)
@given(st.text("ab .;\n皮炎", max_size=60), st.integers(1, 12))
def test_every_token_is_in_a_window_once_and_in_order(text: str, room: int) -> None:
    parts = windows(text, by_character, room)
    assert [token for part in parts for token in part] == by_character(text)
    assert all(len(part) <= room for part in parts)
    assert all(parts) or parts == [[]]


@pytest.mark.parametrize(
    ("text", "room", "sizes"),
    [
        ("One two. Three four.", 4, [4]),  # it fits
        ("One two. Three four. Five", 4, [4, 1]),  # whole sentences
        ("One two three. Four five.", 4, [3, 2]),
        ("One two three four five six. Seven", 4, [4, 2, 1]),  # a sentence too long: words
        ("", 4, [0]),
    ],
)
def test_sentences_stay_whole_where_they_fit(text: str, room: int, sizes: list[int]) -> None:
    assert [len(part) for part in windows(text, by_word, room)] == sizes


def test_a_tokenizer_that_needs_more_for_joined_units_still_fits() -> None:
    def greedy(text: str) -> list[int]:
        return [0] * (len(text.split()) ** 2)

    assert all(len(part) <= 4 for part in windows("a b c d e. f g. h", greedy, 4))


def test_tokens_of_one_character_are_divided_as_the_last_resort() -> None:
    assert windows("x", lambda text: [1, 2, 3, 4, 5] * len(text), 2) == [[1, 2], [3, 4], [5]]
