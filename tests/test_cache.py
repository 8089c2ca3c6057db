"""cache.py: exact features, each item encoded once, and nothing torn: not by errors, not by two runs at once."""

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from magic_cli.errors import DataError
from magic_cli.model.cache import FeatureCache, Item, encode
from magic_cli.model.encoders import Encoder, Features, TinyImage, TinyText

CPU = torch.device("cpu")
KEY = "ab" * 32


class Counting(Encoder):
    """Gives each number's square and a constant; remembers the sizes of its batches."""

    source = "test:counting"

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[float]] = []
        self.freeze()

    def preprocessing(self) -> str:
        return "none"

    def batch(self, items: Sequence[Any]) -> torch.Tensor:
        self.batches.append([float(item) for item in items])
        return torch.tensor(self.batches[-1])

    def forward(self, batch: torch.Tensor) -> Features:
        return {"square": (batch**2)[:, None], "one": torch.ones(len(batch), 2, 3)}


def items(*numbers: float) -> list[Item]:
    return [Item(f"{int(n):064x}", lambda n=n: n) for n in numbers]  # type: ignore[misc]


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def one_line(call: Any) -> str:
    with pytest.raises(DataError) as raised:
        call()
    assert raised.value.exit_code == 3
    [line] = raised.value.problems
    return line


PHOTOS = [Image.new("RGB", (20, 10), colour) for colour in ((250, 10, 10), (10, 200, 90))]
FEATURES = {"p0": torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)) * 9, "text": torch.rand(5)}


def test_float32_is_exact(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "float32")
    special = {"x": torch.tensor([0.0, -0.0, 1e-38, 3e38, torch.finfo(torch.float32).eps, torch.inf])}
    cache.write(KEY, FEATURES | special)
    found = cache.read(KEY)
    assert list(found) == sorted(FEATURES | special)
    assert all(torch.equal(found[name], tensor) for name, tensor in (FEATURES | special).items())


def test_float16_rounds_to_eleven_bits(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "float16")
    cache.write(KEY, FEATURES)
    for name, tensor in cache.read(KEY).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, FEATURES[name].half().float())
        assert ((tensor - FEATURES[name]).abs() <= FEATURES[name].abs() * 2**-11 + 2**-25).all()


def test_the_two_precisions_do_not_meet(tmp_path: Path) -> None:
    FeatureCache(tmp_path, "float16").write(KEY, FEATURES)
    assert "lost or damaged" in one_line(lambda: FeatureCache(tmp_path, "float32").read(KEY))
    assert files(tmp_path) == [f"{KEY}.safetensors"]


def test_tensors_of_any_layout(tmp_path: Path) -> None:
    cache, whole = FeatureCache(tmp_path, "float32"), torch.arange(12.0).view(3, 4)
    cache.write(KEY, {"turned": whole.T, "row": whole[1], "number": torch.tensor(3.0)})
    found = cache.read(KEY)
    assert torch.equal(found["turned"], whole.T)
    assert torch.equal(found["row"], whole[1])
    assert found["number"] == 3


def test_fill_encodes_each_key_once_and_never_again(tmp_path: Path) -> None:
    cache, encoder = FeatureCache(tmp_path, "float32"), Counting()
    assert cache.fill(encoder, items(1, 2, 1, 3, 2), CPU, batch_size=2) == 3
    assert encoder.batches == [[1, 2], [3]]
    assert cache.fill(encoder, iter(items(3, 2, 1)), CPU) == 0
    assert FeatureCache(tmp_path, "float32").fill(encoder, items(3, 4), CPU) == 1
    assert encoder.batches == [[1, 2], [3], [4]]
    for number in (1, 2, 3, 4):
        found = cache.read(f"{number:064x}")
        assert found["square"].tolist() == [number**2]
        assert found["one"].shape == (2, 3)


def test_fill_loads_only_what_is_missing(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "float32")
    cache.fill(Counting(), items(1), CPU)
    cache.fill(Counting(), [Item(f"{1:064x}", lambda: pytest.fail("loaded again"))], CPU)


def test_fill_of_nothing(tmp_path: Path) -> None:
    encoder = Counting()
    assert FeatureCache(tmp_path / "new", "float32").fill(encoder, [], CPU) == 0
    assert encoder.batches == []
    assert files(tmp_path) == []


def test_long_fills_are_announced_short_ones_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = FeatureCache(tmp_path, "float32")
    cache.fill(Counting(), items(*range(8)), CPU, batch_size=1)
    assert capsys.readouterr() == ("", "")
    cache.fill(Counting(), items(*range(20)), CPU, batch_size=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"encoding 12 items once with test:counting (kept in {tmp_path / 'float32'})\n"


def test_an_error_while_loading_keeps_what_was_done(tmp_path: Path) -> None:
    def load() -> float:
        raise DataError("IMG_1.jpg: truncated")

    cache, encoder = FeatureCache(tmp_path, "float32"), Counting()
    wanted = [*items(1, 2), Item("f" * 64, load), *items(3)]
    assert "truncated" in one_line(lambda: cache.fill(encoder, wanted, CPU, batch_size=2))
    assert files(tmp_path) == [f"{n:064x}.safetensors" for n in (1, 2)]


@pytest.mark.parametrize("encoder", [TinyImage(16, True), TinyImage(16, False), TinyText(16)])
def test_encode_gives_one_row_an_item_without_gradients(encoder: Encoder) -> None:
    loaded = [encoder.pixels(photo) for photo in PHOTOS] if isinstance(encoder, TinyImage) else [[1, 5], [1, 6, 7]]
    found = encode(encoder, loaded, CPU)
    for name, tensor in found.items():
        assert len(tensor) == 2
        assert (tensor.dtype, tensor.requires_grad) == (torch.float32, False)
        for row in range(2):
            assert torch.allclose(tensor[row], encode(encoder, loaded[row : row + 1], CPU)[name][0], atol=1e-6)


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "longer"])
def test_a_damaged_file_is_reported_removed_and_made_again(tmp_path: Path, damage: str) -> None:
    cache, encoder = FeatureCache(tmp_path, "float32"), Counting()
    cache.fill(encoder, items(7), CPU)
    [path] = [p for p in tmp_path.rglob("*") if p.is_file()]
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[:-3], "noise": b"\xff" * 500, "longer": whole + b"x"}[damage])
    line = one_line(lambda: cache.read(f"{7:064x}"))
    assert line == f"{path}: lost or damaged while in use; the same command, with --resume, goes on"
    assert not path.exists()
    assert cache.fill(encoder, items(7), CPU) == 1
    assert cache.read(f"{7:064x}")["square"].tolist() == [49]


def test_a_missing_file_or_folder_is_reported(tmp_path: Path) -> None:
    assert "lost or damaged" in one_line(lambda: FeatureCache(tmp_path / "gone", "float16").read(KEY))
    (tmp_path / "file").touch()
    assert "lost or damaged" in one_line(lambda: FeatureCache(tmp_path / "file", "float16").read(KEY))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = FeatureCache(tmp_path / "file", "float32")
    expected = f"{tmp_path / 'file' / 'float32'}: cannot be written (Not a directory); use --cache-dir or --no-cache"
    assert one_line(lambda: cache.write(KEY, FEATURES)) == expected
    assert one_line(lambda: cache.fill(Counting(), items(1), CPU)) == expected


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_no_temporary_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def replace(self: Path, _: object) -> None:
        assert self.is_file()
        raise error

    cache = FeatureCache(tmp_path, "float32")
    monkeypatch.setattr(Path, "replace", replace)
    if isinstance(error, OSError):
        assert "cannot be written (No space left on device)" in one_line(lambda: cache.write(KEY, FEATURES))
    else:
        with pytest.raises(KeyboardInterrupt):
            cache.write(KEY, FEATURES)
    assert files(tmp_path) == []


def test_others_may_read_a_shared_cache(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        FeatureCache(tmp_path, "float32").write(KEY, FEATURES)
    finally:
        os.umask(before)
    [path] = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


FILLER = """
import sys, time
from pathlib import Path
import torch
from magic_cli.model.cache import FeatureCache, Item
from magic_cli.model.encoders import TinyText
torch.set_num_threads(1)
root, name = Path(sys.argv[1]), sys.argv[2]
encoder = TinyText(32)
encoder.freeze()
items = [Item(encoder.key(str(n)), lambda n=n: [1, 2 + n]) for n in range(200)]
(root / f"{name}.ready").touch()
while not (root / "go").exists():
    time.sleep(0.01)
FeatureCache(root / "cache", "float32").fill(encoder, items, torch.device("cpu"), batch_size=4)
"""


def test_two_processes_may_fill_one_folder_at_once(tmp_path: Path) -> None:
    """Both start their fill at one signal; whoever writes a file last, it is whole and right."""
    runs = [
        subprocess.Popen([sys.executable, "-c", FILLER, str(tmp_path), name], stderr=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("*.ready"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    (tmp_path / "go").touch()
    for run in runs:
        _, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
    encoder = TinyText(32)
    cache = FeatureCache(tmp_path / "cache", "float32")
    assert len(files(tmp_path / "cache")) == 200  # and no temporary file
    for number in range(200):
        expected = encode(encoder, [[1, 2 + number]], CPU)["text"][0]
        assert torch.allclose(cache.read(encoder.key(str(number)))["text"], expected, atol=1e-6)
