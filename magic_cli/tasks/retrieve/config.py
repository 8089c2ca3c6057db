"""Settings of composed case retrieval."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from magic_cli.config import Config
from magic_cli.setting import FRACTION, OnlyWith, Range

_TRANSFORMER = OnlyWith("composition", ("transformer",))


@dataclass(frozen=True)
class RetrieveConfig(Config):
    """Settings of the levels, the composition, the regions, the loss and the batches."""

    task: ClassVar[str] = "retrieve"

    classes: Annotated[str, "Attribute that is the class of a case, such as diagnosis_3; empty: its diagnosis."] = ""
    dim: Annotated[int, Range(8, 65_536), "Width D that all levels and words are projected to."] = 128
    depth: Annotated[
        int, Range(1, 64), "Layers of the cross-modal transformer (4 in the cited code).", _TRANSFORMER
    ] = 1
    heads: Annotated[int, Range(1, 1024), "Attention heads of each layer; they divide `dim`."] = 8
    side: Annotated[int, Range(2, 1024), "Most places that a level is high and wide; finer ones are averaged."] = 14
    levels: Annotated[
        Literal["swin123", "comquery"],
        "Levels of a Swin: its last three stages before they are merged, or after, as the cited code has them.",
    ] = "swin123"
    text_layers: Annotated[
        Literal["last", "three"], "Words of each level: all the last layer's, or one of the last three layers each."
    ] = "last"
    composition: Annotated[
        Literal["transformer", "tirg", "none"],
        "How words change a photo: cross-modal transformer, TIRG's gated residual, or not at all (image only).",
    ] = "transformer"
    regions: Annotated[int, Range(1, 256), "Region masks k of each level."] = 8
    mask_act: Annotated[
        Literal["none", "sigmoid", "softmax"], "Activation of the masks; none: raw convolution, as the cited code."
    ] = "sigmoid"
    local: Annotated[
        Literal["pooled", "regionwise"], "Local similarity: of the regions' mean (paper), or region by region (code)."
    ] = "pooled"
    beta: Annotated[float, Range(0, 1), "Share of the local similarity; the global one has the rest."] = 0.6
    objective: Annotated[
        Literal["multi_positive", "batch", "classifier"],
        "Loss: photos of the class are positives; the own target is the only one (cited code); a linear classifier.",
    ] = "multi_positive"
    loss_on: Annotated[
        Literal["terms", "final"], "A loss for each local and global cosine of each level, or one of their sum."
    ] = "terms"
    supcon: Annotated[float, Range(0, 1e3), "Weight of supervised contrastive terms among photos, and queries."] = 0.0
    class_weight: Annotated[float, Range(0, 1e3), "Weight of a linear classifier's loss beside the others."] = 0.0
    class_share: Annotated[
        float, FRACTION, "Share of the agreement of class probabilities in the similarity; 0: regions and levels alone."
    ] = 0.0
    diversity: Annotated[float, Range(0, 1e3), "Weight of the penalty on masks that are alike."] = 0.0
    scale: Annotated[float, Range(1, 100), "Initial factor on cosines in the loss; learned, at most 100."] = 16.0
    attribute_dropout: Annotated[
        float, FRACTION, "Probability that training leaves out an attribute of the words, so that partial ones work."
    ] = 0.3
    cases_per_class: Annotated[
        int, Range(0, 4096), "Fewest photos of each class in a batch, all classes alike; 0: batches as they come."
    ] = 8

    def conflicts(self) -> list[str]:
        """Return conflicts of the width, of the batches and of the classifier."""
        lines = super().conflicts()
        if self.dim % self.heads:
            lines.append(f"dim={self.dim}: not divisible by heads={self.heads}; choose another one")
        if self.cases_per_class == 1:
            lines.append("cases_per_class=1: leaves every query without a positive; use 2 or more, or 0")
        if self.class_share and self.objective != "classifier" and not self.class_weight:
            lines.append(f"class_share={self.class_share}: needs a classifier; add --set class_weight=1")
        return lines
