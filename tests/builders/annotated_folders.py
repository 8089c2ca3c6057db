"""Two photos with the same two masks in every format of annotation tools, as tests write them.

The first photo has a square of 100 pixels and a rectangle of 50, the second one a square of 36; photos are 30 high and
40 wide. What a format cannot say is said otherwise.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from brush_code import packed
from PIL import Image
from raw_tables import write_csv, write_json_file, write_photo

HEIGHT, WIDTH = 30, 40
SQUARE, BESIDE, OTHER = (2, 3, 12, 13), (20, 5, 30, 10), (4, 4, 10, 10)  # left, top, right, bottom
AREAS = {"IMG_1": 150, "IMG_2": 36}


def mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    array = np.zeros((HEIGHT, WIDTH), np.uint8)
    for left, top, right, bottom in boxes:
        array[top:bottom, left:right] = 1
    return array


def corners(box: tuple[int, int, int, int]) -> list[list[int]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def flat(box: tuple[int, int, int, int]) -> list[int]:
    return [value for corner in corners(box) for value in corner]


def runs(array: np.ndarray) -> list[int]:
    """Return run lengths along the flat array, the first of zeros."""
    ends = [*np.flatnonzero(np.diff(array, prepend=0)).tolist(), array.size]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def photos(root: Path, folder: str = "images") -> None:
    for number in (1, 2):
        write_photo(root / folder / f"IMG_{number}.jpg", number, (WIDTH, HEIGHT))


def coco_image(number: int, **more: object) -> dict[str, Any]:
    return {"id": number, "file_name": f"IMG_{number}.jpg", "height": HEIGHT, "width": WIDTH, **more}


def instance(number: int, image: int, segmentation: object, category: int = 1, **more: object) -> dict[str, Any]:
    row = {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, "bbox": [0, 0, 1, 1], "area": 1}
    return {**row, "segmentation": segmentation, **more}


def coco(root: Path, **more: object) -> None:
    lengths = runs(mask(OTHER).ravel("F"))
    content = {
        "info": {"description": "made"},
        "licenses": [{"id": 7, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"}],
        "images": [coco_image(1, license=7), coco_image(2)],
        "annotations": [
            instance(1, 1, [flat(SQUARE)]),
            instance(2, 1, [flat(BESIDE)]),
            instance(3, 2, {"size": [HEIGHT, WIDTH], "counts": lengths}, iscrowd=1),
            instance(4, 2, [flat(SQUARE)], category=2),
        ],
        "categories": [{"id": 1, "name": "melanoma"}, {"id": 2, "name": "artifact/ruler"}],
    }
    write_json_file(root / "annotations" / "instances.json", {**content, **more})
    photos(root)


def labelme_file(number: int, *shapes: dict[str, Any], **more: object) -> dict[str, Any]:
    row = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": f"IMG_{number}.jpg"}
    return {**row, "imageData": "AAAA", "imageHeight": HEIGHT, "imageWidth": WIDTH, **more}


def shape(points: object, kind: str = "polygon", label: str = "melanoma", **more: object) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def labelme(root: Path) -> None:
    first = labelme_file(1, shape(corners(SQUARE)), shape([[20, 5], [30, 10]], "rectangle"))
    second = labelme_file(2, shape(corners(OTHER)), shape([[1, 1]], "point"), shape(corners(SQUARE), label="ruler"))
    write_json_file(root / "IMG_1.json", first)
    write_json_file(root / "IMG_2.json", {**second, "imagePath": "..\\photos\\IMG_2.jpg"})
    photos(root, ".")


def cvat_image(number: int, *elements: str, more: str = "") -> str:
    start = f'<image id="{number}" name="photos/IMG_{number}.jpg" width="{WIDTH}" height="{HEIGHT}" {more}>'
    return f"{start}{''.join(elements)}</image>"


def polygon(box: tuple[int, int, int, int], label: str = "melanoma") -> str:
    points = ";".join(f"{x}.00,{y}.00" for x, y in corners(box))
    return f'<polygon label="{label}" source="manual" occluded="0" points="{points}" z_order="0"></polygon>'


def cvat_file(*images: str) -> str:
    start = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta></meta>'
    return f"{start}{''.join(images)}</annotations>"


def cvat(root: Path) -> None:
    box = '<box label="melanoma" occluded="0" xtl="20" ytl="5" xbr="30" ybr="10" z_order="0"></box>'
    rle = ", ".join(map(str, [7, 2, 1]))  # along the rows of 5 x 2
    stroke = f'<mask label="melanoma" rle="{rle}" left="4" top="4" width="5" height="2"></mask>'
    rest = polygon((4, 4, 10, 10))
    line = '<polyline label="melanoma" points="1.0,1.0;2.0,2.0"></polyline>'
    ruler = polygon(SQUARE, "ruler")
    text = cvat_file(cvat_image(1, polygon(SQUARE), box), cvat_image(2, rest, stroke, line, ruler))
    photos(root)
    (root / "annotations.xml").write_text(text, encoding="utf-8")


def result(value: dict[str, Any], **more: object) -> dict[str, Any]:
    kind = next(key for key in value if key.endswith("labels"))
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"id": "a", "type": kind, "from_name": "tag", "to_name": "image", **size, "value": value, **more}


def percent(box: tuple[int, int, int, int]) -> dict[str, Any]:
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners(box)]
    return {"points": points, "closed": True, "polygonlabels": ["melanoma"]}


def stroke(array: np.ndarray) -> dict[str, Any]:
    return {"format": "rle", "rle": list(packed(array)), "brushlabels": ["melanoma"]}


def task(url: str, *annotations: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [{"id": number, "result": rows, "was_cancelled": False} for number, rows in enumerate(annotations)]
    return {"id": 1, "data": {"image": url}, "annotations": rows, "predictions": []}


def label_studio(root: Path) -> None:
    side = {"x": 50, "y": 100 / 6, "width": 25, "height": 100 / 6, "rotation": 0, "rectanglelabels": ["melanoma"]}
    first = task("/data/upload/1/0a1b2c3d-IMG_1.jpg", [result(percent(SQUARE)), result(side)])
    second = task("/data/local-files/?d=images/IMG_2.jpg", [result(stroke(mask(OTHER)))])
    write_json_file(root / "project-1-at-2026-01-01.json", [first, second])
    photos(root)


def region(attributes: dict[str, Any], label: str = "melanoma") -> dict[str, Any]:
    return {"shape_attributes": attributes, "region_attributes": {"class": label}}


def via_polygon(box: tuple[int, int, int, int]) -> dict[str, Any]:
    across, down = (list(values) for values in zip(*corners(box), strict=True))
    return {"name": "polygon", "all_points_x": across, "all_points_y": down}


VIA_RECT = {"name": "rect", "x": 20, "y": 5, "width": 10, "height": 5}
VIA_POINT = {"name": "point", "cx": 1, "cy": 1}


def via(root: Path) -> None:
    rows = {
        "IMG_1.jpg123": {"filename": "IMG_1.jpg", "size": 123, "file_attributes": {}}
        | {"regions": [region(via_polygon(SQUARE)), region(VIA_RECT)]},
        "IMG_2.jpg124": {"filename": "IMG_2.jpg", "size": 124, "file_attributes": {}}
        | {
            "regions": {
                "0": region(via_polygon(OTHER)),
                "1": region(VIA_POINT),
                "2": region(via_polygon(SQUARE), "ink"),
            }
        },
    }
    write_json_file(root / "via_project.json", {"_via_settings": {}, "_via_img_metadata": rows, "_via_attributes": {}})
    photos(root)


def via_csv(root: Path) -> None:
    shapes = {1: [via_polygon(SQUARE), VIA_RECT], 2: [via_polygon(OTHER), VIA_POINT]}
    rows = [
        {
            "#filename": f"IMG_{number}.jpg",
            "file_size": 123,
            "file_attributes": "{}",
            "region_count": 2,
            "region_id": place,
            "region_shape_attributes": json.dumps(attributes),
            "region_attributes": json.dumps({"class": {"melanoma": True}}),
        }
        for number, found in shapes.items()
        for place, attributes in enumerate(found)
    ]
    write_csv(root / "via_region_data.csv", rows)
    photos(root)


def mask_pairs(root: Path) -> None:
    photos(root)
    (root / "masks").mkdir()
    Image.fromarray(mask(SQUARE, BESIDE) * 255).convert("RGB").save(root / "masks" / "IMG_1.png")
    Image.fromarray(mask(OTHER)).save(root / "masks" / "IMG_2_mask.png")


FORMATS: dict[str, Callable[[Path], None]] = {
    "coco": coco,
    "labelme": labelme,
    "cvat": cvat,
    "label-studio": label_studio,
    "via": via,
    "via, CSV": via_csv,
    "mask-pairs": mask_pairs,
}
