"""The documentation: every code block runs or is checked, the site builds, and a browser shows it without a network."""

import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
import yaml
from selenium.webdriver.common.keys import Keys

from cryslator_flows.api import Campaign
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.translator.default_model import DEFAULT_MODEL
from cryslator_flows.translator.model_folder import find_model
from docs import reference_tables
from docs.sentences import long_sentences
from tests.conftest import ROOT
from tests.crystals.test_orderings import needs_icet
from tests.support.once import made_once
from tests.support.pages import KINDS, PART, Block, check, prepare, read_blocks, run_page

PAGES = sorted(ROOT.glob("docs/**/*.md"))
FIRST = ROOT / "docs/first-campaign.md"
OTHERS = [ROOT / "README.md", *ROOT.glob("models/*/*.md"), *ROOT.glob("workflows/**/*.md")]


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_no_block_escapes(page):
    unknown = [str(block) for block in read_blocks(page) if block.kind not in KINDS]
    assert not unknown


@pytest.fixture(scope="module")
def first_campaign(request, warm_commands):
    """The folder that the first campaign leaves."""

    def start(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            run_page(read_blocks(FIRST), folder, warm_commands.bin)

    return made_once(request, "first", start)


@pytest.mark.slow
def test_the_first_campaign(first_campaign):
    summary = json.loads((first_campaign / "runs/first/summary.json").read_text())
    assert (summary["selected"], summary["relaxed"]) == (6, 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=needs_icet if page.stem in ("gallery", "orderings") else ())
        for page in PAGES
        if page != FIRST and read_blocks(page)
    ],
    ids=name,
)
def test_blocks(page, first_campaign, fake_vasp, perovskite, rutile, warm_commands, monkeypatch):
    """Other pages go on where the first campaign ends, on a machine with VASP, or what stands in for it."""
    shutil.copytree(first_campaign, fake_vasp, dirs_exist_ok=True)
    prepare(fake_vasp, perovskite, rutile)
    monkeypatch.syspath_prepend(fake_vasp)
    run_page(read_blocks(page), fake_vasp, warm_commands.bin)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("console", "cryslator screen --reran-failed campaign.yaml"),
        ("console", "cryslator scren campaign.yaml"),
        ("console", "jf job rerun --stat FAILED"),
        ("console", "make dmo"),
        ("console", "pip install 'cryslator-flows[cghnet]'"),
        ("console", "vasp_std"),
        ("console", "export 'A=b"),
        ("yaml", "name: no-first-line"),
        ("yaml", f"{PART}\nselection: {{topk: 3}}"),
        ("yaml", f"{PART}\nrelaxation: {{maker: NoSuchMaker}}"),
        ("yaml", "# campaign.yaml\nname: no-templates"),
        ("yaml", "# recipe.yaml\nname: no-val\ntrain: a.jsonl"),
        ("yaml", "# .atomate2.yaml\nVASP_COMMAND: vasp_std"),
        ("json", '{"target": "a"}'),
        ("text", "never printed"),
        ("python", "assert False"),
        ("bash", "false"),
        ("julia", "1 + 1"),
    ],
)
def test_mistakes_in_blocks_are_found(kind, text, tmp_path):
    block = Block(FIRST, 1, kind, text)
    with pytest.raises(AssertionError, match=r"first-campaign\.md, line 1: "):
        run_page([block], tmp_path)


def test_commands_of_the_readme_exist(tmp_path):
    for block in read_blocks(ROOT / "README.md"):
        if block.kind in ("console", ""):
            check(block, tmp_path)


@pytest.mark.parametrize("model", [Campaign, Recipe, *reference_tables.DOCUMENTS])
def test_every_key_has_a_meaning(model):
    sections = reference_tables.sections(model)
    assert [f"{part.title}: {key.name}" for part in sections for key in part.keys if not key.meaning] == []
    assert [part.title for part in sections if not part.text] == []


def test_the_reference_has_every_key_of_the_campaign_file():
    """Counted in another way: by the keys of the models themselves."""
    table = reference_tables.campaign_file()

    def names(value):
        if isinstance(value, dict):
            yield from value
            for inner in value.values():
                yield from names(inner)

    content = Campaign.from_file(ROOT / "workflows/perovskites-vasp.yaml").model_dump()
    content["relaxation"]["vasp"] = dict.fromkeys(content["relaxation"]["vasp"])
    missing = {key for key in names(content) if f"| `{key}` |" not in table}
    assert not missing
    assert "| `max_force` | number, above 0 | `5` | Largest force on an atom of a good start, in eV/angstrom |" in table
    assert "| `top_k` | whole number, at least 1 or null | `null` | Keep at most this many, of lowest energy" in table


@pytest.mark.parametrize(
    "page", [*PAGES, *(ROOT / f"{page}.md" for page in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY"))], ids=name
)
def test_sentences_are_short(page):
    assert list(long_sentences(page.read_text())) == []


WORDS = " ".join(["word"] * 20)


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (f"{WORDS} {WORDS}.", [(1, 40)]),
        (f"{WORDS}. {WORDS}! {WORDS}? {WORDS}.", []),
        (f"# Title\n\n- {WORDS}\n  {WORDS}", [(3, 40)]),
        (f"| {WORDS} {WORDS} |\n|---|\n| {WORDS} {WORDS} |", []),
        (f"```\n{WORDS} {WORDS}\n```", []),
        (f'{WORDS} `{WORDS}`, the paper "{WORDS}".', []),
        (f"{WORDS} by J. Noh, npj Comput. Mater. 9, 142.", [(1, 28)]),
        (f"Term\n:   {WORDS}. {WORDS} {WORDS}", [(1, 40)]),
    ],
)
def test_long_sentences_are_found(page, found):
    assert [row[:2] for row in long_sentences(page)] == found


def test_figures_of_the_pages():
    faq, first = ((ROOT / f"docs/{page}.md").read_text() for page in ("faq", "first-campaign"))
    assert f"of {len(find_model(DEFAULT_MODEL).config().elements)} elements" in faq
    extras = re.findall(
        r"^(\w[\w-]*) = \[", (ROOT / "pyproject.toml").read_text().split("optional-dependencies]")[1], re.M
    )
    assert [extra for extra in extras[:6] if f"| `{extra}` |" not in first] == []


def test_the_gallery_has_small_pictures():
    pictures = [path.stat().st_size for path in (ROOT / "docs/gallery").iterdir()]
    assert len(pictures) >= 8
    assert max(pictures) < 60_000
    assert sum(pictures) < 400_000


@pytest.fixture(scope="module")
def site(request):
    """The built site."""

    def build(folder):
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert not re.search("^WARNING", result.stderr, re.M)

    return made_once(request, "site", build)


@pytest.fixture(scope="module")
def address(site):
    """Where a server has the site."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=site)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
def test_the_site_asks_no_other_host(site):
    pages = [*site.rglob("*.html")]
    assert len(pages) > 25
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)")
    assert {(page.name, load) for page in pages for load in loads.findall(page.read_text())} == set()
    styles = re.compile(r"@import|url\([\"']?(?:https?:)?//")
    assert [sheet.name for sheet in site.rglob("*.css") if styles.search(sheet.read_text())] == []


@pytest.mark.slow
def test_the_navigation_has_every_page(site):
    text = (ROOT / "mkdocs.yml").read_text()
    assert [name(page) for page in PAGES if name(page).removeprefix("docs/") not in text] == []
    assert yaml.safe_load(text)["theme"]["font"] is False
    assert (site / "models/cryslator-universal/feature-map.png").is_file()
    assert (site / "workflows/perovskites-vasp.yaml").is_file()


@pytest.mark.slow
def test_a_browser_shows_every_page(browser, site, address):
    for page in sorted(site.rglob("index.html")):
        browser.get_log("browser")
        browser.get(f"{address}/{page.parent.relative_to(site)}/")
        loaded = "return performance.getEntriesByType('resource').map(entry => entry.name)"
        assert {entry for entry in browser.execute_script(loaded) if not entry.startswith(address)} == set()
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
        assert browser.find_element("css selector", "article h1").text
        broken = "return [...document.images].filter(image => !image.naturalWidth).map(image => image.src)"
        assert browser.execute_script(broken) == []


@pytest.mark.slow
def test_search_finds_the_hull(browser, address):
    browser.get(address)
    field = browser.find_element("css selector", "input.md-search__input")
    browser.execute_script("arguments[0].focus()", field)
    field.send_keys("hull")
    begin = time.monotonic()
    while not (found := browser.find_elements("css selector", ".md-search-result__link")):
        assert time.monotonic() - begin < 20
        time.sleep(0.1)
    assert any("guides/hull" in link.get_attribute("href") for link in found)
    field.send_keys(Keys.ESCAPE)
