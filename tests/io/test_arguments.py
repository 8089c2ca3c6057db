"""io/arguments.py: arguments of a verb become JSON and come back as they were; anything else is refused by name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.preparation.case_texts import TextOptions
from magic_cli.errors import DataError
from magic_cli.io.arguments import Json, from_json, to_json
from magic_cli.io.files import StrPath


@dataclass(frozen=True)
class Runtime:
    device: str = "auto"
    cache_dir: StrPath | None = None


@dataclass(frozen=True)
class Options:
    seed: int | None = None
    ratio: float = 0.5
    dry_run: bool = False
    track: Literal["both", "strict"] = "both"
    settings: Sequence[str] | Mapping[str, bool | int | float | str] = ()
    runtime: Runtime = field(default_factory=Runtime)


def verb(
    task: str, ckpt: StrPath | Sequence[StrPath], out: StrPath | None = None, options: Options = Options()
) -> None:
    """A verb with all kinds of arguments."""


WHOLE = {
    "task": "seg",
    "ckpt": (Path("a/best.pt"), "b"),
    "out": None,
    "options": Options(7, 1.0, True, "strict", {"epochs": 3, "lr": 0.1, "rules": True}, Runtime("cpu", Path("cache"))),
}


def written(arguments: Mapping[str, object]) -> dict[str, Json]:
    """What a file holds of arguments."""
    loaded: dict[str, Json] = json.loads(json.dumps({name: to_json(value) for name, value in arguments.items()}))
    return loaded


def test_arguments_come_back() -> None:
    back = from_json(verb, written(WHOLE), "run.json")
    assert back["options"] == Options(
        7, 1.0, True, "strict", {"epochs": 3, "lr": 0.1, "rules": True}, Runtime("cpu", "cache")
    )
    assert (back["task"], back["ckpt"], back["out"]) == ("seg", ("a/best.pt", "b"), None)
    assert written(back) == written(WHOLE)
    assert type(back["options"].ratio) is float  # type: ignore[attr-defined]


def plain(task: str = "seg", options: Options = Options()) -> None:
    """A verb whose arguments have defaults."""


def test_what_may_be_missing() -> None:
    assert from_json(verb, {"task": "seg", "ckpt": "best.pt"}, "run.json") == {"task": "seg", "ckpt": "best.pt"}
    assert from_json(plain, {"options": {}}, "run.json") == {"options": Options()}
    assert from_json(plain, {"options": {"settings": ["epochs=3"]}}, "r")["options"] == Options(settings=("epochs=3",))


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"exec": "touch owned"}, "run.json:exec"),
        ({"task": 7}, "run.json:task"),
        ({"task": None}, "run.json:task"),
        ({"ckpt": {"a": 1}}, "run.json:ckpt"),
        ({"ckpt": ["a", 1]}, "run.json:ckpt"),
        ({"options": {"overwrite": True}}, "run.json:options.overwrite"),
        ({"options": {"dry_run": 1}}, "run.json:options.dry_run"),
        ({"options": {"seed": True}}, "run.json:options.seed"),
        ({"options": {"seed": 1.5}}, "run.json:options.seed"),
        ({"options": {"track": "official"}}, "run.json:options.track"),
        ({"options": {"settings": {"epochs": [1]}}}, "run.json:options.settings"),
        ({"options": {"runtime": {"device": 3}}}, "run.json:options.runtime.device"),
        ({"options": [1]}, "run.json:options"),
    ],
)
def test_anything_else_is_refused_by_name(values: dict[str, Json], place: str) -> None:
    with pytest.raises(DataError) as caught:
        from_json(verb, {"task": "seg", "ckpt": "best.pt"} | values, "run.json")
    [line] = caught.value.problems
    assert line.startswith(f"{place}"), line


def test_all_problems_at_once() -> None:
    with pytest.raises(DataError) as caught:
        from_json(verb, {"task": 1, "options": {"seed": "x", "ratio": "y"}, "more": 2}, "run.json")
    assert len(caught.value.problems) == 5  # ckpt is missing


def test_a_value_that_cannot_be_recorded_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="object"):
        to_json(object())


def test_every_option_of_prepare_comes_back() -> None:
    """A call with `--join` could be recorded, and not repeated."""
    texts = TextOptions(True, Path("tree.csv"), Path("answers.jsonl"), "merge", "both", ("age",))
    options = PrepareOptions(source="csv", mapping=("image=a",), join=Path("facts.csv"), texts=texts)
    given = {"data": Path("raw"), "out": "prepared", "options": options}
    assert written(from_json(prepare, written(given), "run.json")) == written(given)
