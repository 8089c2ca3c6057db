"""Count the tokens of prompts while their cases pass by."""

from collections import Counter

from magic_cli.data.issues import IssueLog
from magic_cli.data.prompt_lengths import PromptStatistics, prompt_statistics
from magic_cli.errors import WeightsError
from magic_cli.models.weights import minilm_dir
from magic_cli.records import SPLITS, Case

_COUNTED = 20_000  # characters of a half of a prompt whose tokens are counted: fifty windows of an encoder

_CASES = 256  # cases whose prompts are tokenized at a time: tokens take many times the memory of their text


class PromptCounter:
    """How long prompts are, how many exceed 77 (CLIP) and 256 (MiniLM) tokens, and how much of each half fits.

    Tokens are MiniLM's WordPieces, also as an estimate of CLIP's BPE; of a half, those of the first 20,000 characters.
    Without MiniLM's tokenizer nothing is counted, and a note says so.
    """

    def __init__(self, issues: IssueLog) -> None:
        from tokenizers import Tokenizer  # 0.1 s to import: only where tokens are counted

        self._halves: list[str] = []
        self._splits: list[str] = []
        self._sizes = {split: Counter[tuple[int, int]]() for split in SPLITS}
        self._tokenizer = None
        try:
            self._tokenizer = Tokenizer.from_file(str(minilm_dir() / "tokenizer.json"))
        except WeightsError as error:
            issues.note(f"prompts were not counted: {error.problems[0]}")
            return
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def add(self, case: Case) -> None:
        """Count the prompt of a case."""
        if self._tokenizer is None:
            return
        self._halves += [case.question[:_COUNTED], case.answer[:_COUNTED]]
        self._splits.append(case.split)
        if len(self._splits) >= _CASES:
            self._count()

    def _count(self) -> None:
        if self._tokenizer is None or not self._splits:
            return
        lengths = [len(half.ids) for half in self._tokenizer.encode_batch(self._halves, add_special_tokens=False)]
        for split, question, answer in zip(self._splits, lengths[::2], lengths[1::2], strict=True):
            self._sizes[split][question, answer] += 1
        self._halves.clear()
        self._splits.clear()

    def statistics(self) -> PromptStatistics | None:
        """Return the statistics over all cases; None if tokens could not be counted."""
        if self._tokenizer is None:
            return None
        self._count()
        return prompt_statistics(self._sizes, "MiniLM WordPiece; stands in for CLIP's BPE")
