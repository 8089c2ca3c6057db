"""Every format of annotation tools gives the same cases and masks; what is damaged or no lesion is one line."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from annotated_folders import (
    AREAS,
    BESIDE,
    FORMATS,
    HEIGHT,
    OTHER,
    SQUARE,
    VIA_RECT,
    WIDTH,
    coco,
    coco_image,
    corners,
    cvat_file,
    cvat_image,
    flat,
    instance,
    labelme_file,
    mask,
    percent,
    photos,
    polygon,
    region,
    result,
    shape,
    stroke,
    task,
)
from PIL import Image
from raw_tables import write_json_file, write_photo

from magic_cli.commands.prepare import PrepareOptions, prepare
from magic_cli.data.prepared import open_prepared
from magic_cli.data.sources import adapter, open_source
from magic_cli.data.sources.source import RawCase, RawDataset, ReadOptions
from magic_cli.errors import DataError

NAN = float("nan")


def opened(root: Path, name: str = "") -> tuple[RawDataset, list[RawCase]]:
    raw = open_source(root, ReadOptions(), name)
    return raw, list(raw.cases)


def areas(cases: list[RawCase], annotator: str = "ann0") -> dict[str, int]:
    """Return image id to number of marked pixels."""
    found = {}
    for raw in cases:
        for photo in raw.photos:
            drawn = photo.masks.get(annotator)
            if drawn is not None and not isinstance(drawn, str):
                found[photo.image_id] = int(drawn.draw(HEIGHT, WIDTH).sum())
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_recognized_and_read(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path)
    raw, cases = opened(tmp_path)
    assert raw.source == name.partition(",")[0]
    assert [case.case.case_id for case in cases] == ["IMG_1", "IMG_2"]
    assert [case.case.image_ids for case in cases] == [("IMG_1",), ("IMG_2",)]
    assert raw.issues.problems == []
    assert {case.case.split for case in cases} == {""}
    if name == "mask-pairs":
        return
    assert areas(cases) == AREAS
    assert {case.case.label for case in cases} == {"melanoma"}
    assert list(raw.inputs)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_prepared(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / "raw")
    prepare(tmp_path / "raw", tmp_path / "prepared", PrepareOptions())
    prepared = open_prepared(tmp_path / "prepared")
    assert list(prepared.images) == ["IMG_1", "IMG_2"]
    assert not prepared.manifest.problems
    assert prepared.manifest.counts["train"].masks == 2
    for image_id, image in prepared.images.items():
        for path in (image.mask, image.annotators["ann0"]):
            assert path is not None
            array = np.asarray(Image.open(path))
            assert (array.shape, int((array > 0).sum())) == ((HEIGHT, WIDTH), AREAS[image_id])
    own = tmp_path / "prepared" / "masks" / "annotators" / "IMG_1_mask_ann0.tiff"
    assert prepared.images["IMG_1"].annotators["ann0"] == str(own)
    stored = tifffile.imread(own)
    assert (stored.dtype, set(np.unique(stored))) == (np.uint8, {0, 1})
    if name == "mask-pairs":  # a plain mask stays where it is
        assert prepared.images["IMG_2"].annotators["ann0"] == str(tmp_path / "raw" / "masks" / "IMG_2_mask.png")
        assert prepared.manifest.mask_values == {"0/1": 1, "two other values": 1}
        assert "1 mask is not stored as 0 and 1, or 0 and 255: cleaned by" in " ".join(prepared.manifest.notes)


def test_coco_of_several_files_keeps_their_splits_licences_and_equal_names(tmp_path: Path) -> None:
    """As Roboflow exports it: a folder per split, whose photos may have the same names."""
    for split, number in (("train", 1), ("valid", 1), ("test", 2)):
        folder = tmp_path / split
        write_photo(folder / f"IMG_{number}.jpg", len(split), (WIDTH, HEIGHT))
        annotations = [instance(1, number, [flat(SQUARE)])]
        content = {"images": [coco_image(number)], "annotations": annotations, "categories": [{"id": 1, "name": "nv"}]}
        write_json_file(folder / "_annotations.coco.json", content)
    raw, cases = opened(tmp_path)
    assert [(case.case.case_id, case.case.split) for case in cases] == [
        ("IMG_2", "test"),
        ("IMG_1", "train"),
        ("valid_IMG_1", "valid"),
    ]
    assert [Path(case.photos[0].path).parent.name for case in cases] == ["test", "train", "valid"]
    assert raw.issues.problems == []


def test_coco_notes_what_is_no_lesion_and_reads_licences(tmp_path: Path) -> None:
    coco(tmp_path)
    raw, cases = opened(tmp_path)
    assert [case.case.licence for case in cases] == ["CC BY 4.0", ""]
    assert [case.case.attributes["annotations"] for case in cases] == ["melanoma", "melanoma"]
    assert raw.issues.notes == ["shapes that mark no lesion are not used: artifact/ruler 1"]


def test_two_classes_of_a_photo_leave_it_without_a_label(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "melanoma"}, {"id": 2, "name": "nevus"}, {"id": 3, "name": "Skin lesion"}]
    rows = [instance(1, 1, [flat(SQUARE)]), instance(2, 1, [flat(OTHER)], 2), instance(3, 2, [flat(OTHER)], 3)]
    coco(tmp_path, categories=categories, annotations=rows)
    _, cases = opened(tmp_path)
    assert [case.case.label for case in cases] == [None, None]
    assert [case.case.attributes["annotations"] for case in cases] == ["melanoma; nevus", "Skin lesion"]


@pytest.mark.parametrize(
    ("segmentation", "line"),
    [
        ([[0, 0, NAN, 5, 5, 5]], "got nan for a coordinate, expected a number of pixels"),
        ([["1", 0, 5, 5, 5, 0]], "got '1' for a coordinate"),
        ([[0, 0, 1e300, 5, 5, 5]], "got 1e+300 for a coordinate"),
        ([[0, 0, 10**400, 5, 5, 5]], "for a coordinate"),
        ([[0, 0, True, 5, 5, 5]], "got True for a coordinate"),
        ([[0, 0, 5, 5]], "got an outline of 4 numbers"),
        ([[0, 0, 5, 5, 5]], "got an outline of 5 numbers"),
        ([[[0, 0], [5, 5], [5, 0]]], "got a list for a coordinate"),
        ("polygon", "got segmentation text of 7 characters"),
        (
            {"size": [HEIGHT, WIDTH], "counts": "ééé"},
            "got text of 3 characters, expected COCO's compressed run lengths",
        ),
        ({"size": [HEIGHT, WIDTH], "counts": [-1, 2]}, "got run lengths of a list, expected a list of whole numbers"),
        ({"size": [HEIGHT, WIDTH], "counts": None}, "got run lengths of None"),
        ({"size": [10**9, 10**9], "counts": [1]}, "got a photo of 1000000000 x 1000000000"),
        ({"size": ["30", 40], "counts": [1]}, "got a photo of '30' x 40"),
        ({"counts": [1]}, "got no height and width"),
    ],
)
def test_a_damaged_shape_leaves_out_the_mask_in_one_line(segmentation: object, line: str, tmp_path: Path) -> None:
    rows = [instance(1, 1, [flat(SQUARE)]), instance(2, 1, segmentation), instance(3, 2, [flat(OTHER)])]
    coco(tmp_path, annotations=rows)
    raw, cases = opened(tmp_path)
    assert areas(cases) == {"IMG_2": 36}
    assert len(raw.issues.problems) == 1
    assert raw.issues.problems[0].startswith("annotations/instances.json:images[0], annotation 2: ")
    assert line in raw.issues.problems[0]
    assert raw.issues.left_out == {"masks": 1}


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"images": [{"id": 1}]}, "instances.json:images[0]: got no file_name, expected the photo's name"),
        (
            {"images": [coco_image(1), coco_image(1)]},
            "images[1]: got a photo that annotations/instances.json:images[0]",
        ),
        (
            {"annotations": [{"id": 1, "bbox": [0, 0, 1, 1]}], "categories": {}},
            "instances.json:annotations[0]: got no image_id",
        ),
        ({"annotations": [instance(1, 9, [])]}, "got 1 annotations of photos that images lacks"),
        ({"images": {}}, "instances.json: got an object, expected COCO instances"),
        ({"images": [coco_image(1, height="x")], "categories": []}, "images[0]: got a photo of text of 1 character"),
    ],
)
def test_damaged_rows_of_coco_are_one_line_each(more: dict[str, Any], line: str, tmp_path: Path) -> None:
    coco(tmp_path, **more)
    raw, _ = opened(tmp_path, "coco")
    assert any(line in problem for problem in raw.issues.problems), raw.issues.problems


def test_a_mask_that_does_not_fit_its_photo_is_left_out_by_prepare(tmp_path: Path) -> None:
    far = [500, 0, 510, 0, 510, 10]
    other = {"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]}
    coco(tmp_path / "raw", annotations=[instance(1, 1, [far]), instance(2, 2, other)])
    prepare(tmp_path / "raw", tmp_path / "prepared", PrepareOptions())
    manifest = open_prepared(tmp_path / "prepared").manifest
    first = "images/IMG_1.jpg, mask ann0: got an outline from 500, 0 to 510, 10, expected one within 40 x 30"
    end = "; is it the mask of another photo? left out"
    assert manifest.problems == (
        f"{first}, the photo{end}",
        f"images/IMG_2.jpg, mask ann0: got a mask of 40 x 30, expected 30 x 40, as its photo{end}",
    )
    assert manifest.left_out["masks"] == 2


def picture(array: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(array * 255).convert("1").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("drawn", "pixels"),
    [
        (shape([[12, 12], [12, 2]], "circle"), 314),
        (shape(corners(SQUARE), "rectangle"), 100),
        (shape([[30, 10], [20, 5]], "rectangle"), 50),
        (shape(corners(BESIDE), "rotation"), 50),
        (shape([[20, 5], [29, 9]], "mask", mask=picture(np.eye(5, 10, dtype=np.uint8))), 5),
        (shape(corners(SQUARE), None), 100),  # type: ignore[arg-type]
    ],
)
def test_kinds_of_labelme(drawn: dict[str, Any], pixels: int, tmp_path: Path) -> None:
    write_json_file(tmp_path / "IMG_1.json", labelme_file(1, drawn))
    photos(tmp_path, ".")
    raw, cases = opened(tmp_path)
    assert areas(cases)["IMG_1"] == pytest.approx(pixels, rel=0.06)  # round outlines are a tenth of a pixel wider
    assert raw.issues.problems == []
    assert raw.issues.notes == ["1 picture is in no annotation: not used"]


@pytest.mark.parametrize(
    ("drawn", "line"),
    [
        (shape([[1, 2], [3, NAN], [5, 6]]), "IMG_1.json:shapes[0]: got nan for a coordinate"),
        (shape([[1, 2]], "rectangle"), "IMG_1.json:shapes[0]: got rectangle of a list, expected two points"),
        (shape([[1, 2], [3]], "circle"), "got two points of 3 numbers"),
        (shape("x"), "got text of 1 characters, expected a list of [x, y]"),
        (shape([[20, 5], [29, 9]], "mask", mask="%%"), "got damage (Error), expected a PNG mask in base64"),
        (shape([[20, 5], [29, 9]], "mask", mask=picture(mask(SQUARE).T)), "got 40 x 30 pixels, expected a PNG mask"),
        ("shape", "IMG_1.json:shapes[0]: got text of 5 characters, expected a shape"),
    ],
)
def test_damaged_shapes_of_labelme(drawn: Any, line: str, tmp_path: Path) -> None:
    write_json_file(tmp_path / "IMG_1.json", labelme_file(1, drawn))
    photos(tmp_path, ".")
    raw, cases = opened(tmp_path)
    assert areas(cases) == {}
    assert len(raw.issues.problems) == 1
    assert line in raw.issues.problems[0]


def test_a_photo_that_was_renamed_with_its_labelme_file_is_found(tmp_path: Path) -> None:
    write_json_file(tmp_path / "new.json", labelme_file(1, shape(corners(SQUARE)), imagePath="/home/x/old.jpg"))
    write_photo(tmp_path / "new.jpg", 1, (WIDTH, HEIGHT))
    raw, cases = opened(tmp_path)
    assert (areas(cases), raw.issues.problems) == ({"new": 100}, [])


@pytest.mark.parametrize("path", ["../../secret.jpg", "/etc/secret.jpg", "C:\\x\\secret.jpg", "a\0b.jpg", "x" * 5000])
def test_paths_that_lead_out_of_the_dataset_are_not_followed(path: str, tmp_path: Path) -> None:
    write_photo(tmp_path / "secret.jpg", 1, (WIDTH, HEIGHT))
    root = tmp_path / "raw" / "deep"
    write_json_file(root / "IMG.json", labelme_file(1, shape(corners(SQUARE)), imagePath=path))
    write_photo(root / "unused.jpg", 1, (WIDTH, HEIGHT))
    _, cases = opened(tmp_path / "raw")
    assert [case.photos for case in cases] == [()]


def write_cvat(root: Path, text: str) -> None:
    photos(root)
    (root / "annotations.xml").write_text(text, encoding="utf-8")


def element(tag: str, **attributes: str) -> str:
    return f"<{tag} label='nv' {' '.join(f'{key}={value!r}' for key, value in attributes.items())}/>"


@pytest.mark.parametrize(
    ("drawn", "pixels"),
    [
        (element("ellipse", cx="20", cy="15", rx="10", ry="5"), 157),
        (element("box", xtl="10", ytl="10", xbr="20", ybr="14", rotation="90"), 40),
        (element("polygon", points="2,3;12,3;12,13;2,13"), 100),
    ],
)
def test_kinds_of_cvat(drawn: str, pixels: int, tmp_path: Path) -> None:
    write_cvat(tmp_path, cvat_file(cvat_image(1, drawn)))
    raw, cases = opened(tmp_path)
    assert areas(cases)["IMG_1"] == pytest.approx(pixels, rel=0.06)  # round outlines are a tenth of a pixel wider
    assert raw.issues.problems == []


def test_subsets_of_cvat_are_its_splits(tmp_path: Path) -> None:
    subsets = ((1, "Train"), (2, "Validation"))
    images = (cvat_image(number, polygon(SQUARE), more=f'subset="{name}"') for number, name in subsets)
    write_cvat(tmp_path, cvat_file(*images))
    assert [case.case.split for case in opened(tmp_path)[1]] == ["train", "valid"]


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{ENTITIES}<annotations><meta>&b;</meta><image/></annotations>", "got a document type (DOCTYPE)"),
        (
            '<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotations><image/></annotations>',
            "got a document type (DOCTYPE)",
        ),
        ("<annotations><meta/><image", "annotations.xml:1: not valid XML; was it cut off?"),
        ("<annotations><meta/><track/></annotations>", "got tracks of a video, expected annotations of images"),
        ("<annotations><image/></annotations>", "annotations.xml:image 0: got no name"),
        (
            cvat_file(cvat_image(1, element("polygon", points="1,2;3,x;5,6"))),
            "polygon: got text of 1 characters for a coo",
        ),
        (cvat_file(cvat_image(1, element("polygon", points="1,2;3,nan;5,6"))), "polygon: got nan for a coordinate"),
        (cvat_file(cvat_image(1, element("box", xtl="1"))), "box: got None for a coordinate"),
        (cvat_file(cvat_image(1, element("mask", rle="1,-2"))), "mask: got '-2', expected a whole number"),
        (cvat_file(cvat_image(1, element("mask"))), "mask: got '', expected a whole number"),
        (
            cvat_file('<image name="a.jpg" width="-4" height="3">', polygon(SQUARE), "</image>"),
            "got '-4', expected a who",
        ),
        (
            cvat_file(f'<image name="a.jpg" width="{10**9}" height="{10**9}">', polygon(SQUARE), "</image>"),
            "got a photo of 1000000000 x 1000000000",
        ),
    ],
)
def test_damaged_or_hostile_xml_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    write_cvat(tmp_path, text)
    raw, cases = opened(tmp_path, "cvat")
    assert areas(cases) == {}
    assert len(raw.issues.problems) == 1
    assert line in raw.issues.problems[0]
    assert len(raw.issues.problems[0]) < 300


def test_label_studio_keeps_its_annotators_apart(tmp_path: Path) -> None:
    rows = [[result(percent(SQUARE))], [result(percent(OTHER)), result(percent(BESIDE))]]
    tasks = [task("s3://bucket/images/IMG_1.jpg?x=1", *rows)]
    tasks[0]["annotations"].append({"result": [result(percent(SQUARE))], "was_cancelled": True})
    write_json_file(tmp_path / "export.json", tasks)
    photos(tmp_path)
    raw, cases = opened(tmp_path)
    assert raw.issues.problems == []
    assert (areas(cases), areas(cases, "ann1"), areas(cases, "ann2")) == ({"IMG_1": 100}, {"IMG_1": 86}, {})


def test_the_page_shows_masks_that_prepare_writes(tmp_path: Path) -> None:
    rows = [[result(percent(SQUARE))], [result(percent(OTHER))]]
    write_json_file(tmp_path / "raw" / "export.json", [task("IMG_1.jpg", *rows), task("IMG_2.jpg", *rows)])
    photos(tmp_path / "raw")
    for overwrite in (False, True):
        prepare(tmp_path / "raw", tmp_path / "prepared", PrepareOptions(overwrite=overwrite))
        page = (tmp_path / "prepared" / "index.html").read_text(encoding="utf-8")
        assert page.count("data:image") == 3  # two photos and the mean mask


def test_the_minimal_export_of_label_studio(tmp_path: Path) -> None:
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    row = {"image": "/data/upload/1/0a1b2c3d-IMG_1.jpg", "id": 1, "tag": [{**percent(SQUARE), **size}]}
    row["brush"] = [{**stroke(mask(OTHER)), **size}]
    write_json_file(tmp_path / "export.json", [row])
    photos(tmp_path)
    raw, cases = opened(tmp_path)
    assert (areas(cases), raw.issues.problems) == ({"IMG_1": int(mask(SQUARE, OTHER).sum())}, [])


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (result(percent(SQUARE), original_width=None), "result 0: got a photo of 30 x None, expected whole numbers"),
        (result(percent(SQUARE), image_rotation=90), "result 0: got an image_rotation"),
        (result({"rle": [300], "brushlabels": []}), "got a brush's code that is no bytes"),
        (result({"rle": "AAA", "brushlabels": []}), "got run lengths of text of 3 characters"),
        (result({"points": [[1, 2], [NAN, 3], [4, 5]], "polygonlabels": []}), "got nan for a coordinate"),
    ],
)
def test_damaged_results_of_label_studio(row: dict[str, Any], line: str, tmp_path: Path) -> None:
    write_json_file(tmp_path / "export.json", [task("IMG_1.jpg", [row])])
    photos(tmp_path)
    raw, cases = opened(tmp_path, "label-studio")
    assert areas(cases) == {}
    assert [line in problem for problem in raw.issues.problems] == [True]


@pytest.mark.parametrize(
    ("attributes", "pixels"),
    [
        (VIA_RECT, 50),
        ({"name": "circle", "cx": 20, "cy": 15, "r": 10}, 314),
        ({"name": "ellipse", "cx": 20, "cy": 15, "rx": 10, "ry": 5, "theta": 0}, 157),
    ],
)
def test_kinds_of_via(attributes: dict[str, Any], pixels: int, tmp_path: Path) -> None:
    """The annotations alone: no project around them."""
    write_json_file(tmp_path / "via.json", {"a": {"filename": "IMG_1.jpg", "size": 1, "regions": [region(attributes)]}})
    photos(tmp_path)
    raw, cases = opened(tmp_path)
    assert areas(cases)["IMG_1"] == pytest.approx(pixels, rel=0.06)  # round outlines are a tenth of a pixel wider
    assert raw.issues.problems == []


@pytest.mark.parametrize(
    ("attributes", "line"),
    [
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "got 3 values of x and 2 of y"),
        ({"name": "polygon", "all_points_x": [1, 2, "3"], "all_points_y": [1, 2, 3]}, "got '3' for a coordinate"),
        ({"name": "rect", "x": 1, "y": NAN, "width": 3, "height": 4}, "got nan for a coordinate"),
        ({"name": "circle", "cx": 1}, "got None for a coordinate"),
        (7, "got 7, expected shape_attributes"),
    ],
)
def test_damaged_regions_of_via(attributes: Any, line: str, tmp_path: Path) -> None:
    write_json_file(tmp_path / "via.json", {"a": {"filename": "IMG_1.jpg", "size": 1, "regions": [region(attributes)]}})
    photos(tmp_path)
    raw, cases = opened(tmp_path, "via")
    assert areas(cases) == {}
    assert len(raw.issues.problems) == 1
    assert line in raw.issues.problems[0]


HOSTILE: dict[str, Callable[[Path], object]] = {
    "deep": lambda path: path.write_text("[" * 100_000),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "no JSON": lambda path: path.write_text("hello"),
    "a list": lambda path: path.write_text("[]"),
    "a number": lambda path: path.write_text("7"),
}


@pytest.mark.parametrize("damage", HOSTILE)
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("cvat", "via, CSV", "mask-pairs")])
def test_hostile_json_is_one_line(name: str, damage: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path)
    path = next(path for path in sorted(tmp_path.rglob("*.json")))
    HOSTILE[damage](path)
    try:
        raw, cases = opened(tmp_path, adapter(name).name)
        lines = raw.issues.problems or raw.issues.notes[-1:]  # LabelMe: a file that is none of its own is not read
        assert len(cases) <= 1
    except DataError as error:
        lines = error.problems
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert len(lines[0]) < 400


def test_files_of_annotations_may_hold_more_values_than_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FORMATS["coco"](tmp_path)
    monkeypatch.setattr("magic_cli.io.json_files.MAX_VALUES", 20)
    assert areas(opened(tmp_path)[1]) == AREAS
    monkeypatch.setattr("magic_cli.data.sources.annotations.cases._VALUES", 20)
    assert (
        opened(tmp_path)[0].issues.problems[0].startswith("annotations/instances.json: got more than 0 million values")
    )


def test_another_annotation_of_a_photo_is_told(tmp_path: Path) -> None:
    """Two exports of one project: the first is used."""
    write_cvat(tmp_path, cvat_file(cvat_image(1, polygon(SQUARE)), cvat_image(1, polygon(OTHER))))
    raw, cases = opened(tmp_path)
    assert areas(cases) == {"IMG_1": 100}
    line = (
        "annotations.xml:image 1: got a photo that annotations.xml:image 0 describes already, expected each photo once"
    )
    assert raw.issues.problems == [f"{line}; join them"]


def test_two_formats_in_one_folder_are_chosen_among(tmp_path: Path) -> None:
    FORMATS["coco"](tmp_path)
    FORMATS["cvat"](tmp_path)
    with pytest.raises(Exception, match=r"several datasets: coco \(.*\.json\), cvat \(annotations.xml\)"):
        opened(tmp_path)
    assert areas(opened(tmp_path, "cvat")[1]) == AREAS
