"""The page of a campaign by the rules of axe-core, which tests/install-axe.sh installs."""

import pytest

from cryslator_flows.report.page.whole_page import write_page
from tests.conftest import ROOT, chromium
from tests.report.test_page import chunk, content, load, with_structures
from tests.report.test_tables import screened

AXE = ROOT / ".venv/axe.min.js"


@pytest.fixture(scope="module")
def browser():
    with chromium(logs={"browser": "ALL", "performance": "ALL"}) as driver:
        yield driver


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_fault(browser, scheme, rutile, template, tmp_path):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    made = content(with_structures(screened(), rutile), [chunk(40, template)])
    load(browser, write_page(tmp_path / "r.html", made))
    browser.set_script_timeout(120)
    # As a person's developer tools would: the page's policy forbids scripts of others.
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
    faults = browser.execute_async_script("axe.run().then(found => arguments[0](found.violations))")
    serious = [fault for fault in faults if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in serious] == []
