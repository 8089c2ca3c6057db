"""Tars of pairs: every layout that tools write, what is damaged, and the index that is written once."""

import gzip
import io
import json
import os
import pickle
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from pair_shards import MAKE_ROW, jpeg, pair, write_pairs, write_tar

from magic_cli.data.imaging.images import open_record
from magic_cli.data.shards import shard_index
from magic_cli.data.shards.tar_shard import TarShard, open_tar
from magic_cli.errors import DataError

LONG = "folder/" * 30 + "x" * 120


def opened(path: Path) -> TarShard:
    return open_tar(path, path.name)


def captions(shard: TarShard) -> list[str]:
    return [shard.read(row, "")[0].texts.get("raw", "") for row in range(shard.index.facts.pairs)]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("key", ["000001", "a/b/000001", "naïve", LONG])
def test_members_are_found_where_they_are(kind: int, key: str, tmp_path: Path) -> None:
    if kind == tarfile.USTAR_FORMAT and key == LONG:
        key = "folder/" * 18 + "x" * 80  # the most that this format holds
    path = write_tar(tmp_path / "a.tar", [*pair(key, 3, "scale"), *pair("other", 4, "crust")], kind)
    shard = opened(path)
    assert [shard.index.key(row) for row in range(2)] == [key, "other"]
    assert captions(shard) == ["scale", "crust"]
    with tarfile.open(path) as tar:
        expected = tar.extractfile(f"{key}.jpg")
        assert expected is not None
        packed = shard.read(0, key)[2]
        assert packed is not None
        assert packed.read() == expected.read() == jpeg(3)


def test_pairs_need_not_be_neighbours_and_suffixes_have_any_case(tmp_path: Path) -> None:
    photos = [("a.JPG", jpeg(1)), ("b.v2.jpeg", jpeg(2)), ("./c.png", jpeg(3)), ("d.webp", jpeg(4))]
    texts = [(f"{key}.txt", key.encode()) for key in ("d", "c", "b.v2", "a")]
    extras = [("a.cls", b"3"), ("._a.jpg", b"?"), (".DS_Store", b"?"), ("a.seg.npy", b"?")]
    shard = opened(write_tar(tmp_path / "a.tar", [*photos, *texts, *extras]))
    assert captions(shard) == ["a", "b.v2", "c", "d"]
    assert shard.index.facts.skipped == {}


def test_a_key_that_comes_again_is_a_pair_of_its_own(tmp_path: Path) -> None:
    shard = opened(write_tar(tmp_path / "a.tar", [*pair("1", 1, "one"), *pair("2", 2, "two"), *pair("1", 3, "three")]))
    assert captions(shard) == ["one", "two", "three"]
    assert len({shard.sample(row, "train").id for row in range(3)}) == 3
    assert shard.index.facts.problems == ["a.tar: 1 keys come again: each is a pair of its own"]


def test_columns_of_make_become_texts_label_and_group(tmp_path: Path) -> None:
    meta = {
        **MAKE_ROW,
        "label": "psoriasis",
        "group": "patient 7",
        "license": "CC BY 4.0",
        "skin_concept": "plaque, scale",
    }
    sample = opened(write_tar(tmp_path / "a.tar", pair("1", 1, None, meta))).sample(0, "train")
    assert {role: text["en"] for role, text in sample.case.texts.items()} == {
        "raw": "Psoriasis of the elbow. Red plaque with scale.",
        "disease": "This is a skin photo diagnosed as inflammatory, psoriasis.",
        "concept": "This skin photo shows plaque, scale.",
        "truncated": "Psoriasis of the elbow.",
        "subtext-1": "Psoriasis of the elbow",
        "subtext-2": "Red plaque with scale",
    }
    assert (sample.case.label, sample.case.group_id, sample.case.licence) == ("psoriasis", "patient 7", "CC BY 4.0")
    assert sample.case.attributes["concepts"] == "plaque; scale"
    assert (sample.id, sample.case.case_id, sample.images[0].image_id) == ("a/1", "a/1", "a/1")


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        ({"knowledge_masks": [1, 1, 0]}, {"raw", "truncated", "disease", "subtext-1", "subtext-2"}),
        ({"knowledge_masks": [1, 0, 0]}, {"raw", "truncated", "subtext-1", "subtext-2"}),
        ({"knowledge_masks": "[0, 1, 1]", "sub_caption_mask": [0, 1]}, {"disease", "concept", "subtext-2"}),
        (
            {"ontology_caption": None, "visual_concept_caption": float("nan")},
            {"raw", "truncated", "subtext-1", "subtext-2"},
        ),
    ],
)
def test_masks_are_lists_or_texts(changes: dict[str, object], roles: set[str], tmp_path: Path) -> None:
    sample = opened(write_tar(tmp_path / "a.tar", pair("1", 1, None, {**MAKE_ROW, **changes}))).sample(0, "train")
    assert set(sample.case.texts) == roles


def test_texts_by_role_and_a_caption_alone(tmp_path: Path) -> None:
    """The caption of a text file counts before that of the JSON; from a caption alone, texts are made as by prepare."""
    meta = {"texts": {"raw": "old", "disease": "eczema", "concept": None}, "subtexts": ["one", "two"], "case_id": "C9"}
    path = write_tar(tmp_path / "a.tar", [*pair("1", 1, "new", meta), *pair("2", 2, "Melanoma. A brown plaque.")])
    first, second = (opened(path).sample(row, "train").case for row in range(2))
    assert {role: text["en"] for role, text in first.texts.items()} == {
        "raw": "new",
        "disease": "eczema",
        "subtext-1": "one",
        "subtext-2": "two",
    }
    assert first.case_id == "C9"
    assert "melanoma" in second.text("disease")["en"]
    assert "plaque" in second.text("concept")["en"]
    assert len([role for role in second.texts if role.startswith("subtext")]) == 2


@pytest.mark.parametrize(
    ("meta", "got"),
    [
        (b"{", "damaged JSON"),
        (b"[1]", "JSON of another kind"),
        (b'{"caption": "x", "knowledge_masks": "__import__(\'os\').system(\'touch canary\')"}', "something else"),
        (b'{"caption": "x", "knowledge_masks": [1, 2, 1]}', "something else"),
        (b'{"caption": "x", "sub_caption_mask": "[1] * 8"}', "something else"),
        (b"[" * 100_000, "damaged JSON"),
    ],
)
def test_damaged_texts_cost_their_pair_alone(
    meta: bytes, got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = [("bad.jpg", jpeg(1)), ("bad.json", meta)]
    shard = opened(write_tar(tmp_path / "a.tar", [*pair("1"), *broken, *pair("3")]))
    assert shard.index.facts.pairs == 2
    assert shard.index.facts.skipped == {"with damaged texts": 1}
    (line,) = shard.index.facts.problems
    assert line.startswith("a.tar: bad")
    assert f"got {got}" in line
    assert not Path("canary").exists()


def test_what_makes_no_pair_is_counted(tmp_path: Path) -> None:
    members = [
        *pair("1"),
        *pair("2", 2, "  "),
        ("3.txt", b"alone"),
        ("4.jpg", jpeg(4)),
        ("5.jpg", b""),
        ("5.txt", b"x"),
    ]
    facts = opened(write_tar(tmp_path / "a.tar", members)).index.facts
    assert facts.pairs == 1
    assert facts.skipped == {"without any text": 2, "without a photo": 1, "with an empty photo": 1}


def cut(data: bytes) -> bytes:
    return data[: data.find(b"000007.jpg") + 700]


def without_end(data: bytes) -> bytes:
    return data.rstrip(b"\0").ljust(-(-len(data.rstrip(b"\0")) // 512) * 512, b"\0")


def scratched(data: bytes) -> bytes:
    place = data.find(b"000004.jpg")
    return data[:place] + b"\xff" * 2000 + data[place + 2000 :]


@pytest.mark.parametrize(
    ("damage", "least", "words"),
    [
        (cut, 7, "got the end of the file at byte"),
        (without_end, 10, "got no end mark at byte"),
        (scratched, 8, "got damage from byte"),
    ],
)
def test_a_damaged_tar_keeps_its_readable_pairs(
    damage: Callable[[bytes], bytes], least: int, words: str, tmp_path: Path
) -> None:
    path = write_pairs(tmp_path / "a.tar", 10)
    path.write_bytes(damage(path.read_bytes()))
    shard = opened(path)
    assert least <= shard.index.facts.pairs <= 10
    assert all(text.startswith("plaque ") for text in captions(shard))
    (line,) = (line for line in shard.index.facts.problems if words in line)
    assert line.startswith("a.tar: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"x" * 2000, mtime=0), "packed with gzip, expected a plain tar; unpack it"),
        (b"BZh91AY", "packed with bzip2"),
        (b"\x28\xb5\x2f\xfd" + b"?" * 600, "packed with zstd"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"<html>" + b"?" * 600, "does not begin as a tar"),
    ],
)
def test_other_files_are_refused_with_the_remedy(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "a.tar")
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith("a.tar: ")
    assert words in str(caught.value)


def test_the_index_is_written_once_and_again_when_the_tar_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pairs(tmp_path / "a.tar", 20)
    index = path.with_name("a.tar.magic-index")
    before = opened(path)
    stamp = index.stat()
    monkeypatch.setattr("magic_cli.data.shards.tar_shard._indexed", None)  # must not be read again
    assert opened(path).index.facts == before.index.facts
    assert index.stat() == stamp
    monkeypatch.undo()
    write_pairs(path, 21)
    assert opened(path).index.facts.pairs == 21
    for content in (b"", b"other", index.read_bytes()[:-10], index.read_bytes()[:100]):
        index.write_bytes(content)
        assert opened(path).index.facts.pairs == 21
    os.utime(path, ns=(1, 1))
    assert opened(path).index.facts.mtime_ns == 1
    assert before.index.facts.digest != opened(path).index.facts.digest


def test_the_index_goes_to_the_cache_where_the_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pairs(tmp_path / "a.tar", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    replacing = shard_index.replacing

    def refuse(target: Path, durable: bool = True) -> object:
        if target.parent == tmp_path:
            raise PermissionError(13, "Permission denied")
        return replacing(target, durable)

    monkeypatch.setattr(shard_index, "replacing", refuse)
    opened(path)
    assert not path.with_name("a.tar.magic-index").exists()
    assert len(list((tmp_path / "cache" / "magic" / "shards").iterdir())) == 1
    monkeypatch.setattr("magic_cli.data.shards.tar_shard._indexed", None)
    assert captions(opened(path)) == ["plaque 0", "plaque 1", "plaque 2"]


def test_a_photo_in_a_tar_is_read_as_a_file_is(tmp_path: Path) -> None:
    turned, torn = jpeg(1, 16, orientation=6), jpeg(2)[:-40]
    members = [
        ("1.jpg", turned),
        ("1.txt", b"x"),
        ("2.jpg", torn),
        ("2.txt", b"x"),
        ("3.jpg", b"?" * 99),
        ("3.txt", b"x"),
    ]
    shard = opened(write_tar(tmp_path / "a.tar", members))
    assert open_record(shard.sample(0, "train").images[0]).size == (8, 16)
    for row, words in ((1, "truncated"), (2, "a text file")):
        with pytest.raises(DataError, match=f"a.tar: {row + 1}: .*{words}"):
            open_record(shard.sample(row, "train").images[0])
    keys = {shard.sample(row, "train").images[0].content_key for row in range(3)}
    assert len(keys) == 3
    os.truncate(shard.path, 600)
    with pytest.raises(DataError, match="changed since it was indexed"):
        shard.sample(2, "train")


def test_other_processes_map_the_index_themselves(tmp_path: Path) -> None:
    shard = opened(write_pairs(tmp_path / "a.tar", 500))
    data = pickle.dumps(shard)
    assert len(data) < 2000
    assert captions(pickle.loads(data)) == captions(shard)  # noqa: S301  our own
    tracemalloc.start()
    samples = [shard.sample(row % 500, "train").id for row in range(3)]
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert samples[0] == "a/000000"


def test_huge_and_odd_headers_end_in_a_line(tmp_path: Path) -> None:
    """A size of base 256 beyond the file, a name that never ends, and a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "1.jpg"
        tar.addfile(link)
        for name, data in pair("1"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        huge = tarfile.TarInfo("huge.jpg")
        huge.size = 1 << 40
        header = huge.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "a.tar"
    path.write_bytes(buffer.getvalue()[: buffer.getvalue().find(b"1.txt") + 1024] + header)
    facts = opened(path).index.facts
    assert facts.pairs == 1
    assert any("huge.jpg" in line for line in facts.problems)
    json.dumps(vars(facts))
