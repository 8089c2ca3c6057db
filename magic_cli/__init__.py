"""magic: prepare, train, predict, score and package for the MEDIQA-MAGIC 2025 challenge.

The verbs of the command line are functions here (examples/notebook.md); each is imported when it is first asked for,
so that `import magic_cli` costs nothing and loads no torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "commands.cross_validate": ("cross_validate",),
    "commands.package": ("package", "check_submission", "PackageOptions", "PackageResult", "CheckResult"),
    "commands.predict": ("predict", "PredictOptions"),
    "commands.prepare": ("prepare", "PrepareOptions"),
    "commands.rerun": ("rerun", "RerunResult"),
    "commands.score": ("score", "ScoreOptions"),
    "commands.run_setup": ("TrainOptions",),
    "commands.train": ("train",),
    "commands.vote": ("vote", "VoteOptions"),
    "data.prepared": ("open_prepared", "Prepared"),
    "errors": ("MagicError",),
    "report.prepare_text": ("PrepareResult",),
    "report.run_text": ("TrainResult", "CrossValidationResult", "PredictResult", "VoteResult"),
    "report.score_report": ("ScoreReport",),
    "training.runtime": ("RuntimeOptions",),
}
_PUBLIC = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'magic_cli' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"magic_cli.{_PUBLIC[name]}"), name)
    return value


def __dir__() -> list[str]:
    """Return the public names, also those that are not imported yet."""
    return sorted({*globals(), *_PUBLIC})
