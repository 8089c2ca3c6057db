"""data/sources/files.py: the photo that a table names, in few folders or many, on disk or by an index."""

from pathlib import Path

import pytest
from raw_tables import write_photo

from magic_cli.data.issues import IssueLog
from magic_cli.data.sources.files import SourceFiles


@pytest.fixture(params=[2, 12], ids=["few folders", "many folders"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> SourceFiles:
    for number in range(request.param):
        write_photo(tmp_path / f"photos/part {number}/img_{number}.jpg", number)
        write_photo(tmp_path / f"photos/part {number}/same.png", number)
    write_photo(tmp_path / "masks/img_1.jpg")
    write_photo(tmp_path / "photos/part 0/gr.png").rename(tmp_path / "photos/part 0/gr\udcfcn.png")  # not UTF-8
    return SourceFiles(tmp_path, IssueLog())


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("photos/part 1/img_1.jpg", "photos/part 1/img_1.jpg"),
        ("part 1/img_1.jpg", "photos/part 1/img_1.jpg"),
        ("img_1.jpg", "photos/part 1/img_1.jpg"),
        ("./part 1\\img_1.jpg", "photos/part 1/img_1.jpg"),
        ("IMG_1.JPG", "photos/part 1/img_1.jpg"),
        ("elsewhere/img_0.png", "photos/part 0/img_0.jpg"),
        ("img_0", "photos/part 0/img_0.jpg"),
        ("part 1/same.png", "photos/part 1/same.png"),
        ("same.png", "photos/part 0/same.png"),
        ("same", ""),
        ("gr\udcfcn", "photos/part 0/gr\udcfcn.png"),
        ("img_99.jpg", ""),
        ("../img_1.jpg", ""),
        ("x" * 300 + ".jpg", ""),
    ],
)
def test_the_photo_that_a_table_names(written: str, found: str, files: SourceFiles) -> None:
    assert files.photo(written) == (str(files.root / found) if found else "")


def test_a_mask_is_looked_for_among_masks(files: SourceFiles) -> None:
    assert files.mask("img_1.jpg") == str(files.root / "masks/img_1.jpg")
