"""`@recorded`: a verb writes run.json beside its results, whether the command line or Python called it."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import ParamSpec, Protocol, TypeVar

from magic_cli.errors import ConfigError, problem
from magic_cli.io import run_record
from magic_cli.io.arguments import to_json
from magic_cli.io.run_record import Call, RunFiles


class Recordable(Protocol):
    """The result of a verb."""

    @property
    def exit_code(self) -> int:
        """Exit code of the command: 0, or 4 for complete results with a problem."""
        ...

    def run_files(self) -> RunFiles | None:
        """Return what was read and written; None if nothing was written, as in a dry run."""
        ...


_PATHS = {
    "data",
    "out",
    "ckpt",
    "files",
    "preds",
    "gold",
    "seg",
    "cvqa",
    "against",
    "run",
    "weights",
    "cache_dir",
    "join",
}
_PATHS |= {"ontology", "llm_cache", "concepts", "templates", "images"}
_PATHS |= {"path", "record"}  # of the verbs that are not recorded

P = ParamSpec("P")
R = TypeVar("R", bound=Recordable)


def _check_options(verb: str, options: object, signature: inspect.Signature) -> None:
    """Refuse the options of another verb, a dict or None; the default is of the class that a verb expects.

    Raises:
        ConfigError: they are of another class.
    """
    expected = type(signature.parameters["options"].default)
    if not isinstance(options, expected):
        remedy = f"pass options={expected.__name__}(...), or leave it out"
        raise ConfigError(problem(f"{verb}: options", type(options).__name__, expected.__name__, remedy))


def refuse_empty_paths(arguments: Mapping[str, object]) -> None:
    """Refuse empty paths, at any depth: `Path("")` would be the working folder. Settings may be empty.

    Raises:
        ConfigError: one line that names the argument.
    """
    for name, value in arguments.items():
        if isinstance(value, Mapping) and name != "settings":
            refuse_empty_paths(value)
        elif name in _PATHS and (value == "" or (isinstance(value, list) and "" in value)):
            raise ConfigError(problem(name, "an empty path", "a file or folder", "is a variable unset?"))


def recorded(verb: Callable[P, R]) -> Callable[P, R]:
    """Wrap a verb so that its call is recorded beside the results when it returns (io/run_record.py).

    Raises:
        ConfigError: `options` are not those of the verb, or a path is empty.
        DataError: the record cannot be written; the results stay.
    """
    signature = inspect.signature(verb)

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        _check_options(verb.__name__, bound.arguments.get("options"), signature)
        arguments = {name: to_json(value) for name, value in bound.arguments.items()}
        refuse_empty_paths(arguments)
        with run_record.running(Call(verb.__name__, arguments)):
            result = verb(*args, **kwargs)
            files = result.run_files()
            if files is not None:
                run_record.write(files, result.exit_code)
        return result

    return call
