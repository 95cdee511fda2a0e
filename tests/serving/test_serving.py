"""The live page of campaign folders, by a real server."""

import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from cryslator_flows.api import Campaign
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.serving import live_campaigns
from cryslator_flows.serving.campaign_sources import FolderSource, find_source
from cryslator_flows.serving.live_campaigns import Catalog
from cryslator_flows.system.sqlite_store import SQLiteStore
from tests.campaign.test_file import GOOD, write
from tests.running.test_started import start
from tests.support.serving import Client, served
from tests.support.waiting import wait_for

PAGE = "/campaigns/mine/"


def campaign_run(folder):
    relaxation = {"relax_elements": False, "maker": "tests.flows.makers.FussyRelaxMaker"}
    content = {**GOOD, "selection": {"top_k": 4, "per_composition": 1}, "relaxation": relaxation}
    return CampaignRun(Campaign.from_file(write(folder, content)), folder / "runs/mine")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished campaign, which no test changes, with the files that a report leaves."""
    folder = tmp_path_factory.mktemp("serving")
    campaign_run(folder).run(lambda *_: None)
    mine = folder / "runs/mine"
    (mine / "relaxed").mkdir()
    for name in ("relaxed.csv", "relaxed/a.cif", "relaxed/a.txt", "secret.csv"):
        (mine / name).write_text("of the campaign")
    (folder / "runs/outside").write_text("of others")
    (mine / "candidates.csv").symlink_to(folder / "runs/outside")
    return mine


@pytest.fixture(scope="module")
def client(finished):
    with served(FolderSource(finished.parent)) as client:
        yield client


def test_list_and_page(client, finished):
    wait_for(client.has_read_all, 120)
    text = client.text()
    assert "finished: " in text
    assert '<a href="campaigns/mine/">mine</a>' in text
    assert client.state()["progress"] == f"folder {finished.parent}"
    answer, page = client.ask(PAGE)
    assert answer.status == 200
    assert "<h1>mine" in page
    assert 'data-final="yes"' in page
    assert f'data-state="{client.state(PAGE)["state"]}"' in page
    assert client.state(PAGE)["progress"].startswith("finished: ")
    assert "of the campaign" in client.text(f"{PAGE}relaxed.csv")
    assert '<a href="relaxed.csv">' in page


def test_what_has_not_changed_is_neither_drawn_nor_sent_again(client, finished):
    answer, page = client.ask(PAGE)
    tag = answer.getheader("ETag")
    again, nothing = client.ask(PAGE, **{"If-None-Match": tag})
    assert (again.status, nothing, again.getheader("ETag")) == (304, "", tag)
    assert client.text(PAGE) == page
    catalog = Catalog(FolderSource(finished))
    (campaign, seen), (_, later) = (catalog.look()["mine"] for _ in range(2))
    assert seen is later
    assert catalog.page(campaign, seen) is catalog.page(campaign, later)


@pytest.mark.parametrize(
    "path",
    [
        "campaign.sqlite", "secret.csv", "jobs/", "relaxed/", "relaxed/a.txt", "relaxed/b.cif", "../outside",
        "..%2foutside", "%2e%2e/outside", "relaxed/../campaign.sqlite", "relaxed/..%2f..%2f..%2foutside",
        "/etc/passwd", "//etc/passwd", "candidates.csv", "relaxed/%00.cif", "relaxed.csv/",
    ],
)  # fmt: skip
def test_no_other_file_is_served(client, path):
    answer, text = client.ask(PAGE + path)
    assert (answer.status, "of " in text.replace("of this", "")) == (404, False)


def test_server_only_reads(client, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.suffix not in ("-shm", "-wal")}
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in ("/", "/state", PAGE, f"{PAGE}state", f"{PAGE}relaxed.csv"):
            assert client.ask(path, method)[0].status == 405
    assert client.ask(f"{PAGE}relaxed/a.cif")[0].status == 200
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_sites_read_nothing(client):
    port = client.address.rstrip("/").rpartition(":")[2]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
        answer, text = client.ask("/", Host=host)
        assert (answer.status, text) == (400, "Invalid host header")
    for host in (f"localhost:{port}", f"127.0.0.1:{port}"):
        assert client.ask("/", Host=host)[0].status == 200
    answer, text = client.ask(PAGE)
    assert answer.getheader("Content-Security-Policy") == "frame-ancestors 'none'"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Access-Control-Allow-Origin") is None
    for page in (text, client.text()):
        assert "default-src 'none'; script-src 'sha256-" in page
        assert "unsafe-eval" not in page


def test_search(client):
    wait_for(client.has_read_all, 120)
    everything = client.text("/?q=O")
    for query, number in (("Mn Ca", None), ("O-Ca-Mn", None), ("O3MnSr", None), ("Ca-O", 0), ("nothing", 0)):
        text = client.text(f"/?q={query.replace(' ', '+')}")
        rows = text.count("#candidate=")
        assert rows == number if number is not None else 0 < rows < everything.count("#candidate=")
        assert f"match <b>{query}</b>" in text
    assert "&lt;script&gt;" in client.text("/?q=%3Cscript%3E")
    assert "<script>" not in client.text("/?q=%3Cscript%3E")


def test_campaign_that_cannot_be_read_leaves_the_others(client, finished, tmp_path):
    (tmp_path / "runs/broken").mkdir(parents=True)
    (tmp_path / "runs/broken/campaign.sqlite").write_text("not a store at all")
    with closing(SQLiteStore(str(tmp_path / "runs/empty/campaign.sqlite"))) as empty:
        empty.connect()
    with served(FolderSource(tmp_path / "runs")) as client:
        text = client.text()
        assert "broken/campaign.sqlite: cannot be read (file is not a database)" in text
        assert "runs/empty: no campaign was started in this folder" in text
        # A new campaign appears by itself.
        before = client.state()["state"]
        shutil.copytree(finished, tmp_path / "runs/mine", symlinks=True)
        assert client.state()["state"] != before
        wait_for(client.has_read_all, 120)
        assert "finished: " in client.text()
        answer, page = client.ask("/campaigns/broken/")
        assert answer.status == 503
        assert "cannot be read (file is not a database)" in page
        assert client.ask("/campaigns/gone/")[0].status == 404


def test_page_changes_with_the_campaign(tmp_path, monkeypatch):
    monkeypatch.setattr(live_campaigns, "REST", 0)
    start(tmp_path, monkeypatch, until="enumerate")
    with served(FolderSource(tmp_path / "runs/mine")) as client:
        answer, page = client.ask(PAGE)
        assert (answer.status, "has no results yet" in page) == (503, True)
        first = client.state(PAGE)
        assert first["progress"].startswith("stopped: ")
        run = campaign_run(tmp_path)
        states = set()

        def watch(*_):
            states.add(client.state(PAGE)["progress"])

        run.run(watch)
        assert len(states) > 3
        assert any(state.startswith("running: ") for state in states)
        answer, page = client.ask(PAGE)
        assert answer.status == 200
        state = client.state(PAGE)["state"]
        assert state != first["state"]
        assert 'data-final="yes"' in page
        (tmp_path / "runs/mine/summary.json").write_text("{}")
        assert client.state(PAGE)["state"] != state
        assert '<a href="summary.json">' in client.text(PAGE)


def test_changes_are_drawn_after_a_rest(tmp_path, monkeypatch):
    """Until then the page and its state stay as they were, so that no browser loads it again and again."""
    start(tmp_path, monkeypatch, until="relax")
    source = FolderSource(tmp_path / "runs/mine")
    now = 1000.0
    monkeypatch.setattr(live_campaigns, "monotonic", lambda: now)
    catalog = Catalog(source)
    campaign, seen = catalog.look()["mine"]
    page = catalog.page(campaign, seen)
    campaign._rest_until = now + 1
    campaign_run(tmp_path).run(lambda *_: None)
    _, later = catalog.look()["mine"]
    assert later.state != seen.state == campaign.shown_state(later)
    assert catalog.page(campaign, later) is page
    now += 1
    assert campaign.shown_state(later) == later.state
    assert catalog.page(campaign, later).state == later.state


def test_campaign_that_could_not_be_read_for_a_moment(finished, monkeypatch):
    source = FolderSource(finished)
    opened = source.opened
    monkeypatch.setattr(source, "opened", lambda key: opened("gone"))
    catalog = Catalog(source)
    _, seen = catalog.look()["mine"]
    assert "cannot be read" in seen.error
    monkeypatch.setattr(source, "opened", opened)
    assert catalog.look()["mine"][1].word == "finished"


def test_what_a_user_names(finished, monkeypatch):
    monkeypatch.chdir(finished.parent.parent)
    for target in (None, "runs", "mine", "runs/mine", "campaign.yaml", str(finished)):
        with find_source(target) as source:
            assert list(source.marks()) == ["mine"]
            with source.opened("mine") as started:
                assert started.label == "mine"


def test_errors_name_the_fix(run, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("serve", "--port", 0)
    assert code == 2
    assert "runs: no campaign in this folder or in the folders inside it; name another folder" in err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run("serve", finished, "--port", port)
    assert code == 2
    assert f"127.0.0.1, port {port}: cannot be served (Address already in use); choose another with --port" in err
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = run("serve", finished, "--port", 0)
    assert code == 2
    assert "which is not installed; pip install 'cryslator-flows[serve]'" in err


def test_ctrl_c_ends_it_quietly(screen, finished):
    command = [screen[0], "serve", str(finished), "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background process ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    words, _, address = process.stdout.readline().removesuffix(" (stop with Ctrl-C)\n").rpartition(" ")
    assert words == f"Campaigns of folder {finished}:"
    assert Client(address).ask()[0].status == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "Stopped.\n", "")
