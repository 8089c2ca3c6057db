"""data/questions.py, the slot codec: properties over random definitions, and the real ones."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from reference_scorer import PARENTS

from magic_cli.data.questions import (
    FALLBACK,
    QuestionSchema,
    load_questions,
    normalise,
    parent_of,
    parse_questions,
    plain,
)
from magic_cli.errors import DataError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "dermavqa-text"
DEFINITIONS = DATA / "closedquestions_definitions_imageclef2025.json"
NOT_MENTIONED = {"en": "Not mentioned", "zh": "无法得知", "es": "No mencionado"}
quick = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def definitions(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of a definitions file: other parents, slots, options, languages and places of "Not mentioned"."""
    languages = draw(st.lists(st.sampled_from(("zh", "es", "fr")), unique=True))
    rows: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 4))):
        size = draw(st.integers(2, 6))
        missing = draw(st.none() | st.integers(0, size - 1))
        row: dict[str, Any] = {}
        for lang in ("en", *languages):
            decor = draw(st.sampled_from(("", " (please specify)", "（请注明）", " (por favor especifique)")))
            lead = draw(st.sampled_from(("", "1 ", "2) ")))
            options = [f"{lead}{lang} Option {chr(97 + n)}{decor}" for n in range(size)]
            if missing is not None and lang in NOT_MENTIONED:
                options[missing] = NOT_MENTIONED[lang]
            row |= {f"question_{lang}": f"{lang} {number}?", f"options_{lang}": options}
        slots = draw(st.integers(1, 4))
        name = draw(st.sampled_from(("CQID", "q_", "a-b")))
        rows += [{"qid": f"{name}{number}-{slot + 1:03}", **row} for slot in range(slots)]
    return rows


@st.composite
def cases(draw: st.DrawFn) -> tuple[QuestionSchema, dict[str, int]]:
    """A schema and a complete row of answers for it."""
    schema = parse_questions(draw(definitions()), "made")
    return schema, {q.qid: draw(st.integers(0, q.size - 1)) for q in schema.slots}


def without_padding(schema: QuestionSchema, sets: dict[str, frozenset[int]]) -> dict[str, frozenset[int]]:
    """Drop "Not mentioned" beside other values; alone it is an answer."""
    return {p: (s - {schema.not_mentioned(p)}) or s for p, s in sets.items()}


# --- sets <-> slots


@quick
@given(cases())
def test_slots_hold_the_values_ascending_and_then_padding(case: tuple[QuestionSchema, dict[str, int]]) -> None:
    schema, row = case
    sets = schema.to_sets(row)
    assert sets == {p: frozenset(row[q] for q in qids) for p, qids in schema.parents.items()}
    slots = schema.to_slots(sets)
    assert list(slots) == [qid for qids in schema.parents.values() for qid in qids]
    for parent, qids in schema.parents.items():
        padding, values = schema.not_mentioned(parent), [slots[qid] for qid in qids]
        real = sorted(sets[parent] - {padding})
        assert values[: len(real)] == real
        rest = set(values[len(real) :])
        assert rest <= {real[0] if padding is None else padding}


@quick
@given(cases())
def test_slots_and_back_is_the_set_and_its_padding(case: tuple[QuestionSchema, dict[str, int]]) -> None:
    schema, row = case
    sets = schema.to_sets(row)
    back = schema.to_sets(schema.to_slots(sets))
    for parent, qids in schema.parents.items():
        padding = schema.not_mentioned(parent)
        real = sets[parent] - {padding}
        expected = real | ({padding} if padding is not None and len(real) < len(qids) else set())
        assert back[parent] == expected


@quick
@given(cases())
def test_canonical_is_idempotent_and_keeps_the_meaning(case: tuple[QuestionSchema, dict[str, int]]) -> None:
    schema, row = case
    canonical = schema.canonical(row)
    assert schema.canonical(canonical) == canonical
    assert schema.faults(canonical, "x") == []
    before, after = schema.to_sets(row), schema.to_sets(canonical)
    assert without_padding(schema, after) == without_padding(schema, before)


@quick
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_slots_means_nothing(case: tuple[QuestionSchema, dict[str, int]], random: Any) -> None:
    schema, row = case
    shuffled = dict(row)
    for qids in schema.parents.values():
        values = [row[qid] for qid in qids]
        random.shuffle(values)
        shuffled |= dict(zip(qids, values, strict=True))
    assert schema.canonical(shuffled) == schema.canonical(row)


@quick
@given(definitions())
def test_more_values_than_slots_are_refused(rows: list[dict[str, Any]]) -> None:
    schema = parse_questions(rows, "made")
    parents = [p for p, qids in schema.parents.items() if schema.by_qid[qids[0]].size > len(qids) + 1]
    assume(parents)
    for parent in parents:
        qids = schema.parents[parent]
        values = set(range(schema.by_qid[qids[0]].size)) - {schema.not_mentioned(parent)}
        with pytest.raises(DataError, match=f"{parent}: got {len(values)} values, expected at most {len(qids)}"):
            schema.to_slots({**schema.empty_sets(), parent: values})


@quick
@given(definitions())
def test_the_empty_answer_is_not_mentioned_everywhere(rows: list[dict[str, Any]]) -> None:
    schema = parse_questions(rows, "made")
    row = schema.to_slots(schema.empty_sets())
    assert row == {q.qid: schema.not_mentioned(q.parent) or 0 for q in schema.slots}


def test_padding_by_hand() -> None:
    schema = load_questions(None)
    sets = schema.empty_sets() | {"CQID011": frozenset({2, 0, 7}), "CQID012": frozenset({1})}
    row = schema.to_slots(sets)
    assert [row[f"CQID011-00{n}"] for n in range(1, 7)] == [0, 2, 7, 7, 7, 7]
    assert [row[f"CQID012-00{n}"] for n in range(1, 7)] == [1, 3, 3, 3, 3, 3]
    assert row["CQID010-001"] == 3


def test_a_parent_without_not_mentioned_is_padded_with_its_own_first_value() -> None:
    rows = [{"qid": f"Q-{n}", "question_en": "?", "options_en": ["a", "b", "c"]} for n in range(3)]
    schema = parse_questions(rows, "made")
    assert schema.not_mentioned("Q") is None
    assert schema.to_slots({"Q": {2, 1}}) == {"Q-0": 1, "Q-1": 2, "Q-2": 1}
    assert schema.to_sets(schema.to_slots({"Q": {2, 1}})) == {"Q": {1, 2}}
    assert schema.empty_sets() == {"Q": {0}}


def test_a_row_may_lack_slots_as_in_the_official_scorer() -> None:
    schema = load_questions(None)
    assert schema.to_sets({"CQID011-003": 2, "CQID011-005": 7, "CQID025-001": 0}) == {"CQID011": {2, 7}, "CQID025": {0}}
    assert schema.to_sets({}) == {}


@pytest.mark.parametrize("values", [{-1}, {8}, {0, 99}])
def test_values_out_of_range_are_refused(values: set[int]) -> None:
    schema = load_questions(None)
    with pytest.raises(DataError, match=r"CQID011-001: got -?\d+, expected an index in 0\.\.7") as raised:
        schema.to_slots({**schema.empty_sets(), "CQID011": values})
    assert raised.value.exit_code == 3


def test_a_parent_without_an_answer_is_refused() -> None:
    schema = load_questions(None)
    sets = schema.empty_sets()
    del sets["CQID020"]
    for given_sets in (sets, {**sets, "CQID020": ()}):
        with pytest.raises(DataError, match="CQID020: got no answer"):
            schema.to_slots(given_sets)


# --- text <-> index


@quick
@given(definitions(), st.sampled_from((str.upper, str.lower, str.title, "  {}\t".format, "\u3000{}\n".format)))
def test_every_option_in_every_language_names_its_index(rows: list[dict[str, Any]], change: Any) -> None:
    schema = parse_questions(rows, "made")
    for question in schema.slots:
        for lang, options in question.options.items():
            for index, option in enumerate(options):
                assert schema.index(question.qid, change(option)) == index
                if not option[0].isdigit():
                    assert schema.index(question.qid, change(f"1 {option}")) == index
                assert schema.option(question.qid, index, lang) == option


@pytest.mark.parametrize(
    ("qid", "text", "index"),
    [
        ("CQID011-003", "other (please specify)", 6),
        ("CQID011-003", "Other", 6),
        ("CQID011-003", "other (Please Specify) ", 6),
        ("CQID011-003", "1 head", 0),
        ("CQID011-003", "1. head", 0),
        ("CQID011-003", " 12)  Chest/abdomen\n", 4),
        ("CQID035-001", "MULTIPLE", 1),
        ("CQID035-001", "multiple   (please specify)", 1),
        ("CQID034-001", "combination(please specify)", 8),
        ("CQID015-001", "Not  Mentioned", 6),
    ],
)
def test_known_spellings(qid: str, text: str, index: int) -> None:
    assert load_questions(None).index(qid, text) == index


@pytest.mark.parametrize("text", ["", "heads", "1", "hea d", "(please specify)", "0", "head, neck"])
def test_what_names_no_option_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"CQID011-001: got .*, expected the text of one option"):
        load_questions(None).index("CQID011-001", text)


def test_options_that_differ_in_their_leading_number_stay_apart() -> None:
    rows = [{"qid": "Q-1", "question_en": "?", "options_en": ["1 week", "2 weeks", "3 weeks", "week"]}]
    schema = parse_questions(rows, "made")
    assert [schema.index("Q-1", text) for text in ("1 week", "2 Weeks", "3  weeks", "week")] == [0, 1, 2, 3]
    with pytest.raises(DataError):  # two options could be meant
        schema.index("Q-1", "weeks")


def test_options_of_the_same_text_are_refused_where_the_text_is_used() -> None:
    schema = parse_questions([{"qid": "Q", "question_en": "?", "options_en": ["yes", "Yes "]}], "made")
    with pytest.raises(DataError, match="Q: got text of 3 characters"):
        schema.index("Q", "yes")


def test_option_takes_the_first_language_where_one_is_missing() -> None:
    schema = load_questions(None)
    assert schema.option("CQID025-001", 1, "fr") == "no"
    with pytest.raises(DataError, match=r"CQID025-001: got 3, expected an index in 0\.\.2"):
        schema.option("CQID025-001", 3)


@quick
@given(st.text())
@example("1 (please specify) 2 x")
@example("（请注明）")
def test_plain_text_is_folded_for_good(text: str) -> None:
    assert plain(plain(text)) == plain(text)
    assert not re.search(r"\s\s|^\s|\s$", plain(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 Where is it?", "where is it?"),
        ("10 items", "items"),
        ("2.5 cm", "2.5 cm"),
        ("3cm", "3cm"),
        ("其他（请注明）", "其他"),
        ("Otro (por favor, especifique)", "otro"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("a\u00a0b", "a b"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("qid", "parent"),
    [("CQID011-003", "CQID011"), ("CQID011", "CQID011"), ("a-b-2", "a-b"), ("a-b", "a-b"), ("-1", "-1"), ("a-", "a-")],
)
def test_parent_of(qid: str, parent: str) -> None:
    assert parent_of(qid) == parent


# --- faults


@pytest.mark.parametrize("value", ["0", "yes", 3.0, 0.5, float("nan"), True, False, None, [0], {"a": 0}, -1, 3, 10**30])
def test_faults_finds_everything_that_is_no_index(value: object) -> None:
    schema = load_questions(None)
    row: dict[str, Any] = schema.to_slots(schema.empty_sets())
    [line] = schema.faults(row | {"CQID025-001": value}, "row 3")
    assert line.startswith("row 3:CQID025-001: got ")
    assert line.endswith("expected an integer in 0..2; write the 0-based option index")
    assert len(line) < 150


def test_faults_lists_missing_and_unknown_keys_beside_each_other() -> None:
    schema = load_questions(None)
    row: dict[str, Any] = schema.to_slots(schema.empty_sets())
    del row["CQID010-001"], row["CQID020-009"]
    row |= {"encounter_id": "ENC1", "CQID999-001": 0, "x" * 100: 0, "CQID036-001": "rough"}
    lines = schema.faults(row, "r")
    assert lines[:2] == [f"r:{qid}: missing; every question needs an answer" for qid in ("CQID010-001", "CQID020-009")]
    assert [line.split(": got ")[0] for line in lines[2:]] == [
        "r:CQID036-001",
        "r:CQID999-001",
        "r:text of 100 characters",
    ]


@quick
@given(cases())
def test_a_complete_row_has_no_faults(case: tuple[QuestionSchema, dict[str, int]]) -> None:
    schema, row = case
    assert schema.faults(row, "r") == []
    assert schema.faults(row | {"encounter_id": "E"}, "r") == []  # type: ignore[dict-item]


# --- the definitions file


@quick
@given(definitions())
def test_the_definitions_survive_writing_and_reading(rows: list[dict[str, Any]]) -> None:
    schema = parse_questions(rows, "made")
    assert schema.as_json() == rows
    assert parse_questions(json.loads(json.dumps(schema.as_json())), "again") == schema
    assert [q.qid for q in schema.slots] == [row["qid"] for row in rows]
    assert all(schema.by_qid[q.qid] is q for q in schema.slots)


def refused(rows: Any) -> list[str]:
    with pytest.raises(DataError) as raised:
        parse_questions(rows, "d.json")
    assert raised.value.exit_code == 3
    return list(raised.value.problems)


def row(qid: str, *options: str, **more: Any) -> dict[str, Any]:
    return {"qid": qid, "question_en": "?", "options_en": list(options or ("a", "b")), **more}


def test_all_rows_with_missing_keys_are_named() -> None:
    rows: list[Any] = [row(f"Q-{n}") for n in range(12)]
    del rows[2]["qid"], rows[7]["options_en"], rows[11]["question_en"]
    rows[9] = "text"
    assert refused(rows) == [
        "d.json:2: 'qid' is a required property; complete this entry",
        "d.json:7: 'options_en' is a required property; complete this entry",
        "d.json:9: got text, expected object",
        "d.json:11: 'question_en' is a required property; complete this entry",
    ]


@pytest.mark.parametrize("rows", [{}, [], None, "x", [row("Q", "only one")], [row("a b")], [row("")], [row("x" * 65)]])
def test_what_is_no_definitions_file_is_refused(rows: Any) -> None:
    [line] = refused(rows)
    assert line.startswith("d.json")


def test_all_contradictions_are_named() -> None:
    rows = [
        row("A-1", "x", "y"),
        row("A-2", "x", "z"),
        row("A-3", "x", "y", "z"),
        row("B-1", "x", "y", options_zh=["1", "2", "3"]),
        row("C-1"),
        row("C-1"),
        row("A-4", "x", "y"),
    ]
    assert refused(rows) == [
        "d.json:3: got a number of options that depends on the language, expected equal numbers; complete them",
        "d.json:5: got C-1 twice, expected once; remove one row",
        "d.json:A-2: got options unlike those of A-1, expected the same; align the rows",
        "d.json:A-3: got options unlike those of A-1, expected the same; align the rows",
    ]


def test_other_keys_of_a_row_are_left_alone() -> None:
    more = {"question_type_en": "Site", "question_category_zh": "x", "options_count": 2, "note": None}
    [question] = parse_questions([row("Q-1", **more)], "d.json").slots
    assert (dict(question.text), dict(question.options)) == ({"en": "?"}, {"en": ("a", "b")})


def test_a_broken_file_names_file_and_place(tmp_path: Path) -> None:
    path = tmp_path / "closedquestions_definitions.json"
    path.write_text('[{"qid": "Q-1"}]')
    with pytest.raises(DataError) as raised:
        load_questions(path)
    assert raised.value.exit_code == 3
    assert sorted(raised.value.problems) == [
        f"{path}:0: 'options_en' is a required property; complete this entry",
        f"{path}:0: 'question_en' is a required property; complete this entry",
    ]
    path.write_text('[{"qid": "Q-1"')
    with pytest.raises(DataError, match=r"definitions\.json:1:15: not valid JSON"):
        load_questions(path)


def test_the_shipped_fallback() -> None:
    schema = load_questions(None)
    assert schema == load_questions(FALLBACK)
    assert {p: len(qids) for p, qids in schema.parents.items()} == PARENTS
    assert len(schema.slots) == 27
    assert all(schema.not_mentioned(q.parent) == q.size - 1 for q in schema.slots)


@pytest.mark.realdata
@pytest.mark.skipif(not DEFINITIONS.is_file(), reason="../shared/data/dermavqa-text is not here")
def test_the_fallback_has_the_challenges_qids_and_options() -> None:
    ours, real = load_questions(None), load_questions(DEFINITIONS)
    assert [(q.qid, q.options["en"]) for q in ours.slots] == [(q.qid, q.options["en"]) for q in real.slots]


@pytest.mark.realdata
@pytest.mark.skipif(not DEFINITIONS.is_file(), reason="../shared/data/dermavqa-text is not here")
def test_real_definitions_and_gold() -> None:
    schema = load_questions(DEFINITIONS)
    for question in schema.slots:
        for options in question.options.values():
            assert [schema.index(question.qid, option) for option in options] == list(range(question.size))
        assert set(question.options) == {"en", "zh"}
    gold = json.loads((DATA / "train_cvqa.json").read_text())
    assert len(gold) == 300
    for row in gold:
        assert schema.faults(row, row["encounter_id"]) == []
        sets = schema.to_sets({k: v for k, v in row.items() if k != "encounter_id"})
        canonical = schema.canonical(row)
        assert without_padding(schema, schema.to_sets(canonical)) == without_padding(schema, sets)


def test_majority_of_canonical_slots_lowest_index_on_ties() -> None:
    questions = load_questions(None)
    one = questions.to_slots({**questions.empty_sets(), "CQID011": {5}, "CQID034": {4}})
    two = questions.to_slots({**questions.empty_sets(), "CQID011": {2, 5}, "CQID034": {3}})
    turned = two | {f"CQID011-{n:03}": two[f"CQID011-{7 - n:03}"] for n in range(1, 7)}  # 7 7 7 7 5 2
    found = questions.majority([one, turned])
    assert [found[f"CQID011-{n:03}"] for n in range(1, 7)] == [2, 5, 7, 7, 7, 7]
    assert found["CQID034-001"] == 3
    assert questions.majority([]) == {}


def numbered(options: int, questions: int = 1) -> list[dict[str, Any]]:
    names = [f"option {number}" for number in range(options)]
    return [{"qid": f"Q{number:05d}-001", "question_en": "q", "options_en": names} for number in range(questions)]


def test_more_options_than_scores_have_room_for() -> None:
    assert parse_questions(numbered(255), "d.json").slots[0].size == 255
    with pytest.raises(DataError) as caught:
        parse_questions(numbered(5001, 5), "d.json")
    [line] = caught.value.problems
    assert line.startswith(
        "d.json: got questions of many options (Q00000-001 has 5001, Q00001-001 has 5001, Q00002-001 has 5001, ...), "
        "expected at most 255 options each;"
    )
    assert len(parse_questions(numbered(3, 5000), "d.json").slots) == 5000
    with pytest.raises(DataError, match="got 75000 options in all questions, expected at most 65535"):
        parse_questions(numbered(250, 300), "d.json")
