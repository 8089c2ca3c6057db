"""Fixtures that several test files share."""

from pathlib import Path

import pytest

from magic_cli.demo import draw_dataset


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn dataset in the challenge's layout: 8 train, 3 valid and 3 test encounters. Read it, never write to it."""
    root = tmp_path_factory.mktemp("drawn") / "DermaVQA"
    draw_dataset(root, {"train": 8, "valid": 3, "test": 3})
    return root
