"""Schemas: valid themselves, reachable from the package, and true of every file that we ship or write."""

import dataclasses
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from magic_cli.cli.app import app
from magic_cli.commands.prepare import prepare
from magic_cli.data.questions import FALLBACK
from magic_cli.io import schema
from magic_cli.io.json_files import read_json, read_jsonl

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = sorted(path.name.removesuffix(".schema.json") for path in (ROOT / "schemas").iterdir())
EXAMPLES = {"examples/gold.json": "submission", "examples/preds.json": "submission"}


@pytest.fixture(scope="module")
def prepared(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("schemas") / "prepared"
    prepare(drawn, out)
    return out


def test_the_contracts_schemas_are_there() -> None:
    assert set(SCHEMAS) >= {
        *("definitions", "case", "image", "prepared", "submission", "checkpoint", "report", "scores", "doctor"),
    }
    assert all(path.name.endswith(".schema.json") for path in (ROOT / "schemas").iterdir())


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_valid_documented_and_reachable(name: str) -> None:
    found = schema.load(name)
    assert found == json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(found)
    assert found["title"]


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("value", [None, 7, "text", [7], {"surprise": []}])
def test_schema_refuses_something_else(name: str, value: object) -> None:
    assert schema.problems(name, value, "x")


def test_unknown_schema() -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        schema.load("nothing")


def test_every_example_json_has_a_schema_and_fits_it() -> None:
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.json")} == set(EXAMPLES)
    for path, name in EXAMPLES.items():
        assert schema.problems(name, read_json(ROOT / path), path) == []


def test_definitions_fit(drawn: Path) -> None:
    for path in (FALLBACK, drawn / "closedquestions_definitions_imageclef2025.json"):
        assert schema.problems("definitions", read_json(path), path.name) == []


def test_prepared_dataset_fits(prepared: Path) -> None:
    assert schema.problems("prepared", read_json(prepared / "prepare.json"), "prepare.json") == []
    for name in ("case", "image"):
        rows = read_jsonl(prepared / f"{name}s.jsonl")
        assert len(rows) > 5
        assert [line for i, row in enumerate(rows, 1) for line in schema.problems(name, row, f"{name}s:{i}")] == []


@pytest.mark.parametrize(("pred", "gold"), [("preds.json", "gold.json"), ("masks_preds", "masks_refs")])
def test_score_fits(pred: str, gold: str, tmp_path: Path) -> None:
    examples = ROOT / "examples"
    result = CliRunner().invoke(app, ["score", str(examples / pred), str(examples / gold), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert schema.problems("report", found, "score --json") == []
    [system] = found["systems"]
    figures = {name: value for report in system["reports"] for name, value in report["figures"].items()}
    assert schema.problems("scores", figures, "figures") == []


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_checkpoint_and_predictions_fit(
    task: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from magic_cli.training.checkpoint import load_best

    monkeypatch.chdir(tmp_path)
    data = ["--data", str(prepared), "--cache-dir", str(tmp_path / "cache")]
    for words in (["train", task, "--preset", "tiny", "--set", "epochs=1"], ["predict", task, "--ckpt", "best.pt"]):
        result = CliRunner().invoke(app, [*words, *data])
        assert result.exit_code == 0, (result.exception, result.output)
    meta, _ = load_best(tmp_path / "runs" / task / "best.pt")
    plain = json.loads(json.dumps(dataclasses.asdict(meta)))
    assert schema.problems("checkpoint", plain, "best.pt") == []
    if task == "cvqa":
        rows = read_json(tmp_path / "predictions" / "cvqa" / "data_cvqa_sys.json")
        assert schema.problems("submission", rows, "data_cvqa_sys.json") == []
