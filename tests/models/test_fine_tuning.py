"""models/fine_tuning.py: what learns in each mode, what stays bit-identical, what best.pt holds."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_options import predict_options, train_options
from small_models import BERT, CLIPSEG, SWIN, save_clip
from stopped_runs import stop_after
from torch import Tensor, nn

from magic_cli.commands import predict
from magic_cli.commands import train as train_command
from magic_cli.commands.export.model import export
from magic_cli.config import resolve
from magic_cli.data.prepared import open_prepared
from magic_cli.data.questions import load_questions
from magic_cli.errors import ConfigError, Interrupted
from magic_cli.models import huggingface
from magic_cli.models.efficientnet_lite import Lite0
from magic_cli.models.encoders import Encoder, TextEncoder, TinyImage, TinyText, minilm
from magic_cli.models.export.graph import GraphOptions
from magic_cli.models.fine_tuning import Adapter, last_stage, set_finetuning
from magic_cli.models.handed_on import merged
from magic_cli.tasks import get
from magic_cli.tasks.cvqa import model as cvqa_model
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.seg import model as seg_model
from magic_cli.tasks.seg.config import SegConfig
from magic_cli.training import checkpoint
from magic_cli.training.restoring import restored
from magic_cli.training.updates import ModelEma

seg = get("seg")

MODES = ("head", "last", "all", "lora", "bitfit", "norm")
QUESTIONS = load_questions(None)


def make(kind: str, weights: Path) -> Encoder:
    made: dict[str, object] = {
        "tiny": lambda: TinyImage(64, "pyramid"),
        "tiny text": lambda: TinyText(32),
        "lite0": lambda: Lite0(64, "pyramid"),
        "lite0 pooled": lambda: Lite0(64, "pooled"),
        "minilm": lambda: minilm(32),
        "clip vision": lambda: huggingface.clipseg(f"CIDAS/{CLIPSEG}", weights, 64, 77)[0],
        "clip text": lambda: huggingface.clipseg(f"CIDAS/{CLIPSEG}", weights, 64, 77)[1],
        "swin": lambda: huggingface.SwinPooled(f"microsoft/{SWIN}", weights, 64),
        "bert": lambda: huggingface.bert(f"emilyalsentzer/{BERT}", weights, 32),
    }
    return made[kind]()  # type: ignore[operator,no-any-return]


def batch_of(encoder: Encoder) -> object:
    if isinstance(encoder, TextEncoder):
        return encoder.batch([encoder.join(encoder.ids("red itch yes"), []), encoder.join(encoder.ids("no"), [])])
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 64, 64), generator=generator).to(torch.uint8)


def loss_of(encoder: Encoder) -> Tensor:
    return torch.stack([t.float().pow(2).mean() for t in encoder.features(batch_of(encoder)).values()]).sum()


def train(encoder: Encoder, steps: int = 2) -> set[str]:
    """Train an encoder a little, without dropout; return the names of the tensors that changed."""
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    learning = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0.1)
    encoder.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(encoder).backward()
        optimizer.step()
    return {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}


STAGES = {
    "tiny": ("second.",),
    "lite0": ("net.blocks.5.", "net.blocks.6."),
    "lite0 pooled": ("net.blocks.5.", "net.blocks.6.", "net.conv_head.", "net.bn2."),
    "minilm": ("net.encoder.layer.5.",),
    "clip vision": ("blocks.3.",),
    "clip text": ("text_model.encoder.layers.1.", "text_model.final_layer_norm.", "projection."),
    "swin": ("net.encoder.layers.1.", "net.layernorm."),
    "bert": ("net.encoder.layer.0.",),
    "tiny text": ("table.",),
}


@pytest.mark.parametrize("kind", list(STAGES))
def test_last_trains_the_last_stage_and_nothing_else_moves(kind: str, weights: Path) -> None:
    """All of the stage, running statistics too, and of the rest not one bit: no statistics, no decay."""
    encoder = make(kind, weights)
    set_finetuning(encoder, "last", 8)
    stage = {name for name in encoder.state_dict() if name.startswith(STAGES[kind])}
    assert {name for name in encoder.state_dict() if encoder.is_trainable(name)} == stage
    changed = train(encoder)
    assert changed <= stage
    # What softmax cancels (biases of keys), and masked or position-less parts, have no gradient but rounding.
    assert {name for name in stage - changed if "k_proj.bias" not in name and "self.key.bias" not in name} == set()
    assert not encoder.is_frozen


@pytest.mark.parametrize("kind", list(STAGES))
def test_all_reaches_every_parameter_that_learns(kind: str, weights: Path) -> None:
    """One without a gradient would stop DistributedDataParallel: poolers and last convolutions that nobody reads."""
    encoder = make(kind, weights)
    before = {name: p.numel() for name, p in encoder.named_parameters()}
    set_finetuning(encoder, "all", 8)
    encoder.train()
    loss_of(encoder).backward()
    learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning == {name for name, p in encoder.named_parameters() if p.grad is not None}
    unread = {"lite0": 320 * 1280 + 2 * 1280, "minilm": 384 * 385, "bert": 16 * 17}
    assert sum(size for name, size in before.items() if name not in learning) == unread.get(kind, 0)


@pytest.mark.parametrize(
    ("kind", "frozen"), [("tiny", 1), ("lite0", 1), ("lite0", 2), ("lite0", 6), ("lite0 pooled", 6)]
)
def test_frozen_stages_stay_as_published_and_all_others_learn(kind: str, frozen: int, weights: Path) -> None:
    encoder = make(kind, weights)
    kept = tuple(f"{path}." for stage in encoder.stages[:frozen] for path in stage)
    set_finetuning(encoder, "all", 8, frozen)
    changed = train(encoder)
    learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning <= changed
    assert not [name for name in changed if name.startswith(kept)]
    last = tuple(f"{path}." for path in encoder.stages[-1])
    assert {name for name, _ in encoder.named_parameters() if name.startswith(last)} <= learning


@pytest.mark.parametrize(("kind", "most"), [("tiny", 2), ("lite0", 7), ("swin", 0)])
def test_as_many_frozen_stages_as_there_are_is_one_line(kind: str, most: int, weights: Path) -> None:
    with pytest.raises(ConfigError, match=rf"frozen_stages: got {most or 1} for .*use a smaller one"):
        set_finetuning(make(kind, weights), "all", 8, most or 1)
    set_finetuning(make("minilm", weights), "all", 8, 2)  # a text encoder has no such stages


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        ("tiny", 2),
        ("lite0", 31),
        ("clip vision", 4 * 4),
        ("clip text", 2 * 4),
        ("swin", 2 * 4),
        ("bert", 1 * 4),
        ("minilm", 6 * 4),
    ],
)
def test_lora_starts_as_nothing_and_trains_adapters_only(kind: str, places: int, weights: Path) -> None:
    encoder = make(kind, weights).eval()
    names = set(encoder.state_dict())
    with torch.no_grad():
        before = encoder(batch_of(encoder))
    set_finetuning(encoder, "lora", 2)
    with torch.no_grad():
        after = encoder(batch_of(encoder))
    assert all(torch.equal(before[name], after[name]) for name in before)
    adapters = {name for name in encoder.state_dict() if ".lora." in name}
    assert set(encoder.state_dict()) - adapters == names
    assert len(adapters) == 2 * places
    assert {name for name in encoder.state_dict() if encoder.is_trainable(name)} == adapters
    changed = train(encoder)
    assert changed == adapters
    with torch.no_grad():
        trained = encoder.eval()(batch_of(encoder))
    assert any(not torch.equal(before[name], trained[name]) for name in before)


def norms_of(encoder: Encoder) -> set[str]:
    kinds = (nn.LayerNorm, nn.BatchNorm2d)
    found = (f"{n}." for n, m in encoder.named_modules() if isinstance(m, kinds))
    return {f"{start}{leaf}" for start in found for leaf in ("weight", "bias")}


FEW = {  # numbers that learn: biases; scale and shift of norms
    "tiny": (8 + 16, 0),
    "tiny text": (0, 0),
    "lite0 pooled": (21_008, 2 * 21_008),
    "minilm": (6 * (4 * 384 + 1536 + 384 + 2 * 384) + 384, 2 * 384 * 13),
    "clip vision": (4 * (4 * 16 + 32 + 16 + 2 * 16) + 16, 16 * 2 * (4 * 2 + 1)),
    "swin": (None, None),
    "bert": (4 * 16 + 16 + 16 + 3 * 16, 2 * 16 * 3),
}


@pytest.mark.parametrize("mode", ["bitfit", "norm"])
@pytest.mark.parametrize("kind", list(FEW))
def test_biases_or_norms_learn_and_nothing_else_moves(kind: str, mode: str, weights: Path) -> None:
    """All that the outputs depend on, each with a gradient; running statistics stay, as they are no parameters."""
    encoder = make(kind, weights)
    names = set(encoder.state_dict())
    set_finetuning(encoder, mode)
    learning = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    assert set(encoder.state_dict()) == names
    assert {name for name in names if encoder.is_trainable(name)} == set(learning)
    wanted = {n for n in names if n.endswith("bias")} if mode == "bitfit" else norms_of(encoder) & names
    assert set(learning) == {n for n in wanted if "pooler" not in n}
    count = FEW[kind][mode == "norm"]
    assert count is None or sum(p.numel() for p in learning.values()) == count
    assert encoder.is_frozen == (not learning)
    if learning:
        changed = train(encoder)
        assert changed <= set(learning)
        assert all(p.grad is not None for p in learning.values())
        assert {n for n in set(learning) - changed if "k_proj.bias" not in n and "key.bias" not in n} == set()
        assert not any(module.training for name, module in encoder.named_modules() if name)


@pytest.mark.parametrize("kind", ["minilm", "bert", "clip text", "clip vision"])
def test_a_prompt_is_read_beside_the_usual_tokens_and_only_it_learns(kind: str, weights: Path) -> None:
    encoder = make(kind, weights).eval()
    names = set(encoder.state_dict())
    with torch.no_grad():
        before = encoder(batch_of(encoder))
    set_finetuning(encoder, "prompt", prompt_tokens=3)
    new = set(encoder.state_dict()) - names
    assert new == {f"{encoder.transformer_blocks}.0.prompt.tokens"}
    assert encoder.get_parameter(next(iter(new))).shape[0] == 3
    with torch.no_grad():
        start = encoder(batch_of(encoder))
    assert {n: t.shape for n, t in start.items()} == {n: t.shape for n, t in before.items()}
    assert train(encoder) == new
    with torch.no_grad():
        after = encoder.eval()(batch_of(encoder))
    assert not any(torch.equal(after[name], start[name]) for name in after)


def test_a_prompt_of_a_text_is_what_it_says(weights: Path) -> None:
    """Written out: embedded tokens, the prompt after the first, every layer over all of them, then the mean without."""
    encoder = make("minilm", weights).eval()
    set_finetuning(encoder, "prompt", prompt_tokens=2)
    prompt = encoder.get_parameter("net.encoder.layer.0.prompt.tokens")
    batch = batch_of(encoder)
    ours = encoder.features(batch)["text"]
    plain = make("minilm", weights).eval().net
    hidden = plain.embeddings(input_ids=batch["input_ids"])
    hidden = torch.cat([hidden[:, :1], prompt.expand(2, -1, -1), hidden[:, 1:]], 1)
    mask = batch["attention_mask"].bool()
    seen = torch.cat([mask[:, :1], torch.ones(2, 2, dtype=torch.bool), mask[:, 1:]], 1)
    for layer in plain.encoder.layer:
        hidden = layer(hidden, seen[:, None, None, :])
    hidden = torch.cat([hidden[:, :1], hidden[:, 3:]], 1) * mask[..., None]
    wanted = nn.functional.normalize(hidden.sum(1) / mask.sum(1, keepdim=True), dim=1)
    assert torch.allclose(ours, wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["minilm", "clip text"])
def test_with_a_prompt_a_text_has_one_vector_beside_any_other(kind: str, weights: Path) -> None:
    encoder = make(kind, weights).eval()
    set_finetuning(encoder, "prompt", prompt_tokens=2)
    items = [encoder.join(encoder.ids(text), []) for text in ("no", "red itch yes red itch")]
    with torch.no_grad():
        both = encoder(encoder.batch(items))["text"]
        alone = torch.cat([encoder(encoder.batch([item]))["text"] for item in items])
    assert torch.allclose(both, alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["tiny", "lite0", "swin", "tiny text"])
def test_a_prompt_for_another_network_is_one_line(kind: str, weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"finetune=prompt: got an encoder without .*expected a plain vision") as told:
        set_finetuning(make(kind, weights), "prompt")
    assert len(told.value.problems) == 1


@pytest.mark.parametrize("kind", ["tiny", "lite0", "minilm", "clip vision", "swin"])
def test_merged_adapters_give_what_unmerged_ones_do(kind: str, weights: Path) -> None:
    encoder, plain = make(kind, weights), make(kind, weights).eval()
    set_finetuning(encoder, "lora", 2)
    train(encoder)
    plain.load_state_dict(merged(plain, encoder.state_dict()))
    with torch.no_grad():
        apart, together = encoder.eval()(batch_of(encoder)), plain(batch_of(plain))
    assert all(torch.allclose(apart[name], together[name], atol=1e-4, rtol=1e-3) for name in apart)


def test_only_one_of_both_encoders_can_be_tuned() -> None:
    for part, learns in (("both", (True, True)), ("images", (True, False)), ("texts", (False, True))):
        config = resolve(CvqaConfig, "tiny", ["finetune=last", f"finetune_encoders={part}"])
        model = cvqa_model.build(config, QUESTIONS)
        assert (not model.images.is_frozen, not model.texts.is_frozen) == learns
    with pytest.raises(ConfigError, match="finetune_encoders: got texts"):
        resolve(SegConfig, "tiny", ["finetune_encoders=texts"])


@pytest.mark.parametrize("base", [nn.Linear(6, 5), nn.Conv2d(6, 5, 1), nn.Conv2d(6, 5, 3, 2, 1)])
def test_an_adapter_is_a_change_of_the_weight_of_its_rank(base: nn.Linear | nn.Conv2d) -> None:
    """base(x) + up(down(x)) = the same layer with weight W + B A, whose rank is no higher than asked."""
    torch.manual_seed(0)
    adapter = Adapter(base, 2)
    nn.init.normal_(adapter.up.weight)
    a, b = adapter.down.weight.flatten(1), adapter.up.weight.flatten(1)
    assert torch.linalg.matrix_rank(b @ a) == 2
    x = torch.randn(3, 6) if isinstance(base, nn.Linear) else torch.randn(3, 6, 8, 8)
    apart = base(x) + adapter(x)
    with torch.no_grad():
        base.weight += (b @ a).view_as(base.weight)
    assert torch.allclose(base(x), apart, atol=1e-5)


def test_a_text_encoder_without_projections_stays_frozen(weights: Path) -> None:
    encoder = make("tiny text", weights)
    set_finetuning(encoder, "lora", 4)
    assert encoder.is_frozen
    assert not any(p.requires_grad for p in encoder.parameters())


def test_an_encoder_without_stages_says_so() -> None:
    class Plain(Encoder):
        pass

    with pytest.raises(ConfigError, match="Plain has no stages; use finetune=head"):
        last_stage(Plain())


def test_dropout_and_statistics_follow_what_learns(weights: Path) -> None:
    encoder = make("lite0", weights)
    set_finetuning(encoder, "last", 8)
    encoder.train()
    modes = {name: module.training for name, module in encoder.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {name for name, on in modes.items() if on} == {n for n in modes if n.startswith(STAGES["lite0"])}
    assert not any(module.training for module in encoder.eval().modules())


@pytest.mark.parametrize("mode", [*MODES, "prompt"])
def test_a_model_saves_what_it_trained_and_loads_it_back_exactly(mode: str, weights: Path, tmp_path: Path) -> None:
    """CLIPSeg: the same photo gives the same logits, bit by bit, after a trip through a file."""
    settings = ["image_size=64", f"finetune={mode}", "rank=3"]
    config = resolve(SegConfig, "paper", settings, weights_dir=str(weights))
    model, other = seg_model.build(config, QUESTIONS), seg_model.build(config, QUESTIONS)
    if mode != "head":
        train(model.images)
    nn.init.normal_(next(model.head.parameters()))
    kept = checkpoint.learned(model)
    torch.save(kept, tmp_path / "w.pt")
    inside = {name for name in kept if name.startswith("images.")}
    assert not any(name.startswith("texts.") for name in kept)
    assert inside == {f"images.{name}" for name in model.images.state_dict() if model.images.is_trainable(name)}
    assert (mode == "head") == (not inside)
    if mode in ("lora", "prompt"):
        assert all(f".{mode}." in name for name in inside)
    checkpoint.load_learned(other, torch.load(tmp_path / "w.pt", weights_only=True), tmp_path)
    result = [m.eval().head(m.images(batch_of(m.images)), torch.ones(2, m.texts.dim)) for m in (model, other)]
    assert torch.equal(*result)


def test_the_running_mean_is_of_what_learns(weights: Path) -> None:
    config = resolve(SegConfig, "tiny", ["finetune=last"])
    model = seg_model.build(config, QUESTIONS)
    average = ModelEma(model, 0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = {name for name in average.state() if name}
    assert {n for n in names if n.startswith("images.")} == {"images.second.weight", "images.second.bias"}
    train(model.images)
    average.update()
    with average.applied():
        held = model.state_dict()
        assert not torch.equal(held["images.second.weight"], before["images.second.weight"])
        assert torch.equal(held["images.first.weight"], before["images.first.weight"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_whole_runs(task: str, mode: str, drawn_prepared: Path, tmp_path: Path) -> None:
    """Train, save, predict; frozen encoders are cached and others are not."""
    settings = ["epochs=1", "batch_size=4", f"finetune={mode}", "rank=2", "encoder_lr=1e-2", "views=1"]
    made = train_command.train(task, drawn_prepared, tmp_path / "run", train_options(tmp_path / "cache", *settings))
    meta, kept = checkpoint.load_best(tmp_path / "run" / "best.pt", task)
    assert (meta.config["finetune"], meta.config["rank"]) == (mode, 2)
    photos = {name for name in kept if name.startswith("images.")}
    expected = {
        "head": set(),
        "last": {"images.second.weight", "images.second.bias"},
        "all": {f"images.{part}.{name}" for part in ("first", "second") for name in ("weight", "bias")},
        "lora": {f"images.{p}.lora.{name}.weight" for p in ("first", "second") for name in ("down", "up")},
        "bitfit": {"images.first.bias", "images.second.bias"},
        "norm": set(),
    }
    assert photos == expected[mode]
    assert made.parameters == sum(
        t.numel() for n, t in kept.items() if n not in ("head.mean", "head.scale", "rarity", "encounters")
    )
    base = TinyImage(64, "pooled" if task == "cvqa" else "pyramid").state_dict()
    for name in photos if mode != "lora" else ():
        assert not torch.equal(kept[name], base[name.removeprefix("images.")])
    out = tmp_path / "out"
    options = predict_options(tmp_path / "cache")
    assert predict.predict(task, tmp_path / "run" / "best.pt", drawn_prepared, "test", out, options).files


@pytest.mark.parametrize("mode", MODES)
def test_only_frozen_encoders_are_cached(mode: str, drawn_prepared: Path) -> None:
    prepared = open_prepared(drawn_prepared)
    config = resolve(SegConfig, "tiny", [f"finetune={mode}"])
    model = seg_model.build(config, QUESTIONS)
    asked = [encoder for encoder, _ in model.frozen(seg.training_samples(prepared, "train", config), 1)]
    assert (model.images in asked) == (mode in ("head", "norm"))  # "tiny" has no norm
    assert model.texts in asked
    for head in ("slots", "options"):
        both = cvqa_model.build(resolve(CvqaConfig, "tiny", [f"finetune={mode}", f"head={head}"]), QUESTIONS)
        assert [e.is_frozen for e in (both.images, both.texts)] == [
            mode in ("head", "norm"),
            mode not in ("last", "all"),
        ]


def test_frozen_bytes_are_the_same_after_a_run(drawn_prepared: Path, tmp_path: Path) -> None:
    """A whole run with weight decay, momentum and averaging: the frozen half of the encoder has not moved."""
    from magic_cli.data.datasets import open_datasets
    from magic_cli.training.parts import data_of
    from magic_cli.training.trainer import Trainer

    for mode in ("last", "lora"):
        settings = ["epochs=2", f"finetune={mode}", "ema=0.9", "encoder_lr=1e-2", "weight_decay=0.5"]
        config = resolve(SegConfig, "tiny", settings)
        data = data_of(seg, open_datasets([drawn_prepared], (), (), masks=False), config)
        trainer = Trainer("seg", data, config, tmp_path / mode, "cpu", None)
        trainer.run(resume=False)
        base, now = TinyImage(64, "pyramid").state_dict(), trainer.core.images.state_dict()
        same = {name for name in base if torch.equal(base[name], now[name])}
        assert same == {n for n in base if mode == "lora" or n.startswith("first.")}
        texts, fresh = trainer.core.texts.state_dict(), TinyText(64).state_dict()
        assert np.array_equal(texts["table.weight"].numpy(), fresh["table.weight"].numpy())


@pytest.mark.parametrize("mode", ["lora", "bitfit", "norm", "prompt"])
def test_a_run_that_tunes_few_weights_resumes_and_is_exported(mode: str, drawn_prepared: Path, tmp_path: Path) -> None:
    """CLIP's two transformers: best.pt holds the few, a resumed run has the same, the exported graph has them in."""
    weights, cache = tmp_path / "weights", tmp_path / "cache"
    save_clip(weights / "clip")
    settings = ("epochs=2", f"finetune={mode}", "rank=2", "prompt_tokens=3", "encoder_lr=1e-2", "image_size=32")
    names = ("image_encoder=owner/clip", "text_encoder=owner/clip", "batch_size=3")
    options = train_options(cache, *settings, *names, weights=weights)
    train_command.train("cvqa", drawn_prepared, tmp_path / "whole", options)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4, signal.SIGINT)
        with pytest.raises(Interrupted):
            train_command.train("cvqa", drawn_prepared, tmp_path / "stopped", options)
    train_command.train("cvqa", drawn_prepared, tmp_path / "stopped", replace(options, resume=True))
    (_, whole), (_, resumed) = (checkpoint.load_best(tmp_path / run / "best.pt") for run in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    tuned = [name for name in whole if name.startswith(("images.", "texts."))]
    marks = {"lora": ".lora.", "bitfit": "bias", "norm": "norm", "prompt": ".0.prompt.tokens"}
    assert tuned
    assert all(marks[mode] in name for name in tuned)
    exported = export(tmp_path / "stopped" / "best.pt", tmp_path / "clip.onnx", None, drawn_prepared)
    assert exported.onnx.difference <= 1e-4


def test_a_pool_and_options_as_texts_train_predict_and_are_exported(drawn_prepared: Path, tmp_path: Path) -> None:
    """The graph gives what the model gives, for encounters without photo or text too; options' texts stay."""
    settings = ("head=anchored", "missing=pool", "modality_dropout=0.5", "pool_size=3", "epochs=1")
    run = tmp_path / "run" / "best.pt"
    train_command.train("cvqa", drawn_prepared, tmp_path / "run", train_options(None, *settings))
    exported = export(run, tmp_path / "cvqa.onnx", None, drawn_prepared)
    assert exported.onnx is not None
    assert exported.onnx.difference <= 1e-4
    prepared = open_prepared(drawn_prepared)
    model, config = restored(run, get("cvqa"), prepared)
    samples = list(get("cvqa").prediction_samples(prepared, "test", config))[:2]
    bare = [replace(s, case=replace(s.case, question="", answer="", texts={})) for s in samples]
    blind = [replace(s, images=()) for s in samples]
    model.eval()
    with torch.inference_mode():
        rows = [model._inputs(model.collate(own, [0, 0])) for own in (samples, bare, blind)]
        assert [row.isnan().any().item() for row in rows] == [False, True, True]
        filled = model.stand_in(rows[1], model.head.mean, model.head.scale)
        assert not filled.isnan().any()
        wanted = model.predict(model.collate(bare, [0, 0]), 0)
        graph = get("cvqa").graph(model, GraphOptions())
        found = graph(*graph.arguments(bare)).numpy()
    rows_of = [np.concatenate(list(each.probabilities.values())) for each in wanted]
    assert np.allclose(found, np.stack(rows_of), atol=1e-5)


@pytest.mark.parametrize("settings", [("modality=text",), ("head=options",)])
def test_a_pool_without_another_modality_is_refused(settings: tuple[str, ...]) -> None:
    for own in ("missing=pool", "modality_dropout=0.1"):
        with pytest.raises(ConfigError, match="expected modality=both with head=slots or anchored"):
            resolve(CvqaConfig, "tiny", [own, *settings])
