"""models/cache/features.py: exact features, each item encoded once, nothing torn by errors or by two runs."""

import contextlib
import errno
import multiprocessing
import os
import pickle
import re
import shutil
import socket
import stat
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from magic_cli.errors import DataError
from magic_cli.models.cache import features, notes, store
from magic_cli.models.cache.features import FeatureCache, Item, encode
from magic_cli.models.cache.seal import blank_mark, name_of
from magic_cli.models.cache.store import clear
from magic_cli.models.encoders import Encoder, Features, TinyImage, TinyText
from magic_cli.tasks.encoding import Encoded, ToEncode, encoded, gather

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


def names(*numbers: int) -> list[str]:
    return sorted(Path(name_of(f"{number:064x}", ".safetensors")).name for number in numbers)


def only(root: Path) -> Path:
    [path] = root.rglob("*.safetensors")
    return path


def only_size(root: Path) -> int:
    [size] = {path.stat().st_size for path in root.rglob("*.safetensors")}
    return size


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_kept", features.Kept(features.KEPT_BYTES))


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
    result = cache.read(KEY)
    assert list(result) == sorted(FEATURES | special)
    assert all(torch.equal(result[name], tensor) for name, tensor in (FEATURES | special).items())


def test_float16_rounds_to_eleven_bits(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "float16")
    cache.write(KEY, FEATURES)
    for name, tensor in cache.read(KEY).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, FEATURES[name].half().float())
        assert ((tensor - FEATURES[name]).abs() <= FEATURES[name].abs() * 2**-11 + 2**-25).all()


def test_bfloat16_rounds_to_eight_bits_and_keeps_the_range(tmp_path: Path) -> None:
    cache, features = FeatureCache(tmp_path, "bfloat16"), FEATURES | {"large": torch.tensor([1e30, -7e4])}
    cache.write(KEY, features)
    for name, tensor in cache.read(KEY).items():
        assert torch.equal(tensor, features[name].bfloat16().float())
        assert ((tensor - features[name]).abs() <= features[name].abs() * 2**-8).all()
    half = FeatureCache(tmp_path, "float16")
    half.write(KEY, FEATURES)
    assert only(half.root).stat().st_size < only(cache.root).stat().st_size + 8


@pytest.mark.parametrize(("dtype", "value", "most"), [("float16", -7e4, "6.55e+04"), ("bfloat16", 3.4e38, "3.39e+38")])
def test_features_too_large_for_the_type_are_refused(tmp_path: Path, dtype: str, value: float, most: str) -> None:
    cache = FeatureCache(tmp_path, dtype)
    line = one_line(lambda: cache.write(KEY, {"fine": torch.ones(3), "p1": torch.tensor([1.0, value, torch.inf])}))
    got = f"features 'p1' of up to {abs(value):.3g} do not fit {dtype} (at most {most})"
    assert line == f"{tmp_path / dtype}: {got}; --set cache_dtype=float32"
    assert files(tmp_path) == []
    cache.write(KEY, {"p1": torch.tensor([65504.0, torch.inf, torch.nan])})  # what was infinite stays so
    assert cache.read(KEY)["p1"].tolist()[1] == torch.inf


def test_a_run_holds_the_folder_and_its_workers_do_not(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "float32")
    cache.fill(Counting(), items(5), CPU)
    copy = pickle.loads(pickle.dumps(cache))  # noqa: S301  our own bytes
    assert copy.read(f"{5:064x}")["square"].tolist() == [25]
    with pytest.raises(DataError, match="a run uses it"):
        clear(tmp_path)
    del cache
    assert clear(tmp_path).files == 1
    assert copy.fill(Counting(), items(5), CPU) == 1
    with pytest.raises(DataError, match="a run uses it"):
        clear(tmp_path)


def test_what_is_read_is_noted_as_used(tmp_path: Path) -> None:
    """At each epoch, so that no other run evicts it."""
    cache = FeatureCache(tmp_path, "float32")
    cache.fill(Counting(), items(5), CPU)
    os.utime(only(tmp_path), (0, 5))
    cache.read(f"{5:064x}")
    assert abs(only(tmp_path).stat().st_mtime - time.time()) < 60


def test_an_empty_file_counts_as_missing(tmp_path: Path) -> None:
    """What a power cut leaves."""
    cache = FeatureCache(tmp_path, "float32")
    cache.fill(Counting(), items(6), CPU)
    only(tmp_path).write_bytes(b"")
    assert cache.fill(Counting(), items(6), CPU) == 1
    assert cache.read(f"{6:064x}")["square"].tolist() == [36]


def test_no_room_is_said_before_anything_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAGIC_CACHE_GB", "0.00001")
    cache = FeatureCache(tmp_path, "float32")
    line = one_line(lambda: cache.fill(Counting(), items(*range(100)), CPU))
    each = len(save({"square": torch.zeros(1), "one": torch.ones(2, 3)}, {"magic": blank_mark(KEY)}))
    got = f"{100 * each / 1e6:.2f} MB of features for this run, at most 0.01 MB may be kept"
    assert line == f"{tmp_path}: {got}; set MAGIC_CACHE_GB=0.1, or use --no-cache"
    assert files(tmp_path) == []
    monkeypatch.delenv("MAGIC_CACHE_GB")
    usage = type("Usage", (), {"free": 100 * each - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert cache.fill(Counting(), items(*range(100)), CPU) == 100  # kept in memory
    assert files(tmp_path) == []
    assert f"{tmp_path}: the cache cannot be written (0.03 MB of features to keep, 0.03 MB of disk free)" in (
        capsys.readouterr().err
    )
    assert cache.read(f"{7:064x}")["square"].tolist() == [49]
    usage.free += 1
    monkeypatch.setattr(features, "_kept", features.Kept(0))
    assert cache.fill(Counting(), items(*range(100)), CPU) == 100
    assert len(files(tmp_path)) == 100


def test_a_run_makes_room_but_keeps_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def size() -> int:
        return sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))

    FeatureCache(tmp_path, "float32").fill(Counting(), items(1, 2, 3, 4), CPU)
    for number, path in enumerate(sorted(tmp_path.rglob("*.safetensors"))):
        os.utime(path, (0, 1000 + number))
    each = size() // 4
    monkeypatch.setenv("MAGIC_CACHE_GB", str(4 * each / 1e9))
    cache = FeatureCache(tmp_path, "float32")
    assert cache.fill(Counting(), items(1), CPU) == 0  # the oldest one, needed and touched
    assert cache.fill(Counting(), items(5, 6), CPU) == 2
    assert files(tmp_path) == names(1, 4, 5, 6)
    assert "this run, at most" in one_line(lambda: cache.fill(Counting(), items(7, 8), CPU))
    assert size() == 4 * each
    cache = FeatureCache(tmp_path, "float32")  # the next run needs none of these
    assert cache.fill(Counting(), items(7), CPU) == 1
    assert files(tmp_path) == names(1, 5, 6, 7)


def test_a_lowered_limit_holds_where_nothing_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FeatureCache(tmp_path, "float32").fill(Counting(), items(1, 2, 3, 4), CPU)
    for number in (1, 2, 3):
        os.utime(tmp_path / "float32" / name_of(f"{number:064x}", ".safetensors"), (0, 1000 + number))
    monkeypatch.setenv("MAGIC_CACHE_GB", str(2 * only_size(tmp_path) / 1e9))
    assert FeatureCache(tmp_path, "float32").fill(Counting(), items(3), CPU) == 0
    assert files(tmp_path) == names(3, 4)


def test_the_two_precisions_do_not_meet(tmp_path: Path) -> None:
    FeatureCache(tmp_path, "float16").write(KEY, FEATURES)
    cache = FeatureCache(tmp_path, "float32")
    assert cache.read(KEY) is None
    copy = tmp_path / "float32" / name_of(KEY, ".safetensors")
    copy.parent.mkdir(parents=True)
    shutil.copy(only(tmp_path), copy)
    assert cache.read(KEY) is None


def test_tensors_of_any_layout(tmp_path: Path) -> None:
    cache, whole = FeatureCache(tmp_path, "float32"), torch.arange(12.0).view(3, 4)
    cache.write(KEY, {"turned": whole.T, "row": whole[1], "number": torch.tensor(3.0)})
    result = cache.read(KEY)
    assert torch.equal(result["turned"], whole.T)
    assert torch.equal(result["row"], whole[1])
    assert result["number"] == 3


def test_fill_encodes_each_key_once_and_never_again(tmp_path: Path) -> None:
    cache, encoder = FeatureCache(tmp_path, "float32"), Counting()
    assert cache.fill(encoder, items(1, 2, 1, 3, 2), CPU, batch_size=2) == 3
    assert encoder.batches == [[1, 2], [3]]
    assert cache.fill(encoder, iter(items(3, 2, 1)), CPU) == 0
    assert FeatureCache(tmp_path, "float32").fill(encoder, items(3, 4), CPU) == 1
    assert encoder.batches == [[1, 2], [3], [4]]
    for number in (1, 2, 3, 4):
        result = cache.read(f"{number:064x}")
        assert result["square"].tolist() == [number**2]
        assert result["one"].shape == (2, 3)


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
    size = 12 * only_size(tmp_path) / 1e6
    start, end = err.split(" MB in float32, ")
    assert start == f"encoding 12 items once with test:counting ({size:.2f}"
    assert re.fullmatch(rf"[0-9.]+ GB of disk free; cached in {re.escape(str(tmp_path / 'float32'))}\)\n", end)


def test_an_error_while_loading_keeps_what_was_done(tmp_path: Path) -> None:
    def load() -> float:
        raise DataError("IMG_1.jpg: truncated")

    cache, encoder = FeatureCache(tmp_path, "float32"), Counting()
    wanted = [*items(1, 2), Item("f" * 64, load), *items(3)]
    assert "truncated" in one_line(lambda: cache.fill(encoder, wanted, CPU, batch_size=2))
    assert files(tmp_path) == names(1, 2)


@pytest.mark.parametrize("encoder", [TinyImage(16, "pooled"), TinyImage(16, "pyramid"), TinyText(16)])
def test_encode_gives_one_row_an_item_without_gradients(encoder: Encoder) -> None:
    loaded = [encoder.pixels(photo) for photo in PHOTOS] if isinstance(encoder, TinyImage) else [[1, 5], [1, 6, 7]]
    result = encode(encoder, loaded, CPU)
    for name, tensor in result.items():
        assert len(tensor) == 2
        assert (tensor.dtype, tensor.requires_grad) == (torch.float32, False)
        for row in range(2):
            assert torch.allclose(tensor[row], encode(encoder, loaded[row : row + 1], CPU)[name][0], atol=1e-6)


@pytest.mark.parametrize("before", [True, False])
def test_cached_features_are_of_whole_float32_products(before: bool, tmp_path: Path) -> None:
    """TF32 on a GPU would store 10-bit products under the key of a CPU's."""
    seen: list[bool] = []

    class Asked(Counting):
        def forward(self, batch: torch.Tensor) -> Features:
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().forward(batch)

    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before
    try:
        cache, encoder = FeatureCache(tmp_path, "float32"), Asked()
        cache.fill(encoder, items(1), CPU)
        cache.encode_again(encoder, [f"{2:064x}"], torch.tensor([2.0]))
        assert torch.backends.cudnn.allow_tf32 is before
    finally:
        torch.backends.cudnn.allow_tf32 = kept
    assert seen == [False, False]


def zeros(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def renamed(data: bytes) -> bytes:
    return save({f"{name}x": tensor for name, tensor in load(data).items()})


def claiming(data: bytes) -> bytes:
    """Replace the header's offsets by those of a terabyte."""
    header = b'{"one":{"dtype":"F32","shape":[250000000000],"data_offsets":[0,1000000000000]}}'
    return len(header).to_bytes(8, "little") + header + data


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[:-3],
    "noise": lambda _: b"\xff" * 500,
    "longer": lambda data: data + b"x",
    "zeros": lambda data: bytes(len(data)),
    "half zeros": zeros,
    "a bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a bit of the header": lambda data: data.replace(b'"one"', b'"onf"'),
    "other names": renamed,
    "no tensors": lambda _: save({}),
    "another shape": lambda data: save({name: tensor[None] for name, tensor in load(data).items()}),
    "another type": lambda data: save({name: tensor.half() for name, tensor in load(data).items()}),
    "NaN": lambda data: save({name: tensor * torch.nan for name, tensor in load(data).items()}),
    "without a checksum": lambda data: save(load(data)),
    "a terabyte claimed": claiming,
    "deep JSON": lambda _: (100_000).to_bytes(8, "little") + b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At the start of a run, or while it goes on: then by the process that has the device."""
    cache, encoder = FeatureCache(tmp_path, "float32"), Counting()
    cache.fill(encoder, items(7, 8), CPU)
    path = tmp_path / "float32" / name_of(f"{7:064x}", ".safetensors")
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[damage](whole))
    assert cache.read(f"{7:064x}") is None
    assert cache.fill(encoder, items(7, 8), CPU) == 1
    assert path.read_bytes() == whole
    path.write_bytes(DAMAGE[damage](whole))
    part = gather(encoder, items(8, 7), cache)
    assert isinstance(part, ToEncode)
    with torch.autocast("cpu", torch.bfloat16):
        assert encoded(encoder, part)["square"].tolist() == [[64], [49]]
    assert path.read_bytes() == whole
    assert isinstance(gather(encoder, items(8, 7), cache), Encoded)
    notes.current().report()
    notes.current().report()
    assert capsys.readouterr().err == "1 cached file was damaged and is made again\n"


def other(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound, contextlib.chdir(path.parent):
            bound.bind(path.name)
    else:
        path.symlink_to({"loop": path, "device": Path("/dev/zero"), "gone": path.parent / "gone"}[kind])


@pytest.mark.parametrize("kind", ["pipe", "sparse", "socket", "loop", "device", "gone", "folder"])
def test_what_is_no_file_is_replaced_and_a_folder_is_stepped_around(tmp_path: Path, kind: str) -> None:
    cache, encoder = FeatureCache(tmp_path, "float16"), Counting()
    cache.fill(encoder, items(7), CPU)
    path = only(tmp_path)
    if kind == "folder":
        path.unlink()
        path.mkdir()
        (path / "notes.txt").touch()
    else:
        other(path, kind)
    assert cache.fill(encoder, items(7), CPU) == 1
    assert cache.read(f"{7:064x}")["square"].tolist() == [49]
    assert files(tmp_path) == (["notes.txt"] if kind == "folder" else [path.name])


def test_files_of_two_keys_that_were_exchanged_are_made_again(tmp_path: Path) -> None:
    cache, encoder = FeatureCache(tmp_path, "float32"), Counting()
    cache.fill(encoder, items(7, 8), CPU)
    first, second = sorted(tmp_path.rglob("*.safetensors"))
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])
    assert cache.fill(encoder, items(7, 8), CPU) == 2
    assert (first.read_bytes(), second.read_bytes()) == content


def test_what_was_rounded_in_the_cache_is_rounded_when_it_is_lost(tmp_path: Path) -> None:
    """A training whose cache is cleared by its owner goes on with the same numbers, and fills it again."""
    cache, encoder = FeatureCache(tmp_path, "float16"), Counting()
    cache.fill(encoder, items(3.3), CPU)
    stored = cache.read(f"{3:064x}")
    shutil.rmtree(tmp_path)
    again = encoded(encoder, gather(encoder, items(3.3), cache))
    assert torch.equal(again["square"][0], stored["square"])
    assert cache.read(f"{3:064x}") is not None


@pytest.mark.parametrize("reason", ["file", "full", "another user's"])
def test_a_folder_that_cannot_be_written_is_noted_once(
    tmp_path: Path, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    number = {"full": errno.ENOSPC, "another user's": errno.EACCES, "file": errno.ENOTDIR}[reason]
    root = tmp_path / ("file" if reason == "file" else "cache")

    def refuse(path: Path, durable: bool = True) -> Path:
        raise OSError(number, os.strerror(number), str(path))

    if reason != "file":
        monkeypatch.setattr(store, "replacing", refuse)
    cache, encoder = FeatureCache(root, "float32"), Counting()
    assert cache.fill(encoder, items(1, 2, 3), CPU, batch_size=1) == 3
    assert cache.fill(encoder, items(3, 4), CPU, batch_size=1) == 1
    assert cache.read(f"{2:064x}")["square"].tolist() == [4]
    anew = "what is missing is computed without it; another --cache-dir would keep it"
    line = f"{root / 'float32'}: the cache cannot be written ({os.strerror(number)}): {anew}\n"
    assert capsys.readouterr().err == line


def test_what_does_not_fit_the_memory_either_is_computed_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(features, "_kept", features.Kept(1000))
    cache, encoder = FeatureCache(tmp_path / "file", "float32"), Counting()
    stored = cache.fill(encoder, items(*range(10)), CPU, batch_size=1)
    assert 0 < stored < 4
    assert len(encoder.batches) == stored + 1  # and no further one
    assert encoded(encoder, gather(encoder, items(9, 0), cache))["square"].tolist() == [[81], [0]]


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(self: Path, _: object) -> None:
        assert self.is_file()
        raise KeyboardInterrupt

    cache = FeatureCache(tmp_path, "float32")
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        cache.write(KEY, FEATURES)
    assert files(tmp_path) == []


def test_others_may_read_a_shared_cache(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        FeatureCache(tmp_path, "float32").write(KEY, FEATURES)
    finally:
        os.umask(before)
    assert stat.S_IMODE(only(tmp_path).stat().st_mode) == 0o644


def numbered(encoder: Encoder) -> list[Item]:
    return [Item(encoder.key(str(n)), lambda n=n: [1, 2 + n]) for n in range(200)]  # type: ignore[misc]


def fill_in_child(root: Path, name: str) -> None:
    """Fill "shared", or be stuck in the 21st write to "killed"; starts when all are ready."""
    torch.set_num_threads(1)
    encoder, replace, done = TinyText(32), Path.replace, []
    encoder.freeze()

    def stuck(self: Path, target: Path) -> Path:
        done.append(target)
        if len(done) > 20:
            (root / "stuck").touch()
            time.sleep(600)
        return replace(self, target)

    if name == "killed":
        Path.replace = stuck  # type: ignore[method-assign]
    (root / f"{name}.ready").touch()
    wait_for(root, "*.ready", 3)
    folder = root / ("killed" if name == "killed" else "shared")
    FeatureCache(folder, "float32").fill(encoder, numbered(encoder), CPU, batch_size=32)


def wait_for(root: Path, pattern: str, count: int = 1) -> None:
    end = time.monotonic() + 60
    while len(list(root.glob(pattern))) < count and time.monotonic() < end:
        time.sleep(0.001)
    assert len(list(root.glob(pattern))) >= count


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes fill "shared" at once; a third one is killed in the middle of a write to "killed"."""
    root, forked = tmp_path_factory.mktemp("filled"), multiprocessing.get_context("fork")
    runs = [forked.Process(target=fill_in_child, args=(root, name)) for name in ("a", "b", "killed")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a process with threads: these children use none
        for run in runs:
            run.start()
    wait_for(root, "stuck")
    runs[2].kill()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0, -9]
    return root


def check_all(cache: FeatureCache, encoder: Encoder) -> None:
    for number in range(200):
        expected = encode(encoder, [[1, 2 + number]], CPU)["text"][0]
        assert torch.allclose(cache.read(encoder.key(str(number)))["text"], expected, atol=1e-6)


def test_two_processes_may_fill_one_folder_at_once(filled: Path) -> None:
    """Whoever writes a file last, it is whole and right."""
    assert len(files(filled / "shared")) == 200  # and no temporary one
    check_all(FeatureCache(filled / "shared", "float32"), TinyText(32))


def test_a_killed_writer_leaves_nothing_wrong(filled: Path) -> None:
    root, encoder = filled / "killed", TinyText(32)
    encoder.freeze()
    [temporary] = root.rglob("*.tmp")
    cache = FeatureCache(root, "float32")
    wanted = numbered(encoder)
    assert cache.fill(encoder, wanted, CPU) == 180
    check_all(cache, encoder)
    assert not temporary.exists()  # the system freed its lock
    del cache
    assert clear(root).files == 200  # the dead process does not count as a user
