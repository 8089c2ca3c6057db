"""The page of a search: everything is on it, escaped, without ids and file names, within its size."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from page_outline import check
from PIL import Image
from search_results import make_result

from magic_cli.report.search import page
from magic_cli.report.search.regions import MOST_REGIONS, ranges, strip
from magic_cli.report.search.result import STATEMENT, Agreement, SearchHit, SearchResult

EVIL = "<script>document.title='owned'</script>\x1b[31m\u202e"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return make_result(tmp_path_factory.mktemp("hits"), size=(48, 64))


@pytest.fixture(scope="module")
def html(result: SearchResult) -> str:
    return page.html(result)


def test_everything_is_on_a_page_that_runs_and_loads_nothing(html: str, result: SearchResult) -> None:
    found = check(html)
    words = " ".join(found.text.split())
    assert html.count('<li class="hit"') == 12
    assert html.count('class="tile"') == 24  # query and hit side by side
    assert html.count('type="radio"') == 9
    for line in ("Close enough to compare", "6 of 10", "26 % to 88 %", "Nearest case of each class", "rank 143"):
        assert line in words
    for line in ("biopsy-confirmed", "not confirmed by biopsy", "confirmation not stated", "the query's own photo"):
        assert line in words
    assert STATEMENT in words
    assert "3 match, 0 differs, 1 missing" in words
    assert "S/3 0.970" in words
    assert "The photo is not sharp." in words
    assert "doi.org/10.1109/ISBI.2018.8363547" in words
    assert all(hit.case in words for hit in result.hits)


def test_agreement_of_classes_is_named_beside_the_levels(result: SearchResult) -> None:
    hits = tuple(replace(hit, parts={**hit.parts, "class": 0.25}) for hit in result.hits)
    words = " ".join(check(page.html(replace(result, hits=hits))).text.split())
    assert "similarity 0.970" in words
    assert words.count("P(same class) 0.25") == 12


def test_no_id_and_no_file_name_is_on_the_page(html: str) -> None:
    for secret in ("ISIC_", "PATIENT", "photo-", "secret.jpg", "/home"):
        assert secret not in html
    assert "magic search --image PATH --text ..." in html


def test_every_field_is_escaped(result: SearchResult) -> None:
    def hostile(hit: SearchHit) -> SearchHit:
        fields = dict.fromkeys(("diagnosis", "site", "sex", "age", "biopsy"), EVIL)
        rows = (Agreement(EVIL, EVIL, EVIL, "match"), Agreement(EVIL, EVIL, EVIL, EVIL))
        return replace(hit, id=EVIL, fields=fields, agreement=rows, parts={EVIL: 0.5})

    everywhere = replace(
        result,
        text=EVIL,
        attributes={EVIL: EVIL},
        quality=(EVIL,),
        hits=tuple(map(hostile, result.hits[:2])),
        nearest={EVIL: hostile(result.hits[3])},
        prior={EVIL: 3},
        provenance={EVIL: EVIL},
    )
    found = check(page.html(everywhere))
    assert found.text.count("<script>document.title") > 15


def test_what_is_missing_is_said(result: SearchResult, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no photo")
    bare = replace(result, query_image=None, text="", attributes={}, quality=(), query_regions=None, low_score=None)
    hits = tuple(replace(hit, thumb=None, regions=None, agreement=(), fields={}) for hit in result.hits[:2])
    text = " ".join(check(page.html(replace(bare, hits=hits, nearest={}, prior={}))).text.split())
    for line in ("No photo was given", "none were given", "no photo to show", "class not stated"):
        assert line in text
    damaged = replace(bare, query_image=tmp_path / "no.jpg", hits=(), nearest={}, prior={"nevus": 0})
    text = " ".join(check(page.html(damaged)).text.split())
    assert "The photo cannot be shown." in text
    assert "The gallery has no case that the filter lets through." in text
    far = " ".join(check(page.html(replace(result, low_score=0.99))).text.split())
    assert "The gallery may hold nothing like this photo" in far


def test_twenty_hits_of_large_photos_stay_below_5_mb(result: SearchResult, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (280, 420, 3), np.uint8)  # nothing compresses worse
    Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=95)
    hits = tuple(replace(result.hits[n % 12], rank=n + 1, thumb=tmp_path / "noise.jpg") for n in range(20))
    text = page.html(replace(result, query_image=tmp_path / "noise.jpg", hits=hits))
    assert len(text.encode()) < 5_000_000


def test_pictures_carry_nothing_but_pixels(result: SearchResult, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "tan").save(buffer, "JPEG", exif=exif, comment=b"Jane Doe")
    assert b"Jane Doe" in buffer.getvalue()
    html = page.html(replace(result, query_image=buffer.getvalue(), hits=result.hits[:1], nearest={}))
    sources = [base64.b64decode(data) for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", html)]
    assert len(sources) >= 3
    assert all(b"Jane Doe" not in data and b"Exif" not in data for data in sources)


@pytest.mark.parametrize("name", ["patient", "Patient_ID", "lesion id", "file_name", "case_num", "id", "isic_id"])
def test_identifying_fields(name: str) -> None:
    assert page.is_identifying(name)


@pytest.mark.parametrize("name", ["site", "sex", "age", "pigment_network", "diagnosis", "elevation", "clinic"])
def test_other_fields(name: str) -> None:
    assert not page.is_identifying(name)


def test_colours_are_those_of_the_field_then_distinct() -> None:
    names = ["melanoma", "Nevus", "seborrheic keratosis", "a", "b", "c", "melanoma metastasis"]
    found = page.colours(names)
    assert len(set(found.values())) == len(names)
    assert [found[name] for name in names[:3]] == ["#cf3a2c", "#2f7fc1", "#d8a200"]
    assert len(page.colours(map(str, range(40)))) == 40


def test_regions_share_the_colours_of_all_photos() -> None:
    low, high = np.zeros((2, 3, 4), np.float32), np.ones((1, 3, 4), np.float32)
    assert ranges([None, low, high]) == ((0.0, 1.0), (0.0, 0.0))
    assert ranges([None]) == ()
    assert len(ranges([np.zeros((40, 2, 2), np.float32)])) == MOST_REGIONS
    odd = np.full((2, 3, 4), np.nan, np.float32)
    found = strip(Image.new("RGB", (400, 200), "tan"), odd, ((0.0, 1.0), (0.0, 0.0)), 50_000)
    assert (found.width, found.height, found.tiles) == (184, 92, 2)
