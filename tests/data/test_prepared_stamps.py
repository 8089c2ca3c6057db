"""data/prepared_stamps.py: files that are replaced while a run reads them are noticed."""

from pathlib import Path

import pytest
from tiny_dataset import make_prepared

from magic_cli.data import prepared_stamps
from magic_cli.data.prepared_stamps import open_stamped
from magic_cli.errors import DataError


@pytest.mark.parametrize("name", ["prepare.json", "images.jsonl", "cases.jsonl"])
def test_a_replaced_table_is_noticed_after_the_last_item(tmp_path: Path, name: str) -> None:
    make_prepared(tmp_path / "prepared")
    _, stamps = open_stamped(tmp_path / "prepared")
    assert list(stamps.checked([1, 2])) == [1, 2]
    path = tmp_path / "prepared" / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DataError, match=f"got {name} replaced or changed while this command read it"):
        list(stamps.checked([1, 2]))
    path.unlink()
    with pytest.raises(DataError, match=name):
        stamps.check()


def test_only_what_has_another_stamp_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_prepared(tmp_path / "prepared")
    _, stamps = open_stamped(tmp_path / "prepared", ("train",), masks=True)
    read: list[str] = []
    digest = prepared_stamps._digest
    monkeypatch.setattr(prepared_stamps, "_digest", lambda path: (read.append(Path(path).name), digest(path))[1])
    stamps.check()
    assert read == []
    (tmp_path / "prepared" / "cases.jsonl").touch()
    stamps.check()
    stamps.check()
    assert read == ["cases.jsonl"]
