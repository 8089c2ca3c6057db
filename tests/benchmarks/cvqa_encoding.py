"""Closed questions: each photo and each distinct text is encoded once, against the pairwise way of the paper.

    OMP_NUM_THREADS=1 taskset -c 1 python tests/benchmarks/cvqa_encoding.py [FOLDER]

FOLDER gets BERT-base and Swin-tiny of random weights (540 MB, made once; speed does not depend on the weights). The
pairwise side encodes every question || option anew, padded to the window of 128 tokens, and all photos of the
encounter with it: 194 pairs and 582 photos for an encounter of three photos. Five of the pairs are timed in each
round, at their real lengths, and scaled. Ours is `training.inference.predict`, of which the encoders' CPU time is
taken: cold (nothing was encoded before, the option texts included), and warm: of the paper's model, whose encoders
learn, the next encounters of the same prediction; of `small`, whose encoders are frozen, a later prediction on cached
features. One thread, CPU milliseconds of the encoders per encounter, sides in turn, medians of three rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import BertConfig, BertModel, BertTokenizerFast, SwinConfig, SwinModel

from magic_cli.config import Config, resolve
from magic_cli.data.questions import load_questions
from magic_cli.io.files import sha256
from magic_cli.models.cache import memo
from magic_cli.models.cache.features import FeatureCache
from magic_cli.models.encoders import Encoder
from magic_cli.models.weights import minilm_dir
from magic_cli.records import Case, ImageRecord, Sample
from magic_cli.tasks.cvqa.config import CvqaConfig
from magic_cli.tasks.cvqa.model import CvqaModel, build
from magic_cli.training.devices import accelerator_for
from magic_cli.training.inference import fill_cache, predict

QUESTIONS = load_questions(None)
ENCOUNTERS, PHOTOS, TIMED, ROUNDS, WINDOW = 3, 3, 5, 3, 128
QUERY = "Red itchy spots on both arms for two weeks, spreading slowly, with some scaling; no fever and no new drugs. "


def make_checkpoints(folder: Path) -> Path:
    """Save BERT-base with MiniLM's vocabulary and Swin-tiny, as the Hub names them, unless they are there."""
    text, vision = folder / "Bio_ClinicalBERT", folder / "swin-tiny-patch4-window7-224"
    torch.manual_seed(0)
    if not (text / "model.safetensors").is_file():
        BertTokenizerFast.from_pretrained(minilm_dir()).save_pretrained(text)
        BertModel(BertConfig()).save_pretrained(text)
    if not (vision / "model.safetensors").is_file():
        SwinModel(SwinConfig()).save_pretrained(vision)
    return folder


def make_samples(folder: Path) -> list[Sample]:
    """Return encounters of three photos each, with a query of their own and all questions."""
    found = []
    for number in range(ENCOUNTERS):
        name, records = f"ENC{number:05}", []
        for photo in range(PHOTOS):
            pixels = np.random.default_rng((number, photo)).integers(0, 256, (24, 32, 3), dtype=np.uint8)
            path = folder / f"IMG_{name}_{photo:05}.png"
            Image.fromarray(pixels).resize((640, 480)).save(path)
            records.append(ImageRecord(path.stem, name, "test", str(path), 480, 640, sha256=sha256(path)))
        ids = tuple(record.image_id for record in records)
        encounter = Case(name, "test", ids, {}, f"{QUERY * 2} Patient {number}.", "")
        found.append(Sample(name, encounter, tuple(records), tuple(QUESTIONS.by_qid)))
    return found


@contextmanager
def encoding(*encoders: Encoder) -> Iterator[list[float]]:
    """Collect the CPU seconds that these encoders take."""
    spent, started = [], []
    handles = []
    for encoder in encoders:
        handles.append(encoder.register_forward_pre_hook(lambda *_: started.append(time.process_time())))
        handles.append(encoder.register_forward_hook(lambda *_: spent.append(time.process_time() - started.pop())))
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


class Pairwise:
    """The paper's way: for every pair its text, padded to the window, and the encounter's photos anew."""

    def __init__(self, model: CvqaModel, sample: Sample) -> None:
        self.model, self.rows = model, [row for slot in model._rows.values() for row in slot]
        assert model.images is not None
        photos = [Image.open(record.path).convert("RGB") for record in sample.images if record.path]
        self.pixels = model.images.batch([model.images.pixels(photo) for photo in photos])

    def seconds(self, number: int) -> float:
        """Return the encoders' seconds for an encounter, from a few of its pairs."""
        images, texts = self.model.images, self.model.texts
        assert images is not None
        step = len(self.rows) // TIMED
        with encoding(images, texts) as spent, torch.inference_mode():
            for question, option in self.rows[number::step][:TIMED]:
                ids = texts.join(texts.ids(f"{question} {option}"), [])
                batch = {
                    "input_ids": torch.full((1, WINDOW), texts.pad),
                    "attention_mask": torch.zeros(1, WINDOW).long(),
                }
                batch["input_ids"][0, : len(ids)], batch["attention_mask"][0, : len(ids)] = torch.tensor(ids), 1
                texts(batch)
                images(self.pixels)
        return sum(spent) / TIMED * len(self.rows)


def ours(model: CvqaModel, config: Config, samples: list[Sample]) -> float:
    """Return the encoders' seconds an encounter of one prediction."""
    assert model.images is not None
    with encoding(model.images, model.texts) as spent:
        found = list(predict(model, samples, config, accelerator_for(config, "cpu")))
    assert len(found) == len(samples)
    return sum(spent) / len(samples)


def paper(weights: Path, samples: list[Sample]) -> tuple[Callable[[], float], Callable[[], float], CvqaModel]:
    """Return what measures cold and warm, and the model."""
    settings = ["precision=no", "workers=0"]
    config = resolve(CvqaConfig, "paper", settings, weights_dir=str(weights))
    model = build(config, QUESTIONS)

    def warm() -> float:
        """All encounters in one prediction, less the first."""
        first, everything = cold(), ours(model, config, samples) * len(samples)
        return (everything - first) / (len(samples) - 1)

    def cold() -> float:
        return ours(model, config, samples[:1])

    return cold, warm, model


def small(root: Path, samples: list[Sample]) -> tuple[Callable[[], float], Callable[[], float], CvqaModel]:
    """Return what measures cold and warm, and the model; cold counts the option texts, which `build` encodes."""
    config = resolve(CvqaConfig, "small", [])
    model = build(config, QUESTIONS)
    images, texts = model.images, model.texts
    assert images is not None

    def cold() -> float:
        model.cache = None
        memo.clear(images)
        memo.clear(texts)
        with encoding(texts) as spent:
            model._encode_options()
        return ours(model, config, samples[:1]) + sum(spent)

    def warm() -> float:
        """Everything a prediction does an encounter, with features that are read from the cache."""
        model.cache = FeatureCache(root, "float16")
        fill_cache(model, samples, 1, accelerator_for(config, "cpu"))
        start = time.process_time()
        assert ours(model, config, samples) == 0
        return (time.process_time() - start) / len(samples)

    return cold, warm, model


def main(words: Sequence[str] | None = None) -> None:
    """Measure both presets and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of the checkpoints; a temporary one otherwise")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        folder: Path = given.folder or Path(work) / "weights"
        folder.mkdir(parents=True, exist_ok=True)
        samples = make_samples(Path(work))
        for name in ("paper", "small"):
            if name == "paper":
                cold, warm, model = paper(make_checkpoints(folder), samples)
            else:
                cold, warm, model = small(Path(work) / "cache", samples)
            pairwise = Pairwise(model.eval(), samples[0])
            pairwise.seconds(0), cold()  # a first time, for the allocator
            rounds = [(pairwise.seconds(number), cold(), warm()) for number in range(ROUNDS)]
            plain, first, later = (statistics.median(column) * 1000 for column in zip(*rounds, strict=True))
            gain = [statistics.median(r[0] / r[n] for r in rounds) for n in (1, 2)]
            print(f"{name}: pairwise {plain:,.0f} ms, cold {first:,.0f} ms ({gain[0]:.0f} times fewer), ", end="")
            print(f"warm {later:,.1f} ms ({gain[1]:.0f} times fewer) an encounter")


if __name__ == "__main__":
    main()
