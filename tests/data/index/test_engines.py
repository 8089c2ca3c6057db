"""What engines do differently, one by one: each has a line in an adapter that makes it the same."""

import json
import uuid
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from magic_cli.data.index import create_index, has_index, open_index
from magic_cli.data.index.base import CaseIndex, Hit, IndexedCase, IndexInfo, Part, exact_scores, widening
from magic_cli.data.index.where import parse_where
from magic_cli.errors import DataError, ExtraError, UsageError

PARTS = (Part("local", 2, "local"), Part("global", 2, "global"))
INFO = IndexInfo("ab" * 32, PARTS, fields=("age",))
VECTORS = np.array([[1, 0, 0.6, 0.8], [0, 1, 1, 0], [-1, 0, 0, 1]], np.float32)
CASES = [IndexedCase("é/1 x", {"age": "40", "name": "Alice"}, "h1", "thumbs/a"), IndexedCase("b"), IndexedCase("c")]

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}:UserWarning") for text in ("Local mode", "Payload indexes")]


class Calls:
    """A Qdrant client in memory that notes what it is asked."""

    def __init__(self) -> None:
        from qdrant_client import QdrantClient

        self.client, self.calls = QdrantClient(":memory:"), []  # type: ignore[var-annotated]

    def __getattr__(self, name: str) -> Any:
        def call(*words: Any, **options: Any) -> Any:
            self.calls.append((name, words, options))
            return getattr(self.client, name)(*words, **options)

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(words, options) for called, words, options in self.calls if called == name]


@pytest.fixture
def qdrant() -> tuple[Calls, CaseIndex]:
    pytest.importorskip("qdrant_client", reason="the extra `qdrant` is not installed")
    from magic_cli.data.index.qdrant import create_qdrant

    calls = Calls()
    index = create_qdrant(calls, "cases", INFO)  # type: ignore[arg-type]
    index.add(CASES, VECTORS)
    index.search(VECTORS[:1], 1, parse_where("age > 1"))
    return calls, index


def test_lance_returns_1_minus_the_product(tmp_path: Path) -> None:
    pytest.importorskip("lancedb", reason="the extra `index` is not installed")
    from magic_cli.data.index.lance import LanceIndex

    index = create_index(f"lance:{tmp_path}", INFO)
    assert isinstance(index, LanceIndex)
    index.add(CASES, VECTORS)
    # what the adapter hands on, before scores are computed again: without 1 - x the order would be reversed
    assert [round(hit.score, 5) for hit in index._fetch(VECTORS[0], 3, None)] == [2.0, 0.6, -0.2]
    assert (has_index(f"lance:{tmp_path}"), has_index(f"lance:{tmp_path / 'other'}")) == (True, False)
    # the checksum is in the table itself
    assert json.loads(index._table.schema.metadata[b"magic"])["model_sha256"] == INFO.model_sha256


@pytest.mark.parametrize("damaged", ["*.manifest", "*.lance"])
def test_damaged_files_of_lance_are_one_line(tmp_path: Path, damaged: str) -> None:
    pytest.importorskip("lancedb", reason="the extra `index` is not installed")
    index = create_index(f"lance:{tmp_path}", INFO)
    index.add(CASES, VECTORS)
    for path in tmp_path.rglob(damaged):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(DataError, match="lancedb cannot read"):
        open_index(f"lance:{tmp_path}").contents()


def test_qdrant_ids_are_uuids_and_the_id_is_in_the_payload(qdrant: tuple[Calls, CaseIndex]) -> None:
    points = qdrant[0].of("upsert")[0][0][1]
    from magic_cli.data.index.qdrant import _NAMESPACE

    assert [point.id for point in points] == [str(uuid.uuid5(_NAMESPACE, case.id)) for case in CASES]
    assert [point.payload["id"] for point in points] == ["é/1 x", "b", "c"]


def test_qdrant_searches_exactly_stores_the_norm_and_waits(qdrant: tuple[Calls, CaseIndex]) -> None:
    calls, index = qdrant
    assert calls.of("query_points")[0][1]["search_params"].exact is True
    created = calls.of("create_collection")[0][1]
    assert created["vectors_config"].distance.value == "Dot"
    assert created["hnsw_config"].m == 0
    assert float(np.linalg.norm(index.search(VECTORS[:1], 1)[0][0].vector)) == pytest.approx(2**0.5)
    index.delete(["b"])
    writes = [options for name in ("upsert", "delete", "create_payload_index") for _, options in calls.of(name)]
    assert len(writes) == 4
    assert all(options["wait"] is True for options in writes)


def test_qdrant_fields_are_indexed_before_the_first_point(qdrant: tuple[Calls, CaseIndex]) -> None:
    names = [name for name, _, _ in qdrant[0].calls]
    last = len(names) - 1 - names[::-1].index("create_payload_index")
    assert last < names.index("upsert")


def test_only_listed_fields_leave_this_machine(qdrant: tuple[Calls, CaseIndex]) -> None:
    sent = qdrant[0].of("upsert")[0][0][1]
    assert sent[0].payload == {"id": "é/1 x", "content": "h1", "text0": "40", "number0": 40.0}
    assert sent[1].payload == {"id": "b", "content": "", "text0": ""}  # missing is a text that a filter can ask for
    assert "Alice" not in repr(qdrant[0].calls)
    assert "thumbs" not in repr(qdrant[0].calls)


@pytest.mark.parametrize(
    ("location", "key", "message"),
    [
        ("http://example.org:6333/cases", "secret", "http to another machine"),
        ("https://example.org:6333/cases", "", "QDRANT_API_KEY"),
        ("http://127.0.0.1.example.org/cases", "", "http to another machine"),
        ("http://127.0.0.1:6333", "", "a URL of another form"),
        ("http://127.0.0.1:6333/a/b", "", "a URL of another form"),
        ("http://user:secret@127.0.0.1:6333/cases", "", "a URL of another form"),
        ("http://127.0.0.1:port/cases", "", "a URL of another form"),
    ],
)
def test_an_address_that_is_not_protected_is_refused(
    location: str, key: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDRANT_API_KEY", key)
    with pytest.raises(UsageError, match=message) as refused:
        open_index(location)
    assert "secret" not in str(refused.value)


def test_a_protected_address_gets_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client", reason="the extra `qdrant` is not installed")
    from magic_cli.data.index.qdrant import connect

    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    with patch("qdrant_client.QdrantClient") as client:
        assert connect("https://example.org/cases")[1] == "cases"
    assert {"host": "example.org", "port": 6333, "https": True, "api_key": "secret"}.items() <= client.call_args[
        1
    ].items()


def test_a_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client", reason="the extra `qdrant` is not installed")
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    with pytest.raises(DataError, match="collection cases: got no answer, expected one of a Qdrant server"):
        open_index("http://127.0.0.1:9/cases")


@pytest.mark.parametrize(("module", "location"), [("lancedb", "lance:x"), ("qdrant_client", "http://localhost/x")])
def test_an_extra_that_is_not_installed_is_named(module: str, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ExtraError, match=r"pip install (lancedb|qdrant-client)"):
        open_index(location)


def test_ties_beyond_what_was_fetched_are_fetched_too() -> None:
    asked: list[int] = []

    def fetch(most: int) -> list[Hit]:
        asked.append(most)
        return [Hit(str(i), 1.0 if i < 50 else 0.0, {}, np.zeros(4, np.float32)) for i in range(min(most, 1000))]

    assert len(widening(fetch, 5, 1e-6)) == 100
    assert asked == [25, 100]
    assert len(widening(fetch, 60, 1e-6)) == 1000  # all tie from the 60th on


def test_equal_vectors_score_the_same_wherever_they_are() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(1, 2688)).astype(np.float32), 4001, 0)
    assert len(set(exact_scores(rng.normal(size=2688).astype(np.float32), vectors).tolist())) == 1
