"""Judgements of a user as gold: TREC's qrels, and BEIR folders (corpus.jsonl, queries.jsonl, qrels/test.tsv).

They say what is relevant to each query, not what its class is. Classes, for macro scores and votes, are inferred:
queries whose relevant photos overlap are one class if each of them lacks at most one of what they have together, or a
tenth, so that a query may lack its own photos. Otherwise only queries with the same relevant photos are one class, and
there is no vote.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from magic_cli.data.prepared import MANIFEST, open_prepared
from magic_cli.data.retrieval.gold import QUERY, RetrievalGold
from magic_cli.data.retrieval.queries import labelled_samples, retrieval_gold
from magic_cli.errors import DataError, first_lines, printable, problem, redact
from magic_cli.io.files import write_parts
from magic_cli.io.json_files import write_jsonl
from magic_cli.io.text_lines import text_lines

_JUDGED = "qrels"

BEIR = "beir"
"""The folder of a gold as BEIR has it, within that of predictions."""

BEIR_FILES = ("corpus.jsonl", "queries.jsonl", f"{_JUDGED}/test.tsv")

_SPLITS = {"valid": ("valid", "dev", "val", "validation"), "train": ("train",), "test": ("test",)}

_HEADS = ("query-id", "query_id", "qid")

Judged = Mapping[str, Mapping[str, float]]


def open_ranking_gold(
    path: Path, split: str, ranked: Iterable[str] = (), protocol: str = "", classes: str = ""
) -> RetrievalGold:
    """Return the gold of case retrieval in a prepared dataset, a file of judgements, or a BEIR folder.

    Args:
        path: of a prepared dataset; of TREC judgements (query 0 photo relevance) or BEIR's table; or of a folder with
            qrels.txt or qrels/SPLIT.tsv.
        split: of a prepared dataset or a BEIR folder.
        ranked: ids of all photos that are ranked. With judgements, those that are not judged are in the gallery, too;
            of a prepared dataset they tell whether queries are ranked against split train or their own split.
        protocol: of a prepared dataset: "train" or "loo", where predictions say so; "": as `ranked` tells.
        classes: of a prepared dataset: the attribute that is the class of a case; "": its diagnosis.

    Raises:
        DataError: it is none of these, has no judgement or no such attribute, or a line is damaged; up to 20 are named.
    """
    if (path / MANIFEST).is_file():
        prepared = open_prepared(path)
        queries, train = (labelled_samples(prepared, part, classes) for part in (split, "train"))
        if classes and not queries:
            got, expected = f"no case of split {split} with attribute {printable(classes)}", "the class of predictions"
            raise DataError(problem(prepared.root, got, expected, "score them with the dataset that they are of"))
        known, ids = {sample.id for sample in train}, set(ranked)
        is_own = split == "train" or (protocol == "loo" if protocol else known.isdisjoint(ids) and bool(ids))
        gallery, protocol = (queries, "loo") if is_own else (train, "train")
        return retrieval_gold(f"{prepared.root} (split {split})", queries, gallery, protocol, classes)
    file = _file_of(path, split)
    judged = read_judgements(file)
    corpus = _corpus(path / "corpus.jsonl") if path.is_dir() else []
    return judged_gold(printable(file), judged, (*corpus, *ranked))


def _file_of(path: Path, split: str) -> Path:
    if path.is_file():
        return path
    names = [f"{_JUDGED}/{name}.tsv" for name in _SPLITS.get(split, (split,))]
    given = next((path / name for name in (*names, f"{_JUDGED}.txt") if (path / name).is_file()), None)
    tables = sorted((path / _JUDGED).glob("*.tsv"))
    if given is None and len(tables) == 1:
        given = tables[0]
    if given is None:
        got = f"qrels/ with {', '.join(table.name for table in tables[:3])}" if tables else "no judgements"
        got = got if path.exists() else "no such file or folder"
        expected = f"a prepared dataset, qrels.txt, or {names[0]}"
        raise DataError(problem(printable(path), got, expected, "choose another --split, or check the path"))
    return given


def read_judgements(path: Path) -> dict[str, dict[str, float]]:
    """Return the relevance of photos to each query, from TREC judgements or BEIR's table; 0 and less is kept.

    Raises:
        DataError: it cannot be read, judges nothing as relevant, or a line is damaged.
    """
    judged: dict[str, dict[str, float]] = {}
    lines: list[str] = []
    for number, text in text_lines(path, DataError):
        is_table = "\t" in text and len(text.split("\t")) == 3
        fields = [field.strip() for field in text.split("\t")] if is_table else text.split()
        if number == 1 and fields[0].casefold() in _HEADS:
            continue
        place = f"{printable(path)}:{number}"
        query, photo, value = (fields[0], fields[-2], _number(fields[-1])) if len(fields) in (3, 4) else ("", "", None)
        if value is None or not query or not photo:
            got = f"{redact(fields[-1])} as relevance" if len(fields) in (3, 4) else f"{len(fields)} fields"
            lines.append(problem(place, got, "query 0 photo relevance", "fix or remove the line"))
        elif photo in judged.setdefault(query, {}):
            lines.append(problem(place, f"{redact(photo)} twice for a query", "once", "remove one of both lines"))
        else:
            judged[query][photo] = value
    if not judged and not lines:
        lines.append(problem(path, "no judgement", "query 0 photo relevance", "check the file"))
    if not lines and not any(value > 0 for row in judged.values() for value in row.values()):
        lines.append(problem(path, "no relevance above 0", "a relevant photo of a query", "check the last column"))
    if lines:
        raise DataError(first_lines(lines, printable(path)))
    return judged


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e6 else None


def _corpus(path: Path) -> list[str]:
    """Return the ids of a BEIR corpus; [] without one."""
    if not path.is_file():
        return []
    ids = []
    for number, text in text_lines(path, DataError):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
        name = row.get("_id") if isinstance(row, dict) else None
        if not isinstance(name, str | int):
            got = "no object with an _id"
            raise DataError(problem(f"{printable(path)}:{number}", got, '{"_id": ...}', "fix or remove the line"))
        ids.append(str(name))
    return ids


def judged_gold(source: str, judged: Judged, gallery: Iterable[str] = ()) -> RetrievalGold:
    """Return judgements as gold: what is judged, and further ids, are the gallery; classes are inferred."""
    relevant = {query: {photo: value for photo, value in row.items() if value > 0} for query, row in judged.items()}
    every = dict.fromkeys((*(photo for row in judged.values() for photo in row), *gallery))
    of_query, of_photo = _classes({query: frozenset(row) for query, row in relevant.items() if row})
    size = Counter(of_query.values())
    is_clear = bool(of_photo)
    rule = "whose relevant photos are mostly the same" if is_clear else "with the same relevant photos"
    note = f"classes are inferred from {source}: queries {rule} are one class, {len(size)} in all"
    votes = () if is_clear else ("relevant photos of classes overlap, so there is no vote",)
    labels = {QUERY + query: name for query, name in of_query.items()} | of_photo
    return RetrievalGold(
        source=source,
        labels=labels,
        queries=tuple(relevant),
        gallery=tuple(every),
        protocol="qrels",
        relevant=relevant,
        notes=(note, *votes),
    )


def _classes(relevant: Mapping[str, frozenset[str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the inferred class of each query, and of each photo; the latter is empty where classes overlap."""
    parent: dict[str, str] = {}

    def root(photo: str) -> str:
        while parent.setdefault(photo, photo) != photo:
            parent[photo] = photo = parent[parent[photo]]
        return photo

    sets = set(relevant.values())
    for photos in sets:
        first = root(next(iter(photos)))
        for photo in photos:
            parent[root(photo)] = first
            first = root(first)
    members: dict[str, set[str]] = defaultdict(set)
    for photo in parent:
        members[root(photo)].add(photo)
    of_set = ((len(photos), len(members[root(next(iter(photos)))])) for photos in sets)
    if all(size - number <= max(1, size // 10) for number, size in of_set):
        order = sorted(members, key=lambda first: (-len(members[first]), min(members[first])))
        names = {first: f"class {number} ({len(members[first])} photos)" for number, first in enumerate(order, 1)}
        of_query = {query: names[root(next(iter(photos)))] for query, photos in relevant.items()}
        return of_query, {photo: names[root(photo)] for photo in parent}
    ordered = sorted(sets, key=lambda photos: (-len(photos), min(photos), sorted(photos)))
    numbered = {photos: f"class {number} ({len(photos)} photos)" for number, photos in enumerate(ordered, 1)}
    return {query: numbered[photos] for query, photos in relevant.items()}, {}


def positives(gold: RetrievalGold) -> dict[str, dict[str, float]]:
    """Return the photos that are relevant to each query: those of its class outside of its group, or as judged."""
    if gold.relevant:
        return {query: dict(gold.relevant[query]) for query in gold.queries}
    of_class: dict[str, list[str]] = defaultdict(list)
    for photo in gold.gallery:
        if photo in gold.labels:
            of_class[gold.labels[photo]].append(photo)
    groups = gold.groups
    return {
        query: {
            photo: 1.0
            for photo in of_class.get(gold.labels.get(query, ""), [])
            if photo != query and groups.get(photo, photo) != groups.get(query, query)
        }
        for query in gold.queries
    }


def write_beir(gold: RetrievalGold, texts: Mapping[str, str], out: Path) -> list[Path]:
    """Write a gold as a BEIR folder, and return its files: corpus.jsonl, queries.jsonl and qrels/test.tsv.

    The table is named test whatever the split, as BEIR's loaders look for it.

    Args:
        gold: queries and gallery; no path of a photo is written.
        texts: words of queries and photos by id; "" without any.
        out: the folder, which exists.
    """
    files = [out / name for name in BEIR_FILES]
    for file, ids in zip(files, (gold.gallery, gold.queries), strict=False):
        write_jsonl(file, ({"_id": name, "title": "", "text": texts.get(name, "")} for name in ids))
    files[2].parent.mkdir(exist_ok=True)
    rows = (f"{q}\t{p}\t{round(value)}\n" for q, row in positives(gold).items() for p, value in row.items())
    write_parts(files[2], chain(["query-id\tcorpus-id\tscore\n"], rows))
    return files
