"""What the text gives to segmentation: each photo's own prompt, none, and another patient's, on split valid.

    python tests/benchmarks/prompts.py BEST.PT PREPARED/ [--out prompts] [--tta]

Masks of the three go to OUT/own, OUT/empty and OUT/other; `magic score` compares them, paired, with the own prompts.
The other patient is the next one in the split. Nothing is trained: a model that learned with prompts meets these.
"""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from magic_cli.commands import predict
from magic_cli.data.prepared import Prepared, open_prepared
from magic_cli.tasks import get
from magic_cli.training.runtime import RuntimeOptions

seg = get("seg")

KINDS = ("own", "empty", "other")


def prompted(prepared: Prepared, kind: str, split: str = "valid") -> Prepared:
    """Return prepared data whose encounters of a split have their own texts, none, or the next encounter's."""
    names = [name for name, encounter in prepared.cases.items() if encounter.split == split]
    found = dict(prepared.cases)
    for name, following in zip(names, [*names[1:], *names[:1]], strict=True):
        said = prepared.cases[{"own": name, "other": following}.get(kind, name)]
        texts = ("", "") if kind == "empty" else (said.question, said.answer)
        found[name] = replace(found[name], question=texts[0], answer=texts[1])
    return replace(prepared, cases=found)


def main(words: list[str] | None = None) -> None:
    """Predict three times, then score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--out", type=Path, default=Path("prompts"))
    parser.add_argument("--tta", action="store_true", help="over all views and looks of the run, not one of each")
    given = parser.parse_args(words)
    prepared = open_prepared(given.prepared)
    for kind in KINDS:
        options = predict.PredictOptions(
            tta=given.tta, zoom=None if given.tta else 0.0, runtime=RuntimeOptions("cpu", no_cache=True)
        )
        found = predict.predictions("seg", [given.ckpt], prompted(prepared, kind), "valid", options)
        seg.write(found, prepared, given.out / kind)
    line = [sys.executable, "-m", "magic_cli", "score", *KINDS, str(given.prepared.resolve()), "--against", "own"]
    subprocess.run(line, cwd=given.out, check=True)


if __name__ == "__main__":
    main()
