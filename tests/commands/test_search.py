"""`magic search` around any searcher: what it asks, what it writes, and what it refuses."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import typer
from page_outline import check
from search_results import make_result
from typer.testing import CliRunner

from magic_cli.cli.search import search as cli_search
from magic_cli.commands import search as module
from magic_cli.commands.search import SearchOptions, search, serve_page
from magic_cli.data.index.where import Where
from magic_cli.errors import ConfigError, DataError, MagicError
from magic_cli.io import schema
from magic_cli.report.search.result import SearchResult


@dataclass
class Fixed:
    """A searcher that notes what it is asked and gives one answer."""

    result: SearchResult
    asked: list[tuple[object, ...]] = field(default_factory=list)

    def search(
        self, image: Path | bytes | None, text: str, attributes: Mapping[str, str], k: int, where: Where | None
    ) -> SearchResult:
        self.asked.append((image, text, dict(attributes), k, where))
        return self.result


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return make_result(tmp_path_factory.mktemp("hits"), hits=3, k=2, size=(24, 32))


@pytest.fixture
def searcher(result: SearchResult) -> Fixed:
    return Fixed(result)


def test_a_query_and_all_files(searcher: Fixed, tmp_path: Path) -> None:
    photo = tmp_path / "jane-doe.jpg"
    photo.write_bytes(b"")
    html, csv, trec = (tmp_path / "out" / name for name in ("page.html", "hits.csv", "run.trec"))
    options = SearchOptions(photo, " dark ", ("streaks = irregular",), k=3, html=html, csv=csv, trec=trec)
    outcome = search(options, searcher)
    assert searcher.asked == [(photo, "dark", {"streaks": "irregular"}, 3, None)]
    text = check(html.read_text(encoding="utf-8")).text
    assert "jane-doe" not in text
    assert "magic search --image PHOTO --text ' dark ' --attr 'streaks = irregular' -k 3 --index INDEX" in text
    assert csv.read_text().startswith("rank,id,case,label")
    assert trec.read_text().startswith("query Q0 ISIC_0000000 1 3 magic\n")
    assert outcome.lines()[-1] == f"next: open {html}"
    assert schema.problems("search", json.loads(json.dumps({"schema": 1, **outcome.to_json()})), "x") == []
    with pytest.raises(MagicError, match="--overwrite"):
        search(options, searcher)
    empty = replace(searcher.result, hits=())
    for answer in (empty, searcher.result):  # a page, a table and a run without cases are replaced too
        search(replace(options, overwrite=True), Fixed(answer))
        assert trec.read_text() == answer.trec()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(("kind", "name"), [("html", "page"), ("csv", "table"), ("trec", "TREC run")])
@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a checkpoint",
        b'{"case_id": "ENC00001"}\n',
        b"\xff\xd8\xff\xe0 a photo",
        b'<!doctype html>\n<meta name="generator" content="magic 0.1.0">\n<title>3 trainings</title>\n',
        b"rank,name\n1,Alice\n",
        b"q1 Q0 doc7 1 9.5 bm25\n",
    ],
)
def test_a_file_of_another_kind_is_never_replaced(
    searcher: Fixed, tmp_path: Path, content: bytes, kind: str, name: str, overwrite: bool
) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(content)
    options = SearchOptions(text="x", overwrite=overwrite, **{kind: path})  # type: ignore[arg-type]
    with pytest.raises(DataError) as told:
        search(options, searcher)
    assert str(told.value) == f"{path}: got a file of another kind, expected an older {name}; give another name"
    assert (path.read_bytes(), searcher.asked) == (content, [])


def test_attributes_alone_are_a_query_and_a_filter_is_parsed(searcher: Fixed) -> None:
    outcome = search(SearchOptions(attributes=("sex=male",), where="age >= 40"), searcher)
    assert searcher.asked[0][-1] is not None
    assert outcome.lines()[-1] == "next: the same with --html search.html"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"text": " "}, "got no query"),
        ({"text": "x", "attributes": ("streaks",)}, "--attr: got attribute 1 without a name or a value"),
        ({"text": "x", "attributes": ("a=1", "a=2")}, "attribute 2 again"),
        ({"text": "x", "where": "age >="}, "where"),
        ({"image": "no.jpg"}, "no.jpg: got no such file, expected a photo"),
        ({"image": "."}, "got a folder, expected a photo"),
        ({"text": "x", "html": "a", "csv": "a"}, "one file twice"),
        ({"text": "x", "html": "..", "overwrite": True}, "got a folder, expected a new file for --html"),
        (
            {"text": "x", "trec": os.devnull, "overwrite": True},
            "got a file of another kind, expected an older TREC run",
        ),
        *(({"image": "a.jpg", kind: "./a.jpg"}, f"--{kind}: got the photo itself") for kind in ("html", "csv", "trec")),
        ({"text": "x", "trec": "index/manifest.json"}, "--trec: got a file in the folder of the index"),
    ],
)
def test_refused(searcher: Fixed, change: dict[str, object], line: str) -> None:
    with pytest.raises(MagicError, match=line):
        search(SearchOptions(**change), searcher)  # type: ignore[arg-type]
    assert searcher.asked == []


@pytest.mark.parametrize("change", [{"k": 0}, {"k": 1001}, {"beta": 1.1}, {"beta": float("nan")}])
def test_values_out_of_range(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SearchOptions(**change)  # type: ignore[arg-type]


def test_the_page_to_search_with(searcher: Fixed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(module.serve, "serve", lambda answer, k, *_: asked.append((answer(b"", "x", 2), k)))
    serve_page(SearchOptions(attributes=("sex=male",), k=4), searcher)
    assert asked == [(searcher.result, 4)]
    assert searcher.asked == [(b"", "x", {"sex": "male"}, 2, None)]


@pytest.fixture
def run(searcher: Fixed, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setattr(module, "open_searcher", lambda _: searcher)
    return CliRunner()


def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(cli_search)
    return made


def test_the_command_line(run: CliRunner, searcher: Fixed) -> None:
    ended = run.invoke(app(), ["--text", "dark", "--attr", "a=b", "-k", "2", "--json"])
    assert ended.exit_code == 0, ended.output
    assert schema.problems("search", json.loads(ended.stdout), "search --json") == []
    assert searcher.asked == [(None, "dark", {"a": "b"}, 2, None)]
    assert "not a diagnosis" in run.invoke(app(), ["--text", "dark"]).stdout
    assert run.invoke(app(), ["--serve", "--text", "dark"]).exit_code == 2
