"""Concept scores of photos as inputs of another task's model, by the encoders of a finished pretraining."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from magic_cli.config import Config, from_dict
from magic_cli.data.texts.lexicon import CONCEPT, lexicon
from magic_cli.data.texts.terms import has_han
from magic_cli.io import files
from magic_cli.records import CheckpointMeta, Origin
from magic_cli.tasks.encoding import load_run, published_images
from magic_cli.tasks.pretrain.asked import Asked, Concept
from magic_cli.tasks.pretrain.config import PretrainConfig
from magic_cli.tasks.pretrain.model.contrastive import build
from magic_cli.tasks.pretrain.model.zero_shot import Prompts, concept_scores, encode_prompts
from magic_cli.tasks.pretraining_runs import TASK
from magic_cli.training import checkpoint

WHERE = "concepts"  # the attribute of the models that have a reader, in their checkpoints


def known_concepts(names: Sequence[str] = ()) -> tuple[Concept, ...]:
    """Return the lexicon's concepts under a dataset's own names where it has some, and those that the lexicon lacks."""
    terms = {term.name: name for name in names if (term := lexicon().exact(name)) and term.kind == CONCEPT}
    ours = (Concept(terms.get(concept.name, concept.name), concept.terms) for concept in lexicon_concepts())
    return *ours, *(Concept(name, (name,)) for name in names if name not in terms.values())


def lexicon_concepts() -> tuple[Concept, ...]:
    """Return the lexicon's concepts with their English words (data/texts/lexicon.py)."""
    terms = lexicon()
    wanted = ((term.name, synonyms) for term, synonyms in terms.synonyms.items() if term.kind == CONCEPT)
    return tuple(Concept(name, tuple(word for word in words if not has_han(word))) for name, words in wanted)


class ConceptReader(nn.Module):
    """Photos -> scores of concepts (tasks/pretrain/model/zero_shot.py); nothing in it is trained.

    It holds the run's image encoder, with the projection into the joint space, and the vectors of all prompts, so that
    a checkpoint needs neither the run nor its text encoder.

    Args:
        config: the settings of the model that it is a part of; their folder of Hub checkpoints goes before the run's.
        file: best.pt of a pretraining run, or of a model whose attribute `concepts` was a reader.
        concepts: what is scored, for a run; None for the lexicon's. A model keeps what it was trained with.

    Raises:
        CheckpointError, WeightsError: as `load_run`.
    """

    targets: Tensor
    references: Tensor

    def __init__(self, config: Config, file: Path, concepts: Sequence[Concept] | None = None) -> None:
        super().__init__()
        meta, weights = checkpoint.load_best(file)
        if meta.task == TASK:
            kind, size = str(meta.config["image_encoder"]), int(meta.config["image_size"])
            folder = config.weights_dir or str(meta.config.get("weights_dir") or "")
            targets, references = _prompts((meta, weights), file, folder, concepts or lexicon_concepts())
        else:
            origin, folder = meta.origins[f"{WHERE}.images"], config.weights_dir
            kind, size = str(origin["encoder"]), int(origin["size"])
            targets, references = weights[f"{WHERE}.targets"], weights[f"{WHERE}.references"]
        settings = replace(config, image_encoder=kind, image_size=size, weights_dir=folder)
        self.images = published_images(settings, "patches" if kind == "tiny" else "pooled")
        load_run(self.images, file, f"{WHERE}.images", projected=True)
        self.images.origin = self.images.origin or Origin(str(file), files.sha256(file), kind, size)
        self.images.freeze()
        self.register_buffer("targets", targets)
        self.register_buffer("references", references)

    @property
    def count(self) -> int:
        """Number of concepts."""
        return len(self.targets)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the scores (N, concepts) in [0, 1] of photos by their vectors (N, d), as `images` gives them."""
        unit = nn.functional.normalize(vectors.float(), dim=-1)
        scores = concept_scores(unit, Prompts(targets=self.targets, references=self.references))
        assert scores is not None  # noqa: S101  there are targets
        return scores


@torch.no_grad()
def _prompts(
    read: tuple[CheckpointMeta, Mapping[str, Tensor]], file: Path, folder: str, concepts: Sequence[Concept]
) -> tuple[Tensor, Tensor]:
    """Return the vectors (concepts, templates, d) of the prompts, and (templates, d) of those that name no concept."""
    meta, weights = read
    settings: dict[str, Any] = {**meta.config, "weights_dir": folder}
    for setting, where in PretrainConfig.run_settings.items():
        if settings.get(setting):
            settings[setting] = str(file) if where in meta.origins else ""
    model = build(from_dict(PretrainConfig, settings, str(file)))
    checkpoint.check_encoders(model, meta, file)
    checkpoint.load_learned(model, dict(weights), file)
    prompts = encode_prompts(Asked(concepts=tuple(concepts)), model.eval().text_vectors)
    assert prompts.targets is not None  # noqa: S101  concepts were asked for
    assert prompts.references is not None  # noqa: S101  as above
    return prompts.targets.float(), prompts.references.float()
