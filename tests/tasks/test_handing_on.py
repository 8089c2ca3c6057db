"""Encoders of a pretraining run in the other tasks: what arrives, and checkpoints that need the run no more."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from magic_cli import PredictOptions, TrainOptions, predict, tasks, train
from magic_cli.config import Config, resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import CheckpointError, ConfigError
from magic_cli.io.files import sha256
from magic_cli.models.encoders import TinyImage, TinyText
from magic_cli.models.fine_tuning import add_adapters
from magic_cli.models.handed_on import merged
from magic_cli.records import CheckpointMeta, Sample
from magic_cli.tasks import check_weights, with_runs
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.cvqa.model import CvqaBatch, CvqaModel
from magic_cli.tasks.encoding import pretrained
from magic_cli.tasks.pretrain.asked import Asked
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.model import build
from magic_cli.tasks.pretrain.model.concepts import lexicon_concepts
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training import checkpoint
from magic_cli.training.runtime import RuntimeOptions
from magic_cli.training.task import of_class

Runs = Callable[[str], Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return the best.pt of a pretraining with a way of fine-tuning, as if it had changed all that it may change."""
    root = tmp_path_factory.mktemp("runs")

    def run(finetune: str) -> Path:
        file = root / finetune / "best.pt"
        if not file.exists():
            config = resolve(PretrainConfig, "tiny", finetune=finetune)
            model = build(config)
            began = {f"{path}={e.source}": e.weights_sha256 for path, e in checkpoint.encoders(model).items()}
            with torch.no_grad():
                for name, tensor in checkpoint.live(model).items():
                    tensor.add_(0.05 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))))
            meta = CheckpointMeta(checkpoint.FORMAT, "pretrain", config.as_dict(), (), began, (), 0.5, 0, "0", {})
            file.parent.mkdir()
            checkpoint.save_best(file, model, meta)
        return file

    return run


def settings(config_class: type[Config], *pairs: str) -> Config:
    return with_runs(resolve(config_class, "tiny", pairs))


@pytest.mark.parametrize("finetune", ["all", "last", "lora"])
def test_encoders_get_what_the_run_learned(runs: Runs, finetune: str) -> None:
    run = runs(finetune)
    config = settings(CvqaConfig, f"image_encoder={run.parent}", f"text_encoder={run}")
    assert (config.image_encoder, config.text_encoder) == ("tiny", "tiny")
    assert config.runs == (run,)
    images, texts = pretrained(config, "pooled")
    model = build(resolve(PretrainConfig, "tiny", finetune=finetune))
    checkpoint.load_learned(model, checkpoint.load_best(run)[1], run)
    ours, wanted = TinyImage(64, "pooled"), model.images.eval()
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        fine = images(pixels)["pooled"][:, 8:]  # the coarse half is what the run's "patches" average
        torch.testing.assert_close(fine, wanted(pixels)["pooled"])
        assert not torch.allclose(images(pixels)["pooled"], ours(pixels)["pooled"])
    assert images.fingerprint != ours.fingerprint
    if finetune != "lora":
        assert not torch.equal(texts.state_dict()["table.weight"], TinyText(64).state_dict()["table.weight"])


def test_projected_vectors_are_those_of_the_joint_space(runs: Runs) -> None:
    config = settings(CvqaConfig, f"image_encoder={runs('head')}", f"text_encoder={runs('head')}", "projected=true")
    model = build(resolve(PretrainConfig, "tiny", finetune="head"))
    checkpoint.load_learned(model, checkpoint.load_best(runs("head"))[1], runs("head"))
    images, texts = pretrained(config, "patches", projected=True)
    assert (images.dim, texts.dim) == (32, 32)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    ids = texts.batch([[1, 5, 9], [1, 7]])
    with torch.no_grad():
        vectors = model.image_projection(model.images(pixels)["pooled"])
        torch.testing.assert_close(images(pixels)["pooled"], vectors)
        torch.testing.assert_close(texts(ids)["text"], model.text_projection(model.texts(ids)["text"]))


def test_a_run_that_trained_no_encoder_hands_on_the_published_one(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(SegConfig, f"image_encoder={runs('head')}")
    images, _ = pretrained(config, "pyramid")
    assert images.origin is None
    assert images.fingerprint == TinyImage(64, "pyramid").fingerprint
    assert "did not train its image encoder" in capsys.readouterr().err


def test_low_rank_updates_are_added_to_their_weights() -> None:
    encoder = TinyImage(32, "pooled")
    add_adapters(encoder, 3)
    tensors = {n: torch.randn(t.shape) for n, t in encoder.state_dict().items() if ".lora." in n}
    encoder.load_state_dict(tensors, strict=False)
    plain = TinyImage(32, "pooled")
    plain.load_state_dict(merged(plain, tensors), strict=False)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(plain(pixels)["pooled"], encoder(pixels)["pooled"])


def test_what_cannot_be_handed_on_is_refused_in_one_line(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        settings(SegConfig, "image_encoder=runs/none")
    empty = tmp_path / "owner" / "name"
    empty.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("owner", "./owner", str(empty)):
        with pytest.raises(CheckpointError, match=r"a folder without best\.pt, expected a run of pretrain") as error:
            settings(SegConfig, f"image_encoder={name}")
        assert str(error.value).startswith(name)
    with pytest.raises(ConfigError, match=r"^owner/name: got a folder without best\.pt, .* --weights DIR"):
        check_weights(settings(SegConfig, "image_encoder=owner/name"))
    meta, weights = checkpoint.load_best(runs("all"))
    other = tmp_path / "seg" / "best.pt"
    other.parent.mkdir()
    body = {"meta": json.dumps({**vars_of(meta), "task": "seg"}), "weights": weights}
    torch.save(body, other)
    with pytest.raises(CheckpointError, match="made for task 'seg', not 'pretrain'"):
        settings(SegConfig, f"image_encoder={other}")
    with pytest.raises(ConfigError, match="a run of tiny, expected lite0"):
        settings(SegConfig, "image_encoder=lite0", f"image_weights={runs('all')}")
    with pytest.raises(ConfigError, match="expected the run of an encoder with a pyramid"):
        settings(SegConfig, "image_encoder=openai/clip-vit-base-patch16", "image_weights=runs/x/best.pt")
    torch.save(body | {"meta": json.dumps({**vars_of(meta), "encoders": {}}), "weights": {}}, other)
    fitting = with_runs(resolve(SegConfig, "tiny", [f"image_encoder={runs('last')}"]))
    with pytest.raises(CheckpointError, match="trained from other weights of random:tiny"):
        pretrained(replace(fitting, image_weights=str(other)), "pyramid")


def vars_of(meta: CheckpointMeta) -> dict[str, object]:
    return {name: getattr(meta, name) for name in meta.__slots__}


@pytest.mark.parametrize(
    ("task", "pairs"),
    [
        ("seg", ()),
        ("cvqa", ("projected=true",)),
        ("cvqa", ("concepts=runs/pretrain", "finetune=all")),
        ("cvqa", ("option_term=true", "finetune=all")),
    ],
)
def test_a_checkpoint_needs_the_run_no_more(
    task: str, pairs: tuple[str, ...], runs: Runs, drawn_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/pretrain/best.pt")
    run.parent.mkdir(parents=True)
    shutil.copy(runs("all"), run)
    runtime = RuntimeOptions(device="cpu", cache_dir="cache")
    given = [f"image_encoder={run.parent}", f"text_encoder={run}", "epochs=1", *pairs]
    train(task, drawn_prepared, "here", TrainOptions("tiny", given, runtime=runtime))
    digest = sha256(run)
    assert json.loads(Path("here/run.json").read_text())["inputs"][str(run)] == digest
    first = predicted(task, drawn_prepared, "first", runtime)
    run.unlink()
    assert predicted(task, drawn_prepared, "second", replace(runtime, cache_dir="other")) == first
    meta, _ = checkpoint.load_best(Path("here/best.pt"))
    assert meta.origins["images"] == {"run": str(run), "sha256": digest, "encoder": "tiny", "size": 64}
    assert meta.config["image_weights"] == str(run)
    assert meta.encoders["images=random:tiny"] != TinyImage(64, "pooled").weights_sha256


def predicted(task: str, data: Path, out: str, runtime: RuntimeOptions) -> dict[str, bytes]:
    predict(task, "here", data, "valid", out, PredictOptions(runtime=runtime))
    files = (path for path in Path(out).rglob("*") if path.is_file() and path.name != "run.json")
    return {path.name: path.read_bytes() for path in files}


def test_concept_scores_are_those_that_the_run_gives(runs: Runs, drawn_prepared: Path) -> None:
    config = settings(CvqaConfig, f"concepts={runs('all')}")
    prepared = open_prepared(drawn_prepared)
    samples = tasks.get("cvqa").training_samples(prepared, "train", config)[:3]
    model = of_class(tasks.get("cvqa").build(config, prepared.questions), CvqaModel).eval()
    with torch.no_grad():
        found = model._concepts(of_class(model.collate(samples, [0] * 3), CvqaBatch))
    run = build(resolve(PretrainConfig, "tiny", finetune="all")).eval()
    checkpoint.load_learned(run, checkpoint.load_best(runs("all"))[1], runs("all"))
    run.ask(Asked(concepts=lexicon_concepts()))
    with torch.inference_mode():
        for row, sample in enumerate(samples):
            photos = [Sample(photo.image_id, sample.case, (photo,)) for photo in sample.images]
            scores = [p.concept_scores for p in run.predict(run.collate(photos, [0] * len(photos)), 0)]
            np.testing.assert_allclose(found[row], np.mean(scores, 0), atol=2e-5)
    assert found.shape == (3, 98)


@pytest.mark.parametrize("pair", ["modality=text", "head=options"])
def test_concepts_need_photos_and_the_head_that_reads_them(runs: Runs, pair: str) -> None:
    with pytest.raises(ConfigError, match="concepts: got a run with"):
        settings(CvqaConfig, f"concepts={runs('all')}", pair)
