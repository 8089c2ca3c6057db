"""Numbers of prepare.json, by hand."""

import hashlib
import json
from pathlib import Path

import pytest

from magic_cli.data.manifest import Digest, PrepareManifest, agreement, digest


def test_agreement() -> None:
    dices = {"c": 0.05, "b": 0.0499, "a": 0.05, "e": 1.0, "d": 0.9500001}
    result = agreement(dices)
    assert result is not None
    assert (result.images, result.median_dice) == (5, 0.05)
    assert result.mean_dice == pytest.approx(sum(dices.values()) / 5, abs=1e-6)
    assert result.histogram == (1, 2, *[0] * 16, 0, 2)
    assert [row.image for row in result.lowest] == ["b", "a", "c", "d", "e"]  # ties by name
    assert result.lowest[3].dice == 0.95
    assert agreement({}) is None


def test_thirty_photos_are_named() -> None:
    result = agreement({f"IMG_{k:03}": 1 - k / 100 for k in range(100)})
    assert result is not None
    assert [row.image for row in result.lowest] == [f"IMG_{k:03}" for k in range(99, 69, -1)]
    assert sum(result.histogram) == 100


def test_digest_is_that_of_the_names_and_hashes() -> None:
    lines = ["b 2", "a 1"]
    assert digest(sorted(lines)) == Digest(2, hashlib.sha256(b"a 1\nb 2").hexdigest())
    assert digest(sorted(lines)) != digest(["a 2", "b 1"])
    assert digest([]) == Digest(0, hashlib.sha256(b"").hexdigest())


def test_json_and_manifest_are_inverse(prepared: Path) -> None:
    row = json.loads((prepared / "prepare.json").read_text(encoding="utf-8"))
    assert PrepareManifest.from_json(row).to_json() == row
    assert (row["schema"], row["format"]) == (2, "magic-prepared")
    bare = row | {"published": None, "agreement": None, "prompts": None}
    assert PrepareManifest.from_json(bare).to_json() == bare
    published = {"counts": {"test": {"cases": 100}}, "difference": {"test": {"cases": 0}}}
    assert PrepareManifest.from_json(row | {"published": published}).to_json() == row | {"published": published}
