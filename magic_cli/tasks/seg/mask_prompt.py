"""What masks are asked for in words: the text, what it is not, and how a model of pretraining looks for it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from magic_cli.errors import ConfigError, problem
from magic_cli.setting import SettingValue

SALIENCY = ("similarity", "gradient")


@dataclass(frozen=True)
class MaskPrompt:
    """What is looked for on every photo, and how.

    Attributes:
        text: what a mask is of.
        background: what it is not: the similarity to it is taken off; "" for nothing.
        saliency: "similarity" of patches to the text, or "gradient": Grad-CAM of the photo's similarity to it.
        sam: a SAM by its name on the Hub, which gets the box around the largest region; "" for none.
    """

    text: str
    background: str = ""
    saliency: str = SALIENCY[0]
    sam: str = ""

    def facts(self) -> Mapping[str, SettingValue]:
        """Return this for run.json, without what is not used."""
        return {f"zero_shot_{name}": value for name, value in asdict(self).items() if value}


def mask_prompt(text: str | None, background: str | None, saliency: str | None, sam: str | None) -> MaskPrompt | None:
    """Return what the options of `magic predict seg` ask for; None without a text.

    Raises:
        ConfigError: a text without words, another saliency, or the other options without a text.
    """
    if text is None:
        given = {"--background": background, "--saliency": saliency, "--sam": sam}
        alone = ", ".join(name for name, value in given.items() if value is not None)
        if alone:
            got = f"{alone} without --zero-shot"
            raise ConfigError(problem("magic predict", got, "a text to look for", "add --zero-shot 'skin lesion'"))
        return None
    for option, words in (("--zero-shot", text), ("--background", background)):
        if words is not None and not words.strip():
            raise ConfigError(problem(option, "no words", "a text, such as 'skin lesion'", "write one"))
    if background is not None and background.strip() == text.strip():
        expected = "another text than that of --zero-shot"
        raise ConfigError(problem("--background", "the same text", expected, "leave it out, or write another"))
    if saliency is not None and saliency not in SALIENCY:
        raise ConfigError(problem("--saliency", saliency, " or ".join(SALIENCY), "choose one of these"))
    return MaskPrompt(text.strip(), (background or "").strip(), saliency or SALIENCY[0], sam or "")
