"""magic: prepare, train, predict, score and package for the MEDIQA-MAGIC 2025 challenge.

The verbs of the command line are functions here (examples/notebook.md); each is imported when it is first asked for,
so that `import magic_cli` costs nothing and loads no torch.
"""

from collections.abc import Callable
from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "commands.cross_validate": ("cross_validate",),
    "commands.index": ("index_remove", "index_info", "IndexAdded", "IndexRemoved", "IndexSummary"),
    "commands.cases.build": ("index_build", "index_add", "IndexOptions"),
    "commands.export.model": ("export", "graph_inputs", "ExportOptions", "ExportResult", "GraphInputs"),
    "commands.package": ("package", "check_submission", "PackageOptions", "PackageResult", "CheckResult"),
    "commands.predict": ("predict", "PredictOptions"),
    "commands.prepare": ("prepare", "PrepareOptions"),
    "data.preparation.case_texts": ("TextOptions",),
    "commands.rerun": ("rerun", "RerunResult"),
    "commands.trainings.listing": ("runs", "RunList"),
    "commands.trainings.show": ("show", "Shown"),
    "commands.score": ("score", "ScoreOptions"),
    "commands.run_setup": ("TrainOptions",),
    "commands.search": ("search", "SearchOptions", "SearchOutcome"),
    "commands.train": ("train",),
    "commands.vote": ("vote", "VoteOptions"),
    "data.prepared": ("open_prepared", "Prepared"),
    "errors": ("MagicError",),
    "report.preparation.text": ("PrepareResult",),
    "report.train_text": ("TrainResult", "TrainedDataset"),
    "report.run_text": ("CrossValidationResult", "PredictResult", "VoteResult"),
    "report.score_report": ("ScoreReport",),
    "training.runtime": ("RuntimeOptions",),
}
_PUBLIC = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_PUBLIC)]


class _LazyFunction:
    """A public function that is imported when it is called, or asked for its signature or documentation."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    @property
    def __wrapped__(self) -> Callable[..., object]:
        """The function itself."""
        function: Callable[..., object] = getattr(import_module(f"magic_cli.{_PUBLIC[self.__name__]}"), self.__name__)
        return function

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.__wrapped__.__doc__

    def __call__(self, *args: object, **options: object) -> object:
        return self.__wrapped__(*args, **options)

    def __repr__(self) -> str:
        return f"<function magic_cli.{self.__name__}>"


def __getattr__(name: str) -> object:
    """Return a public name when it is first asked for (PEP 562): functions without importing anything."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'magic_cli' has no attribute {name!r}")
    is_function = name.islower()  # the others are classes
    value = _LazyFunction(name) if is_function else getattr(import_module(f"magic_cli.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, also those that are not imported yet."""
    return sorted({*globals(), *_PUBLIC})
