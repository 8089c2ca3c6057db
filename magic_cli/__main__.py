"""`python -m magic_cli` and `accelerate launch -m magic_cli` run the same program as `magic`."""

import os
import sys

from magic_cli.cli import main


def leave(code: int) -> None:
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
    try:
        main()
    except SystemExit as leaving:
        leave(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
