"""The closed answers of a challenge folder: rows of the answer tables, matched with their encounters."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from magic_cli.data.issues import IssueLog, counted
from magic_cli.data.names import composed, id_fault, key_of
from magic_cli.data.questions import QuestionSchema
from magic_cli.data.sources.dermavqa.scan import Folder
from magic_cli.data.sources.dermavqa.tables import Table
from magic_cli.errors import problem, redact, redact_key
from magic_cli.records import Case


def with_answers(
    cases: Mapping[str, Case], tables: tuple[Table, ...], questions: QuestionSchema, files: Folder, issues: IssueLog
) -> dict[str, Case]:
    """Return the cases with their closed answers; faulty or contradictory rows are left out, each a problem.

    An id in other capitals than the encounter's is the encounter's if it can be no other one's; this is a note.
    """
    answers: dict[str, dict[str, int] | None] = {}
    known = _by_key(cases) | {eid: eid for eid in cases}
    respelled = []
    for table in tables:
        file = files.name(table.path)
        for index, row in enumerate(table.rows):
            written = row.get("encounter_id") if isinstance(row, dict) else None
            eid = _meant(written, known)
            if not eid:
                issues.add_loss(_nobody(written, f"{file}:{index}"), "answers")
                continue
            respelled += [] if written is None or composed(written) == eid else [redact_key(written)]
            faults = questions.faults(row, f"{file}:{redact_key(eid)}")
            values = {qid: value for qid, value in row.items() if qid != "encounter_id"}
            if not faults and answers.setdefault(eid, questions.indices(values)) != questions.indices(values):
                answers[eid] = None
                faults = [
                    problem(f"{file}:{redact_key(eid)}", "rows that differ", "one row", "remove one; neither is used")
                ]
            if faults:
                more = f" (and {len(faults) - 1} more in this row)" if len(faults) > 1 else ""
                issues.add_loss(faults[0] + more, "answers")
        table.rows.clear()
    if respelled:
        count = counted(len(respelled), "id of answers has", "ids of answers have")
        issues.note(f"{count} other capitals than the encounter's (such as {respelled[0]}): taken for the same")
    return {eid: replace(case, answers=answers.get(eid)) for eid, case in cases.items()}


def _meant(written: Any, known: Mapping[str, str]) -> str:
    if not isinstance(written, str):
        return ""
    return known.get(composed(written)) or known.get(key_of(written), "")


def _by_key(cases: Mapping[str, Case]) -> dict[str, str]:
    """Return case ids by `key_of`, those left out that share it with another one."""
    ids: dict[str, list[str]] = {}
    for eid in cases:
        ids.setdefault(key_of(eid), []).append(eid)
    return {key: found[0] for key, found in ids.items() if len(found) == 1}


def _nobody(written: Any, where: str) -> str:
    expected = "an encounter of train, valid or test"
    if written is None or isinstance(written, str):
        return problem(where, f"answers for {redact(written)}", expected, "remove the row, or add its encounter")
    return id_fault(written, where) or problem(where, f"answers for {redact(written)}", expected, "fix the id")
