"""scores.tex and scores.md: every system's main scores with intervals, whatever systems are called."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from page_outline import check
from score_reports import HOSTILE, make_report

from magic_cli.report import score_page, score_tables
from magic_cli.report.score_report import ScoreReport

SPECIAL = r"50%_of {runs} & #2 $x^2$ ~ \input{x} <a|b> -- `c`"


def tables(report: ScoreReport) -> tuple[str, str]:
    found = score_tables.score_tables(report)
    return score_tables.latex(found), score_tables.markdown(found)


def named(report: ScoreReport, *names: str) -> ScoreReport:
    systems = zip(report.systems, names, strict=True)
    return replace(report, systems=tuple(replace(system, name=name) for system, name in systems), comparisons=())


def test_rows_are_systems_and_columns_headline_scores(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("seg", "cvqa"), systems=2)
    latex, markdown = tables(made.report)
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == markdown.count("Table: ") == 2
    assert "System & Dice, mean of max & Jaccard, mean of max" in latex
    assert "| System | Accuracy, all questions |" in markdown
    for system in made.report.systems:
        for scores in system.tasks:
            key = {"seg": "dice_meanofmax", "cvqa": "accuracy_all"}[scores.task]
            value, pair = scores.scores[key], scores.intervals[key]
            assert f"{value:.4f}" in latex
            assert f"{value:.4f}" in markdown
            assert f"[{pair.low:.3f}, {pair.high:.3f}]" in latex
            assert f"[{pair.low:.3f}, {pair.high:.3f}]" in markdown
    assert "trivial: " in latex
    assert "trivial: " in markdown


def test_the_caption_says_what_is_counted_and_what_intervals_are(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("seg",), systems=2)
    [table] = score_tables.score_tables(made.report)
    scores = made.report.systems[0].tasks[0]
    images = f"{scores.scores['number_segmentation_instances']:.0f} images"
    assert images in table.caption
    assert f"split {made.report.split}" in table.caption
    assert f"95 % intervals from {made.report.settings.resamples:,} bootstrap resamples" in table.caption
    assert "bold" in table.caption
    latex, _ = tables(made.report)
    assert r"95 \% intervals" in latex


def test_the_best_of_several_systems_is_bold(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("seg",), systems=2)
    first, second = made.report.systems
    better = replace(second.tasks[0], scores={**second.tasks[0].scores, "dice_meanofmax": 0.98765})
    latex, markdown = tables(replace(made.report, systems=(first, replace(second, tasks=(better,)))))
    assert r"\textbf{0.9877}" in latex
    assert "**0.9877**" in markdown
    assert latex.count(r"\textbf") == markdown.count("**") / 2 == 2
    alone, alone_markdown = tables(replace(made.report, systems=(first,), comparisons=()))
    assert r"\textbf" not in alone
    assert "**" not in alone_markdown


@pytest.mark.parametrize("name", [SPECIAL, HOSTILE])
def test_a_name_is_no_command_and_breaks_no_cell(tmp_path: Path, name: str) -> None:
    made = make_report(tmp_path, ("seg",), systems=2)
    latex, markdown = tables(named(made.report, name, "plain"))
    [row] = [line for line in latex.splitlines() if line.endswith(r"\\") and "plain" not in line][1:2]
    bare = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]", "", row.removesuffix(r" \\"))
    assert bare.count("&") == 2  # between three columns
    assert not re.search(r"[%$#_~^<>|]|\\(?!textbf|footnotesize)", bare)
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {4}
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]", latex + markdown)
    assert "---" not in latex


def test_no_row_begins_with_an_argument_of_the_line_before(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("seg",), systems=2)
    latex, markdown = tables(named(made.report, "[a] last", "*b"))  # \\[2pt], \\* and \midrule[2pt] are commands
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert [row.partition(" & ")[0] for row in rows[:3]] == ["System", "{[}a] last", "{*}b"]
    assert not any(line.startswith(("[", "*")) for line in latex.splitlines())
    assert r"| \[a\] last |" in markdown


def test_what_is_missing_is_a_dash(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("seg",), systems=1, defined=False)
    latex, markdown = tables(made.report)
    assert "--" in latex
    assert "–" in markdown
    assert "nan" not in (latex + markdown).lower()


def test_the_page_has_them_to_copy_unless_they_are_long(tmp_path: Path) -> None:
    made = make_report(tmp_path, ("seg",), systems=2)
    report = named(made.report, SPECIAL, "plain")
    latex, markdown = tables(report)
    text = check(score_page.html(report, made.gold, made.masks)).text
    assert latex in text
    assert markdown in text
    long = named(made.report, "x" * 20_000, "plain")
    text = check(score_page.html(long, made.gold, made.masks)).text
    assert r"\begin{table}" not in text
