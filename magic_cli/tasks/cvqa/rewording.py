"""Rewording what a closed-question model reads, its questions; refused where it does not read what is reworded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from magic_cli.data.texts.rewording import QUESTION_WORDINGS
from magic_cli.errors import ConfigError, problem

if TYPE_CHECKING:
    from magic_cli.tasks.cvqa.model import CvqaModel


def reword(model: CvqaModel, rule: str) -> None:
    """Have a model read its questions in other words; queries are reworded where samples are made.

    Args:
        model: about to predict.
        rule: of QUESTION_WORDINGS, or of a query.

    Raises:
        ConfigError: the model does not read what the rule rewords.
    """
    config = model.config
    if rule not in QUESTION_WORDINGS:
        if not model.reads_text or not (config.head != "options" or config.encounter_text):
            raise _unread(rule, "no query", "reads queries")
        return
    if config.head == "slots" and not config.option_term:
        raise _unread(rule, "no question: head=slots has weights for each slot", "reads them (--set head=options)")
    if config.head != "options" and not model.texts.is_frozen:
        raise _unread(rule, "options as they were encoded before training", "has a frozen text encoder")
    model.read_questions_as(rule)


def _unread(rule: str, read: str, expected: str) -> ConfigError:
    got = f"{rule} for a model that reads {read}"
    return ConfigError(problem("--reword", got, f"one that {expected}", "it does not apply; leave it out"))
