"""Fixtures of the tests of bad and hostile input."""

import logging
import os
import re
import socket
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Ended, Magic, make_raw
from labelled_photos import make_labelled
from tiny_dataset import files_of, make_prepared, write_folder
from trials import World

from magic_cli.cli import app
from magic_cli.commands.prepare import prepare


def no_network(*_: object, **__: object) -> None:
    raise AssertionError("something asked for the network")


@pytest.fixture
def place(magic: Magic, raw: Path, labelled: Path) -> Path:
    """The working folder of `magic`, with what was `given`: raw data, a small prepared set, two submissions for it,
    and labelled photos, raw and prepared."""
    Path("given").mkdir()
    Path("given/DermaVQA").symlink_to(raw)
    Path("given/labelled").symlink_to(labelled)
    make_prepared(Path("given/prepared"))
    for name in ("one", "other"):
        write_folder(Path("given") / name, files_of("valid"))
    return Path()


@pytest.fixture
def magic(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Magic:
    """Run `magic WORDS…` in tmp_path/work, without a network; nothing reaches the user's own cache."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("socket", "create_connection", "create_server", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, no_network)
    monkeypatch.setattr(logging, "raiseExceptions", False)  # libraries log to the stderr of an earlier test

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["magic", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


CLAIMS = re.compile("bomb|claim|unpack|GiB|GB|MB|million|10.9|petabytes|spaces|float64|pages")


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Bound what Python, numpy and zlib allocate in a test to 100 MB, where the name of the case says that it matters.

    Counting makes Python several times slower.
    """
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and not CLAIMS.search(str(callspec.params.get("how", ""))):
        yield
        return
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A challenge folder whose texts are the canary. Read it, never write to it."""
    return make_raw(tmp_path_factory.mktemp("faults") / "DermaVQA")


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with a class, raw/ and prepared/. Read it, never write to it."""
    return make_labelled(tmp_path_factory.mktemp("labelled") / "cases", patients=2).parent


@pytest.fixture(scope="session")
def ready(raw: Path) -> Path:
    """The prepared dataset of `raw`. Read it, never write to it."""
    prepare(raw, raw.parent / "prepared")
    return raw.parent / "prepared"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Commands to break off, each in a fork of one warm process; their results without a break."""
    if not hasattr(os, "fork"):
        pytest.skip("commands are run in forks, which this system does not have")
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.forks.close()
