"""Log of the issues of `magic prepare`: data that was lost, choices that were made, and what the losses cost."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class IssueLog:
    """`problems` are losses of data, one line each, counted in `left_out`; `notes` are choices that lose nothing."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add_loss(self, line: str, what: str = "", count: int = 1) -> None:
        """List a problem; `what` and `count` say what it costs: encounters, images, masks or answers."""
        self.problems.append(line)
        if what:
            self.left_out[what] += count

    def note(self, line: str) -> None:
        """List a choice or an oddity that loses nothing."""
        self.notes.append(line)
