"""The page of a campaign, in a real browser."""

import base64
import json
import time
import zlib

import numpy as np
import pytest
from selenium.webdriver import ActionChains

from cryslator_flows.campaign.page.figures import periodic_table
from cryslator_flows.campaign.page.page import write_page
from cryslator_flows.crystals.packing import TranslatedCandidates, TranslatedChunk, encode_columns
from cryslator_flows.schemas import TranslationStats
from tests.campaign.test_report import screened, summed


def chunk(number):
    columns = {
        "template": np.zeros(number, int),
        "symbols": np.array(["Ti Zr O O"] * number),
        "candidate_id": np.array([f"{index:05d}" for index in range(number)]),
        "formula": np.array(["ZrO2", "BaZrO3", "SrBaZrO4", "CaO", *["ZrO2", "BaZrO3"] * number])[:number],
        "formation_energy_per_atom": np.linspace(-3, 1, number),
        "formation_energy_uncertainty": np.full(number, 0.1),
        # A formula of its own system, so that its phase diagram would be seen.
        "atoms_too_close": np.arange(number) == 3,
    }
    templates = base64.b64encode(zlib.compress(json.dumps({"<b>rutile": "{}"}).encode())).decode()
    packed = TranslatedCandidates(n_candidates=number, templates=templates, columns=encode_columns(columns))
    return TranslatedChunk(shortlist=packed, stats=TranslationStats(), translated=packed, rejections=[])


def load(browser, path):
    browser.get_log("browser")
    begin = time.monotonic()
    browser.get(path.as_uri())
    while browser.execute_script("return document.documentElement.dataset.ready") != "yes":
        assert time.monotonic() - begin < 30, browser.get_log("browser")
        time.sleep(0.05)
    assert browser.execute_script(
        "return performance.getEntriesByType('resource').filter(e => e.name.startsWith('http')).length"
    ) == 0  # fmt: skip
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


@pytest.mark.parametrize("kind", ["none", "synthetic", "running"])
def test_renders(browser, kind, tmp_path):
    rows = [] if kind == "none" else screened(synthetic=kind == "synthetic")
    load(browser, write_page(tmp_path / "r.html", summed(rows), rows, [], {}, 3 if kind == "running" else 0))
    assert ("Not finished: 3 jobs" in browser.page_source) == (kind == "running")


def test_large_table_sorts_and_viewer_opens(browser, rutile, tmp_path):
    rows = screened()
    rows[0] = rows[0].model_copy(update={"unrelaxed_structure": rutile, "translated_structure": rutile})
    load(browser, write_page(tmp_path / "r.html", summed(rows), rows, [chunk(10_000)], {}, 0))
    header = browser.find_elements("css selector", "#candidates thead th")[3]
    begin = time.monotonic()
    header.click()
    energy = "return document.querySelector('#candidates tbody td:nth-child(4)').textContent"
    while browser.execute_script(energy) != "1":
        assert time.monotonic() - begin < 2
    assert browser.find_element("css selector", "#candidates tbody td:nth-child(2)").text == "<b>rutile"
    systems = browser.find_elements("css selector", "#system option")
    assert [system.text for system in systems] == ["O-Zr", "Ba-O-Zr", "Ba-O-Sr-Zr"]
    for system in systems:
        system.click()
        assert browser.execute_script("return document.querySelectorAll('#hull .main-svg').length") > 0
    browser.find_element("id", "open").click()
    time.sleep(1)
    assert len(browser.find_elements("css selector", "#views canvas")) >= 2
    view = browser.find_element("css selector", "#views > div")
    eye = "return JSON.stringify(arguments[0]._fullLayout.scene._scene.getCamera().eye)"
    before = browser.execute_script(eye, view)
    scene = view.find_element("css selector", ".gl-container canvas")
    ActionChains(browser).scroll_to_element(scene).click_and_hold(scene).move_by_offset(60, 25).release().perform()
    assert browser.execute_script(eye, view) != before
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


@pytest.mark.parametrize(
    ("symbol", "row", "column"), [("H", 0, 0), ("Zr", 4, 3), ("La", 7, 2), ("Lu", 7, 16), ("U", 8, 5)]
)
def test_elements_stand_where_they_do_in_the_periodic_table(symbol, row, column):
    (heat,) = periodic_table({symbol: (-2.0, -1.5)})["data"]
    assert [(i, j) for i, line in enumerate(heat["z"]) for j, value in enumerate(line) if value is not None] == [
        (row, column)
    ]
    assert heat["hovertext"][row][column] == f"{symbol}: lowest -2.000, mean -1.500 eV/atom"
