"""Entry point of `magic`, `python -m magic_cli` and `accelerate launch -m magic_cli`."""

import os
import sys

# `python -m` looks for modules in the working folder first. It holds other people's data: nothing there is to run,
# except where magic or all packages are installed in it.
try:
    _here = os.path.realpath(os.getcwd())  # noqa: PTH109
    _ours = os.path.realpath(f"{os.path.dirname(__file__)}/..")  # noqa: PTH120
except OSError:  # the working folder was removed
    _here = _ours = ""
if _here not in (_ours, os.path.dirname(os.__file__)) and not _here.endswith("-packages"):  # noqa: PTH120
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or _here) != _here]
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # for Python's own child processes

from typing import NoReturn

from magic_cli.io.launcher import launched
from magic_cli.io.resources import as_resource_error
from magic_cli.io.signals import install_handlers, redeliver_interrupt, restore_defaults


def start() -> NoReturn:
    """Run the command line (its exit: cli/process.py). Signals are handled from before the first slow import."""
    code: int | None = None
    try:
        try:
            install_handlers()
            sys.unraisablehook = redeliver_interrupt
            from magic_cli.cli.app import main

            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        restore_defaults()  # all output is written: from now on a signal ends the process without a traceback
    except KeyboardInterrupt:
        restore_defaults()
        if code is None:
            print("interrupted", file=sys.stderr)  # noqa: T201
            code = 130
    except Exception as error:  # before main: an import for which the memory does not suffice
        known = as_resource_error(error)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)  # noqa: T201
        code = known.exit_code
    exit_process(code or 0)


def exit_process(code: int) -> NoReturn:
    """Exit with `code`; a process of a distributed run skips the interpreter's shutdown.

    Gloo's threads free the tensors of the last exchange after it has ended. If the interpreter shuts down meanwhile,
    they have no lock to take, and C++ aborts a process that had succeeded (one run in about twenty).
    """
    if launched().processes > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


if __name__ == "__main__":
    start()
