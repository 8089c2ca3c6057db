"""A raw dataset whose cases are listed in a test: what comes after the adapters, without one."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from magic_cli.data.issues import IssueLog
from magic_cli.data.preparation.plan import Plan, PlanOptions, plan
from magic_cli.data.preparation.store import CaseStore
from magic_cli.data.sources.source import RawCase, RawDataset, RawPhoto
from magic_cli.records import Case


def listed(cases: Iterable[RawCase], root: Path = Path(), **facts: Any) -> RawDataset:
    """Return the raw dataset of these cases."""
    return RawDataset("listed", root, tuple(cases), IssueLog(), {}, **facts)


def raw_case(number: int, *photos: Path, masks: Mapping[str, str] | None = None, **facts: Any) -> RawCase:
    """Return a case with these photos, whose ids are the names of the files."""
    found = tuple(RawPhoto(path.stem, str(path), masks or {}) for path in photos)
    case = Case(f"C{number:04}", facts.pop("split", ""), tuple(photo.image_id for photo in found), **facts)
    return RawCase(case, found, f"cases.csv:{number + 2}")


def planned(cases: Iterable[Case], options: PlanOptions, is_challenge: bool = False) -> tuple[Plan, IssueLog]:
    """Return the splits and groups of cases without photos, and what was noted."""
    raw = listed((), is_challenge=is_challenge)
    with CaseStore() as store:
        for case in cases:
            store.add_case(case)
        return plan(raw, store, options), raw.issues


def prepare_listed(monkeypatch: pytest.MonkeyPatch, raw: RawDataset) -> None:
    """Let `prepare` read this dataset, whatever is at --data."""
    monkeypatch.setattr("magic_cli.commands.prepare.open_source", lambda *_: raw)
