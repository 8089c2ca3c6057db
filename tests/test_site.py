"""The documentation site: it builds without a warning, loads nothing from elsewhere, and every link leads somewhere."""

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import magic_cli

pytest.importorskip("mkdocs", reason="pip install '.[docs]' builds the site")
pytest.importorskip("mkdocstrings")

SITE = Path(__file__).resolve().parents[1] / "examples" / "site"
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """The links of a page, what it loads, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        target = values.get(LOADED.get(tag, "href"))
        if target:
            self.links.append(target)
        if target and tag in LOADED and values.get("rel") != "canonical":
            self.loaded.append(target)


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(out)]
    return subprocess.run(command, capture_output=True, text=True)


def broken(pages: dict[Path, Page]) -> Iterator[str]:
    """Yield the links within the site whose file or anchor is not there."""
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = target not in pages or not parts.fragment or unquote(parts.fragment) in pages[target].anchors
            if not target.is_file() or not known:
                yield f"{path.name}: {link}"


def test_the_site_builds_and_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "site"
    done = build(SITE / "mkdocs.yml", out)
    assert done.returncode == 0, done.stderr
    pages = {path: Page(path) for path in out.rglob("*.html") if path.name != "404.html"}
    assert {"index.html", "glossary.html", "commands.html", "metrics.html"} <= {path.name for path in pages}
    assert [link for page in pages.values() for link in page.loaded if urlsplit(link).netloc] == []
    assert list(broken(pages)) == []
    reference = {anchor for path, page in pages.items() if path.parent.name == "reference" for anchor in page.anchors}
    assert set(magic_cli.__all__) - {"__version__"} <= {anchor.rpartition(".")[2] for anchor in reference}
    assert "--folds" in (out / "reference" / "commands.html").read_text(encoding="utf-8")
    first = next(page for path, page in pages.items() if path == out / "index.html")
    assert broken({out / "index.html": first, tmp_path / "gone.html": Page(out / "index.html")})


def test_what_is_broken_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "more.md").write_text("# More\n\n[a](gone.md), [b](CHANGELOG.md#gone)\n")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {SITE / 'mkdocs.yml'}\ndocs_dir: pages\nsite_dir: site\nhooks: [{SITE / 'repository.py'}]\n"
        "plugins: [search]\nextra_css: []\nwatch: []\n"
    )
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "'more.md' contains a link 'gone.md'" in done.stderr
    assert "'CHANGELOG.md#gone'" in done.stderr
    assert 'not included in the "nav" configuration' in done.stderr
