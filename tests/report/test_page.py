"""Pages: everything is escaped, nothing is fetched, pictures are small and carry nothing but pixels."""

import base64
import io
import re
from pathlib import Path

import jinja2
import numpy as np
import pytest
from PIL import Image

from magic_cli.report import page

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;\x1b[31m\x00\u202e\ud800"


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Render a template given as text, with ours beside it."""
    for source in page.TEMPLATES.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(page, "TEMPLATES", tmp_path)
    page._environment.cache_clear()

    def render(text: str, **context: object) -> str:
        (tmp_path / "test.html.jinja").write_text(text)
        return page.render("test.html.jinja", **context)

    yield render
    page._environment.cache_clear()


def test_all_templates_compile_and_are_package_data() -> None:
    names = sorted(path.name for path in page.TEMPLATES.iterdir())
    assert {"base.html.jinja", "parts.html.jinja", "page.css"} <= set(names)
    for name in names:
        page._environment().get_template(name)


def test_values_are_escaped_in_text_and_attributes(rendered) -> None:
    html = rendered('<p title="{{ value }}">{{ value }}{{ value ~ value }}{{ [value] | join(",") }}</p>', value=HOSTILE)
    html.encode("utf-8")
    assert "<script" not in html
    assert "<img" not in html
    assert html.count('"') == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", html)
    assert "\\x1b[31m\\x00\\x202e\\xd800" in html
    assert "&amp;amp;" in html


def test_markup_of_our_own_is_kept_and_none_is_a_dash(rendered) -> None:
    from markupsafe import Markup

    assert rendered("{{ a }}{{ b }}{{ c }}", a=Markup("<b>\n</b>"), b=None, c=3) == "<b>\n</b>–3"


def test_a_missing_value_is_a_bug(rendered) -> None:
    with pytest.raises(jinja2.UndefinedError):
        rendered("{{ nothing }}")
    with pytest.raises(jinja2.UndefinedError):
        rendered("{{ row.nothing }}", row={"a": 1})


def test_base_has_what_a_page_needs(rendered) -> None:
    html = rendered(
        '{% extends "base.html.jinja" %}{% import "parts.html.jinja" as parts %}'
        "{% block title %}A {{ x }}{% endblock %}"
        '{% block contents %}{{ parts.contents([("a", x)]) }}{% endblock %}'
        "{% block main %}{% call parts.wide(x) %}<table></table>{% endcall %}{% endblock %}",
        x="<&>",
    )
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert "<title>A &lt;&amp;&gt;</title>" in html
    assert "<h1>A &lt;&amp;&gt;</h1>" in html
    assert 'aria-label="&lt;&amp;&gt;" tabindex="0"' in html
    assert "<table></table>" in html
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert "<script" not in html
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", html)
    assert not re.search(r"url\(|@import|https?:", html)


def test_the_parts_speak(rendered) -> None:
    html = rendered(
        '{% import "parts.html.jinja" as parts %}{{ parts.bar(0.25) }}{{ parts.card("Dice", "0.5", "more") }}'
        '{% call parts.photo("data:,", "alt", (3, 2)) %}words{% endcall %}'
        '{% call parts.box("t", "good") %}b{% endcall %}'
        '{{ parts.plot(svg, "below") }}{{ parts.sentences(["one", "<two>"]) }}{{ parts.sentences([]) }}',
        svg="",
    )
    assert "width:25.0%" in html
    assert '<img src="data:," alt="alt" width="3" height="2">' in html
    assert "<li>&lt;two&gt;</li>" in html


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (page.figure(0.12345), "0.1235"),
        (page.figure(float("nan")), "–"),
        (page.figure(-0.5, 2), "-0.50"),
        (page.share(1), "100.0 %"),
        (page.share(0.0), "0.0 %"),
        (page.share(0.00004), "0.004 %"),
        (page.share(float("inf")), "–"),
        (page.count(1234567), "1,234,567"),
        (page.count(0.25), "0.25"),
        (page.count(10.0), "10"),
        (page.pvalue(0.0), "< 0.001"),
        (page.pvalue(1), "1.000"),
        (page.pvalue(None), "–"),
    ],
)
def test_numbers(found: str, expected: str) -> None:
    assert found == expected


def decoded(uri: str) -> tuple[bytes, Image.Image]:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    data = base64.b64decode(body, validate=True)
    return data, Image.open(io.BytesIO(data))


def noise(height: int, width: int, channels: int = 3) -> Image.Image:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def test_pictures_stay_small_whatever_is_in_them() -> None:
    data, image = decoded(page.data_uri(noise(900, 1200)))
    assert len(data) <= 30_000
    assert max(image.size) <= 480
    data, image = decoded(page.data_uri(Image.new("RGB", (900, 1200), "red")))
    assert image.size == (360, 480)
    data, image = decoded(page.data_uri(Image.new("RGB", (30, 20), "red")))
    assert image.size == (30, 20)
    _, image = decoded(page.data_uri(noise(900, 1200), most=1))
    assert max(image.size) <= 64
    _, image = decoded(page.data_uri(Image.new("RGB", (5000, 1), "red")))
    assert image.size == (480, 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "F"])
def test_pictures_of_any_mode(mode: str) -> None:
    assert decoded(page.data_uri(Image.new(mode, (8, 8))))[1].mode == "RGB"


def test_pictures_hold_nothing_but_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "patient name"
    noise(20, 20).save(tmp_path / "a.jpg", exif=exif, comment=b"patient name", icc_profile=b"patient name")
    with Image.open(tmp_path / "a.jpg") as image:
        data, found = decoded(page.data_uri(image))
    assert b"patient" not in data
    assert not found.getexif()
    assert not {"comment", "icc_profile", "exif"} & set(found.info)


def test_transparency_is_laid_on_white() -> None:
    found = decoded(page.data_uri(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))[1]
    assert found.getpixel((4, 4)) == (255, 255, 255)
