"""Several prepared datasets of one run: their names, weights, the digest that stands for all, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_dataset import make_prepared

from magic_cli.data.datasets import digest_of, open_datasets
from magic_cli.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, `a/prepared` and `b/prepared`, which differ in how their masks were merged."""
    root = tmp_path_factory.mktemp("several")
    make_prepared(root / "a" / "prepared")
    make_prepared(root / "b" / "prepared", merge="majority")
    return root


def opened(*names: str, weights: Any = ()) -> Any:
    return open_datasets(names, weights, (), masks=False)


def test_names_are_the_shortest_ends_of_paths_that_differ(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders / "a")
    for given, names in (
        (["prepared"], [""]),
        (["prepared", "../b/prepared"], ["prepared", "b/prepared"]),
        ([str(folders / "a" / "prepared"), "../b/prepared/"], ["a/prepared", "b/prepared"]),
    ):
        assert [dataset.name for dataset in opened(*given)] == names
    monkeypatch.chdir(folders / "a" / "prepared")
    shutil.copytree(folders / "b" / "prepared", folders / "c=2:x")
    assert [dataset.name for dataset in opened(".", "../../c=2:x")] == ["prepared", "c=2:x"]


def test_the_digest_stands_for_the_datasets_their_order_and_weights(folders: Path) -> None:
    """That of one dataset of weight 1 is its manifest's own, as in runs before there could be several."""
    a, b = str(folders / "a" / "prepared"), str(folders / "b" / "prepared")
    [only] = opened(a)
    assert digest_of([only]) == only.prepared.sha256
    several = [opened(a, weights=[2]), opened(a, b), opened(b, a), opened(a, b, weights=[1, 0.5])]
    assert len({only.prepared.sha256, *map(digest_of, several)}) == 5
    assert digest_of(opened(a, b, weights=[1, 1])) == digest_of(opened(a, b))


def test_the_same_dataset_twice_is_refused(folders: Path, tmp_path: Path) -> None:
    a = folders / "a" / "prepared"
    (tmp_path / "link").symlink_to(a)
    with pytest.raises(DataError, match="got the same folder twice, expected another one; give each once"):
        opened(str(a), str(tmp_path / "link"))
    shutil.copytree(a, tmp_path / "copy")
    with pytest.raises(DataError, match=r"--data .*copy: got the same dataset as .*prepared"):
        opened(str(a), str(tmp_path / "copy"))


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [1, 0], [1, float("nan")], [1, 101], [1, True], [1, "2"]])
def test_weights_are_checked(folders: Path, weights: list[Any]) -> None:
    with pytest.raises(ConfigError, match="--data-weight: got "):
        opened(str(folders / "a" / "prepared"), str(folders / "b" / "prepared"), weights=weights)


def test_no_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match="--data: got no folder"):
        opened()
