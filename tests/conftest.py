"""Fixtures that several test files share."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Small models gain nothing from threads, which wait for one another where other tests run beside them (pytest-xdist).
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background jobs ignore Ctrl-C; what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from challenge_folders import make_challenge
from recorded_run import make_recorded

from magic_cli.commands.prepare import prepare
from magic_cli.data.sources.synthetic.dataset import draw_dataset


@pytest.fixture(autouse=True)
def _tiny_numbers() -> Iterator[None]:
    """Switch back on what training switches off in a process: numbers below 1e-38, which other tests may draw."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn dataset in the challenge's layout: 8 train, 3 valid and 3 test encounters. Read it, never write to it."""
    root = tmp_path_factory.mktemp("drawn") / "DermaVQA"
    draw_dataset(root, {"train": 8, "valid": 3, "test": 3})
    return root


@pytest.fixture(scope="session")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small challenge folder as `make_challenge` makes it. Read it, never write to it."""
    return make_challenge(tmp_path_factory.mktemp("challenge") / "DermaVQA")


@pytest.fixture(scope="session")
def prepared(challenge: Path) -> Path:
    """The prepared dataset of `challenge`. Read it, never write to it."""
    out = challenge.parent / "prepared"
    prepare(challenge, out)
    return out


@pytest.fixture(scope="session")
def drawn_prepared(drawn: Path) -> Path:
    """The prepared dataset of `drawn`: skin-like photos that a model can learn from. Read it, never write to it."""
    out = drawn.parent / "prepared"
    prepare(drawn, out)
    return out


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every verb has run once. Read it, or use a copy; never write to it."""
    return make_recorded(tmp_path_factory.mktemp("recorded") / "work")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the checkpoints that the `paper` presets name, small ones. Read it, never write to it."""
    import small_models as models  # transformers takes seconds to load

    folder = tmp_path_factory.mktemp("weights")
    models.save_clipseg(folder / models.CLIPSEG)
    models.save_bert(folder / models.BERT)
    models.save_swin(folder / models.SWIN)
    return folder
