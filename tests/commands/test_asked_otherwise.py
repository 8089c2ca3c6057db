"""`predict --prompt` and `--reword`: one checkpoint asked with other texts, and what `score` tells of it."""

import json
from pathlib import Path

import pytest
import torch
from challenge_folders import make_challenge
from run_options import predict_options, train_options

from magic_cli.commands.predict import predict
from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.commands.score import ScoreOptions, score
from magic_cli.commands.train import train
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.data.prompts import LADDER
from magic_cli.data.texts.prompt_ladder import ladder
from magic_cli.errors import ConfigError, DataError
from magic_cli.io import schema
from magic_cli.tasks import get
from magic_cli.tasks.encoding import ToEncode
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.model import build
from magic_cli.training.task import of_class


@pytest.fixture(scope="module")
def trained(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders seg, options (closed questions that are read), slots (that are not): one epoch each."""
    folder = tmp_path_factory.mktemp("asked")
    cache = folder / "cache"
    train("seg", drawn_prepared, folder / "seg", train_options(cache, "epochs=1", "prompt=any"))
    train("cvqa", drawn_prepared, folder / "options", train_options(cache, "epochs=1", "head=options"))
    train("cvqa", drawn_prepared, folder / "slots", train_options(cache, "epochs=1"))
    return folder


def asked(trained: Path, task: str, run: str, data: Path, **options: object) -> Path:
    out = trained / f"{run} {' '.join(map(str, options.values()))}"
    predict(task, trained / run / "best.pt", data, "valid", out, predict_options(trained / "cache", **options))
    return out


def test_a_checkpoint_is_asked_with_steps_of_the_ladder(trained: Path, drawn_prepared: Path) -> None:
    folders = [asked(trained, "seg", "seg", drawn_prepared, prompt=step) for step in ("own", "p0", "p9")]
    masks = [b"".join(sorted(path.read_bytes() for path in (f / "masks_preds").iterdir())) for f in folders]
    assert len(set(masks)) == 3
    settings = json.loads((folders[2] / "run.json").read_text(encoding="utf-8"))["settings"]
    assert settings["prompt"] == "p9"
    report = score(folders[1:], drawn_prepared, ScoreOptions(resamples=50, against=folders[0]))
    notes = [" ".join(system.notes) for system in report.systems]
    assert ["upper bounds" in line for line in notes] == [False, True]
    assert [row.unchanged for row in report.comparisons] == [None, None]


def test_training_draws_the_prompt_and_validation_does_not(drawn_prepared: Path) -> None:
    config = resolve(SegConfig, "tiny", ["prompt=any"])
    assert isinstance(config, SegConfig)
    model = build(config, open_prepared(drawn_prepared).questions)
    prepared = open_prepared(drawn_prepared)
    sample = get("seg").training_samples(prepared, "train", config)[0]
    offered = [item.load() for _, item in model.frozen([sample], 1)][-11:]
    assert len({tuple(ids) for ids in offered}) == len({sample.case.question, *ladder(sample.case, prepared.questions)})
    model.train()
    drawn = [model._prompt(sample, view).key for view in range(40)]
    assert len(set(drawn)) > 2
    torch.manual_seed(1)  # a resumed run draws the same, whatever ran before
    assert [model._prompt(sample, view).key for view in range(40)] == drawn
    assert config.n_views == 2**31
    photos = [model.collate([sample], [view]).photos[0] for view in (0, 6)]
    assert torch.equal(*(of_class(photo, ToEncode).inputs for photo in photos))  # 2 views of a photo, more of its text
    model.eval()
    assert {model._prompt(sample, view).key for view in range(9)} == {model._prompts(sample)[0].key}


def test_prepared_steps_have_their_words_and_a_caution(tmp_path: Path) -> None:
    raw = make_challenge(tmp_path / "raw", splits={"train": 3, "valid": 2})
    result = prepare(raw, tmp_path / "out", PrepareOptions(prompt="p9"))
    assert not any("train cvqa" in line for line in result.lines())  # it refuses these texts
    found = result.to_json()
    written = json.loads((tmp_path / "out" / "prepare.json").read_text(encoding="utf-8"))
    assert schema.problems("prepared", written, "prepare.json") == []
    prepared = open_prepared(tmp_path / "out")
    assert [c.question for c in prepared.cases.values()] == [
        ladder(c, prepared.questions)[9] for c in prepared.cases.values()
    ]
    assert any("upper bounds, which only seg reads" in line for line in found["notes"])  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="made from gold answers"):
        train("cvqa", tmp_path / "out", tmp_path / "run", train_options(None))
    prepare(raw, tmp_path / "none", PrepareOptions(prompt=LADDER[0]))
    assert {(c.question, c.answer) for c in open_prepared(tmp_path / "none").cases.values()} == {("", "")}


def test_reworded_questions_and_queries_and_how_many_answers_stay(trained: Path, drawn_prepared: Path) -> None:
    rules = (None, "question-1", "frame", "markup")
    folders = [asked(trained, "cvqa", "options", drawn_prepared, reword=rule) for rule in rules]
    probabilities = [(folder / "predictions.jsonl").read_text(encoding="utf-8") for folder in folders]
    assert len(set(probabilities)) == 3
    assert probabilities[0] == probabilities[3]  # tags and entities are stripped
    report = score(folders[1:], drawn_prepared, ScoreOptions(resamples=50, against=folders[0]))
    assert schema.problems("report", {"schema": 1, **report.to_json()}, "report") == []
    shares = [row.unchanged.share for row in report.comparisons if row.unchanged]
    assert len(shares) == 3
    assert shares[2] == 1
    assert any("answers are the same" in line for line in report.lines())


@pytest.mark.parametrize(
    ("task", "run", "rule", "message"),
    [
        ("cvqa", "slots", "question-1", "question-1 for a model that reads no question: head=slots"),
        ("cvqa", "slots", "templates-1", "got templates-1, expected synonyms.* for cvqa"),
        ("seg", "seg", "question-1", "got question-1, expected synonyms.* for seg"),
    ],
)
def test_what_a_model_does_not_read_is_not_reworded(
    trained: Path, drawn_prepared: Path, task: str, run: str, rule: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        asked(trained, task, run, drawn_prepared, reword=rule)


def test_the_ladder_is_of_seg_alone(trained: Path, drawn_prepared: Path) -> None:
    with pytest.raises(ConfigError, match="--prompt: of another task"):
        asked(trained, "cvqa", "slots", drawn_prepared, prompt="p1")
