"""What encoders with one space for photos and texts have in common, be they of transformers or of open_clip."""

from typing import Any

from magic_cli.models.encoders import ImageEncoder, Output, mode_of


class ProjectedImage(ImageEncoder):
    """An image encoder whose vectors share one space with those of a text encoder.

    Its features are {"pooled": (B, D)}, and with `output` "patches" also {"patches": (B, P, D)}, not normalised.
    """

    projected = True

    def __init__(self, size: int, normal: tuple[Any, Any, int], output: Output) -> None:
        super().__init__(size, *normal)
        self.output = output

    def preprocessing(self) -> str:
        """Return also the output."""
        return f"{super().preprocessing()} {mode_of(self.output)}"


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids that a tokenizer puts before and after those of a text."""
    whole, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return whole[:start], whole[start + len(bare) :]
