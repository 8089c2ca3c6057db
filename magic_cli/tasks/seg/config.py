"""Settings of the segmentation task."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from magic_cli.config import Config
from magic_cli.metrics.mask_scores import MASK_SCORES
from magic_cli.models.weights import LITES
from magic_cli.setting import FRACTION, Choices, Range
from magic_cli.tasks.pretraining_runs import is_run

ENSEMBLE_KINDS = (*LITES, "tiny")


@dataclass(frozen=True)
class SegConfig(Config):
    """Settings of the pyramid decoder, the loss, random views and the threshold."""

    task: ClassVar[str] = "seg"

    width: Annotated[int, Range(4, 4096), "Channels of the pyramid decoder."] = 64
    scale_attention: Annotated[
        bool, "Whether the text also weighs the places of each level of the pyramid, at several scales."
    ] = False
    ensemble: Annotated[
        str,
        "Further image encoders, such as lite2 or lite1+lite2: each learns with a decoder of its own beside the first, "
        "and the mean of their probabilities is predicted.",
    ] = ""
    loss: Annotated[
        Literal["bce", "bce+dice", "dicece", "focal", "tversky", "lovasz", "bce+dice+boundary"],
        "Training loss on the decoder's logits.",
    ] = "bce+dice"
    deep_supervision: Annotated[
        float, Range(0, 100), "Weight of the mean loss of maps from the coarser levels of the pyramid; 0: none."
    ] = 0.0
    crop: Annotated[
        float, Range(0, 1, open_low=True), "Smallest fraction of a photo's area in a random training crop; 1: no crops."
    ] = 1.0
    colour: Annotated[float, Range(0, 1), "Strength of random brightness, contrast and saturation in training."] = 0.0
    coarse: Annotated[
        float, Range(0, 1), "Share of random views that lose detail, by being shrunk and enlarged again."
    ] = 0.0
    zoom_out: Annotated[
        float, Range(0, 1), "Share of random views that show the photo smaller, on a canvas of its mean colour."
    ] = 0.0
    zoom: Annotated[
        float,
        Range(0, 16),
        "Prediction looks again at small lesions, at a part of the photo of so many sides of the first mask; 0: not.",
    ] = 0.0
    prompt: Annotated[
        Literal["own", "any", "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"],
        "Text that is read: the prepared one (own), a step of the prompt ladder (p1 to p9 tell gold answers), or any: "
        "in training one of these at random, else the prepared one.",
    ] = "own"
    threshold: Annotated[float, FRACTION, "Pixels with a higher probability are lesion."] = 0.5
    threshold_for: Annotated[
        str,
        Choices(("none", *MASK_SCORES)),
        "Score for which the threshold is chosen on the validation photos after training (not with --folds).",
    ] = "none"

    def conflicts(self) -> list[str]:
        """Return a line for photos too small to learn from, runs without a pyramid, and tuning of texts alone."""
        if self.finetune_encoders == "texts":
            remedy = "texts are never trained here; leave it out"
            return [f"finetune_encoders: got texts, expected both or images; {remedy}"]
        unknown = [kind for kind in self.ensemble_kinds if kind not in ENSEMBLE_KINDS]
        is_hub_model = "/" in self.image_encoder and not is_run(self.image_encoder)
        if unknown or (self.ensemble and is_hub_model):
            got, kinds = f"{self.ensemble} beside {self.image_encoder}", ", ".join(ENSEMBLE_KINDS)
            remedy = "--set ensemble= for one network"
            return [f"ensemble: got {got}, expected {kinds}, joined by +, beside one of these; {remedy}"]
        if 0 < self.zoom <= 1:
            return [f"zoom: got {self.zoom}, expected above 1, to see what is around the lesion, or 0 for one look"]
        run = self.image_weights or self.text_weights
        if not run or "/" not in self.image_encoder:
            return self.size_conflicts()
        got = f"{self.image_encoder} with weights of {run}"
        return [f"image_encoder: got {got}, expected the run of an encoder with a pyramid: lite0 (or tiny)"]

    @property
    def ensemble_kinds(self) -> tuple[str, ...]:
        """The image encoders beside the first one."""
        return tuple(self.ensemble.split("+")) if self.ensemble else ()

    @property
    def random_views(self) -> bool:
        """Whether photos are cropped, recoloured, coarsened or zoomed out at random."""
        return self.crop < 1 or self.colour > 0 or self.coarse > 0 or self.zoom_out > 0

    @property
    def second_look(self) -> float:
        """The setting `zoom`."""
        return self.zoom

    @property
    def n_views(self) -> int:
        """Number of views that training draws from; each draws the text, too, with `prompt=any`."""
        return 2**31 if self.prompt == "any" else super().n_views
