"""Isostructural pairs in processes that are killed, share a folder or read what another job left."""

import os
import signal
import subprocess

import pytest

from cryslator_flows.errors import StoreError
from cryslator_flows.pairs.sources import chunks, isostructural
from cryslator_flows.pairs.sources.isostructural import (
    read_isostructural,
)
from tests.pairs.test_isostructural import LENGTHS, dropped_rows, line, salt


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def salts(tmp_path, monkeypatch):
    """A file of crystals of one kind, that make several chunks of crystals and of targets."""
    monkeypatch.setattr(isostructural, "CRYSTALS_AT_ONCE", 10)
    monkeypatch.setattr(isostructural, "TARGETS_AT_ONCE", 5)
    anions = {"O": 0, "S": 0.6, "F": -0.1, "Cl": 0.5}
    path = tmp_path / "salts.jsonl"
    rows = [
        line(f"{cation}{anion}", salt(cation, anion, length + more))
        for cation, length in LENGTHS.items()
        for anion, more in anions.items()
    ]
    path.write_text("\n".join(rows))
    return path


# Each chunk of crystals holds ten, each of targets five; after so many chunks the process kills itself.
KILLED = """
import os, signal, sys
from cryslator_flows.cli.main import main
from cryslator_flows.pairs.sources import chunks
from cryslator_flows.pairs.sources import isostructural
isostructural.CRYSTALS_AT_ONCE, isostructural.TARGETS_AT_ONCE = 10, 5
whole, left = chunks.whole_file, int(sys.argv.pop(1))
def counted(path):
    global left
    left -= 1
    if left == 0:
        path.with_name(".half.partial").write_text('{"half of a row')
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(path)
chunks.whole_file = counted
main()
"""


@pytest.mark.parametrize("chunk", [2, 4, 7])
def test_after_a_kill_the_same_command_continues_with_the_same_result(run, python, tmp_path, salts, monkeypatch, chunk):
    options = ["--max-per-target", "1"]
    assert run("pairs", "isostructural", salts, "-o", tmp_path / "whole", *options)[0] == 0
    command = ["pairs", "isostructural", str(salts), "-o", str(tmp_path / "own"), *options]
    (tmp_path / "killed.py").write_text(KILLED)
    killed = subprocess.run([python, tmp_path / "killed.py", str(chunk), *command], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    there = {path.name for path in (tmp_path / "own/unfinished").glob("*-*.jsonl")}
    assert len(there) == chunk - 1
    made = []

    def work(path, *rest):
        made.append(path.name)
        return write_rows(path, *rest)

    write_rows = chunks._write_rows
    monkeypatch.setattr(chunks, "_write_rows", work)
    assert run(*command)[0] == 0
    assert not there & set(made)
    assert len(there) + len(made) == 3 + 5
    assert files_of(tmp_path / "own") == files_of(tmp_path / "whole")
    assert not (tmp_path / "own/unfinished").exists()


def test_several_processes_make_the_same_pairs(run, tmp_path, salts, monkeypatch):
    options = ["--max-per-target", 1]
    assert run("pairs", "isostructural", salts, "-o", tmp_path / "one", *options)[0] == 0
    monkeypatch.setattr(chunks, "cpu_count", lambda: 2)
    assert run("pairs", "isostructural", salts, "-o", tmp_path / "two", *options)[0] == 0
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


def kill_own_process(task):
    if os.getpid() != task:
        os.kill(os.getpid(), signal.SIGKILL)
    yield {"made by": task}


def test_a_process_that_is_killed_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "cpu_count", lambda: 2)
    tasks = [os.getpid()] * 8
    found = [path for path, _ in chunks.in_chunks(tasks, kill_own_process, tmp_path, "rows")]
    assert [row for path in found for _, row in chunks.read_rows(path)] == [{"made by": os.getpid()}] * 8


def test_two_commands_do_not_share_a_folder(tmp_path, salts):
    first = read_isostructural(salts, tmp_path / "own/unfinished")
    next(first)
    with pytest.raises(StoreError, match="another process makes pairs there"):
        next(read_isostructural(salts, tmp_path / "own/unfinished"))
    first.close()
    assert next(read_isostructural(salts, tmp_path / "own/unfinished"))


def test_the_output_is_not_read(run, tmp_path):
    for cation in LENGTHS:
        salt(cation).to(str(tmp_path / f"{cation}O.cif"))
    for _ in range(2):
        run("pairs", "isostructural", tmp_path, "-o", tmp_path / "own", "--split", "none")
        assert not [row for row in dropped_rows(tmp_path / "own") if "own" in row["name"]]
