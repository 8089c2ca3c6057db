"""The page's content about contrastive pretraining, from a score report, its gold and the systems' files."""

from collections.abc import Mapping
from dataclasses import dataclass

from magic_cli.data.pair_gold import PairGold
from magic_cli.io import run_record
from magic_cli.report.pairs.ablation import Ablation, Setting, ablation, against_chance
from magic_cli.report.pairs.classes import ClassContent, ConceptContent, class_content, concept_content
from magic_cli.report.pairs.examples import RetrievalContent, retrieval_content
from magic_cli.report.score_report import ScoreReport
from magic_cli.report.short_names import short_names
from magic_cli.submission.pairs import PairFiles, find_pairs


@dataclass(frozen=True, slots=True)
class PairContent:
    """The page's content about contrastive pretraining; a part is None where there is nothing to show.

    Attributes:
        verdicts: sentences that intervals support: the detailed system against chance, then pairs of systems.
        ablation: several systems beside each other.
        classes, concepts, retrieval: of the detailed system.
    """

    verdicts: tuple[str, ...]
    ablation: Ablation | None
    classes: ClassContent | None
    concepts: ConceptContent | None
    retrieval: RetrievalContent | None


def pair_content(report: ScoreReport, task: str, system: str, gold: PairGold, examples: bool = True) -> PairContent:
    """Return the page's content about a task whose predictions are pairs.

    Args:
        report: what `magic_cli.commands.score` returns.
        task: the name of the task.
        system: the name of the system that is shown in detail.
        gold: classes, texts and photos of the report's gold.
        examples: show photos and texts of patients.

    Raises:
        SubmissionError: vectors or maps of the detailed system are damaged.
    """
    systems, files = report.by_system(task), _files(report)
    scores, names = systems[system], short_names(list(systems))
    comparisons = [row for row in report.comparisons if row.task == task]
    found = None
    if len(systems) > 1 or comparisons:
        found = ablation(systems, comparisons, {name: _settings(files.get(name)) for name in systems})
    shown = retrieval_content(scores, gold, files.get(system), report.settings.group_identical) if examples else None
    return PairContent(
        verdicts=(*against_chance(names[system], scores), *(found.verdicts if found else ())),
        ablation=found,
        classes=class_content(scores, {names[name]: other for name, other in systems.items()}),
        concepts=concept_content(scores, {names[name]: other for name, other in systems.items()}),
        retrieval=shown,
    )


def _files(report: ScoreReport) -> dict[str, PairFiles]:
    found = zip(report.systems, map(find_pairs, report.files.preds), strict=False)  # made reports have no files
    return {system.name: files for system, files in found if files is not None}


def _settings(files: PairFiles | None) -> Mapping[str, Setting]:
    """Return the settings of the training behind predictions, from the run.json beside them; {} without one."""
    if files is None or files.asked is None:
        return {}
    settings = run_record.recorded_settings(files.asked.parent)  # scores do not depend on it
    return {key: value for key, value in settings.items() if isinstance(value, str | int | float)}
