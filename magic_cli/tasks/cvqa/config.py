"""Settings of the closed-question task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from magic_cli.config import Config, Range

LANGUAGES = ("en", "es", "zh")

"""The languages that data/words has lists for."""


@dataclass(frozen=True)
class CvqaConfig(Config):
    """Settings of what the answer head sees, and of which head it is; examples/ablation.md has what each is worth.

    Head "slots" is a log-prior bias + a linear head per (slot, option); head "options" is the paper's
    FFN([text; image]) over question || option. From `hashed_words` on, settings are for head "slots".
    """

    task: ClassVar[str] = "cvqa"
    former_names: ClassVar[Mapping[str, str]] = {
        **Config.former_names,
        "unit": "sample_unit",
        "bag": "hashed_words",
        "shrink": "group_lasso",
        "joint": "joint_slots",
    }

    modality: Annotated[Literal["both", "text", "image"], "What the answers are read from."] = "both"
    sample_unit: Annotated[
        Literal["encounter", "question"],
        "A training sample is an encounter with all its questions, or one question (the paper).",
    ] = "encounter"
    head: Annotated[
        Literal["slots", "options"], "A linear score per slot and option, or the paper's score of each option's text."
    ] = "slots"
    width: Annotated[int, Range(4, 4096), "Hidden units of head=options and of option_term."] = 128
    encounter_text: Annotated[bool, "Whether head=options reads the query too (the paper's does not)."] = True
    hashed_words: Annotated[
        int, Range(0, 1_000_000), "Buckets that the words of the text are hashed into; 0: no words."
    ] = 2048
    rules: Annotated[bool, "Whether rule features of the text are added."] = True
    lang: Annotated[str, "Languages of the texts that the rules read: en, es, zh, several by comma."] = "en"
    group_lasso: Annotated[
        float,
        Range(0, 1_000_000),
        "Penalty on the weights' norm per (slot, block of inputs), as of so many training encounters that say zero; "
        "it weighs more where there are fewer than 240.",
    ] = 5.0
    option_term: Annotated[bool, "Whether a score of question || option is added to the linear one."] = False
    decode: Annotated[
        Literal["slot", "set"],
        "A parent question is decided slot by slot, or as the set of greatest expected accuracy.",
    ] = "set"
    hierarchy: Annotated[
        float, Range(0, 1_000_000), "Weight of the loss over a parent's options beside that over its slots."
    ] = 0.0
    joint_slots: Annotated[
        bool, "Whether a slot chooses among what may follow the slot before it: a parent's slots are one set."
    ] = False

    def conflicts(self) -> list[str]:
        """Refuse unknown languages, and decoding slot by slot where slots mean nothing alone."""
        lines = []
        languages = set(self.languages)
        if languages - set(LANGUAGES) or len(languages) < len(self.languages):
            lines.append(f"lang: got {self.lang!r}, expected one or several of {', '.join(LANGUAGES)}, by comma")
        if self.joint_slots and (self.hierarchy or self.decode == "slot"):
            got = f"hierarchy={self.hierarchy}, decode={self.decode}"
            lines.append(f"joint_slots: got {got}, expected hierarchy=0 and decode=set; its slots mean nothing alone")
        return lines

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages whose texts the rules read."""
        return tuple(self.lang.split(","))
