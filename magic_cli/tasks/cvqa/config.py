"""Settings of the closed-question task."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from magic_cli.config import Config
from magic_cli.setting import FRACTION, OnlyWith, Range

LANGUAGES = ("en", "es", "zh")
"""Languages with word lists in data/words."""

_OWN_INPUTS = OnlyWith("head", ("slots", "anchored"))


@dataclass(frozen=True)
class CvqaConfig(Config):
    """Settings of the answer head and of its inputs; examples/ablation.md measures the effect of each.

    Head "slots" is a log-prior bias + a linear head per (slot, option), head "anchored" compares a projection of the
    same inputs with the options' texts; head "options" is the paper's FFN([text; image]) over question || option. The
    settings from `hashed_words` on do not apply to head "options".
    """

    task: ClassVar[str] = "cvqa"
    former_names: ClassVar[Mapping[str, str]] = {
        **Config.former_names,
        "unit": "sample_unit",
        "bag": "hashed_words",
        "shrink": "group_lasso",
        "joint": "joint_slots",
    }
    run_settings: ClassVar[Mapping[str, str]] = {**Config.run_settings, "concepts": "concepts.images"}

    projected: Annotated[
        bool, "Whether encoders of a pretraining run give unit vectors in its joint space instead of their own vectors."
    ] = False
    concepts: Annotated[
        str, "Pretraining run (its best.pt) whose scores of the lexicon's concepts are inputs too; empty: none."
    ] = ""
    modality: Annotated[
        Literal["both", "text", "image", "concepts"],
        "Inputs that the model reads; concepts: scores of the run `concepts` alone (a concept bottleneck).",
    ] = "both"
    sample_unit: Annotated[
        Literal["encounter", "question"],
        "Training sample: an encounter with all its questions, or one question (as in the paper).",
    ] = "encounter"
    head: Annotated[
        Literal["slots", "options", "anchored"],
        "slots: a linear score per slot and option; options: the paper's score of each option's text; anchored: the "
        "cosine of a projection with the frozen embedding of the option's text (CITE).",
    ] = "slots"
    width: Annotated[int, Range(4, 4096), "Hidden units of head=options and of option_term."] = 128
    encounter_text: Annotated[bool, "Whether head=options also reads the query (the paper's does not)."] = True
    hashed_words: Annotated[
        int, Range(0, 1_000_000), "Number of buckets for hashed words of the text; 0: no words.", _OWN_INPUTS
    ] = 2048
    rules: Annotated[bool, "Whether rule features of the text are inputs.", _OWN_INPUTS] = True
    responses: Annotated[
        Literal["joined", "apart"],
        "Clinicians' responses in the data: one text with the query, or a term of their own that is added to what is "
        "learned without them.",
    ] = "joined"
    lang: Annotated[
        str, "Languages of the texts that the rules read: en, es, zh, comma-separated.", OnlyWith("rules", (True,))
    ] = "en"
    group_lasso: Annotated[
        float,
        Range(0, 1_000_000),
        "Penalty on the norm of weights per (slot, block of inputs), divided by the number n of training "
        "encounters, or by sqrt(240 n) if n is below 240.",
        _OWN_INPUTS,
    ] = 5.0
    option_term: Annotated[bool, "Whether a score of the text question || option is added to the linear score."] = False
    decode: Annotated[
        Literal["slot", "set"],
        "Decide a parent question slot by slot, or as the set with the highest expected accuracy.",
    ] = "set"
    temperature: Annotated[
        float, Range(0.1, 10), "Probabilities are softmax(scores / temperature): above 1 less sure, 1 as trained."
    ] = 1.0
    temperature_for: Annotated[
        Literal["none", "valid"],
        "Whether the temperature is chosen by the likelihood of the validation answers after training (not with "
        "--folds).",
    ] = "none"
    hierarchy: Annotated[
        float, Range(0, 1_000_000), "Weight of the loss over a parent's options beside that over its slots."
    ] = 0.0
    joint_slots: Annotated[
        bool, "Whether a slot chooses only among options that may follow the previous slot, so that slots form one set."
    ] = False

    missing: Annotated[
        Literal["mean", "pool"],
        "What stands in for the photo or the text of an encounter without: the mean photo (and the empty text), or a "
        "learned pool that the other one attends to (PTUnifier).",
    ] = "mean"
    pool_size: Annotated[
        int, Range(1, 4096), "Vectors of the pool for photos, and of that for texts.", OnlyWith("missing", ("pool",))
    ] = 16
    modality_dropout: Annotated[
        float, FRACTION, "Probability that training hides the photo, or the text, of an encounter with both."
    ] = 0.0

    def conflicts(self) -> list[str]:
        """Return one line per conflict: concepts without photos, languages, joint slots slot by slot, small photos."""
        lines = [] if self.modality == "text" else self.size_conflicts()
        if self.concepts and (self.modality == "text" or self.head == "options"):
            got = f"a run with modality={self.modality} and head={self.head}"
            lines.append(f"concepts: got {got}, expected none, or modality=both, image or concepts with head=slots")
        if self.modality == "concepts" and (not self.concepts or self.head != "slots" or self.option_term):
            got = f"concepts={self.concepts!r}, head={self.head}, option_term={self.option_term}"
            lines.append(f"modality=concepts: got {got}, expected a pretraining run, head=slots and no option_term")
        if (self.missing == "pool" or self.modality_dropout) and (self.modality != "both" or self.head == "options"):
            name = "missing=pool" if self.missing == "pool" else f"modality_dropout={self.modality_dropout}"
            got = f"modality={self.modality} and head={self.head}"
            lines.append(f"{name}: got {got}, expected modality=both with head=slots or anchored")
        languages = set(self.languages)
        if languages - set(LANGUAGES) or len(languages) < len(self.languages):
            lines.append(f"lang: got {self.lang!r}, expected one or several of {', '.join(LANGUAGES)}, comma-separated")
        if self.joint_slots and (self.hierarchy or self.decode == "slot"):
            got = f"hierarchy={self.hierarchy}, decode={self.decode}"
            lines.append(f"joint_slots: got {got}, expected hierarchy=0 and decode=set; its slots mean nothing alone")
        return lines

    def without_effect(self, names: Collection[str]) -> list[str]:
        """Return also a line if the encoders that are to be tuned are not read."""
        lines = super().without_effect(names)
        reads = {"texts": self.reads_text or self.head == "options", "images": self.modality in ("both", "image")}
        part = self.finetune_encoders
        if {"finetune", "finetune_encoders"} & set(names) and self.finetune != "head" and not reads.get(part, True):
            lines.append(f"finetune_encoders={part} tunes nothing with modality={self.modality}")
        return lines

    @property
    def reads_text(self) -> bool:
        """Whether the model reads the encounter's text."""
        return self.modality in ("both", "text")

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages whose texts the rules read."""
        return tuple(self.lang.split(","))
