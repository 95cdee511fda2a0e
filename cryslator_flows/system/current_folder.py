"""The current folder and the standard output belong to the whole process: threads take turns to change them."""

from __future__ import annotations

from contextlib import chdir, contextmanager, redirect_stdout
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_TURN = RLock()


@contextmanager
def working_in(folder: Path, printed: str) -> Iterator[None]:
    """Work in a folder, what is printed going to a file there; other threads that want the same wait.

    Parameters
    ----------
    folder : Path
        The folder, which exists.
    printed : str
        Name of the file that takes standard output.
    """
    with _TURN, chdir(folder), Path(printed).open("a") as file, redirect_stdout(file):
        yield


def absolute_path(path: Path | str) -> Path:
    """Return a path as absolute one, counted from the folder outside of all `working_in` of other threads."""
    with _TURN:
        return Path(path).absolute()
