"""`magic`, `python -m magic_cli` and `accelerate launch -m magic_cli` all start here."""

import os
import sys
from typing import NoReturn

from magic_cli.io.signals import install_handlers, redeliver_interrupt, restore_defaults


def start() -> NoReturn:
    """Run the command line; cli/process.py says how it ends. Signals are understood while it still loads."""
    code: int | None = None
    try:
        try:
            install_handlers()
            sys.unraisablehook = redeliver_interrupt
            from magic_cli.cli.app import main

            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        restore_defaults()  # all is written, all is said: what comes now ends the process without a traceback
    except KeyboardInterrupt:
        restore_defaults()
        if code is None:
            print("interrupted", file=sys.stderr)  # noqa: T201
            code = 130
    leave(code or 0)


def leave(code: int) -> NoReturn:
    """End this process; one of several without Python's own farewell.

    Gloo's threads free the tensors of the last exchange after it is over. Where the interpreter closes meanwhile,
    they find no lock to take, and C++ aborts a process that had ended well (one of some twenty runs).
    """
    if "LOCAL_RANK" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


if __name__ == "__main__":
    start()
