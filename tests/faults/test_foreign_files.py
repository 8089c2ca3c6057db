"""Random command lines among files of others, which stay byte for byte as they are (tests/faults/foreign.py).

The same at length: tests/benchmarks/foreign_files.py.
"""

from collections import Counter

import pytest
from foreign import Folder
from trials import World

CHUNKS, LINES = 3, 50


@pytest.fixture(scope="module")
def folder(world: World) -> Folder:
    return Folder(world)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_files_of_others_stay_as_they_are(folder: Folder, chunk: int) -> None:
    trials = [folder.trial(seed) for seed in range(chunk * LINES, (chunk + 1) * LINES)]
    wrong = [f"{' '.join(trial.line.words)}: {trial.faults}" for trial in trials if trial.faults]
    assert not wrong, "\n".join(wrong)
    codes = Counter(trial.ended.code for trial in trials)
    assert codes[0] >= LINES / 4, codes
    assert all(len(trial.planted) >= 6 for trial in trials)
