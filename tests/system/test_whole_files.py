"""Files are written as a whole: stops, full disks, links, devices and two writers at once."""

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryslator_flows.errors import StoreError
from cryslator_flows.system.whole_files import check_output, whole_file, whole_folder, whole_text, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@given(st.one_of(st.binary(), st.text(st.characters(exclude_categories=["Cs"]))))
@settings(max_examples=30)
def test_content_is_what_was_given(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("whole") / "new folder" / "file"
    write_whole(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("old", [None, "empty", "link"])
def test_a_folder_appears_with_all_its_files(tmp_path, old):
    target = tmp_path / "folder"
    if old is not None:
        (tmp_path / ("real" if old == "link" else "folder")).mkdir()
    if old == "link":
        target.symlink_to("real")

    def stopped():
        with whole_folder(target) as folder:
            (folder / "a").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with whole_folder(target) as folder:
        (folder / "a").write_text("a")
        assert not (target / "a").exists()
    assert names(target) == ["a"]
    assert names(tmp_path) == (["folder", "real"] if old == "link" else ["folder"])
    with pytest.raises(StoreError, match="folder: cannot be written"), whole_folder(target):
        pass
    assert names(target) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, FileNotFoundError])
def test_a_stop_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "file").write_text("old")

    def stopped():
        with whole_file(tmp_path / "file") as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        stopped()
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def kill_while_writing(path):
    code = (
        "import os, sys, pathlib; from cryslator_flows.system.whole_files import whole_file\n"
        "with whole_file(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'x' * 100_000); file.flush(); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_a_kill_leaves_the_old_file_whole(tmp_path):
    (tmp_path / "file").write_text("old")
    kill_while_writing(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"
    # What reads a folder of structures leaves hidden files out.
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["file"]


def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path):
    kill_while_writing(tmp_path / "file")
    kill_while_writing(tmp_path / "file")
    assert len(names(tmp_path)) == 1
    # Nothing that lives loses its file, whatever another writer removes.
    with whole_file(tmp_path / "file") as first:
        first.write(b"1")
        write_whole(tmp_path / "file", "2")
        first.write(b"1")
    assert (tmp_path / "file").read_text() == "11"
    assert names(tmp_path) == ["file"]


def test_many_writers_at_once_leave_one_whole_file(tmp_path):
    contents = [str(number) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=write_whole, args=(tmp_path / "file", content)) for content in contents * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_text() in contents
    assert names(tmp_path) == ["file"]


def test_what_stands_in_the_way_of_a_partial_file_is_neither_followed_nor_written(tmp_path):
    kill_while_writing(tmp_path / "file")
    (partial,) = tmp_path.iterdir()
    partial.unlink()
    (tmp_path / "other").write_text("kept")
    partial.symlink_to("other")
    write_whole(tmp_path / "file", "new")
    partial.unlink()
    partial.hardlink_to(tmp_path / "other")
    write_whole(tmp_path / "file", "newer")
    assert [(tmp_path / name).read_text() for name in ("file", "other")] == ["newer", "kept"]
    assert names(tmp_path) == ["file", "other"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(StoreError, match=r"file: cannot be written \(File too large\); free some space"):
            write_whole(tmp_path / "file", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_error_of_what_is_read_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError, match="source"), whole_file(tmp_path / "file") as file:
        file.write((tmp_path / "source").read_bytes())


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "target").write_text("old")
    (tmp_path / "link").symlink_to("there/target")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "target").read_text() == "new"
    (tmp_path / "dangling").symlink_to("there/missing")
    write_whole(tmp_path / "dangling", "new")
    assert (tmp_path / "there" / "missing").read_text() == "new"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StoreError, match="loop: cannot be written"):
        write_whole(tmp_path / "loop", "new")
    assert (tmp_path / "loop").is_symlink()


def test_a_pipe_is_written_to_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_whole(tmp_path / "pipe", "through")
    reader.join()
    assert read == ["through"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(StoreError, match=r"/dev/full: cannot be written .*free some space"):
        write_whole(Path("/dev/full"), "x")


def test_the_mode_of_a_file_stays(tmp_path):
    (tmp_path / "private").write_text("old")
    (tmp_path / "private").chmod(0o600)
    write_whole(tmp_path / "private", "new")
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    write_whole(tmp_path / "new", "new")
    (tmp_path / "usual").write_text("")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_protected_file_is_not_replaced(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o444)
    with pytest.raises(StoreError, match="Permission denied"):
        write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"


def test_of_two_writers_each_writes_a_whole_file(tmp_path):
    with whole_file(tmp_path / "file") as first:
        first.write(b"1" * 10)
        with whole_file(tmp_path / "file") as second:
            second.write(b"2" * 20)
        assert (tmp_path / "file").read_bytes() == b"2" * 20
        first.write(b"1" * 10)
    assert (tmp_path / "file").read_bytes() == b"1" * 20
    assert names(tmp_path) == ["file"]


def test_the_longest_name_and_names_that_are_no_text(tmp_path):
    write_whole(tmp_path / ("n" * 255), "x")
    with pytest.raises(StoreError, match="File name too long"):
        write_whole(tmp_path / ("n" * 256), "x")
    with whole_text(tmp_path / "text") as lines:
        lines.write("\udcff\r\n")
    assert (tmp_path / "text").read_bytes() == b"\\udcff\r\n"


def test_outputs_that_cannot_be(tmp_path):
    (tmp_path / "in").write_text("")
    (tmp_path / "link").symlink_to("in")
    check_output(tmp_path / "out", tmp_path / "in", tmp_path / "missing")
    for path, words in (
        (tmp_path, "is a folder; give the name of a file"),
        (tmp_path / "in", "is read by this command; give another file"),
        (tmp_path / "link", "is read by this command; give another file"),
        (tmp_path / "no" / "out", "no folder .*no"),
    ):
        with pytest.raises(StoreError, match=words):
            check_output(path, tmp_path / "in")
