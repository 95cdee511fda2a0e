"""The structures of the page in a real browser: what is drawn, moved and saved."""

import numpy as np
import pytest
from pymatgen.core import Structure
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.select import Select

from cryslator_flows.report.page.whole_page import write_page
from tests.report.test_page import check_quiet, chunk, content, load, with_structures
from tests.report.test_tables import screened
from tests.support.waiting import wait_for


@pytest.fixture
def crystals(rutile):
    """Unrelaxed, translated and relaxed: the second larger, the third with moved oxygens and a drift."""
    larger, relaxed = rutile.copy(), rutile.copy()
    larger.scale_lattice(1.1 * rutile.volume)
    relaxed.scale_lattice(1.2 * rutile.volume)
    relaxed.translate_sites([2, 3], [0.03, 0.02, 0.0])
    relaxed.translate_sites(range(len(relaxed)), [0.0, 0.0, 0.3])
    return rutile, larger, relaxed


@pytest.fixture
def page(browser, crystals, template, tmp_path):
    unrelaxed, translated, relaxed = crystals
    rows = with_structures(screened()[:2], unrelaxed)
    rows[0].translated_structure = translated
    rows[0].relaxations[0].structure = relaxed
    path = write_page(tmp_path / "r.html", content(rows, [chunk(40, template)]))
    load(browser, path)
    return path


def places(browser, place, kind="atom"):
    """Positions of the balls in a drawing."""
    script = f"""return [...document.querySelectorAll("{place} circle.{kind}")].map(
        ball => [+ball.dataset.site, +ball.getAttribute("cx"), +ball.getAttribute("cy")])"""
    return np.array(sorted(browser.execute_script(script)))


def set_slider(browser, value):
    browser.execute_script(f"const way = document.getElementById('way'); way.value = {value}; way.oninput()")
    return browser.find_element("css selector", "#overlay output").text


def test_all_drawings_have_one_scale_and_turn_at_once(browser, page):
    figures = browser.find_elements("css selector", "#views figure")
    captions = [figure.find_element("tag name", "figcaption").text.split(":")[0] for figure in figures[:3]]
    assert captions == ["unrelaxed", "translated", "relaxed, unrelaxed start"]
    bars = browser.execute_script(
        "return [...document.querySelectorAll('#views .bar')].map(bar => bar.getBoundingClientRect().width)"
    )
    assert len(bars) == 4
    assert max(bars) - min(bars) < 0.01
    legend = [item.text for item in browser.find_elements("css selector", "#legend li")]
    assert legend == ["Ti", "O"]
    first, other = "#views figure:nth-child(1)", "#views figure:nth-child(3)"
    before = places(browser, first), places(browser, other)
    drawing = browser.find_element("css selector", f"{first} svg")
    ActionChains(browser).scroll_to_element(drawing).click_and_hold(drawing).move_by_offset(40, 10).release().perform()
    dragged = places(browser, first), places(browser, other)
    assert all(np.abs(one - two).max() > 2 for one, two in zip(before, dragged, strict=True))
    drawing.send_keys(Keys.ARROW_LEFT)
    assert np.abs(places(browser, other) - dragged[1]).max() > 2
    Select(browser.find_element("id", "candidate")).select_by_index(1)
    assert len(browser.find_elements("css selector", "#views figure")) == 3
    check_quiet(browser)


def test_slider_moves_the_atoms_along_the_way(browser, page, crystals):
    unrelaxed, *_ = crystals
    assert set_slider(browser, 0) == "unrelaxed: volume +0.0 %, largest move 0.000 Å"
    start = places(browser, "#overlay")
    assert start == pytest.approx(places(browser, "#overlay", "old"))
    assert set_slider(browser, 50).startswith("50 % of the way from unrelaxed to translated: volume +4.9 %")
    assert set_slider(browser, 100) == "translated: volume +10.0 %, largest move 0.000 Å"
    # The drift of all atoms does not count: two of six move.
    move = np.array([0.03, 0.02, 0.0]) * (1 - 2 / 6)
    length = np.linalg.norm(unrelaxed.lattice.get_cartesian_coords(move))
    assert set_slider(browser, 200) == f"relaxed: volume +20.0 %, largest move {length:.3f} Å"
    assert places(browser, "#overlay") == pytest.approx(places(browser, "#views figure:nth-child(3)"))
    assert np.abs(places(browser, "#overlay") - start).max() > 3
    check_quiet(browser)


@pytest.mark.parametrize("kind", ["CIF", "POSCAR"])
def test_saved_files_are_the_structures(browser, page, crystals, kind, tmp_path):
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    names = ["unrelaxed", "translated", "relaxed-unrelaxed-start"]
    for figure, name, structure in zip(
        browser.find_elements("css selector", "#views figure"), names, crystals, strict=False
    ):
        (button,) = [item for item in figure.find_elements("tag name", "button") if item.text == kind]
        file = tmp_path / f"ZrO2-00000-{name}.{'cif' if kind == 'CIF' else 'vasp'}"
        browser.execute_script("arguments[0].click()", button)
        wait_for(file.exists, 30, 0.05)
        # pymatgen tells a POSCAR by its name.
        read = Structure.from_str(file.read_text(), fmt="cif" if kind == "CIF" else "poscar")
        assert [site.specie for site in read] == [site.specie for site in structure]
        assert read.lattice.parameters == pytest.approx(structure.lattice.parameters, abs=1e-4)
        off = read.frac_coords - structure.frac_coords
        assert off == pytest.approx(np.round(off), abs=1e-4)
    check_quiet(browser)


def test_dark_page_has_no_white_box(browser, page):
    """Nothing but controls of the browser has a background that is light."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    try:
        light = browser.execute_script("""
            return [...document.querySelectorAll("body *:not(button, input, select, option)")].filter(node => {
              const color = getComputedStyle(node).backgroundColor;
              const [red, green, blue, alpha = 1] = color.match(/[\\d.]+/g).map(Number);
              return alpha > 0.5 && red + green + blue > 450 && node.checkVisibility();
            }).map(node => node.outerHTML.slice(0, 80))""")
        assert light == []
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
