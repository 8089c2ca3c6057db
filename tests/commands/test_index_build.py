"""`magic index build` and `magic search` with trained models: what is kept, skipped, refused, found and shown."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_photos import CLASSES, make_labelled

from magic_cli.commands.cases import build as verb
from magic_cli.commands.cases.build import IndexOptions
from magic_cli.commands.index import index_info, index_remove
from magic_cli.commands.run_setup import TrainOptions
from magic_cli.commands.search import SearchOptions, search
from magic_cli.commands.train import train
from magic_cli.data.index import open_index
from magic_cli.data.prepared import open_prepared
from magic_cli.data.retrieval.queries import labelled_samples
from magic_cli.errors import ConfigError, DataError, UsageError
from magic_cli.io import schema
from magic_cli.training.runtime import RuntimeOptions

QUICK = RuntimeOptions("cpu", None, True)
OPTIONS = IndexOptions(runtime=QUICK)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """prepared/, a retrieval model, a pretrained pair, and an index of split train by the first."""
    root = tmp_path_factory.mktemp("cases")
    make_labelled(root, patients=3)
    for task in ("retrieve", "pretrain"):
        options = TrainOptions(preset="tiny", settings=("epochs=1",), runtime=QUICK)
        train(task, root / "prepared", root / task, options)
    verb.index_build(root / "index", root / "retrieve", root / "prepared", OPTIONS)
    return root


def asked(work: Path, **options: object) -> SearchOptions:
    made = SearchOptions(image=photo(work), index=work / "index", runtime=QUICK)
    return replace(made, **options)  # type: ignore[arg-type]


def photo(work: Path, split: str = "val", name: str = "melanoma") -> Path:
    return work / "raw" / f"{split}0{name}0.png"


def test_an_index_has_the_vectors_of_its_model_and_the_fields_of_its_cases(work: Path) -> None:
    about = index_info(work / "index")
    assert about.classes == dict.fromkeys(sorted(CLASSES), 6)
    assert about.info.fields[0] == "diagnosis"
    assert about.info.low_score is not None
    encoder = verb.encoder_of(work / "retrieve" / "best.pt", None, None, QUICK)[0]
    samples = labelled_samples(open_prepared(work / "prepared"), "train")
    vectors = encoder.photos(samples)
    with open_index(work / "index") as index:
        hits = {hit.id: hit for hit in index.search(vectors[:1], 18)[0]}
    for sample, vector in zip(samples, vectors, strict=True):
        assert np.allclose(hits[sample.id].vector, vector, atol=1e-5)
        assert hits[sample.id].fields["diagnosis"] in CLASSES
        assert hits[sample.id].fields["group"] not in sample.case.group_id
        assert (work / "index" / hits[sample.id].thumb).is_file()
    row = {"schema": 1, "command": "index", **about.to_json()}
    assert schema.problems("indexed", json.loads(json.dumps(row)), "") == []


def test_a_stopped_build_goes_on_and_a_finished_one_encodes_nothing(work: Path, tmp_path: Path) -> None:
    first = verb.index_build(tmp_path / "index", work / "retrieve", work / "prepared", replace(OPTIONS, limit=7))
    rest = verb.index_build(tmp_path / "index", work / "retrieve", work / "prepared", OPTIONS)
    again = verb.index_build(tmp_path / "index", work / "retrieve", work / "prepared", OPTIONS)
    assert (first.added, rest.added, rest.skipped, again.added, again.skipped) == (7, 11, 7, 0, 18)
    valid = replace(OPTIONS, splits=("valid",))
    with pytest.raises(DataError) as told:
        verb.index_build(tmp_path / "index", work / "retrieve", work / "prepared", valid)
    add = f"magic index add {tmp_path / 'index'} --data {work / 'prepared'} --split valid"
    expected = f"the same as for its 18 cases, to go on with it; to add them: {add}"
    assert str(told.value) == f"{tmp_path / 'index'}: got other photos, expected {expected}"
    more = verb.index_add(tmp_path / "index", work / "prepared", options=valid)
    assert (more.added, more.cases) == (18, 36)


def test_removed_cases_are_gone_with_their_pictures(work: Path, tmp_path: Path) -> None:
    verb.index_build(tmp_path / "index", work / "retrieve", work / "prepared", OPTIONS)
    with open_index(tmp_path / "index") as index:
        gone = sorted(index.contents())[:3]
    result = index_remove(tmp_path / "index", [*gone, "none such"], purge=True)
    assert (result.removed, result.unknown, result.cases) == (3, 1, 15)
    assert len(list((tmp_path / "index" / "thumbs").iterdir())) == 15
    assert not any(gone[0].encode() in path.read_bytes() for path in (tmp_path / "index").glob("*.jsonl"))


def test_vectors_of_another_model_are_refused(work: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got another model, expected .* --rebuild replaces its 18 cases"):
        verb.index_build(work / "index", work / "pretrain", work / "prepared", OPTIONS)
    with pytest.raises(DataError, match="checksum"):
        verb.index_add(work / "index", work / "prepared", work / "pretrain" / "best.pt", OPTIONS)
    with pytest.raises(DataError, match="checksum"):
        search(asked(work, ckpt=work / "pretrain" / "best.pt"))
    rebuilt = verb.index_build(
        tmp_path / "other", work / "retrieve", work / "prepared", replace(OPTIONS, dtype="float16", thumbs=False)
    )
    again = verb.index_build(tmp_path / "other", work / "pretrain", work / "prepared", replace(OPTIONS, rebuild=True))
    assert rebuilt.cases == again.cases == 18
    assert index_info(tmp_path / "other").info.parts[0].name == "image"
    assert len(list((tmp_path / "other").glob("model-*.pt"))) == 1


@pytest.mark.parametrize(
    ("index", "fields", "kept"),
    [
        ("http://127.0.0.1:6333/cases", (), ("diagnosis",)),
        ("https://cases.example/derm", ("sex",), ("diagnosis", "sex")),
        ("cases", ("sex", "diagnosis"), ("diagnosis", "sex")),
    ],
)
def test_only_named_fields_are_kept(index: str, fields: Sequence[str], kept: tuple[str, ...], work: Path) -> None:
    samples = labelled_samples(open_prepared(work / "prepared"), "train")
    assert verb._fields(index, samples, replace(OPTIONS, fields=fields)) == kept


def test_a_search_ranks_marks_the_own_photo_and_shows_each_class(work: Path, tmp_path: Path) -> None:
    page = tmp_path / "search.html"
    outcome = search(
        asked(work, image=photo(work, "train"), text="it itches", attributes=("sex=female",), k=6, html=page)
    )
    result = outcome.result
    assert len(result.hits) == 6
    assert [hit.rank for hit in result.hits] == list(range(1, 7))
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
    assert result.text == "A female patient. it itches"
    assert all(hit.same_group for hit in result.hits if hit.is_duplicate)
    assert result.nearest.keys() == CLASSES.keys()
    assert not any(hit.is_known for hit in result.nearest.values())
    every = search(asked(work, image=photo(work, "train"), text="it itches", attributes=("sex=female",), k=50)).result
    places = {hit.id: hit.rank for hit in every.hits}
    assert {hit.id: hit.rank for hit in result.nearest.values()}.items() <= places.items()
    assert result.hits[0].regions is not None
    for hit in result.hits:
        local = np.mean([value for name, value in hit.parts.items() if name.startswith("local")])
        whole = np.mean([value for name, value in hit.parts.items() if name.startswith("global")])
        assert hit.score == pytest.approx(0.6 * local + 0.4 * whole, abs=1e-5)
    html = page.read_text(encoding="utf-8")
    assert "train0melanoma" not in html
    assert str(work) not in html


def test_photos_outside_the_index_are_not_shown_and_damaged_ones_do_not_end_a_search(
    work: Path, tmp_path: Path
) -> None:
    other = tmp_path / "index"
    shutil.copytree(work / "index", other)
    [listed] = other.glob("*.jsonl")
    first, second, *others = (json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines())
    shutil.copy(photo(work), tmp_path / "own.jpg")
    first["thumb"] = "../own.jpg"  # as in a stranger's index
    (other / second["thumb"]).write_bytes(b"x")
    listed.write_text("".join(f"{json.dumps(row)}\n" for row in (first, second, *others)), encoding="utf-8")
    hits = {hit.id: hit for hit in search(asked(work, index=other, k=50)).result.hits}
    assert [hits[row["id"]].thumb for row in (first, second)] == [None, None]
    assert all(hits[row["id"]].thumb == other / row["thumb"] for row in others)


def test_a_condition_and_beta_change_what_is_ranked(work: Path) -> None:
    some = search(asked(work, k=50, where="diagnosis in ('eczema', 'vitiligo')")).result
    assert {some.label(hit) for hit in some.hits} == {"eczema", "vitiligo"} == some.nearest.keys()
    assert sum(some.prior.values()) == 12
    whole = search(asked(work, k=1, beta=0.0)).result.hits[0]
    globals_ = [value for name, value in whole.parts.items() if name.startswith("global")]
    assert whole.score == pytest.approx(np.mean(globals_), abs=1e-5)
    with pytest.raises(UsageError, match="nothere"):
        search(asked(work, where="nothere = 'x'"))


def test_misspelt_attributes_and_values_that_no_case_has_are_said(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"--attr strekas: .*did you mean streaks"):
        search(asked(work, attributes=("strekas=present",)))
    capsys.readouterr()
    kept = [name for name in index_info(work / "index").info.fields if name not in ("diagnosis", "group")]
    search(asked(work, attributes=(f"{kept[0]}=femal", "streaks=1")))
    err = capsys.readouterr().err
    assert f"no case of the index has this value of {kept[0]}; there: " in err
    assert "no case of the index has streaks: only its words count" in err
    assert "femal;" not in err


def test_words_alone_need_a_pretrained_pair(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="give --image"):
        search(asked(work, image=None, text="a brown spot"))
    index, ckpt = f"lance:{tmp_path / 'pairs'}", work / "pretrain" / "best.pt"
    built = verb.index_build(index, work / "pretrain", work / "prepared", OPTIONS)
    assert built.lines()[-1] == f"next: magic search --index {index} --ckpt {ckpt} --image PHOTO"
    assert index_info(index).lines()[-1] == f"next: magic search --index {index} --ckpt FILE --image PHOTO"
    result = search(asked(work, image=None, text="a melanoma spot", index=index, ckpt=ckpt, k=3)).result
    assert len(result.hits) == 3
    assert sum(result.prior.values()) == 18
    with pytest.raises(ConfigError, match="got no model, expected the model that built it; give its file with --ckpt"):
        search(asked(work, index=index))
    monkeypatch.chdir(tmp_path)
    for task in ("seg", "retrieve", "pretrain"):  # the one that built it is found among the runs; no task but these
        shutil.copytree(work / ("pretrain" if task == "seg" else task), tmp_path / "runs" / task)
    assert search(asked(work, index=index, k=3)).result.hits[0].id
    assert "using runs/pretrain/best.pt, which built the index" in capsys.readouterr().err
    assert verb.one_checkpoint("best.pt") == Path("runs/retrieve/best.pt")


def test_what_has_no_index_or_no_class_is_said(work: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="magic index build"):
        index_info(tmp_path / "none")
    with pytest.raises(ConfigError, match="--split"):
        IndexOptions(splits=("all",))
