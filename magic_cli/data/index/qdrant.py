"""A case index on a Qdrant server (extra `qdrant`): shards, replicas and many users; searched exactly, as any other.

What leaves this machine: id, content hash, the fields that `IndexInfo.fields` lists, and vectors; no picture and no
path. A collection NAME.1 has the alias NAME, which a rebuild moves to NAME.2 at once.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from magic_cli.data.index.base import CaseIndex, Hit, IndexedCase, IndexInfo, in_batches, rounding, widening
from magic_cli.data.index.where import And, Equals, In, Missing, Not, Or, Range, Where, number_of
from magic_cli.errors import DataError, ExtraError, UsageError, problem

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

KEY = "QDRANT_API_KEY"

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_POINTS = 256  # in one request: 14 MB of JSON at 2,688 values, below the 32 MB that a server takes

_IDS = 1000

_SECONDS = 120

_NAMESPACE = uuid.UUID("7b0d0a0e-6f0b-5c8e-9a56-1d1a6a3b6c10")

T = TypeVar("T")


def _qdrant() -> Any:
    try:
        import qdrant_client
    except ImportError:
        remedy = "pip install qdrant-client, or name a folder"
        raise ExtraError(f"Qdrant indexes need qdrant-client, which is not installed; {remedy}") from None
    return qdrant_client


def connect(location: str) -> tuple["QdrantClient", str]:
    """Return a client and the name of the collection for "http(s)://HOST:PORT/COLLECTION".

    Raises:
        ExtraError: qdrant-client is not installed.
        UsageError: the location names no collection, holds a password, or leads to another machine without TLS or
            without a key: fields of patients would be readable on the way, or by anyone.
    """
    form = "http://127.0.0.1:6333/cases, or https://HOST:6333/cases"
    try:
        url = urlsplit(location)
        host, port, name = url.hostname, url.port or 6333, url.path.strip("/")
    except ValueError:  # brackets, or a port that is no number
        host, port, name = None, 0, ""
    if not host or not name or "/" in name or url.username or url.query or url.fragment:
        raise UsageError(problem("--index", "a URL of another form", form, f"the key comes from {KEY}"))
    key = os.environ.get(KEY) or None
    if host not in _LOOPBACK:
        if url.scheme != "https":
            raise UsageError(
                problem("--index", "http to another machine", "https", "cases must not be readable on the way")
            )
        if key is None:
            raise UsageError(problem("--index", "another machine without a key", f"its API key in {KEY}", "set it"))
    client = _qdrant().QdrantClient(
        host=f"[{host}]" if ":" in host else host,
        port=port,
        https=url.scheme == "https",
        api_key=key,
        timeout=_SECONDS,
        check_compatibility=False,
    )
    return client, name


class QdrantIndex(CaseIndex):
    """The case index in a collection, or behind an alias.

    Args:
        client: a connected client; tests give one that keeps everything in memory.
        name: of the collection or alias.
        alias: what `publish` names it; "" for nothing.

    Raises:
        DataError: there is no such collection, it is none of ours, or the server does not answer.
    """

    def __init__(self, client: "QdrantClient", name: str, alias: str = "") -> None:
        self._client, self._name, self._alias = client, name, alias
        place = f"collection {name}"
        with _answers(place):
            if not client.collection_exists(name):
                raise DataError(
                    problem(place, "no such collection", "a case index", "build one with `magic index build`")
                )
            metadata = client.get_collection(name).config.metadata or {}
        # the model's checksum is in the metadata of the collection
        super().__init__(place, IndexInfo.from_json(metadata.get("magic"), place))

    def __len__(self) -> int:
        return int(self._ask(lambda: self._client.count(self._name, exact=True).count))

    def contents(self) -> dict[str, str]:
        """Return the content hash of every case by its id."""
        rows = self._scroll(["id", "content"], None)
        return {str(payload["id"]): str(payload["content"]) for payload in rows}

    def _texts(self, field: str, where: Where | None) -> list[str]:
        column = {name: i for i, name in enumerate(self.info.fields)}
        key = f"text{column[field]}"
        condition = None if where is None else _filter(where, column)
        return [str(payload.get(key, "")) for payload in self._scroll([key], condition)]

    def _scroll(self, keys: list[str], condition: "models.Filter | None") -> Iterator[Mapping[str, object]]:
        """Yield these keys of the payload of all points that fulfil a condition."""
        offset = None
        while True:
            points, offset = self._ask(
                lambda at=offset: self._client.scroll(  # type: ignore[misc]
                    self._name, condition, limit=_IDS, offset=at, with_payload=keys, with_vectors=False
                )
            )
            yield from map(_payload, points)
            if offset is None:
                return

    def compact(self) -> None:
        """Nothing: the server frees space by itself."""

    def publish(self) -> None:
        """Let the alias name this collection, at once, and delete the one that it named."""
        if not self._alias:
            return
        models = _qdrant().models
        before = _collection_of(self._client, self._alias)
        alias = models.CreateAlias(collection_name=self._name, alias_name=self._alias)
        operations: list[Any] = [models.CreateAliasOperation(create_alias=alias)]
        if before is not None:
            old = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self._alias))
            operations.insert(0, old)
        self._ask(lambda: self._client.update_collection_aliases(operations))
        if before is not None and before != self._name:
            self._ask(lambda: self._client.delete_collection(before))
        self._name, self._alias = self._alias, ""

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _ask(self, call: Callable[[], T]) -> T:
        with _answers(self.place):
            return call()

    def _put(self, cases: Sequence[IndexedCase], vectors: NDArray[np.float32]) -> None:
        models = _qdrant().models
        strong = models.WriteOrdering.STRONG
        for start in range(0, len(cases), _POINTS):
            points = [
                models.PointStruct(id=_point(case.id), vector=vector.tolist(), payload=_sent(self.info, case))
                for case, vector in zip(cases[start : start + _POINTS], vectors[start : start + _POINTS], strict=True)
            ]
            # wait: the next search must see them
            self._ask(lambda p=points: self._client.upsert(self._name, p, wait=True, ordering=strong))  # type: ignore[misc]

    def _drop(self, ids: Sequence[str]) -> int:
        models = _qdrant().models
        count = 0
        for part in in_batches([_point(name) for name in ids], _IDS):
            there = self._ask(lambda p=part: self._client.retrieve(self._name, p, with_payload=False))  # type: ignore[misc]
            chosen = models.PointIdsList(points=[point.id for point in there])
            if there:
                self._ask(lambda c=chosen: self._client.delete(self._name, c, wait=True))  # type: ignore[misc]
            count += len(there)
        return count

    def _nearest(self, queries: NDArray[np.float32], k: int, where: Where | None) -> list[list[Hit]]:
        condition = None if where is None else _filter(where, {name: i for i, name in enumerate(self.info.fields)})

        def near(query: NDArray[np.float32]) -> list[Hit]:
            margin = 2 * rounding(query, self.info, in_half=True)
            return widening(lambda most: self._fetch(query, most, condition), k, margin)

        return [near(query) for query in queries]

    def _fetch(self, query: NDArray[np.float32], most: int, condition: "models.Filter | None") -> list[Hit]:
        models = _qdrant().models
        answer = self._ask(
            lambda: self._client.query_points(
                self._name,
                query=query.tolist(),
                query_filter=condition,
                search_params=models.SearchParams(exact=True),  # an index that the server made would be approximate
                limit=most,
                with_payload=True,
                with_vectors=True,
                consistency=models.ReadConsistencyType.QUORUM,  # a replica may be behind
            )
        )
        return [self._hit(point) for point in answer.points]

    def _hit(self, point: "models.ScoredPoint") -> Hit:
        payload = _payload(point)
        texts = [str(payload.get(f"text{i}", "")) for i in range(len(self.info.fields))]
        fields = {name: text for name, text in zip(self.info.fields, texts, strict=True) if text}
        vector = np.array(point.vector, np.float32)
        return Hit(str(payload["id"]), float(point.score), fields, vector, str(payload["content"]))


@contextmanager
def _answers(place: str) -> Iterator[None]:
    """Turn what the client raises into one line; a server's answer may quote what was sent, so it is not repeated."""
    exceptions = _qdrant().http.exceptions
    try:
        yield
    except exceptions.UnexpectedResponse as error:
        remedy = f"check the name and the key in {KEY}"
        raise DataError(
            problem(place, f"status {error.status_code} of the Qdrant server", "an answer", remedy)
        ) from None
    except (exceptions.ResponseHandlingException, ConnectionError, TimeoutError):
        raise DataError(
            problem(place, "no answer", "one of a Qdrant server", "start it, or check the address")
        ) from None


def _payload(point: "models.Record | models.ScoredPoint") -> Mapping[str, object]:
    payload: Mapping[str, object] = point.payload or {}
    return payload


def _point(case: str) -> str:
    """Return the id of a point: Qdrant takes numbers and UUIDs only, so the case's own id is in the payload."""
    return str(uuid.uuid5(_NAMESPACE, case))


def _sent(info: IndexInfo, case: IndexedCase) -> dict[str, str | float]:
    """Return the payload of a case: all that is sent of it. A missing text is "", so that a filter can ask for it."""
    payload: dict[str, str | float] = {"id": case.id, "content": case.content}
    for i, name in enumerate(info.fields):
        text = case.fields.get(name, "")
        number = number_of(text)
        payload[f"text{i}"] = text
        if number is not None:
            payload[f"number{i}"] = number
    return payload


def _filter(where: Where, column: dict[str, int]) -> "models.Filter":
    models = _qdrant().models
    match where:
        case And(parts):
            return models.Filter(must=[_filter(part, column) for part in parts])
        case Or(parts):
            return models.Filter(should=[_filter(part, column) for part in parts])
        case Not(part):
            return models.Filter(must_not=[_filter(part, column)])
        case Range(field):
            bounds = models.Range(
                **{
                    "gt" if where.above else "gte": _bound(where.low),
                    "lt" if where.below else "lte": _bound(where.high),
                }
            )
            return models.Filter(must=[models.FieldCondition(key=f"number{column[field]}", range=bounds)])
        case Missing(field):
            key, values = f"text{column[field]}", [""]
        case Equals(field, value):
            key, values = f"text{column[field]}", [value] if value else []
        case In(field, texts):
            key, values = f"text{column[field]}", [text for text in texts if text]
    return models.Filter(must=[models.FieldCondition(key=key, match=models.MatchAny(any=values))])


def _bound(value: float) -> float:
    """Return a bound that JSON has: it knows no infinity."""
    return float(np.clip(value, np.finfo(np.float64).min, np.finfo(np.float64).max))


def _collection_of(client: "QdrantClient", alias: str) -> str | None:
    with _answers(alias):
        aliases = client.get_aliases().aliases
    return next((str(entry.collection_name) for entry in aliases if entry.alias_name == alias), None)


def has_qdrant(client: "QdrantClient", name: str) -> bool:
    """Return whether there is a collection or an alias of this name; raises DataError without an answer."""
    with _answers(f"collection {name}"):
        return bool(client.collection_exists(name))


def create_qdrant(client: "QdrantClient", name: str, info: IndexInfo) -> QdrantIndex:
    """Make an empty index: a collection NAME.1 with the alias NAME.

    Raises:
        DataError: there is one of this name already, or the server does not answer.
    """
    with _answers(f"collection {name}"):
        if client.collection_exists(name):
            remedy = "add to it with `magic index add`, or choose another name"
            raise DataError(problem(f"collection {name}", "one that is there", "a new one", remedy))
    index = _create(client, f"{name}.1", name, info)
    index.publish()
    return index


def rebuild_qdrant(client: "QdrantClient", name: str, info: IndexInfo) -> QdrantIndex:
    """Begin a new collection beside the one that the alias names, until `publish`; go on with one begun so."""
    before = _collection_of(client, name)
    if before is None:
        raise DataError(
            problem(f"collection {name}", "no alias of ours", "a case index", "build one with `magic index build`")
        )
    stem, _, number = before.rpartition(".")
    after = f"{stem}.{int(number) + 1}"
    with _answers(f"collection {name}"):
        if client.collection_exists(after):
            begun = QdrantIndex(client, after, name)
            if begun.info.is_same(info):
                return begun
            client.delete_collection(after)
    return _create(client, after, name, info)


def _create(client: "QdrantClient", collection: str, alias: str, info: IndexInfo) -> QdrantIndex:
    models = _qdrant().models
    half = models.Datatype.FLOAT16 if info.dtype == "float16" else models.Datatype.FLOAT32
    # Dot, as Cosine would normalise what is stored: a vector of several parts has a norm above 1
    vectors = models.VectorParams(size=info.width, distance=models.Distance.DOT, datatype=half, on_disk=True)
    no_graph = models.HnswConfigDiff(m=0)  # no approximate index is built
    with _answers(f"collection {alias}"):
        client.create_collection(
            collection, vectors_config=vectors, hnsw_config=no_graph, metadata={"magic": info.to_json()}
        )
        for i in range(len(info.fields)):  # before the first point, or filters scan everything
            client.create_payload_index(collection, f"text{i}", models.PayloadSchemaType.KEYWORD, wait=True)
            client.create_payload_index(collection, f"number{i}", models.PayloadSchemaType.FLOAT, wait=True)
    return QdrantIndex(client, collection, alias)
