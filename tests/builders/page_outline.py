"""What any page of ours must be: well-formed, accessible, self-contained, without scripts and control characters."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "input"}


class Outline(HTMLParser):
    """Check that tags nest, and collect headings, ids, links, pictures and tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.uses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tables, self.captions, self.shots, self.tags = 0, 0, 0, set()
        self.outlines: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag == "img":
            self.images.append(found)
        for name in ("popovertarget", "for"):
            if found.get(name):
                self.uses.append(f"#{found[name]}")
        if tag == "th":
            assert found.get("scope") in ("row", "col", "colgroup"), found
        self.tables += tag == "table"
        self.shots += "shot" in str(found.get("class")).split()
        self.captions += tag == "caption"
        assert not [name for name in found if name.startswith("on")]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.add(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "use":
            self.uses.append(str(found["href"]))
        if tag == "path" and found.get("class") == "o":
            self.outlines.append(str(found["d"]))
        if tag == "image":  # embedded once, in what is hidden
            self.images.append({"src": found["href"], "alt": "drawn by <use>, which has a label"})
        assert not [name for name in found if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def check(html: str) -> Outline:
    """Return the outline of a page that any page of ours must have."""
    found = Outline(html)
    assert found.headings[0] == 1
    assert found.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(found.headings, found.headings[1:], strict=False))
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in (*found.links, *found.uses) if link[0] == "#"} <= set(found.ids)
    assert all(use.startswith("#") for use in found.uses)
    assert not [link for link in found.links if link.startswith("/") or ":" in link]  # of files, relative ones only
    assert found.tables == found.captions
    assert all(image["alt"] and str(image["src"]).startswith("data:image/jpeg;base64,") for image in found.images)
    assert not found.tags & {"script", "iframe", "object", "embed", "form", "base", "foreignobject"}
    assert not re.search(r"https?://|url\((?!#)|@import", html)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", html)
    assert "None" not in found.text
    assert "nan" not in found.text.lower().replace("nan”", "").split()
    html.encode("utf-8")
    return found
