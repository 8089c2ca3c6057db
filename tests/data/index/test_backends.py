"""All kinds of index find what plain numpy finds: ties, conditions, deletions, replacements, float16, reopening."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from magic_cli.data.index import create_index, open_index, rebuild_index
from magic_cli.data.index.base import CaseIndex, Hit, IndexedCase, IndexInfo, Part
from magic_cli.data.index.where import matches, parse_where
from magic_cli.errors import DataError, UsageError

PARTS = (Part("local_l", 5, "local"), Part("global_l", 6, "global"), Part("local_m", 5, "local"))
FIELDS = ("diagnosis", "age", "Lesion Site", "sex")
ROWS = 1000

FILTERS = (
    "diagnosis = 'melanoma'",
    "diagnosis != 'melanoma'",
    "diagnosis in ('nevus', 'it''s \"odd\" \\ é')",
    "not diagnosis in ('nevus', 'melanoma')",
    "age >= 40",
    "age > 20 and age <= 60.5",
    "not age < 50",
    "age = 40",
    "missing(age)",
    "not missing(sex) and (\"Lesion Site\" = 'back' or age < 30)",
    "sex = 'female' and age = '40.0'",
    "diagnosis = 'nevus' and diagnosis = 'melanoma' or age > 1000",
)


@dataclass(frozen=True)
class Backend:
    """How to create, reopen and rebuild an index of one kind; each test has its own."""

    create: Callable[[IndexInfo], CaseIndex]
    reopen: Callable[[], CaseIndex]
    rebuild: Callable[[IndexInfo], CaseIndex]


def in_memory() -> Backend:
    pytest.importorskip("qdrant_client", reason="the extra `qdrant` is not installed")
    from qdrant_client import QdrantClient

    from magic_cli.data.index.qdrant import QdrantIndex, create_qdrant, rebuild_qdrant

    client = QdrantClient(":memory:")
    return Backend(
        lambda info: create_qdrant(client, "cases", info),
        lambda: QdrantIndex(client, "cases"),
        lambda info: rebuild_qdrant(client, "cases", info),
    )


@pytest.fixture(params=["folder", "lance", "qdrant"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "qdrant":
        return in_memory()
    if request.param == "lance":
        pytest.importorskip("lancedb", reason="the extra `index` is not installed")
    where = f"lance:{tmp_path / 'db'}" if request.param == "lance" else tmp_path / "index"
    return Backend(
        lambda info: create_index(where, info),
        lambda: open_index(where),
        lambda info: rebuild_index(where, info),
    )


def made(rows: int = ROWS, seed: int = 0) -> tuple[list[IndexedCase], NDArray[np.float32]]:
    """Return cases with missing and odd values, and vectors of which every tenth is the same: a hundred that tie."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 16)).astype(np.float32)
    start = 0
    for part in PARTS:
        stretch = vectors[:, start : start + part.width]
        stretch /= np.linalg.norm(stretch, axis=1, keepdims=True)
        start += part.width
    vectors[::10] = vectors[3]
    texts = {
        "diagnosis": ("melanoma", "nevus", 'it\'s "odd" \\ é', ""),
        "age": ("40", "40.0", " 55 ", "20", "old", "60.5", "-3", ""),
        "Lesion Site": ("back", "chest", ""),
        "sex": ("female", "male", ""),
        "secret": ("never kept",),
    }
    picked = {name: rng.integers(len(values), size=rows) for name, values in texts.items()}
    cases = []
    for row in rng.permutation(rows).tolist():
        fields = {name: values[picked[name][row]] for name, values in texts.items()}
        cases.append(IndexedCase(f"case {row:04d}/é", fields, f"hash{row}", f"thumbs/{row}.jpg"))
    return cases, vectors


def kept(case: IndexedCase) -> dict[str, str]:
    return {name: case.fields[name] for name in FIELDS if case.fields[name]}


def expected(
    rows: dict[str, tuple[IndexedCase, NDArray[np.float32]]], query: NDArray[np.float32], k: int, text: str = ""
) -> list[tuple[str, float]]:
    """Return ids and scores by plain numpy: descending score in float32, equal ones by id."""
    where = parse_where(text) if text else None
    scores = (np.stack([vector for _, vector in rows.values()]).astype(np.float64) * query).sum(axis=1)
    scored = [
        (-score, name)
        for score, (name, (case, _)) in zip(scores.astype(np.float32).tolist(), rows.items(), strict=True)
        if where is None or matches(where, kept(case))
    ]
    return [(name, -score) for score, name in sorted(scored)[:k]]


def seen(hits: list[Hit]) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in hits]


# what a server does and the client's memory does not: approximate search, and indexes of fields
pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}:UserWarning") for text in ("Local mode", "Payload indexes")]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_agrees_with_numpy(backend: Backend, dtype: str) -> None:
    cases, vectors = made()
    info = IndexInfo("ab" * 32, PARTS, 0.6, fields=FIELDS, licences=("CC0",), dtype=dtype)  # type: ignore[arg-type]
    index = backend.create(info)
    for start in range(0, ROWS, 300):
        index.add(cases[start : start + 300], vectors[start : start + 300])
    stored = vectors.astype(dtype).astype(np.float32)
    rows = {case.id: (case, vector) for case, vector in zip(cases, stored, strict=True)}
    rng = np.random.default_rng(1)
    asked = np.concatenate([vectors[[3]] * np.float32(0.4), rng.normal(size=(1, 16)).astype(np.float32)])

    def check(index: CaseIndex, texts: tuple[str, ...], k: int, queries: NDArray[np.float32] = asked) -> None:
        for text in texts:
            hits = index.search(queries, k, parse_where(text) if text else None)
            assert [seen(one_query) for one_query in hits] == [expected(rows, query, k, text) for query in queries], (
                text
            )
            for hit in hits[0]:
                case, vector = rows[hit.id]
                assert hit.fields == kept(case)
                assert hit.content == case.content
                assert hit.vector.dtype == np.float32
                assert hit.vector.tolist() == vector.tolist()

    assert len(FILTERS) == 12
    check(index, ("",), 20)
    check(index, FILTERS if dtype == "float32" else FILTERS[-3:], 20, asked[:1])
    check(index, (FILTERS[0],), 2000, asked[1:])  # more than there are
    check(index, ("",), 3, np.zeros((1, 16), np.float32))  # all tie

    gone = [case.id for case in cases[5:400:3]]
    assert index.delete([*gone, gone[0], "never there"]) == len(gone)
    for name in gone:
        del rows[name]
    again = [
        IndexedCase(case.id, {"diagnosis": "nevus", "age": "7", "sex": "", "Lesion Site": ""}, "new")
        for case in cases[:50]
    ]
    index.add([again[0], *again], vectors[100:151])  # of an id given twice, the last counts
    rows |= {case.id: (case, vector) for case, vector in zip(again, stored[101:151], strict=True)}
    check(index, ("", FILTERS[1], FILTERS[8]), 20, asked[:1])

    index.compact()
    with backend.reopen() as reopened:
        assert reopened.info == info
        assert len(reopened) == len(rows)
        assert reopened.contents() == {name: case.content for name, (case, _) in rows.items()}
        check(reopened, (FILTERS[9],), 7)


def test_what_cannot_be_compared_is_refused_before_anything_is_stored(backend: Backend) -> None:
    cases, vectors = made(20)
    index = backend.create(IndexInfo("ab" * 32, PARTS, fields=FIELDS))
    assert index.search(vectors[:1], 5) == [[]]
    for value, message in ((np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (3.0, "norm .* of its part")):
        bad = vectors.copy()
        bad[7, 9] = value
        with pytest.raises(DataError, match=message):
            index.add(cases, bad)
    with pytest.raises(DataError, match="got a vector of 15 values, expected 16"):
        index.add(cases, vectors[:, :15])
    assert len(index) == 0
    index.add(cases, vectors)
    with pytest.raises(DataError, match="a query with NaN"):
        index.search(np.full((1, 16), np.nan, np.float32), 1)
    with pytest.raises(UsageError, match="got the field secret"):
        index.search(vectors[:1], 1, parse_where("secret = 'never kept'"))
    index.check_model("ab" * 32)
    with pytest.raises(DataError, match="a model of checksum cdcdcdcdcdcd, expected abababababab"):
        index.check_model("cd" * 32)
    with pytest.raises(DataError, match="add to it with"):
        backend.create(index.info)


def test_a_rebuild_is_not_seen_until_it_is_complete(backend: Backend) -> None:
    cases, vectors = made(40)
    before = IndexInfo("ab" * 32, PARTS, fields=FIELDS, created="2026-01-01")
    index = backend.create(before)
    index.add(cases, vectors)
    after = IndexInfo("cd" * 32, PARTS[:1], fields=("age",), created="2026-02-01")
    new = backend.rebuild(after)
    new.add(cases[:10], vectors[:10, :5])
    assert backend.reopen().info == before
    assert len(backend.reopen()) == 40
    resumed = backend.rebuild(IndexInfo("cd" * 32, PARTS[:1], fields=("age",), created="2026-02-02"))
    assert len(resumed.contents()) == 10
    resumed.add(cases[10:20], vectors[10:20, :5])
    resumed.publish()
    assert backend.reopen().info == after
    assert len(backend.reopen()) == 20
    assert len(resumed.search(vectors[:1, :5], 30)[0]) == 20
    with backend.rebuild(before) as other:  # and once more, with another model
        other.add(cases[:3], vectors[:3])
        other.publish()
        assert len(other) == 3
