"""Splits where a source has none: whole groups, shares and labels kept, the same for the same seed; else its own."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from challenge_folders import draw_photo, save_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from listed_source import listed, planned, prepare_listed, raw_case

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.manifest import PrepareManifest
from magic_cli.data.preparation.plan import PlanOptions
from magic_cli.data.preparation.splits import (
    DEALT,
    NO_SPLIT,
    OFFICIAL,
    TEST,
    TRAIN,
    VALID,
    VALID_DEALT,
    SplitRule,
    deal,
    divided,
    settle_splits,
)
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError
from magic_cli.io import schema
from magic_cli.records import SPLITS, Case

SHARES = (0.7, 0.15, 0.15)


def table(splits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return cases by label and split, (labels, 3)."""
    found = np.zeros((labels.max() + 1, len(SHARES)), int)
    np.add.at(found, (labels, splits), 1)
    return found


# ---- dealing


@pytest.mark.parametrize("labels", [(871, 235, 95), (900, 60, 40), (10,) * 50, (1,) * 300], ids=str)
def test_every_label_and_all_cases_keep_their_shares(labels: tuple[int, ...]) -> None:
    """Labels of one case as well: taken together, they are dealt by the shares."""
    label = np.repeat(np.arange(len(labels)), labels)
    for seed in range(3):
        found = table(deal(np.arange(len(label)), label, SHARES, seed), label)
        due = np.outer(labels, SHARES)
        assert np.abs(found - due).max() < 2
        assert np.abs(found.sum(0) - due.sum(0)).max() < 2


def test_patients_of_many_photos_and_several_labels_keep_the_shares() -> None:
    """PAD-UFES-20: 2,298 photos of 1,373 patients and six diagnoses."""
    draw = np.random.default_rng(5)
    groups = np.concatenate([np.arange(1373), draw.integers(1373, size=2298 - 1373)])
    labels = np.repeat(np.arange(6), (845, 730, 244, 235, 192, 52))
    splits = deal(groups, draw.permutation(labels), SHARES, 0)
    assert divided(splits, groups) == 0
    assert np.abs(np.bincount(splits) / len(groups) - SHARES).max() < 0.005


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 12), st.integers(-1, 4)), min_size=1, max_size=60), st.integers(0, 5))
def test_groups_are_never_divided(pairs: list[tuple[int, int]], seed: int) -> None:
    groups, labels = np.array(pairs).T
    splits = deal(groups, labels, SHARES, seed)
    assert divided(splits, groups) == 0
    assert set(splits.tolist()) <= {0, 1, 2}
    if len(set(groups.tolist())) == 1:
        assert not splits.any()  # one group: train


def test_the_seed_decides_and_the_order_of_the_rows_does_not() -> None:
    groups, labels = np.arange(200) // 3, np.arange(200) % 4
    order = np.random.default_rng(0).permutation(200)
    first = deal(groups, labels, SHARES, 1)
    assert np.array_equal(first, deal(groups, labels, SHARES, 1))
    assert np.array_equal(first[order], deal(groups[order], labels[order], SHARES, 1))
    assert not np.array_equal(first, deal(groups, labels, SHARES, 2))


@pytest.mark.parametrize(
    ("number", "counts"), [(0, []), (1, [1]), (2, [2]), (3, [2, 1]), (4, [2, 1, 1]), (20, [14, 3, 3])]
)
def test_few_cases(number: int, counts: list[int]) -> None:
    splits = deal(np.arange(number), np.zeros(number, np.int64), SHARES, 0)
    assert sorted(np.bincount(splits).tolist(), reverse=True) == counts


def test_a_share_of_nothing_gets_nothing() -> None:
    splits = deal(np.arange(100), np.arange(100) % 2, (0.8, 0.2, 0.0), 0)
    assert np.bincount(splits).tolist() == [80, 20]


def test_many_cases_of_many_labels() -> None:
    """41,300 take 0.3 s on one core, 413,000 take 3 s."""
    draw = np.random.default_rng(0)
    splits = deal(draw.permutation(41_300) // 2, draw.zipf(1.3, 41_300) % 400, SHARES, 0)
    assert np.abs(np.bincount(splits) / 41_300 - SHARES).max() < 1e-3


# ---- the source's own splits

OFFICIAL_SPLITS = {  # what the source has to what is done, and which splits then have cases
    "none": ([NO_SPLIT], DEALT, {TRAIN, VALID, TEST}),
    "train alone": ([TRAIN], DEALT, {TRAIN, VALID, TEST}),
    "train, some without": ([TRAIN, NO_SPLIT], DEALT, {TRAIN, VALID, TEST}),
    "all": ([TRAIN, TRAIN, VALID, TEST], OFFICIAL, {TRAIN, VALID, TEST}),
    "no valid": ([TRAIN, TRAIN, TRAIN, TEST], VALID_DEALT, {TRAIN, VALID, TEST}),
    "test, the others without": ([NO_SPLIT, NO_SPLIT, TEST], VALID_DEALT, {TRAIN, VALID, TEST}),
    "no test": ([TRAIN, TRAIN, VALID], OFFICIAL, {TRAIN, VALID}),
    "valid, the others without": ([NO_SPLIT, NO_SPLIT, VALID], OFFICIAL, {TRAIN, VALID}),
    "test alone": ([TEST], OFFICIAL, {TEST}),
}


@pytest.mark.parametrize("name", OFFICIAL_SPLITS)
def test_what_is_done_with_the_splits_of_a_source(name: str) -> None:
    pattern, expected, filled = OFFICIAL_SPLITS[name]
    official = np.tile(np.array(pattern, np.int8), 40)
    splits, rule = settle_splits(official, np.arange(len(official)), np.arange(len(official)) % 3, SplitRule())
    assert (rule, set(splits.tolist())) == (expected, filled)
    if rule != DEALT:  # what the source scores on stays what it is
        for split in (VALID, TEST):
            assert np.all(splits[official == split] == split)
        assert not np.any(splits[official != TEST] == TEST)
    if rule == VALID_DEALT:
        train = official != TEST
        assert np.mean(splits[train] == VALID) == pytest.approx(0.15, abs=0.01)


def test_a_case_without_a_split_follows_its_group() -> None:
    """Else train would hold photos of a patient who is in test."""
    official = np.array([TRAIN, VALID, TEST, NO_SPLIT, NO_SPLIT, NO_SPLIT], np.int8)
    splits, _ = settle_splits(official, np.array([1, 1, 2, 2, 1, 3]), np.zeros(6, np.int64), SplitRule())
    assert splits.tolist() == [TRAIN, VALID, TEST, TEST, VALID, TRAIN]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (SplitRule(valid=-0.1), "--valid: got -0.1"),
        (SplitRule(test=math.nan), "--test: got nan"),
        (SplitRule(valid=0.5, test=0.5), "--valid and --test: got 0.5 and 0.5, expected less than 1 together"),
        (SplitRule(seed=-1), "--seed: got -1"),
    ],
)
def test_shares_that_are_none(rule: SplitRule, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rule.check()


# ---- groups, and what is noted


def cases(number: int = 60) -> list[Case]:
    """Cases of 20 patients with three lesions each, which are numbered from 1 for each patient, as in PAD-UFES-20."""
    return [
        Case(
            f"C{n:03}",
            "",
            (),
            label=("nevus", "melanoma", None)[n % 3],
            group_id=f"P{n // 6}",
            attributes={"patient": f"P{n // 6}", "lesion": str(n % 6 // 2), "clinic": f"K{n % 5}"},
        )
        for n in range(number)
    ]


@pytest.mark.parametrize(("by", "groups"), [("", 10), ("patient", 10), ("lesion", 30), ("case", 60), ("clinic", 5)])
def test_what_is_never_divided(by: str, groups: int) -> None:
    found, issues = planned(cases(), PlanOptions(by=by))
    assert len(set(found.groups)) == groups
    assert all(
        len({s for s, g in zip(found.splits, found.groups, strict=True) if g == name}) == 1
        for name in set(found.groups)
    )
    assert set(found.splits) == set(SPLITS)
    assert issues.notes[0].startswith("splits: the source has none: dealt, valid 15% and test 15%: whole ")
    assert not issues.problems


def test_a_case_without_the_attribute_keeps_its_group() -> None:
    found, _ = planned([*cases(6), Case("X", "", (), group_id="own")], PlanOptions(by="clinic"))
    assert found.groups == ["K0", "K1", "K2", "K3", "K4", "K0", "own"]


def test_a_row_without_its_patient_stays_with_the_other_rows_of_its_lesion() -> None:
    """As in exports of the ISIC archive; a lesion number that several patients have says nothing."""
    named = [("IL_1", "IP_1"), ("IL_1", ""), ("IL_2", ""), ("1", "IP_1"), ("1", "IP_2"), ("1", "")]
    rows = [
        Case(
            f"C{number}",
            "",
            (),
            group_id=patient or lesion,
            attributes={"lesion": lesion} | ({"patient": patient} if patient else {}),
        )
        for number, (lesion, patient) in enumerate(named)
    ]
    assert planned(rows, PlanOptions())[0].groups == ["IP_1", "IP_1", "IL_2", "IP_1", "IP_2", "1"]


def test_an_attribute_that_no_case_has() -> None:
    with pytest.raises(
        ConfigError, match=r"--split-by: got hospital, .* expected one of case, clinic, lesion, patient"
    ):
        planned(cases(), PlanOptions(by="hospital"))


def test_labels_are_counted_in_a_note() -> None:
    _, issues = planned(cases(), PlanOptions())
    [line] = [note for note in issues.notes if note.startswith("cases of train / valid / test by label: ")]
    numbers = [int(word) for word in line.replace(",", "").split() if word.isdigit()]
    assert sum(numbers) == 40  # those with a label


def test_few_groups_leave_splits_empty_and_a_note_says_so() -> None:
    found, issues = planned([Case("A", "", (), group_id="P"), Case("B", "", (), group_id="P")], PlanOptions())
    assert found.splits == ["train", "train"]
    assert issues.notes[-1] == "no case in valid and test: 1 group is too few"


def test_groups_that_the_source_divides_are_noted() -> None:
    rows = [Case(f"C{n}", SPLITS[n % 3], (), group_id=f"P{n // 2}", label="x") for n in range(6)]
    found, issues = planned(rows, PlanOptions())
    assert found.splits == ["train", "valid", "test"] * 2
    assert "3 groups have cases in several of the source's splits: scores there may be too high" in issues.notes


def test_labels_without_a_case_in_train_are_noted() -> None:
    rows = [Case(f"C{n}", SPLITS[n % 3], (), group_id=f"P{n}", label="rare" if n == 2 else "x") for n in range(9)]
    assert "1 label has no case in train: rare" in planned(rows, PlanOptions())[1].notes


def test_the_challenge_keeps_its_splits_even_if_train_is_alone() -> None:
    rows = [Case(f"C{n}", "train", (), group_id=f"C{n}") for n in range(20)]
    found, issues = planned(rows, PlanOptions(), is_challenge=True)
    assert (set(found.splits), found.split_rule, issues.notes) == ({"train"}, OFFICIAL, [])


# ---- through prepare


def test_prepare_writes_down_how_splits_were_dealt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for number in range(20):
        photo = tmp_path / "photos" / f"p{number}.png"
        photo.parent.mkdir(exist_ok=True)
        save_photo(photo, draw_photo(seed=number))
        facts = {"label": "ab"[number % 2], "group_id": f"P{number // 2}", "attributes": {"patient": f"P{number // 2}"}}
        rows.append(raw_case(number, photo, **facts))
    prepare_listed(monkeypatch, listed(rows, tmp_path))
    result = prepare(
        tmp_path / "photos", tmp_path / "p", PrepareOptions(split_by="patient", valid=0.2, test=0.1, seed=3)
    )
    manifest = json.loads((tmp_path / "p" / "prepare.json").read_text(encoding="utf-8"))
    assert schema.problems("prepared", manifest, "prepare.json") == []
    shares = {"split_rule": "dealt", "split_by": "patient", "valid": 0.2, "test": 0.1, "seed": 3}
    assert (shares | {"source": "listed"}).items() <= manifest["settings"].items()
    assert {split: manifest["counts"][split]["cases"] for split in SPLITS} == {"train": 14, "valid": 4, "test": 2}
    labels = manifest["labels"]
    assert labels["kinds"] == 2
    assert labels["counts"] == {label: {"train": 7, "valid": 2, "test": 1} for label in "ab"}
    found = open_prepared(tmp_path / "p")
    assert found.manifest == result.manifest
    by_group = Counter((case.group_id, case.split) for case in found.cases.values())
    assert len(by_group) == 10
    assert set(by_group.values()) == {2}


def test_an_older_prepared_dataset_stays_readable(prepared: Path) -> None:
    row = json.loads((prepared / "prepare.json").read_text(encoding="utf-8"))
    row["settings"] = {key: row["settings"][key] for key in ("merge", "prompt", "responses")}
    del row["labels"]
    assert schema.problems("prepared", row, "prepare.json") == []
    older = PrepareManifest.from_json(row)
    assert (older.labels, older.settings.split_rule) == (None, OFFICIAL)
