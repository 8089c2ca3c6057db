"""tasks/pretrain/model: every setting of the loss is reached through the model, whole and in parts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import save_clip, save_siglip
from torch import Tensor

from magic_cli.config import resolve
from magic_cli.data.hashed_words import text_hash
from magic_cli.errors import ConfigError
from magic_cli.io.files import sha256
from magic_cli.models.cache.features import FeatureCache
from magic_cli.models.contrastive import ContrastiveLoss, PairFeatures
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks.encoding import Encoded, ToEncode
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.model import PretrainModel, build, contrastive
from magic_cli.tasks.pretrain.model.contrastive import PretrainBatch
from magic_cli.training.cached_accumulation import backward_in_parts
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import fill_cache

DIAGNOSES = ("inflammatory, eczema", "inflammatory, psoriasis", "", "tumor, melanoma", "inflammatory, eczema")
CONCEPTS = ("plaque, red", "scale", "", "black", "plaque, red")
LONGEST = "Red and dry. It itches, above all at night"


def sample(number: int, folder: Path) -> Sample:
    """Return a photo of noise; sample 2 has no diagnosis, concept and subtexts, and two have the same text."""
    case, image = f"C{number}", f"IMG_{number}"
    path = folder / f"{image}.png"
    pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    texts = {"raw": f"{LONGEST}. Number {number % 4}."}
    if DIAGNOSES[number]:
        texts |= {
            "disease": f"This is a skin photo diagnosed as {DIAGNOSES[number]}.",
            "concept": f"This skin photo shows {CONCEPTS[number]}.",
            **{f"subtext-{i}": text for i, text in enumerate([*LONGEST.split(". "), f"Number {number % 4}"], 1)},
        }
    record = ImageRecord(image, case, "train", str(path), 64, 64, sha256=sha256(path))
    return Sample(image, Case(case, "train", (image,), {r: {"en": t} for r, t in texts.items()}), (record,))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("photos")
    return [sample(number, folder) for number in range(5)]


def model(*settings: str) -> PretrainModel:
    config = resolve(PretrainConfig, "tiny", [*settings])
    assert isinstance(config, PretrainConfig)
    torch.manual_seed(0)
    return build(config)


def batch_of(made: PretrainModel, samples: list[Sample]) -> PretrainBatch:
    made.begin(samples)
    made.train()
    return made.collate(samples, [0] * len(samples))


def gradients(made: PretrainModel) -> dict[str, Tensor]:
    """Return those of all parameters that are trained; each has to have one: a missing one stops several processes."""
    found = {name: p.grad for name, p in made.named_parameters() if p.requires_grad}
    assert [name for name, grad in found.items() if grad is None] == []
    return {name: grad for name, grad in found.items() if grad is not None}


def trained(made: PretrainModel, samples: list[Sample], parts: bool = False) -> tuple[float, dict[str, Tensor]]:
    """Return loss and gradients of a step."""
    batch = batch_of(made, samples)
    if parts:
        loss = backward_in_parts(made, made, batch, accelerator_for(made.config, "cpu"), 1.0, syncs=True)
    else:
        loss = made(batch)
        loss.backward()
    found = gradients(made)
    assert all(grad.isfinite().all() for grad in found.values())
    return loss.item(), found


OBJECTIVES = ("mkcl", "infonce", "soft", "dhn", "siglip", "multi_positive")
SETTINGS = [
    *[(f"objective={name}", f"same_text={same}") for name in OBJECTIVES for same in ("negative", "ignore", "positive")],
    *[(f"denominator={name}", f"same_text={same}") for name in ("all", "image") for same in ("ignore", "positive")],
    *[(f"local_pool={name}", f"weighting={kind}") for name in ("sim", "max", "xattn") for kind in ("softmax", "none")],
    ("local_weight=0",),
    ("subtexts=false",),
    ("objective=infonce", "local_weight=0"),
    ("local_threshold=0.3", "chunk_rows=2"),
    ("ontology_beta=0.5",),
    ("ontology_beta=0.5", "denominator=all", "same_text=ignore"),
    ("objective=soft", "soft_temperature=1"),
    ("objective=dhn", "hardness=1"),
]
# with two photos of one text alone, their loss as matches is that as negatives; here no subtext is near its disease
ALIKE = [
    ("objective=infonce", "same_text=positive"),
    ("objective=soft", "same_text=positive"),
    ("objective=multi_positive", "same_text=positive"),
    ("local_pool=sim", "weighting=none"),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=" ".join)
def test_a_step_whole_and_in_parts(settings: tuple[str, ...], samples: list[Sample]) -> None:
    loss, whole = trained(model("finetune=all", *settings), samples)
    assert np.isfinite(loss)
    assert all(grad.any() for grad in whole.values())
    divided, parts = trained(model("finetune=all", "micro_batch=2", *settings), samples, parts=True)
    assert divided == pytest.approx(loss, abs=1e-5)
    for name, grad in whole.items():
        torch.testing.assert_close(parts[name], grad, rtol=1e-3, atol=1e-6, msg=name)


def test_every_setting_changes_the_loss(samples: list[Sample]) -> None:
    found: dict[float, tuple[str, ...]] = {}
    for settings in SETTINGS:
        if settings not in ALIKE:
            made = model(*settings)
            loss = round(made(batch_of(made, samples)).item(), 5)
            assert found.setdefault(loss, settings) is settings, found[loss]


def test_no_patches_without_a_local_loss(samples: list[Sample]) -> None:
    for settings in (("local_weight=0",), ("subtexts=false",), ("objective=infonce", "local_weight=0")):
        made = model(*settings)
        assert "patches" not in made.encode(made.parts(batch_of(made, samples))[0])


def test_what_the_loss_is_given(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[PairFeatures] = []

    def keep(features: PairFeatures, *_: object) -> ContrastiveLoss:
        given.append(features)
        return ContrastiveLoss(*[features.images.sum()] * 4)

    monkeypatch.setattr(contrastive, "contrastive_loss", keep)
    made = model("objective=soft")
    made(batch_of(made, samples))
    (features,) = given
    assert features.concepts is not None
    assert features.concepts.dtype == torch.float32
    assert features.concepts.sum(1).tolist() == [4, 3, 0, 3, 4]
    assert torch.equal(features.concepts[0], features.concepts[4])
    assert features.paths is not None
    expected = [text_hash("inflammatory"), text_hash("eczema")]
    assert features.paths[0].tolist() == [*expected, 0, 0, 0, 0, 0, 0]
    assert not features.paths[2].any()
    made = model()
    assert made.collate(samples, [0] * 5).concepts is None


def test_a_long_path_keeps_the_widest_classes_and_the_disease(samples: list[Sample]) -> None:
    names = [f"class {number}" for number in range(10)]
    case = Case("C", "train", (), {"disease": {"en": f"This is a skin photo diagnosed as {', '.join(names)}."}})
    path = contrastive._path(case)
    assert path == [text_hash(name) for name in (*names[:7], names[9])]


def test_several_processes_have_equal_places_for_texts(samples: list[Sample]) -> None:
    made = model()
    batch = batch_of(made, samples)
    filled = contrastive._filled(batch, 11)
    assert filled.mask.shape == filled.index.shape == filled.text_ids.shape == (5, 11)
    features = made.encode(made.parts(batch)[0])
    assert made.objective(filled, features).item() == pytest.approx(made.objective(batch, features).item(), abs=1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    save_clip(root / "clip")
    save_siglip(root / "siglip")
    return root


def twin(kind: str, folder: Path, *settings: str) -> PretrainModel:
    both = [f"{name}_encoder=owner/{kind}" for name in ("image", "text")]
    return model(*both, "image_size=32", f"weights_dir={folder}", *settings)


@pytest.mark.parametrize("mode", ["last", "all", "lora"])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_twins_have_all_gradients(kind: str, mode: str, folder: Path, samples: list[Sample]) -> None:
    trained(twin(kind, folder, f"finetune={mode}"), samples)


def test_activations_that_are_computed_anew_change_nothing(folder: Path, samples: list[Sample]) -> None:
    loss, whole = trained(twin("clip", folder, "finetune=all"), samples)
    made = twin("clip", folder, "finetune=all", "gradient_checkpointing=true")
    again, saving = trained(made, samples)
    assert made.images.vision_model.encoder.gradient_checkpointing  # type: ignore[union-attr, operator]
    assert again == pytest.approx(loss, abs=1e-6)
    for name, grad in whole.items():
        torch.testing.assert_close(saving[name], grad, msg=name)
    with pytest.raises(ConfigError, match="gradient_checkpointing=false"):
        model("gradient_checkpointing=true")


def test_last_trains_on_the_cached_first_part(samples: list[Sample], tmp_path: Path) -> None:
    made = model("finetune=last")
    loss, whole = trained(made, samples)
    assert isinstance(batch_of(made, samples).photos, ToEncode)
    made = model("finetune=last")
    made.cache = FeatureCache(tmp_path / "cache", "float32")
    fill_cache(made, samples, 1, accelerator_for(made.config, "cpu"))
    assert isinstance(batch_of(made, samples).photos, Encoded)
    cached, parts = trained(made, samples)
    assert cached == pytest.approx(loss, abs=1e-6)
    for name, grad in whole.items():
        torch.testing.assert_close(parts[name], grad, msg=name)
    assert made.state_dict().keys() == model("finetune=all").state_dict().keys()
    assert model("finetune=last", "crop=0.5").views.stem is None


def test_the_bias_of_siglip(folder: Path) -> None:
    assert model("objective=siglip").bias == -10
    own = twin("siglip", folder, "objective=siglip")
    assert own.bias == own.images.logit_bias
    assert twin("clip", folder, "objective=siglip").bias == -10
    assert model().bias is None


@pytest.mark.parametrize("mode", ["last", "all"])
def test_lite0_is_tuned_with_the_statistics_of_its_weights(mode: str, samples: list[Sample]) -> None:
    made = model("image_encoder=lite0", f"finetune={mode}")
    statistics = {n: t.clone() for n, t in made.images.named_buffers() if "running" in n}
    _, found = trained(made, samples[:3])
    norms = [name for name in found if ".bn" in name]
    assert "images.net.bn2.weight" in norms
    assert all(found[name].any() for name in norms)
    assert ("images.net.bn1.weight" in norms) is (mode == "all")
    for name, tensor in made.images.named_buffers():
        if name in statistics:
            assert torch.equal(tensor, statistics[name]), name


def test_minilm_is_tuned_whole(samples: list[Sample]) -> None:
    _, found = trained(model("text_encoder=minilm", "finetune=all"), samples[:2])
    assert any(name.startswith("texts.net.embeddings") for name in found)


def test_the_wording_of_the_disease_text_takes_turns_in_training_only(samples: list[Sample]) -> None:
    """Every view words it by its number, so that a resumed run words it alike; one without a diagnosis has none."""
    made = model("disease_wording=templates", "views=9")
    seen = [made.train().collate(samples[:3], [view] * 3) for view in range(9)]
    worded = torch.stack([batch.text_ids[:, 1] for batch in seen])
    assert [len(set(column.tolist())) for column in worded.T] == [9, 9, 1]
    assert set(worded[:, 2].tolist()) == {0}
    plain = made.eval().collate(samples[:3], [4] * 3)
    assert plain.text_ids[0, 1] == text_hash("This is a skin photo diagnosed as inflammatory, eczema.")
    assert text_hash("This is a skin image of psoriasis") in worded[:, 1].tolist()
    for batch in seen:
        assert torch.equal(batch.text_ids[:, [0, 2]], plain.text_ids[:, [0, 2]])


def test_all_wordings_are_cached_with_a_frozen_text_encoder(samples: list[Sample], tmp_path: Path) -> None:
    made = model("disease_wording=templates", "views=9")
    made.cache = FeatureCache(tmp_path, "float32")
    fill_cache(made, samples, 9, accelerator_for(made.config, "cpu"))
    for view in range(9):
        assert isinstance(made.train().collate(samples, [view] * 5).windows, Encoded)
