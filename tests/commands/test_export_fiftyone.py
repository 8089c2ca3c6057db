"""`magic score --export fiftyone`: what FiftyOne's importer relies on (it was read by FiftyOne 1.22 itself once)."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recorded_run import magic, tree

import magic_cli
from magic_cli.data.gold import open_gold
from magic_cli.data.imaging.masks import write_mask
from magic_cli.data.prepared import open_prepared
from magic_cli.errors import ConfigError, DataError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LABEL = "fiftyone.core.labels.Segmentation"


def predictions(prepared: Path, out: Path) -> Path:
    """Write masks of split valid: the first photo's is missing, the second's of another size, the others are halves."""
    for number, image in enumerate(open_prepared(prepared).images_of("valid")):
        mask = np.zeros((image.height, image.width + (number == 1)), np.uint8)
        mask[: image.height // 2] = 1
        if number:
            write_mask(out / "masks_preds" / f"{image.image_id}_mask_sys.tiff", mask)
    return out


@pytest.fixture(scope="module")
def report(drawn_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scored")
    preds = predictions(drawn_prepared, root / "half")
    options = magic_cli.ScoreOptions(out=root / "report", export="fiftyone", resamples=100)
    lines = magic_cli.score([preds, preds], drawn_prepared, options).lines()
    assert f"{root / 'report' / 'fiftyone'}: masks and scores as a dataset that FiftyOne reads" in lines
    return root / "report"


def test_samples_and_fields_fit_each_other(report: Path, drawn_prepared: Path) -> None:
    folder, gold = report / "fiftyone", open_gold(drawn_prepared, "valid").masks
    metadata, samples = (json.loads((folder / f"{name}.json").read_text()) for name in ("metadata", "samples"))
    assert (metadata["media_type"], metadata["version"]) == ("image", "1.0.0")
    assert str(report.parent) not in json.dumps(metadata)
    fields = {field["db_field"]: field for field in metadata["sample_fields"]}
    masks = {name for name, field in fields.items() if field["embedded_doc_type"] == LABEL}
    assert {"prediction", "prediction_2", "ground_truth_ann0"} <= masks == metadata["mask_targets"].keys()
    assert masks == {path.name for path in (folder / "fields").iterdir()}  # where the importer looks for paths
    assert all(field["ftype"].startswith("fiftyone.core.fields.") for field in fields.values())
    ids = set()
    for sample in samples["samples"]:
        name = sample["image_id"]
        assert {key for key in sample if not key.startswith("_")} <= fields.keys()
        assert not Path(sample["filepath"]).is_absolute()
        assert (folder / sample["filepath"]).resolve() == Path(gold.photos[name]).resolve()
        assert (sample["tags"], sample["_media_type"]) == (["valid"], "image")
        labels = {key: value for key, value in sample.items() if key in masks}
        ids |= {label["_id"]["$oid"] for label in (*labels.values(), sample)}
        assert {key for key in labels if key.startswith("g")} == {
            f"ground_truth_{annotator}" for annotator in gold.images[name].annotators
        }
        for key, label in labels.items():
            assert (label["_cls"], label["mask_path"]) == ("Segmentation", f"fields/{key}/{name}.png")
        for annotator, mask in zip(gold.images[name].annotators, gold.images[name].masks(), strict=True):
            png = np.asarray(Image.open(folder / labels[f"ground_truth_{annotator}"]["mask_path"]))
            assert png.dtype == np.uint8
            assert np.array_equal(png, mask * np.uint8(255))
    assert [sample["image_id"] for sample in samples["samples"]] == list(gold.images)
    assert all(re.fullmatch("[0-9a-f]{24}", oid) for oid in ids)
    assert len(ids) == sum(1 + sum(key in masks for key in sample) for sample in samples["samples"])


def test_scores_and_predictions_of_each_system(report: Path) -> None:
    import pandas as pd

    rows = pd.read_csv(report / "per_item.csv").query("task == 'seg'").drop_duplicates("image").set_index("image")
    samples = json.loads((report / "fiftyone" / "samples.json").read_text())["samples"]
    missing, odd, *others = samples
    assert "prediction" not in missing
    assert "prediction" not in odd  # of another size than the photo
    assert len(others) >= 2
    for sample in others:
        for name in ("dice_max", "dice_mean", "jaccard_max", "jaccard_mean"):
            assert sample[name] == sample[f"{name}_2"] == pytest.approx(rows.loc[sample["image_id"], name])
        mask = np.asarray(Image.open(report / "fiftyone" / sample["prediction_2"]["mask_path"]))
        assert set(np.unique(mask[: len(mask) // 2])) == {255}
        assert not mask[len(mask) // 2 :].any()


def test_it_belongs_to_the_report(report: Path, drawn_prepared: Path) -> None:
    record = json.loads((report / "run.json").read_text())
    assert {"fiftyone/samples.json", "fiftyone/metadata.json"} <= record["outputs"].keys()
    before = tree(report / "fiftyone")
    half = report.parent / "half"
    words = (half, half, drawn_prepared, "--out", report, "--resamples", "100", "--overwrite")
    assert magic(report.parent, "score", *words, "--export", "fiftyone").code == 0
    assert tree(report / "fiftyone") == before
    assert magic(report.parent, "score", *words).code == 0
    assert not (report / "fiftyone").exists()


def test_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--export: got fiftyone alone, expected a folder to write to; add --out DIR"):
        magic_cli.ScoreOptions(export="fiftyone")
    with pytest.raises(ConfigError, match="--export: got coco, expected"):
        magic_cli.ScoreOptions(export="coco", out=tmp_path)
    preds, refs = EXAMPLES / "masks_preds", EXAMPLES / "masks_refs"
    options = magic_cli.ScoreOptions(out=tmp_path / "report", export="fiftyone", resamples=100)
    with pytest.raises(DataError, match="--export: got no masks of photos whose place is known, expected a prepared"):
        magic_cli.score(preds, refs, options)
    assert not (tmp_path / "report").exists()
