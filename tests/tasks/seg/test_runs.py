"""What segmentation teams choose, in whole runs: merge rules, thresholds, ensembles, regions, tuning by flag."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from run_options import predict_options, train_options

from magic_cli.cli import app
from magic_cli.commands import predict as predict_command
from magic_cli.commands import train as train_command
from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.config import resolve
from magic_cli.data.gold import mask_gold
from magic_cli.data.imaging.masks import merge_masks, read_mask
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError, MagicError
from magic_cli.models.masks.losses import mask_loss
from magic_cli.records import Sample
from magic_cli.report import train_text
from magic_cli.submission.reader import open_predictions
from magic_cli.tasks import get
from magic_cli.tasks.cvqa import CvqaDecision
from magic_cli.tasks.cvqa.answers import decide
from magic_cli.tasks.encoding import encoded
from magic_cli.tasks.seg import SegDecision
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.tasks.seg.decide import to_mask
from magic_cli.tasks.seg.model import build
from magic_cli.tasks.seg.score import score
from magic_cli.training.checkpoint import load_best

seg = get("seg")

FIGURE = "dice_meanofmax"


def train(data: Path, out: Path, *settings: str, task: str = "seg", **options: Any) -> dict[str, Any]:
    given = ["epochs=3", "batch_size=4", "lr=3e-2", *settings]
    return train_command.train(task, data, out, train_options(data.parent / "cache", *given, **options)).to_json()


def predict(ckpts: list[Path], data: Path, out: Path, **options: Any) -> dict[str, np.ndarray]:
    predict_command.predict("seg", ckpts, data, "valid", out, predict_options(data.parent / "cache", **options))
    return {path.name: tifffile.imread(path) for path in sorted((out / "masks_preds").iterdir())}


def maps(ckpts: list[Path], data: Path, **options: Any) -> list[Any]:
    return list(
        predict_command.predictions(
            "seg", ckpts, open_prepared(data), "valid", predict_options(data.parent / "cache", **options)
        )
    )


@pytest.fixture(scope="module")
def plain(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain")
    train(drawn_prepared, out)
    return out / "best.pt"


@pytest.fixture(scope="module")
def chosen(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run too short to be sure of anything: its best threshold is far from a half."""
    out = tmp_path_factory.mktemp("chosen")
    return out / "best.pt", train(drawn_prepared, out, f"threshold_for={FIGURE}")


# --- networks side by side


def test_an_ensemble_learns_side_by_side_and_predicts_the_mean(drawn_prepared: Path, tmp_path: Path) -> None:
    """Another encoder's decoder starts elsewhere; what is saved, reloaded and averaged is the mean of both networks."""
    data = drawn_prepared
    train(data, tmp_path / "run", "ensemble=tiny+tiny", "finetune=all", "crop=0.5", "colour=0.2")
    _, weights = load_best(tmp_path / "run" / "best.pt")
    names = {name.rpartition(".head.")[0] for name in weights if ".head." in name or name.startswith("head.")}
    assert names == {"", "others.0", "others.1"}
    assert not torch.equal(weights["head.out.1.weight"], weights["others.0.head.out.1.weight"])
    ours = maps([tmp_path / "run" / "best.pt"], data, tta=False)
    model = build(resolve(SegConfig, "tiny", ["ensemble=tiny+tiny", "finetune=all"]), open_prepared(data).questions)
    model.load_state_dict(weights, strict=False)
    model.eval()
    samples = seg.prediction_samples(open_prepared(data), "valid", model.config)
    batch = model.collate(samples, [0] * len(samples))
    with torch.inference_mode():
        whole = model.predict(batch, 0)
        networks, means = model.networks, []
        for network in networks:
            model.images, model.head = network
            model.others = torch.nn.ModuleList()
            alone = model.predict(dataclasses.replace(batch, photos=batch.photos[:1]), 0)
            means.append(np.stack([row.probability for row in alone]))
    assert np.allclose(np.mean(means, 0), np.stack([row.probability for row in whole]), atol=1e-6)
    assert np.abs(means[0] - means[1]).max() > 1e-3
    assert np.allclose(np.stack([p.probability for p in ours]), np.stack([p.probability for p in whole]), atol=1e-5)


def test_a_frozen_ensemble_reads_its_cache(drawn_prepared: Path, tmp_path: Path) -> None:
    """Features of both encoders are cached; uncached ones give the same masks."""
    train(drawn_prepared, tmp_path / "run", "ensemble=tiny", "finetune=head", "cache_dtype=float32")
    cached = maps([tmp_path / "run" / "best.pt"], drawn_prepared)
    uncached = predict_options(None)
    best = [tmp_path / "run" / "best.pt"]
    plain = list(predict_command.predictions("seg", best, open_prepared(drawn_prepared), "valid", uncached))
    for one, other in zip(cached, plain, strict=True):
        assert np.allclose(one.probability, other.probability, atol=1e-6)


def test_deep_supervision_adds_the_mean_loss_of_coarser_maps(drawn_prepared: Path, tmp_path: Path) -> None:
    """Each network's coarser levels learn from the same masks; the prediction is the finest map's alone."""
    settings = ("ensemble=tiny", "finetune=all", "crop=0.5", "dropout=0", "deep_supervision=2")
    prepared = open_prepared(drawn_prepared)
    model = build(resolve(SegConfig, "tiny", settings), prepared.questions)
    samples = seg.training_samples(prepared, "train", model.config)[:3]
    batch = model.collate(samples, [0] * len(samples))
    text = encoded(model.texts, batch.prompts)["text"]
    masks, losses = batch.masks.float() / 255, []
    for images, head in model.networks:
        finest, coarser = head.maps(encoded(images, batch.photos[0]), text)
        losses.append(mask_loss(finest, masks, "bce+dice") + 2 * mask_loss(coarser, masks, "bce+dice"))
    loss = model.loss(batch)
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    loss.backward()
    assert all(weight.grad.abs().sum() > 0 for _, head in model.networks for weight in head.coarser.parameters())
    train(drawn_prepared, tmp_path / "run", *settings)
    _, weights = load_best(tmp_path / "run" / "best.pt")
    assert {name for name in weights if ".coarser." in name} == {
        f"{network}head.coarser.0.{part}" for network in ("", "others.0.") for part in ("weight", "bias")
    }
    assert len(maps([tmp_path / "run" / "best.pt"], drawn_prepared)) == 4


@pytest.mark.parametrize(
    "settings", [("ensemble=resnet",), ("ensemble=lite0+",), ("ensemble=lite2", "image_encoder=CIDAS/clipseg-rd64")]
)
def test_an_ensemble_of_unknown_encoders_is_one_line(settings: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"ensemble: got .*, expected lite0, lite1, lite2, tiny, joined by \+"):
        resolve(SegConfig, "tiny", settings)


def test_the_encoder_of_a_run_is_allowed_in_an_ensemble() -> None:
    """Its path has slashes as Hub names have; which kind it is, is known once the run is opened."""
    assert resolve(SegConfig, "small", ["image_encoder=runs/pretrain"]).ensemble == "lite2"


# --- merge


@pytest.mark.parametrize("rule", ["or", "majority", "intersection", "each"])
def test_each_merge_rule_trains_on_its_masks(rule: str, drawn: Path, tmp_path: Path) -> None:
    """What the loss sees is the merged mask; with `each`, every annotator's own, one sample an annotator."""
    prepare(drawn, tmp_path / "prepared", PrepareOptions(merge=rule))
    prepared = open_prepared(tmp_path / "prepared")
    config = resolve(SegConfig, "tiny", ["views=1"])
    train_samples = seg.training_samples(prepared, "train", config)
    model = build(config, prepared.questions).train()
    by_photo: dict[str, list[Sample]] = {}
    for sample in train_samples:
        by_photo.setdefault(sample.id, []).append(sample)
    for name, some in list(by_photo.items())[:4]:
        record = prepared.images[name]
        own = [read_mask(path, str(path)) for _, path in sorted(record.annotators.items())]
        wanted = own if rule == "each" else [merge_masks(own, rule)]
        assert len(some) == len(wanted)
        found = model.collate(some, [0] * len(some)).masks.numpy()
        for mask, full in zip(found, wanted, strict=True):
            assert mask.mean() / 255 == pytest.approx(full.mean(), abs=0.01)
    assert len(train_samples) == sum(
        len(i.annotators) if rule == "each" else 1 for i in prepared.images_of("train") if i.annotators
    )
    made = train(tmp_path / "prepared", tmp_path / "run")
    assert made["train_samples"] == len(train_samples)
    assert made["best"]["number_segmentation_instances"] == len(mask_gold(prepared, "valid").images)


def test_masks_of_each_annotator_differ_where_annotators_do(drawn: Path, tmp_path: Path) -> None:
    prepare(drawn, tmp_path / "prepared", PrepareOptions(merge="each"))
    prepared = open_prepared(tmp_path / "prepared")
    config = resolve(SegConfig, "tiny", ["crop=0.5"])
    some = [s for s in seg.training_samples(prepared, "train", config) if len(s.images[0].annotators) > 1]
    pair = [s for s in some if s.id == some[0].id][:2]
    for settings in (["views=1"], ["crop=0.5"]):
        model = build(resolve(SegConfig, "tiny", settings), prepared.questions).train()
        first, second = model.collate(pair, [3, 3]).masks
        assert not torch.equal(first, second)


def test_held_out_encounters_are_scored_once_a_photo(drawn: Path, tmp_path: Path) -> None:
    """Without gold in valid, a part of train is held out: three annotators are not three photos."""
    import shutil

    raw = tmp_path / "raw"
    shutil.copytree(drawn, raw)
    for path in (*raw.rglob("valid_cvqa.json"), *(p for p in raw.rglob("*_mask_*") if "valid" in p.parts)):
        path.unlink()
    prepare(raw, tmp_path / "prepared", PrepareOptions(merge="each"))
    made = train(tmp_path / "prepared", tmp_path / "run", "holdout_fraction=0.3")
    assert made["valid_samples"] == made["best"]["number_segmentation_instances"] < made["train_samples"]


# --- thresholds


def test_the_threshold_is_chosen_stored_used_and_told(
    drawn_prepared: Path, chosen: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, made = chosen
    meta, _ = load_best(path, "seg")
    threshold = meta.chosen["settings"]["threshold"]
    assert made["chosen"] == meta.chosen
    assert meta.config["threshold"] == threshold
    assert (meta.chosen["fixed"], meta.chosen["figure"]) == (0.5, FIGURE)
    assert meta.chosen["before"] == pytest.approx(made["best"][FIGURE])
    assert meta.chosen["after"] >= meta.chosen["before"]
    assert threshold != 0.5
    gain = f"{meta.chosen['before']:.4f} -> {meta.chosen['after']:.4f}, optimistic there"
    said = f"threshold {threshold:g} chosen on the validation samples: {FIGURE} {gain}"
    assert said == train_text.chosen_line(meta.chosen)
    written = predict([path], drawn_prepared, tmp_path / "own")
    assert figures(tmp_path / "own", drawn_prepared)[FIGURE] == pytest.approx(meta.chosen["after"], abs=1e-9)
    for p in maps([path], drawn_prepared):
        assert np.array_equal(written[f"{p.id}_mask_sys.tiff"], to_mask(p, threshold))
    predict([path], drawn_prepared, tmp_path / "fixed", threshold=0.5)
    assert figures(tmp_path / "fixed", drawn_prepared)[FIGURE] == pytest.approx(meta.chosen["before"], abs=1e-9)


def figures(folder: Path, data: Path) -> dict[str, float]:
    gold = mask_gold(open_prepared(data), "valid")
    with open_predictions(folder) as found:
        return dict(score(gold, found.submitted_masks()).scores)


def test_choosing_does_not_change_the_weights(plain: Path, chosen: tuple[Path, dict[str, Any]]) -> None:
    one, other = (load_best(path, "seg") for path in (plain, chosen[0]))
    assert one[0].chosen == {}
    assert one[0].history == other[0].history
    assert all(torch.equal(one[1][name], other[1][name]) for name in one[1])


def test_resuming_a_finished_run_keeps_the_choice(chosen: tuple[Path, dict[str, Any]], drawn_prepared: Path) -> None:
    path, made = chosen
    before = path.read_bytes()
    options = train_options(None, preset="", resume=True)
    again = train_command.train("seg", drawn_prepared, path.parent, options)
    assert again.chosen == made["chosen"]
    assert path.read_bytes() == before


def test_a_fixed_threshold_is_what_validation_uses(drawn_prepared: Path, tmp_path: Path) -> None:
    low = train(drawn_prepared, tmp_path / "low", "threshold=0.02", "epochs=1")
    half = train(drawn_prepared, tmp_path / "half", "epochs=1")
    assert low["best"]["loss"] == half["best"]["loss"]
    assert low["best"][FIGURE] != half["best"][FIGURE]
    assert low["chosen"] == {}


# --- ensembles


def test_ensembles_of_other_sizes_and_thresholds(
    drawn_prepared: Path, chosen: tuple[Path, dict[str, Any]], plain: Path, tmp_path: Path
) -> None:
    """64 and 96 pixels: the mean at the photo's size, cut at the mean of both thresholds."""
    train(drawn_prepared, tmp_path / "big", "image_size=96", "threshold=0.3")
    both = [plain, tmp_path / "big" / "best.pt"]
    apart = [maps([path], drawn_prepared) for path in both]
    for found, one, other in zip(maps(both, drawn_prepared), *apart, strict=True):
        assert (one.probability.shape, other.probability.shape) == ((64, 64), (96, 96))
        full = [to_full(p) for p in (one, other)]
        assert found.probability == pytest.approx((full[0] + full[1]) / 2, abs=1e-6)
        assert found.threshold == pytest.approx(0.4)
    twice = maps([plain, plain], drawn_prepared)
    for one, other in zip(twice, apart[0], strict=True):
        assert np.array_equal(one.probability, other.probability)


def to_full(p: Any) -> np.ndarray:
    from PIL import Image

    assert p.shape is not None
    size = (p.shape[1], p.shape[0])
    return np.asarray(Image.fromarray(p.probability).resize(size, Image.Resampling.BILINEAR))


def test_tta_of_an_ensemble_counts_every_view_once(drawn_prepared: Path, plain: Path, tmp_path: Path) -> None:
    train(drawn_prepared, tmp_path / "big", "image_size=96", "epochs=1")
    big = tmp_path / "big" / "best.pt"
    both = maps([plain, big], drawn_prepared, tta=True)
    apart = [maps([path], drawn_prepared, tta=True) for path in (plain, big)]
    for found, one, other in zip(both, *apart, strict=True):
        assert found.probability == pytest.approx((to_full(one) + to_full(other)) / 2, abs=1e-5)


def test_views_are_those_of_the_setting_unless_an_option_says_otherwise(drawn_prepared: Path, tmp_path: Path) -> None:
    runs = {}
    for name in ("none", "flips", "turns"):  # the same weights: predictions alone differ
        train(drawn_prepared, tmp_path / name, f"tta={name}", "epochs=1")
        runs[name] = tmp_path / name / "best.pt"
    found = {name: maps([run], drawn_prepared)[0].probability for name, run in runs.items()}
    views = [maps([runs["none"]], drawn_prepared, tta=asked)[0].probability for asked in (None, True)]
    assert np.array_equal(found["none"], views[0])
    assert np.array_equal(found["flips"], views[1])
    assert np.array_equal(found["none"], maps([runs["turns"]], drawn_prepared, tta=False)[0].probability)
    assert np.array_equal(found["turns"], maps([runs["turns"]], drawn_prepared, tta=True)[0].probability)
    assert not np.array_equal(found["turns"], found["flips"])


def test_training_starts_from_an_earlier_run(
    drawn_prepared: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(drawn_prepared, tmp_path / "on", "epochs=1", "lr=1e-9", init=plain.parent)
    assert f"tensors start from {plain}" in capsys.readouterr().err
    (_, first), (meta, after) = load_best(plain, "seg"), load_best(tmp_path / "on" / "best.pt", "seg")
    assert all(torch.allclose(first[name].float(), tensor.float(), atol=1e-6) for name, tensor in after.items())
    assert meta.config["init"] == str(plain)
    wider = train(drawn_prepared, tmp_path / "wide", "epochs=1", "width=48", init=plain)
    assert wider["epochs"] == 1
    assert "; not: head." in capsys.readouterr().err


def test_what_cannot_be_started_from_is_refused(drawn_prepared: Path, plain: Path, tmp_path: Path) -> None:
    train(drawn_prepared, tmp_path / "tuned", "epochs=1", finetune="all")
    for task, run, message in (
        ("seg", tmp_path / "tuned", "add --finetune all"),
        ("seg", tmp_path / "nowhere", "no such file"),
        ("cvqa", plain, "made for task 'seg'"),
    ):
        with pytest.raises(MagicError, match=message):
            train(drawn_prepared, tmp_path / "new", "epochs=1", task=task, init=run)
    assert not list(tmp_path.glob("new/*.pt"))


# --- the command line


def test_flags_of_predict(monkeypatch: Any, drawn_prepared: Path, plain: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["magic", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            app.main()
        return int(left.value.code or 0)

    common = ["--ckpt", plain, "--data", drawn_prepared, "--split", "valid"]
    wanted = {"threshold": ["--threshold", "0.6"], "largest": ["--largest"], "fill_holes": ["--fill-holes"]}
    probabilities = maps([plain], drawn_prepared)
    for name, words in wanted.items():
        assert run("predict", "seg", *common, "--out", tmp_path / name, *words) == 0
        options: dict[str, Any] = {name: 0.6 if name == "threshold" else True}
        for p in probabilities:
            written = tifffile.imread(tmp_path / name / "masks_preds" / f"{p.id}_mask_sys.tiff")
            assert np.array_equal(written, to_mask(p, **options))
    for bad in ("0", "1", "x"):
        assert run("predict", "seg", *common, "--out", tmp_path / "bad", "--threshold", bad) == 2


def test_a_task_refuses_what_another_decides() -> None:
    options = {"threshold": 0.5, "largest": False, "fill_holes": True, "decode": "set"}
    with pytest.raises(ConfigError, match=r"--threshold, --fill-holes: of another task than 'cvqa'"):
        get("cvqa").decision_from(options)
    with pytest.raises(ConfigError, match=r"--decode: of another task than 'seg'"):
        get("seg").decision_from(options)
    assert get("seg").decision_from(options | {"decode": None}) == SegDecision(0.5, False, True)
    with pytest.raises(TypeError, match="CvqaDecision"):
        get("seg").write([], None, Path(), CvqaDecision("set"))  # type: ignore[arg-type]


def test_closed_answers_are_decided_anew(monkeypatch: Any, drawn_prepared: Path, tmp_path: Path) -> None:
    """--decode: as slots, as sets, and without it as in training; the same probabilities each time."""
    options = train_options(tmp_path / "cache", "epochs=1", "lr=1e-6")  # near the prior, where sets differ from slots
    train_command.train("cvqa", drawn_prepared, tmp_path / "run", options)
    ckpt, rows = tmp_path / "run" / "best.pt", {}
    for words in ([], ["--decode", "slot"], ["--decode", "set"], ["--decode", "best"]):
        out = tmp_path / "-".join(["out", *words])
        line = ["predict", "cvqa", "--ckpt", ckpt, "--data", drawn_prepared, "--split", "valid", "--out", out, *words]
        monkeypatch.setattr(sys, "argv", ["magic", *map(str, line)])
        with pytest.raises(SystemExit) as left:
            app.main()
        assert (left.value.code or 0) == (2 if "best" in words else 0)
        if "best" not in words:
            rows[words[-1] if words else ""] = (out / "data_cvqa_sys.json").read_text()
    again = predict_options(tmp_path / "cache")
    found = list(predict_command.predictions("cvqa", [ckpt], open_prepared(drawn_prepared), "valid", again))
    questions = open_prepared(drawn_prepared).questions
    for way, text in rows.items():
        expected = [{"encounter_id": p.id} | decide([p], questions, way or None) for p in found]
        assert json.loads(text) == expected
    assert rows[""] == rows["set"]


def test_train_tune_is_a_flag(monkeypatch: Any, capsys: Any, drawn_prepared: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--preset", "tiny", "--set", "epochs=1", "--data", drawn_prepared, "--out", tmp_path / "run", "--json"]
    monkeypatch.setattr(sys, "argv", ["magic", "train", "seg", "--finetune", "lora", *map(str, words)])
    with pytest.raises(SystemExit):
        app.main()
    out, err = capsys.readouterr()
    assert json.loads(out)["config"]["finetune"] == "lora"
    learning, total = json.loads(out)["parameters"], "parameters learn"
    assert f"{learning:,} of " in err
    assert total in err
