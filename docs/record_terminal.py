"""Record commands in a terminal as one animated SVG: ``python docs/record_terminal.py OUT.svg FOLDER COMMAND...``.

The commands run for real, one after the other in the folder, in an emulated terminal. Pauses are shortened to `PAUSE`.
Readers who prefer reduced motion, and programs without animations, show the last screen.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from pathlib import Path

import pyte

COLUMNS, ROWS = 88, 30
WIDTH, HEIGHT, MARGIN = 8.4, 18, 14
# Seconds: longest pause, after a command, at the end.
PAUSE, READ, END = 0.4, 2.0, 8.0
# Most screens of a command; more are thinned out evenly.
MOST = 45
COLORS = {
    "default": "#e4ecea", "black": "#9fb0ad", "red": "#f0905a", "green": "#2fb98f", "brown": "#e6c229",
    "blue": "#6cb4ee", "magenta": "#cc79a7", "cyan": "#56b4e9", "white": "#ffffff",
}  # fmt: skip
Run = tuple[str, str, bool]
Screen = tuple[tuple[Run, ...], ...]


@dataclass
class Recording:
    """Screens of an emulated terminal, each with the seconds that it stays."""

    screens: list[tuple[Screen, float]]

    def show(self, screen: pyte.Screen, seconds: float) -> None:
        """Add what the terminal shows now, for some seconds."""
        shown = read(screen)
        if self.screens and self.screens[-1][0] == shown:
            self.screens[-1] = (shown, self.screens[-1][1] + seconds)
        else:
            self.screens.append((shown, seconds))

    def thin(self, first: int) -> None:
        """Keep `MOST` of the screens from the first on."""
        added = self.screens[first:]
        places = sorted({round(place * (len(added) - 1) / (MOST - 1)) for place in range(MOST)})
        self.screens[first:] = [(added[place][0], min(added[place][1], PAUSE)) for place in places]


def read(screen: pyte.Screen) -> Screen:
    """Return the lines of a terminal as runs of text of one colour."""
    lines = []
    for row in range(screen.lines):
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        runs = groupby(cells, key=lambda cell: (cell.fg, cell.bold))
        lines.append(tuple(("".join(cell.data for cell in part), *style) for style, part in runs))
    return tuple(lines)


def record(folder: Path, commands: list[str]) -> Recording:
    """Run the commands in a terminal and return what it showed."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    recording = Recording([])
    for command in commands:
        stream.feed(b"\x1b[32m$\x1b[0m ")
        for word in command.split():
            stream.feed(f"{word} ".encode())
            recording.show(screen, 0.2)
        stream.feed(b"\r\n")
        first = len(recording.screens)
        run(command, folder, screen, stream, recording)
        recording.show(screen, 0)
        recording.thin(first)
        recording.show(screen, READ)
    recording.show(screen, END)
    return recording


def run(command: str, folder: Path, screen: pyte.Screen, stream: pyte.ByteStream, recording: Recording) -> None:
    """Run one command and record its screens; raise CalledProcessError if it fails."""
    ours, theirs = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": str(ROWS), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env={**os.environ, **size}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = time.monotonic()
    while True:
        try:
            output = os.read(ours, 65536)
        except OSError:  # Linux reports the end of a terminal so.
            break
        now = time.monotonic()
        recording.show(screen, min(now - shown, PAUSE))
        shown = now
        stream.feed(output)
    os.close(ours)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command)


def draw(recording: Recording) -> str:
    """Return the SVG: a film of screens, one below the other, that moves by one screen at a time."""
    lines = {line: f"l{number}" for number, line in enumerate(dict.fromkeys(
        line for screen, _ in recording.screens for line in screen if text_of(line)
    ))}  # fmt: skip
    width, height = COLUMNS * WIDTH + 2 * MARGIN, ROWS * HEIGHT + 2 * MARGIN
    total = sum(seconds for _, seconds in recording.screens)
    starts = [0.0]
    for _, seconds in recording.screens:
        starts.append(starts[-1] + seconds)
    steps = "".join(
        f"{100 * begin / total:.2f}%{{transform:translateY({-number * height}px)}}"
        for number, (begin, _) in enumerate(pairwise(starts))
    )
    frames = "".join(
        f'<g transform="translate(0 {number * height})">'
        + "".join(
            f'<use href="#{lines[line]}" y="{row * HEIGHT}"/>' for row, line in enumerate(screen) if text_of(line)
        )
        + "</g>"
        for number, (screen, _) in enumerate(recording.screens)
    )
    defined = "".join(f'<g id="{name}">{draw_line(line)}</g>' for line, name in lines.items())
    last = -(len(recording.screens) - 1) * height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" '
        'font-family="monospace" font-size="14">'
        f"<style>text{{white-space:pre}}.film{{transform:translateY({last}px)}}"
        f"@media (prefers-reduced-motion:no-preference){{.film{{animation:play {total:.1f}s step-end infinite}}}}"
        f"@keyframes play{{{steps}}}</style>"
        f"<defs>{defined}</defs>"
        f'<rect width="100%" height="100%" rx="8" fill="#15201f"/>'
        f'<g transform="translate({MARGIN} {MARGIN + 13})"><g class="film">{frames}</g></g></svg>\n'
    )


def text_of(line: tuple[Run, ...]) -> str:
    """Return the text of a line."""
    return "".join(text for text, _, _ in line).strip()


def draw_line(line: tuple[Run, ...]) -> str:
    """Return the pieces of text of a line, each as wide as its number of letters."""
    pieces, column = [], 0
    for text, color, bold in line:
        word = text.strip()
        if word:
            place = (column + len(text) - len(text.lstrip())) * WIDTH
            weight = ' font-weight="bold"' if bold else ""
            fill = COLORS.get(color) or f"#{color}"
            shape = f'x="{place:.1f}" textLength="{len(word) * WIDTH:.1f}" fill="{fill}"{weight}'
            pieces.append(f"<text {shape}>{escape(word)}</text>")
        column += len(text)
    return "".join(pieces)


def main(out: Path, folder: Path, commands: list[str]) -> None:
    """Record the commands and write the SVG."""
    out.write_text(draw(record(folder, commands)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
