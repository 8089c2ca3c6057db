"""The `paper` presets on small CLIPSeg, BERT and Swin checkpoints (tests/builders/small_models.py)."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_options import predict_options, train_options
from small_models import CLIPSEG, SWIN, save_clipseg, save_swin
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, ViTImageProcessor

from magic_cli.commands import cross_validate, predict, train
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.data.questions import load_questions
from magic_cli.errors import CheckpointError, WeightsError
from magic_cli.models import huggingface
from magic_cli.models.cache.features import FeatureCache
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks import config_class
from magic_cli.tasks.cvqa import model as cvqa_model
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.seg import model as seg_model
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training.checkpoint import load_best


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "IMG_ENC00001_00001.png")
    questions = load_questions(None)
    answers = questions.to_slots(questions.empty_sets())
    text = ("red itch " * 60, "no no")
    encounter = Case("ENC00001", "train", ("IMG_ENC00001_00001",), {}, *text, answers)
    record = ImageRecord("IMG_ENC00001_00001", "ENC00001", "train", tmp_path / "IMG_ENC00001_00001.png", 40, 50)
    return Sample("ENC00001", encounter, (record,), ("CQID025-001",))


def test_clipseg_parts_equal_the_whole_model(weights: Path) -> None:
    """Vision stopped after the last tap + text + decoder = transformers' own forward, exactly."""
    vision, text, head = huggingface.clipseg(f"CIDAS/{CLIPSEG}", weights, 64, 77)
    for encoder in (vision, text):
        encoder.freeze()
    assert len(vision.blocks) == 4
    pixels = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    batch = text.batch([text.join(text.ids("red skin"), []), text.join(text.ids("a"), text.ids("longer text"))])
    ours = head(vision.features(pixels), text.features(batch)["text"])
    whole = CLIPSegForImageSegmentation.from_pretrained(weights / CLIPSEG).eval()
    with torch.no_grad():
        theirs = whole(pixel_values=vision.normalise(pixels), **batch).logits
    assert torch.equal(ours.detach(), theirs)


def test_clipseg_uses_the_processors_own_normalisation(weights: Path) -> None:
    vision, _, _ = huggingface.clipseg(f"CIDAS/{CLIPSEG}", weights, 64, 77)
    assert vision.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_photos_are_those_of_the_processor(weights: Path, sample: Sample) -> None:
    """Squashed, scaled and normalised as transformers' processor does it, up to the rounding of resized pixels."""
    vision, _, _ = huggingface.clipseg(f"CIDAS/{CLIPSEG}", weights, 64, 77)
    photo = Image.open(sample.images[0].path).convert("RGB")
    ours = vision.normalise(vision.batch([vision.pixels(photo)]))
    theirs = ViTImageProcessor.from_pretrained(weights / CLIPSEG)(photo, return_tensors="pt")["pixel_values"]
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 2 / 255 / 0.2 + 1e-6  # two of 255 steps, divided by the smallest std


def test_without_a_processor_the_published_statistics_are_taken_and_said(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(weights / CLIPSEG, tmp_path / CLIPSEG)
    (tmp_path / CLIPSEG / "preprocessor_config.json").unlink()
    vision, _, _ = huggingface.clipseg(f"CIDAS/{CLIPSEG}", tmp_path, 64, 77)
    assert vision.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert "no preprocessor_config.json" in capsys.readouterr().err


def test_the_features_of_a_cache_give_the_same_logits_and_loss(weights: Path, sample: Sample, tmp_path: Path) -> None:
    """Exactly in float32; with float16 within a hundredth of the logits' spread."""
    masks = tmp_path / "mask.tiff"
    Image.fromarray(np.eye(40, 50, dtype=np.uint8)).save(masks)
    seen = replace(sample, images=(replace(sample.images[0], mask=masks),))
    result = {}
    for kind in ("", "float32", "float16"):
        settings = ["image_size=64", *([f"cache_dtype={kind}"] if kind else [])]
        config = resolve(SegConfig, "paper", settings, weights_dir=str(weights))
        model = seg_model.build(config, load_questions(None)).train()
        model.cache = FeatureCache(tmp_path / "cache", kind) if kind else None
        for encoder, item in model.frozen([seen], 1) if kind else ():
            model.cache.fill(encoder, [item], torch.device("cpu"))
        batch = model.collate([seen], [0])
        result[kind] = model._logits(batch)[0].detach(), model.loss(batch).item()
    assert torch.equal(result["float32"][0], result[""][0])
    assert result["float32"][1] == result[""][1]
    assert (result["float16"][0] - result[""][0]).abs().max() <= 0.01 * result[""][0].std()


@pytest.mark.parametrize("old", [True, False])
def test_the_end_token_is_found_in_both_kinds_of_published_configurations(old: bool, tmp_path: Path) -> None:
    """Old configurations say eos_token_id 2 and mean the largest id: padding must not change the embedding."""
    save_clipseg(tmp_path / CLIPSEG)
    if old:
        path = tmp_path / CLIPSEG / "config.json"
        config = json.loads(path.read_text())
        config["text_config"]["eos_token_id"] = 2
        path.write_text(json.dumps(config))
    _, text, _ = huggingface.clipseg(f"CIDAS/{CLIPSEG}", tmp_path, 64, 77)
    text.freeze()
    short, long = text.join(text.ids("red"), []), text.join(text.ids("a much longer text"), [])
    padded = text.features(text.batch([short, long]))["text"][0]
    assert torch.allclose(padded, text.features(text.batch([short]))["text"][0], atol=1e-6)


def test_the_preset_has_the_numbers_of_the_paper() -> None:
    """IReL paper, sections 4.1.1, 4.1.4 and 4.1.5; AdamW's decay is torch's default, which the paper leaves alone."""
    config = resolve(SegConfig, "paper")
    wanted = {"image_size": 352, "loss": "bce", "lr": 9e-4, "schedule": "constant", "batch_size": 32}
    wanted |= {"precision": "fp16", "finetune": "head", "text_window": 77, "monitor": "", "ema": 0.0, "views": 1}
    wanted |= {"grad_accum_steps": 1, "grad_clip_norm": 1.0, "weight_decay": 0.01}
    wanted |= {"crop": 1.0, "colour": 0.0, "seed": 0}
    assert {name: getattr(config, name) for name in wanted} == wanted
    assert 20 <= config.epochs <= 30
    assert config.patience > 0
    assert 4 <= config.workers <= 8
    assert config.image_encoder == config.text_encoder == "CIDAS/clipseg-rd64-refined"


def test_only_the_decoder_learns(weights: Path, sample: Sample) -> None:
    config = resolve(SegConfig, "paper", ["image_size=64"], weights_dir=str(weights))
    model = seg_model.build(config, load_questions(None)).train()
    masks = Path(sample.images[0].path).with_suffix(".tiff")
    Image.fromarray(np.eye(40, 50, dtype=np.uint8)).save(masks)
    batch = model.collate([replace(sample, images=(replace(sample.images[0], mask=masks),))], [0])
    model.loss(batch).backward()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"head"}
    assert all(p.grad is None for p in (*model.images.parameters(), *model.texts.parameters()))
    grads = [p.grad for p in model.head.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)


def test_prompts_keep_both_halves_within_77_tokens(weights: Path, sample: Sample) -> None:
    _, text, _ = huggingface.clipseg(f"CIDAS/{CLIPSEG}", weights, 64, 77)
    from magic_cli.tasks.encoding import text_item

    ids = text_item(text, sample.case.question, sample.case.answer).load()
    assert len(ids) == 77
    assert ids[0] == 58
    assert ids[-1] == 59
    assert ids[-5:-1] == text.ids("no no")


def test_paper_cvqa_scores_each_option_and_tunes_both_towers(weights: Path, sample: Sample) -> None:
    config = resolve(CvqaConfig, "paper", ["image_size=64"], weights_dir=str(weights))
    model = cvqa_model.build(config, load_questions(None)).train()
    batch = model.collate([sample, sample], [0, 0])
    loss = model.loss(batch)
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.images.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.texts.parameters())
    with torch.no_grad():
        result = model.eval().predict(model.collate([sample], [0]), 0)[0]
    assert list(result.probabilities) == ["CQID025-001"]
    assert result.probabilities["CQID025-001"].shape == (3,)
    assert result.probabilities["CQID025-001"].sum() == pytest.approx(1)


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_missing_weights_name_what_to_bring(task: str, tmp_path: Path) -> None:
    config = resolve(config_class(task), "paper", weights_dir=str(tmp_path))
    with pytest.raises(WeightsError, match=r"config\.json") as caught:
        (seg_model if task == "seg" else cvqa_model).build(config, load_questions(None))
    assert caught.value.exit_code == 5


def test_a_broken_checkpoint_is_one_line(weights: Path, tmp_path: Path) -> None:
    save_swin(tmp_path / SWIN)
    (tmp_path / SWIN / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="not a usable checkpoint"):
        huggingface.SwinPooled(f"microsoft/{SWIN}", tmp_path, 64)


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_paper_presets_train_and_predict(task: str, weights: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    """The whole run on small checkpoints: frozen CLIP outputs cached, best.pt without them, prediction from it."""
    settings = ["image_size=64", "epochs=1", "workers=0"] + (["batch_size=64"] if task == "cvqa" else [])
    options = train_options(tmp_path / "cache", *settings, preset="paper", weights=weights)
    result = train.train(task, drawn_prepared, tmp_path / "run", options)
    meta, learned = load_best(tmp_path / "run" / "best.pt", task)
    assert meta.config["weights_dir"] == str(weights)
    assert any(name.startswith("images.") for name in learned) == (task == "cvqa")
    assert result.best["epoch"] == 1
    ckpt = [tmp_path / "run" / "best.pt"]
    made = predict.predict(task, ckpt, drawn_prepared, "test", tmp_path / "out", predict_options(tmp_path / "cache"))
    assert made.files == (2 if task == "cvqa" else len(open_prepared(drawn_prepared).images_of("test")))
    save_clipseg(tmp_path / "other" / CLIPSEG, seed=1)
    if task == "seg":
        other = predict_options(tmp_path / "cache", weights=tmp_path / "other")
        with pytest.raises(CheckpointError, match="differ from those in training"):
            predict.predict(task, ckpt, drawn_prepared, "test", tmp_path / "o", other)


def test_the_released_decoder_has_1_127_009_parameters() -> None:
    """rd64-refined's configuration: 64 channels, taps 3, 6 and 9, patch 16, complex transposed convolution."""
    from transformers.models.clipseg.modeling_clipseg import CLIPSegDecoder

    vision = {"patch_size": 16, "hidden_size": 768, "num_attention_heads": 12}
    config = CLIPSegConfig(vision_config=vision, reduce_dim=64, use_complex_transposed_convolution=True)
    assert tuple(config.extract_layers) == (3, 6, 9)
    assert sum(p.numel() for p in CLIPSegDecoder(config).parameters()) == 1_127_009


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_paper_presets_cross_validate(task: str, weights: Path, drawn_prepared: Path, tmp_path: Path) -> None:
    settings = ["image_size=64", "epochs=1", "workers=0"] + (["batch_size=64"] if task == "cvqa" else [])
    options = train_options(tmp_path / "cache", *settings, preset="paper", weights=weights)
    result = cross_validate.cross_validate(task, 2, drawn_prepared, tmp_path / "run", options)
    assert result.scores is not None
    assert result.scores.encounters == 8
    others = [note for note in result.scores.notes if "look inverted" not in note]  # of a decoder without training
    assert ["of 8 encounters are too narrow" in note for note in others] == [True]
    assert [part.epochs for part in result.parts] == [1, 1]
