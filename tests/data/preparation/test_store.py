"""The store of cases: order, unique names, and a full disk."""

import pytest

from magic_cli.data.preparation.store import CaseStore
from magic_cli.errors import DataError
from magic_cli.records import Case


def test_cases_come_back_in_order_and_whole() -> None:
    cases = [
        Case(
            "b",
            "",
            ("IMG_1",),
            {"raw": {"en": "é\U0001f600 \x85"}},
            attributes={"age": "4"},
            label="nevus",
            group_id="p1",
        ),
        Case("a", "valid", (), answers={"CQID010-001": 1}, licence="CC0"),
    ]
    with CaseStore() as store:
        assert [store.add_case(case) for case in cases] == [0, 1]
        assert list(store.each_case()) == cases
        assert store.column("label") == ["nevus", None]


def test_names_are_compared_as_files_are() -> None:
    with CaseStore() as store:
        assert [store.claim(name, "photo") for name in ("IMG_É", "img_e\u0301", "IMG_E")] == [True, False, True]
        assert store.claim("IMG_É", "case")


def test_a_name_that_is_taken_gets_the_next_number() -> None:
    with CaseStore() as store:
        store.claim("a-3", "photo")
        assert [store.free_name(name, "photo") for name in ("a", "a", "A", "a")] == ["a", "a-2", "A-4", "a-5"]


def fill(pages: int) -> None:
    with CaseStore() as store:
        store._database.execute(f"PRAGMA max_page_count={pages}")
        for number in range(1000):
            store.add_case(Case(f"case {number}", "", ()))


def test_full_disk_is_one_line() -> None:
    fill(1000)
    with pytest.raises(DataError, match=r"^temporary files: got database or disk is full.*set TMPDIR"):
        fill(20)
