"""Pages in a real browser: silent, alone, readable at any width and in the dark, reachable by keyboard, printable."""

import re
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from challenge_folders import draw_photo, save_photo
from pair_reports import make_pairs
from score_reports import HISTORY, SIZE, make_report, with_photos
from search_results import make_result

from magic_cli import tasks
from magic_cli.config import resolve
from magic_cli.report import score_page
from magic_cli.report.progress_page import ProgressPage
from magic_cli.report.search import page as search_page

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="no chromium: apt-get install chromium")
PAGES = ("report", "hostile", "pairs", "prepare", "search", "progress")
LOOKS = [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")]

WIDER = """[...document.querySelectorAll('body *')].filter(e => {
  if (e.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let up = e.parentElement; up; up = up.parentElement)
    if (getComputedStyle(up).overflowX != 'visible') return false;
  return getComputedStyle(e).position != 'absolute';
}).map(e => e.tagName + '.' + e.className).slice(0, 5)"""

NAMELESS = """[...document.querySelectorAll('img, svg, [role=region], [role=img], nav')].filter(e =>
  !e.closest('[aria-hidden=true]') && !e.getAttribute('alt') && !e.getAttribute('aria-label')
).map(e => e.outerHTML.slice(0, 200))"""

# WCAG 2: contrast of each text with what lies below it, backgrounds composed from the page upwards
FAINT = """(() => {
  const parse = c => { const n = c.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const ground = e => {
    const above = [];
    for (let up = e; up; up = up.parentElement) above.unshift(parse(getComputedStyle(up).backgroundColor));
    return above.reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); let count = 0;
  for (let node; node = walk.nextNode();) {
    const e = node.parentElement;
    if (!node.textContent.trim() || !e.getClientRects().length || e.closest('style, title')) continue;
    const style = getComputedStyle(e), below = ground(e), inSvg = e.closest('svg');
    const colour = over(parse(inSvg ? style.fill : style.color), below);
    const [high, low] = [light(colour), light(below)].sort((a, b) => b - a), ratio = (high + 0.05) / (low + 0.05);
    count++; if (ratio < 4.5) found.push(ratio.toFixed(2) + ' ' + node.textContent.trim().slice(0, 40));
  }
  return [count, found.slice(0, 10)];
})()"""

STOPS = """[...document.querySelectorAll(
  'a[href], [tabindex="0"], summary, button, input[type=checkbox], input[type=radio]:checked'
)].filter(e => e.checkVisibility()).length"""
FOCUS = """(() => {
  const e = document.activeElement, all = [...document.querySelectorAll('*')], style = getComputedStyle(e);
  const visible = style.outlineStyle != 'none' && parseFloat(style.outlineWidth) >= 2;
  return [all.indexOf(e), e === document.body, visible];
})()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> dict[str, Path]:
    """The pages to look at; a further one is one more name."""
    folder = tmp_path_factory.mktemp("pages")
    save_photo(folder / "photo.jpg", draw_photo(SIZE, 1))
    plain, hostile = make_report(folder, systems=2), make_report(folder, systems=2, hostile=True)
    gold = with_photos(plain.gold, folder / "photo.jpg")
    found = {"prepare": prepared / "index.html", "progress": folder / "progress.html"}
    task = tasks.get("seg")
    config = resolve(task.config_class, "tiny", [f"epochs={2 * len(HISTORY)}"])
    with ProgressPage(found["progress"], "seg", task, config, 0, [HISTORY]).following():
        pass
    texts = {
        "report": score_page.html(plain.report, gold, plain.masks, HISTORY),
        "search": search_page.html(make_result(folder, hits=4, k=3, size=(48, 64))),
        "hostile": score_page.html(hostile.report, hostile.gold, hostile.masks, HISTORY),
    }
    texts["pairs"] = make_pairs(folder / "pairs").html("clip", "make")
    for name, text in texts.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(text, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    with browser.opened(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_said_fetched_or_run(chromium: browser.Browser, pages: dict[str, Path], name: str) -> None:
    chromium.look(1280)
    chromium.open(pages[name])
    title = chromium.run("document.title")
    assert title
    assert title != "owned"
    assert chromium.run("document.scripts.length") == 0
    assert chromium.run("document.documentElement.lang") == "en"
    assert chromium.run("document.compatMode") == "CSS1Compat"
    assert chromium.complaints() == []
    others = [url for url in chromium.requests() if not url.startswith("data:")]
    assert others == [pages[name].resolve().as_uri()]
    assert chromium.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


@pytest.mark.parametrize("name", PAGES)
def test_it_fits_and_is_read_at_any_width_and_in_the_dark(
    chromium: browser.Browser, pages: dict[str, Path], name: str
) -> None:
    chromium.open(pages[name])
    for width, scheme in LOOKS:
        chromium.look(width, scheme=scheme)
        assert chromium.run(WIDER) == [], width
        assert chromium.run("document.documentElement.scrollWidth") <= width
        count, faint = chromium.run(FAINT)
        assert count > 20
        assert faint == [], (width, scheme)
    grounds = set()
    for scheme in ("light", "dark"):
        chromium.look(1280, scheme=scheme)
        grounds.add(chromium.run("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    assert chromium.run(NAMELESS) == []


@pytest.mark.parametrize("name", PAGES)
def test_the_keyboard_reaches_links_and_what_scrolls(
    chromium: browser.Browser, pages: dict[str, Path], name: str
) -> None:
    chromium.look(360)
    chromium.open(pages[name])
    expected = chromium.run(STOPS)
    assert expected >= 3
    seen: dict[int, bool] = {}
    for _ in range(expected):
        chromium.press_tab()
        index, nowhere, visible = chromium.run(FOCUS)
        assert not nowhere
        seen[index] = visible
    assert len(seen) == expected
    assert all(seen.values()), "focus that cannot be seen"
    scrolling = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && "
    scrolling += "getComputedStyle(e).overflowX == 'auto' && e.tabIndex < 0).length"
    assert chromium.run(scrolling) == 0


@pytest.mark.parametrize("name", PAGES)
def test_it_prints(chromium: browser.Browser, pages: dict[str, Path], name: str) -> None:
    chromium.look(1280, scheme="dark")
    chromium.open(pages[name])
    pdf = chromium.pdf()
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 1
    chromium.look(720, scheme="dark", media="print")  # A4 less its margins
    assert chromium.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.run(FAINT)[1] == []
    assert chromium.run(WIDER) == []


def test_these_checks_can_fail(chromium: browser.Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        "<title>a</title><p style='color:#999;background:#fff;width:2000px'>pale</p><img src=http://127.0.0.1:9/>"
        "<svg><text y=20 fill='#eee'>paler</text></svg><script>document.title = 'owned'; console.log(1)</script>"
    )
    chromium.look(360)
    chromium.open(tmp_path / "bad.html")
    assert chromium.run("document.title") == "owned"
    assert len(chromium.complaints()) >= 1
    assert "http://127.0.0.1:9/" in chromium.requests()
    assert chromium.run(WIDER) == ["P."]
    assert len(chromium.run(NAMELESS)) == 2
    assert [line[5:] for line in chromium.run(FAINT)[1]] == ["pale", "paler"]


def test_even_what_slipped_through_would_not_run_or_fetch(chromium: browser.Browser, pages: dict[str, Path]) -> None:
    chromium.look(1280)
    chromium.open(pages["report"])
    chromium.run(
        """(async () => {
        const script = document.createElement('script'); script.textContent = "document.title = 'owned'";
        const image = new Image(); image.src = 'http://127.0.0.1:9/leak.png';
        image.setAttribute('onerror', "document.title = 'owned'");
        document.body.append(script, image); await new Promise(done => setTimeout(done, 200)); })()"""
    )
    assert chromium.run("document.title") != "owned"
    failed = [e["params"] for e in chromium.events if e["method"] == "Network.loadingFailed"]
    leaks = [url for url in chromium.requests() if url.startswith("http")]
    assert all(one.get("blockedReason") == "csp" for one in failed)
    assert len(failed) == len(leaks)


def test_a_region_is_chosen_without_a_script(chromium: browser.Browser, pages: dict[str, Path]) -> None:
    """Query and case side by side, moved to the tile of the region; photos come back, and they are what is printed."""
    chromium.look(390)
    chromium.open(pages["search"])
    shown = "[...document.querySelectorAll('.whole, .tile')].filter(e => e.checkVisibility()).length"
    moved = "getComputedStyle(document.querySelector('.tile image')).transform"
    assert chromium.run(shown) == 4
    chromium.run("document.querySelector('#region-0').focus()")
    for _ in range(2):
        for kind in ("rawKeyDown", "keyUp"):
            chromium.call(
                "Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39
            )
    assert chromium.run("document.querySelector('#region-2').checked")
    assert chromium.run(shown) == 8
    assert "-64" in chromium.run(moved)
    assert chromium.run("document.documentElement.scrollWidth") <= 390
    chromium.run("document.querySelector('#region-0').click()")
    assert chromium.run(shown) == 4


def test_the_gallery_sorts_filters_and_hides_lines_without_a_script(
    chromium: browser.Browser, pages: dict[str, Path]
) -> None:
    chromium.look(1280)
    chromium.open(pages["report"])
    shown = """[...document.querySelectorAll('.shot')].filter(e => e.checkVisibility())
        .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top
            || a.getBoundingClientRect().left - b.getBoundingClientRect().left)
        .map(e => [e.querySelector('p > b').textContent, e.style.getPropertyValue('--d0'), e.className])"""
    first = chromium.run(shown)
    assert len(first) == 16
    assert [int(dice) for _, dice, _ in first] == sorted(int(dice) for _, dice, _ in first)
    chromium.run("document.querySelector('#sort-best').click()")
    assert chromium.run(shown)[0][0] == first[-1][0]
    chromium.run("document.querySelector('#only-small').click()")
    kept = chromium.run(shown)
    assert 0 < len(kept) < 16
    assert all("small" in classes.split() for _, _, classes in kept)
    chromium.run("document.querySelector('#only-every').click()")
    line = "getComputedStyle(document.querySelector('.store .{}')).visibility"
    for switch, key in (("show-s0", "s0"), ("show-a0", "a0")):
        assert chromium.run(line.format(key)) == "visible"
        chromium.run(f"document.querySelector('#{switch}').click()")
        assert chromium.run(line.format(key)) == "hidden"
    chromium.run("document.querySelector('#show-lines').click()")
    assert chromium.run(line.format("s1")) == "hidden"


def test_a_photo_is_enlarged_and_a_cell_opened_by_the_keyboard(
    chromium: browser.Browser, pages: dict[str, Path]
) -> None:
    chromium.look(390)
    chromium.open(pages["report"])
    opened = "[...document.querySelectorAll('[popover]')].filter(e => e.matches(':popover-open')).map(e => e.className)"
    for button, panel in ((".shot .open", "zoom"), (".heat button", "behind")):
        assert chromium.run(opened) == []
        chromium.run(f"document.querySelector('{button}').focus()")
        press(chromium, "Enter", "\r")
        assert chromium.run(opened) == [panel]
        wide = "document.querySelector('[popover]:popover-open').getBoundingClientRect().width"
        assert 250 < chromium.run(wide) <= 390
        press(chromium, "Escape")
    chromium.run("document.querySelector('.shot:nth-child(2) .open').click()")
    chromium.run("document.querySelector('.zoom:popover-open label[for=show-s0]').click()")
    assert chromium.run("document.querySelector('#show-s0').checked") is False
    assert chromium.run(opened) == ["zoom"]  # the switch is in the enlarged view, too


def press(chromium: browser.Browser, key: str, text: str = "") -> None:
    codes = {"Enter": 13, "Escape": 27}
    for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
        words = {"text": text} if text and kind == "keyDown" else {}
        chromium.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **words)
