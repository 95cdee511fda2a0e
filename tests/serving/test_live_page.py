"""The live page of a campaign that gains results, in a real browser."""

import pytest

from cryslator_flows.serving import live_campaigns
from cryslator_flows.serving.campaign_sources import FolderSource
from tests.conftest import chromium
from tests.report.test_accessibility import AXE
from tests.running.test_started import start
from tests.serving.test_serving import PAGE, campaign_run
from tests.support.serving import served
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def browser():
    with chromium(logs={"browser": "ALL"}) as driver:
        yield driver


def axe_faults(browser):
    """Ids of the rules of axe-core that a page breaks; none where axe-core is not installed."""
    if not AXE.exists():
        return []
    browser.execute_script(AXE.read_text())
    faults = browser.execute_async_script("axe.run().then(found => arguments[0](found.violations))")
    return [fault["id"] for fault in faults]


def is_ready(browser):
    return browser.execute_script("return document.documentElement.dataset.ready") == "yes"


def script(browser, expression):
    return browser.execute_script(f"return {expression}")


SEARCH = "document.querySelector('#candidates_wrapper [type=search]').value"
STATE = "document.documentElement.dataset.state"


@pytest.mark.slow
def test_page_and_list_refresh_while_a_campaign_gains_results(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(live_campaigns, "REST", 0)
    start(tmp_path, monkeypatch, until="relax")
    with served(FolderSource(tmp_path / "runs")) as client:
        browser.get(client.address)
        listed = browser.current_window_handle
        wait_for(client.has_read_all, 120)
        browser.switch_to.new_window("tab")
        browser.get(client.address + PAGE.lstrip("/"))
        wait_for(lambda: is_ready(browser), 120)
        before = script(browser, STATE)
        assert script(browser, "document.documentElement.dataset.final") == "no"
        wait_for(lambda: script(browser, "document.getElementById('progress').textContent").startswith("stopped"), 60)
        browser.execute_script("scrollTo(0, 400)")

        campaign_run(tmp_path).run(lambda *_: None)
        state = client.state(PAGE)["state"]
        assert state != before
        wait_for(lambda: script(browser, STATE) == state and is_ready(browser), 120)
        assert script(browser, "document.documentElement.dataset.final") == "yes"
        wait_for(lambda: script(browser, "scrollY") == 400, 60)
        wait_for(lambda: script(browser, "document.getElementById('progress').textContent").startswith("finished"), 60)

        browser.switch_to.window(listed)
        wait_for(lambda: "finished: " in browser.page_source and "reading ..." not in browser.page_source, 120)
        assert axe_faults(browser) == []
        box = browser.find_element("name", "q")
        box.send_keys("O3MnSr\n")
        wait_for(lambda: browser.find_elements("css selector", "td a[href*='#candidate=']"), 120)
        assert axe_faults(browser) == []
        browser.find_element("css selector", "td a[href*='#candidate=']").click()
        wait_for(lambda: is_ready(browser) and script(browser, SEARCH), 120)
        assert script(browser, "document.querySelectorAll('#candidates tbody tr').length") == 1
        assert script(browser, SEARCH) == browser.current_url.partition("=")[2]
        assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


@pytest.mark.slow
def test_reader_who_selects_text_is_not_disturbed(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(live_campaigns, "REST", 0)
    start(tmp_path, monkeypatch, until="relax")
    with served(FolderSource(tmp_path / "runs")) as client:
        browser.get(client.address + PAGE.lstrip("/"))
        wait_for(lambda: is_ready(browser), 120)
        before = script(browser, STATE)
        browser.execute_script("getSelection().selectAllChildren(document.querySelector('h1'))")
        campaign_run(tmp_path).run(lambda *_: None)
        button = wait_for(lambda: browser.find_elements("id", "refresh"), 120)[0]
        assert script(browser, STATE) == before
        button.click()
        wait_for(lambda: script(browser, STATE) == client.state(PAGE)["state"] and is_ready(browser), 120)
