"""The published leaderboard: figures copied by hand once more here, the paper's tables where they are at hand."""

import re
from pathlib import Path

import pytest

from magic_cli.report import leaderboard

SEED = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "irel-clipseg-and-bert-swin.txt"
TABLES = {"seg": ("Jacc. M(Max)\t", 6), "cvqa": ("accuracy\t", 1)}
TEAMS = {
    "seg": {"Anastasia": 6, "IReL, IIT(BHU)": 1, "KLE1": 4, "H3N1": 4, "Kasukabe Defense Group": 1},
    "cvqa": {
        "H3N1": 5,
        "DS@GT MEDIQA-MAGIC": 6,
        "KLE1": 3,
        "Kasukabe Defense Group": 3,
        "Oggy": 1,
        "IReL, IIT(BHU)": 1,
    },
}


def printed(task: str) -> list[tuple[str, ...]]:
    """Return the rows of the paper's table, as text."""
    head, columns = TABLES[task]
    lines = SEED.read_text(encoding="utf-8").splitlines()
    found: list[tuple[str, ...]] = []
    for line in lines[next(at for at, line in enumerate(lines) if head in line) + 1 :]:
        cells = tuple(line.strip().split("\t"))
        if len(cells) != columns + 1 or not re.fullmatch(r"0\.\d+", cells[1]):
            return found
        found.append(cells)
    return found


@pytest.mark.realdata
@pytest.mark.parametrize(("task", "digits", "count"), [("seg", 3, 16), ("cvqa", 4, 19)])
def test_tables_are_the_papers(task: str, digits: int, count: int) -> None:
    if not SEED.is_file():
        pytest.skip(f"{SEED} is not here: the paper is not part of the project")
    ours = [(e.team, *(f"{v:.{digits}f}" for v in e.scores.values())) for e in leaderboard.entries(task)]
    assert len(ours) == count
    assert ours == printed(task)


def test_figures_of_the_papers_own_team() -> None:
    (seg,) = (entry for entry in leaderboard.entries("seg") if entry.team.startswith("IReL"))
    assert seg.scores == {
        "jaccard_meanofmax": 0.655,
        "jaccard_meanofmean": 0.569,
        "dice_meanofmax": 0.765,
        "dice_meanofmean": 0.686,
        "jaccard": 0.588,
        "dice": 0.741,
    }
    assert leaderboard.entries("cvqa")[-1] == leaderboard.Entry("IReL, IIT(BHU)", 1, {"accuracy_all": 0.1731})
    assert leaderboard.entries("cvqa")[0].scores == {"accuracy_all": 0.758}


@pytest.mark.parametrize("task", ["seg", "cvqa"])
def test_order_ranges_and_runs(task: str) -> None:
    entries = leaderboard.entries(task)
    keys = leaderboard.KEYS[task]
    last = [entry.scores[keys[-1]] for entry in entries]
    assert last == sorted(last, reverse=True)
    assert all(tuple(entry.scores) == keys for entry in entries)
    assert all(0.1 < value < 0.8 for entry in entries for value in entry.scores.values())
    runs: dict[str, list[int]] = {}
    for entry in entries:
        runs.setdefault(entry.team, []).append(entry.run)
    assert runs == {team: list(range(1, count + 1)) for team, count in TEAMS[task].items()}


def test_scores_agree_with_each_other() -> None:
    for entry in leaderboard.entries("seg"):
        f = entry.scores
        assert f["jaccard_meanofmean"] < f["jaccard_meanofmax"] < f["dice_meanofmax"]
        assert f["dice_meanofmean"] < f["dice_meanofmax"]
        assert f["dice"] == pytest.approx(2 * f["jaccard"] / (1 + f["jaccard"]), abs=1.5e-3)


def test_json_of_an_entry_is_a_plain_copy() -> None:
    entry = leaderboard.entries("seg")[4]
    made = entry.to_json()
    assert made == {"team": "IReL, IIT(BHU)", "run": 1, "figures": entry.scores}
    made["figures"].clear()  # type: ignore[attr-defined]
    assert leaderboard.entries("seg")[4].scores == entry.scores != {}
    assert leaderboard.entries("report") == ()


def test_sentence_warns() -> None:
    text = leaderboard.sentence()
    assert leaderboard.SOURCE in text
    assert "not comparable" in text
    assert "another split" in text
    assert "\n" not in text
