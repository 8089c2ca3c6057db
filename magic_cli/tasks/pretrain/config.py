"""Settings of contrastive pretraining."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from magic_cli.config import Config
from magic_cli.setting import FRACTION, OnlyWith, Range


@dataclass(frozen=True)
class PretrainConfig(Config):
    """Settings of the projections, the losses (models/contrastive/), random views and the optimizer."""

    task: ClassVar[str] = "pretrain"

    dim: Annotated[int, Range(2, 65_536), "Dimension of the joint space; CLIP checkpoints bring their own."] = 256
    dropout: Annotated[
        float, FRACTION, "Fraction of a photo's features that its projection leaves out in training."
    ] = 0.0
    objective: Annotated[
        Literal["mkcl", "infonce", "soft", "dhn", "siglip", "multi_positive"],
        "Contrastive loss: MAKE's over all texts (mkcl), CLIP's over the raw text (infonce), or related work's.",
    ] = "mkcl"
    denominator: Annotated[
        Literal["others", "all", "image"],
        "What a photo's text competes with: the texts of other photos, of its own too (all), or photos only (image).",
    ] = "others"
    subtexts: Annotated[bool, "Whether the sentences of the raw text are positives too (--no-subtexts)."] = True
    disease_wording: Annotated[
        Literal["paper", "templates"],
        "Disease text in training: MAKE's one sentence, or that and the templates of zero-shot prompts in turn.",
    ] = "paper"
    min_words: Annotated[int, Range(0, 10_000), "Training pairs whose caption has fewer words are left out."] = 0
    max_words: Annotated[int, Range(0, 1_000_000), "So are those whose caption has more; 0: any number."] = 0
    keep_pairs: Annotated[
        float,
        Range(0, 1, open_low=True),
        "Fraction of the training pairs that is kept: those whose photo and caption are most similar (DataComp).",
    ] = 1.0
    pair_vectors: Annotated[
        str, "For keep_pairs: folder of predictions for split train, whose vectors tell how similar they are."
    ] = ""
    local_weight: Annotated[float, Range(0, 1e3), "Weight lambda of the local alignment loss; 0: none (--no-slra)."] = (
        0.7
    )
    local_threshold: Annotated[float, FRACTION, "Similarities of patches up to this count as 0 in the local map."] = 0.0
    local_pool: Annotated[
        Literal["sim", "max", "xattn"],
        "How patches are pooled: by similarity to the raw text (sim), the best patch (max), or per subtext (xattn).",
    ] = "sim"
    weighting: Annotated[
        Literal["max", "softmax", "none"],
        "Weights of subtexts by similarity to the disease text: over the largest (paper), softmax (release), none.",
    ] = "max"
    same_text: Annotated[
        Literal["negative", "ignore", "positive"],
        "Other photos with the very same text: negatives (paper), left out of the denominators, or positives.",
    ] = "negative"
    ontology_beta: Annotated[
        float,
        Range(0, 1),
        "Share of the disease text's target in mkcl that related diseases get (O-MAKE); 0: none.",
        OnlyWith("objective", ("mkcl",)),
    ] = 0.0
    soft_temperature: Annotated[
        float,
        Range(0, 100, open_low=True),
        "Of soft targets: softmax(cosine of photos' concepts / temperature).",
        OnlyWith("objective", ("soft",)),
    ] = 0.07
    hardness: Annotated[
        float,
        Range(0, 10),
        "How much more near negatives count in dhn (beta); 0: all alike.",
        OnlyWith("objective", ("dhn",)),
    ] = 0.15
    chunk_rows: Annotated[
        int, Range(1, 2**31), "Rows of logits that are in memory at once; more are computed chunk by chunk."
    ] = 8192
    micro_batch: Annotated[
        int, Range(0, 65_536), "Photos per pass of the encoders, with the gradient of the whole batch; 0: all at once."
    ] = 0
    temperature: Annotated[float, Range(0.01, 1), "Initial temperature; CLIP checkpoints bring their own."] = 0.07
    crop: Annotated[
        float, Range(0, 1, open_low=True), "Smallest fraction of a photo's area in a random training crop; 1: no crops."
    ] = 1.0
    colour: Annotated[float, Range(0, 1), "Strength of random brightness, contrast and saturation in training."] = 0.0
    grey: Annotated[float, Range(0, 1), "Fraction of training views without colour."] = 0.0
    beta1: Annotated[float, FRACTION, "AdamW's decay of the gradient's mean."] = 0.9
    beta2: Annotated[float, FRACTION, "AdamW's decay of the gradient's square."] = 0.999
    adam_eps: Annotated[float, Range(1e-12, 1), "AdamW's epsilon."] = 1e-8
    warmup_steps: Annotated[int, Range(0, 2**31), "Updates of the warm-up; 0: the fraction `warmup` of all."] = 0
    gradient_checkpointing: Annotated[bool, "Recompute activations in the backward pass: less memory, slower."] = False

    def conflicts(self) -> list[str]:
        """Return a line for filters that cannot work."""
        lines = []
        if self.keep_pairs < 1 and not self.pair_vectors:
            got = f"{self.keep_pairs} without pair_vectors"
            lines.append(f"keep_pairs: got {got}, expected a folder of magic predict pretrain --split train too")
        if 0 < self.max_words < self.min_words:
            lines.append(f"max_words: got {self.max_words}, expected at least min_words ({self.min_words}), or 0")
        return lines

    @property
    def filters_pairs(self) -> bool:
        """Whether training pairs are left out."""
        return self.min_words > 0 or self.max_words > 0 or self.keep_pairs < 1

    @property
    def random_views(self) -> bool:
        """Whether photos are cropped or recoloured at random."""
        return self.crop < 1 or self.colour > 0 or self.grey > 0

    @property
    def betas(self) -> tuple[float, float]:
        """AdamW's decays."""
        return self.beta1, self.beta2

    @property
    def eps(self) -> float:
        """AdamW's epsilon."""
        return self.adam_eps

    def warmup_updates(self, total: int) -> int:
        """Return the number of updates of the warm-up."""
        return min(self.warmup_steps, total) if self.warmup_steps else super().warmup_updates(total)
