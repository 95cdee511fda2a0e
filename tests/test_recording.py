"""The recording of a terminal: an SVG that moves, and that shows the last screen where nothing may move."""

import subprocess
from xml.etree import ElementTree

import pytest

from docs.record_terminal import HEIGHT, MARGIN, MOST, ROWS, Recording, draw, record

SVG = "{http://www.w3.org/2000/svg}"


def test_a_recording(tmp_path):
    recording = record(tmp_path, ["printf 'a \\033[31mred\\033[0m <b>\\n'", "seq 200"])
    text = draw(recording)
    root = ElementTree.fromstring(text)
    lines = {f"#{group.get('id')}": " ".join(piece.text for piece in group) for group in root.find(f"{SVG}defs")}
    frames = root.findall(f"./{SVG}g/{SVG}g/{SVG}g")
    screens = [[lines[use.get("href")] for use in frame] for frame in frames]
    assert any("a red <b>" in screen for screen in screens)
    assert screens[-1][-1] == "200"
    assert text.count("%{transform") == len(frames) == len(recording.screens)
    last = (len(frames) - 1) * (ROWS * HEIGHT + 2 * MARGIN)
    assert f".film{{transform:translateY(-{last}px)}}@media (prefers-reduced-motion:no-preference)" in text


def test_many_screens_are_thinned_out_evenly():
    screens = [((((str(number), "default", False),),), 0.1) for number in range(1000)]
    recording = Recording(list(screens))
    recording.thin(10)
    assert recording.screens[:10] == screens[:10]
    assert len(recording.screens) == 10 + MOST
    assert recording.screens[-1] == screens[-1]


def test_a_command_that_fails_is_not_recorded(tmp_path):
    with pytest.raises(subprocess.CalledProcessError, match="false"):
        record(tmp_path, ["false"])
