"""Prompts: real tags go, clinical text stays, and the window is shared fairly."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from magic_cli.data.prompts import (
    FIXED,
    check_prompt,
    clean,
    fold,
    pick,
    prompt_halves,
    share_window,
    strip_html,
    written_in,
)
from magic_cli.errors import ConfigError
from magic_cli.records import Case

TITLE, CONTENT = {"en": "Red <b>rash</b>", "zh": "红疹"}, {"en": "since\n\n2  weeks", "zh": "两周"}
RESPONSES = ({"en": "Eczema."}, {"en": " ", "zh": "湿疹"}, {}, {"es": "Eccema", "en": "Atopic<br>eczema"})


@pytest.mark.parametrize(
    "text",
    [
        "EO <0.7 *10^9/L",
        "诊断为<季节性皮炎>应用",
        "<双足双手反复出现红斑10余年>",
        "2<x<5 cm",
        "a<b and c>d",
        "WBC <b",
        "p <p 0.05 and y> 3",
        "it's <5 and he's >3",
        "a < b > c",
        "<bacteria> and <virus/>",
        "<>",
        "x <- y -> z",
        "AT&T, R&D, ?a=1&para=2 &notin",
        "5 <",
    ],
)
def test_clinical_text_survives_verbatim(text: str) -> None:
    assert strip_html(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one<br>two<BR/>three<br />four", "one two three four"),
        ("<p>one</p><p class='x'>two</p>", "one two"),
        ("10<sup>9</sup>/L", "109/L"),
        ('<a href="https://x.org?a=1&b=2" title="1>0">link</a>', "link"),
        ("<span\n style=color:red>red</span>", "red"),
        ("&lt;b&gt; &amp; &#8217; &#x41; &nbsp; &eacute;", "<b> & ’ A é"),
        ("&lt;br&gt;<br>", "<br>"),
        ("a<!-- <b>c</b> -->b", "ab"),
        ("<!DOCTYPE html><html><body>k</body></html>", "k"),
        ("t<script>if (a<b) {c()}</script>u<style>p > a {}</style>v", "tuv"),
        ("t<style>never closed", "t"),
        ("<ul><li>one<li>two</ul>", "one two"),
        ("EO <b><0.7</b>, <季节性皮炎><br>", "EO <0.7, <季节性皮炎>"),
        ("<img src=x onerror=alert(1)>", ""),
    ],
)
def test_real_tags_go(text: str, expected: str) -> None:
    assert clean(text) == expected


@given(st.text(alphabet=st.characters(exclude_characters="<&")))
def test_text_without_markup_is_untouched(text: str) -> None:
    assert strip_html(text) == text


@given(st.text(alphabet="<>/!-= \"'abp&;#x3\n", max_size=60))
@example("<" * 50)
def test_any_markup_ends_in_clean_text(text: str) -> None:
    found = clean(text)
    assert found == fold(found)
    found.encode("utf-8")


@given(st.text())
def test_fold(text: str) -> None:
    folded = fold(text)
    assert folded.split() == text.split()
    assert "  " not in folded
    assert folded == folded.strip()


def test_half_a_surrogate_pair_can_be_written() -> None:
    assert clean("a\ud83db \ud83d\ude00") == "a\ufffdb 😀"


def test_pick_prefers_the_language_then_any_other() -> None:
    assert pick({"zh": "红", "en": "red"}, "en") == "red"
    assert pick({"zh": "红", "en": " <br> "}, "en") == "红"
    assert pick({}, "en") == ""


@pytest.mark.parametrize(
    ("kind", "halves"),
    [
        ("qa", ("Red rash since 2 weeks", "Eczema. 湿疹 Atopic eczema")),
        ("query", ("Red rash since 2 weeks", "")),
        ("answer", ("", "Eczema. 湿疹 Atopic eczema")),
        ("fixed", (FIXED, "")),
    ],
)
def test_halves(kind: str, halves: tuple[str, str]) -> None:
    assert prompt_halves(TITLE, CONTENT, RESPONSES, kind) == halves


def test_halves_in_another_language_and_without_responses() -> None:
    assert prompt_halves(TITLE, CONTENT, (), lang="zh") == ("红疹 两周", "")
    assert prompt_halves({}, {}, ()) == ("", "")


def test_prompts_that_are_refused() -> None:
    with pytest.raises(ConfigError, match="--prompt: got both, expected qa or query or answer or fixed"):
        prompt_halves(TITLE, CONTENT, RESPONSES, "both")
    with pytest.raises(ConfigError, match="--no-responses"):
        check_prompt("answer", responses=False)
    check_prompt("answer", responses=True)


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [((10, 500), (10, 65)), ((500, 10), (65, 10)), ((500, 500), (38, 37)), ((20, 30), (20, 30)), ((0, 90), (0, 75))],
)
def test_window_by_hand(sizes: tuple[int, int], kept: tuple[int, int]) -> None:
    assert share_window(*sizes, 75) == kept


@given(st.integers(0, 400), st.integers(0, 400), st.integers(-5, 300))
def test_window_is_full_fair_and_never_too_large(question: int, answer: int, budget: int) -> None:
    kept_question, kept_answer = share_window(question, answer, budget)
    room = max(budget, 0)
    assert 0 <= kept_question <= question
    assert 0 <= kept_answer <= answer
    assert kept_question + kept_answer == min(question + answer, room)  # no room is wasted, none is exceeded
    assert kept_question >= min(question, room // 2)  # each half is sure of half the room
    assert kept_answer >= min(answer, room // 2)
    mirrored = share_window(answer, question, budget)[::-1]
    assert abs(mirrored[0] - kept_question) <= 1  # symmetric, but for the odd token


@pytest.mark.parametrize("piece", ['<a "', "<!--", "<b x=", "<script>", "&#", "<!doctype", "<a b='"])
def test_hostile_text_takes_linear_time(piece: str) -> None:
    start = time.perf_counter()
    clean(piece * 20_000)
    assert time.perf_counter() - start < 2  # quadratic: 10 s and more


@pytest.mark.parametrize(
    ("kind", "lang", "expected"),
    [
        ("qa", "en", "Red rash since 2 weeks Eczema. Atopic eczema"),
        ("qa", "zh", "红疹 两周 湿疹"),
        ("qa", "es", "Eccema"),
        ("qa", "fr", ""),
        ("query", "zh", "红疹 两周"),
        ("answer", "zh", "湿疹"),
        ("fixed", "zh", FIXED),
    ],
)
def test_written_in_a_language_and_no_more_than_the_prompt_holds(kind: str, lang: str, expected: str) -> None:
    halves = prompt_halves(TITLE, CONTENT, RESPONSES, kind)
    texts = {"title": TITLE, "content": CONTENT}
    texts |= {f"response-{number}": text for number, text in enumerate(RESPONSES, 1)}
    assert written_in(Case("E", "train", (), texts, *halves), lang) == expected
