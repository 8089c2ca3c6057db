"""Numbers of prepare.json, by hand."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from magic_cli.data.manifest import agreement, digest
from magic_cli.report.prepare_text import summary


def test_agreement() -> None:
    dices = {"c": 0.05, "b": 0.0499, "a": 0.05, "e": 1.0, "d": 0.9500001}
    found = agreement(dices)
    assert found is not None
    assert (found["images"], found["median_dice"]) == (5, 0.05)
    assert found["mean_dice"] == pytest.approx(sum(dices.values()) / 5, abs=1e-6)
    assert found["histogram"] == [1, 2, *[0] * 16, 0, 2]
    assert [row["image"] for row in found["lowest"]] == ["b", "a", "c", "d", "e"]  # ties by name
    assert found["lowest"][3]["dice"] == 0.95
    assert agreement({}) is None


def test_thirty_photos_are_named() -> None:
    found = agreement({f"IMG_{k:03}": 1 - k / 100 for k in range(100)})
    assert found is not None
    assert [row["image"] for row in found["lowest"]] == [f"IMG_{k:03}" for k in range(99, 69, -1)]
    assert sum(found["histogram"]) == 100


def test_digest_is_that_of_the_names_and_hashes_in_any_order() -> None:
    lines = ["b 2", "a 1"]
    assert digest(lines) == digest(lines[::-1]) == {"count": 2, "sha256": hashlib.sha256(b"a 1\nb 2").hexdigest()}
    assert digest(lines) != digest(["a 2", "b 1"])
    assert digest([]) == {"count": 0, "sha256": hashlib.sha256(b"").hexdigest()}


def test_summary_names_the_page() -> None:
    counts: dict[str, Any] = dict.fromkeys(("cases", "images", "masks", "answered"), 1)
    manifest = {"counts": dict.fromkeys(("train", "valid", "test"), counts), "mask_values": {}, "agreement": None}
    manifest |= {"prompts": None, "notes": [], "problems": [], "left_out": {}}
    assert summary(manifest, Path("out/index.html"))[-1] == f"look at it: {Path('out/index.html')}"
    assert not any("look at it" in line for line in summary(manifest))
