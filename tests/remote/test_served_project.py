"""The live page of a jobflow-remote project."""

import pytest

from cryslator_flows.serving import live_campaigns
from cryslator_flows.serving.campaign_sources import find_source
from tests.remote.project import NAME
from tests.remote.test_campaigns import campaign_file
from tests.support.serving import served
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


def test_campaigns_of_a_project_are_served(run, jfr_project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live_campaigns, "REST", 0)
    file = campaign_file(tmp_path, "one")
    assert run("submit", file, "--worker", "default=local")[0] == 0
    with find_source(project=NAME) as source, served(source) as client:
        assert "waiting: 0 of " in client.text()
        before = client.state("/campaigns/one/")
        answer, page = client.ask("/campaigns/one/")
        assert (answer.status, "has no results yet" in page) == (503, True)
        jfr_project.run(900)
        wait_for(lambda: client.has_read_all() and "has no results yet" not in client.text(), 120)
        assert "finished: " in client.text()
        after = client.state("/campaigns/one/")
        assert after["state"] != before["state"]
        answer, page = client.ask("/campaigns/one/")
        assert (answer.status, "<h1>one" in page) == (200, True)
        assert f'data-state="{after["state"]}"' in page
        assert "#candidate=" in client.text("/?q=Mn+Sr")
        # Nothing of the project's file is shown.
        for text in (page, client.text()):
            assert jfr_project.uri not in text
            assert str(jfr_project.projects) not in text
    for target in ("one", str(file)):
        with find_source(target, NAME) as source:
            assert list(source.marks()) == ["one"]


def test_database_that_stops_is_an_error_until_it_is_back(killable_mongo, jfr_project):
    with find_source(project=NAME) as source, served(source) as client:
        assert "No campaign has started." in client.text()
        killable_mongo.kill()
        try:
            answer, page = client.ask("/")
            state = client.state()
        finally:
            killable_mongo.start()
        assert (answer.status, "its database does not answer any more" in page) == (503, True)
        assert state["state"] is None
        assert "its database does not answer any more" in state["progress"]
        assert client.ask("/")[0].status == 200
