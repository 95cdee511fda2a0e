"""Changes of the current folder and of standard output, which belong to the whole process. Threads take turns."""

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
    """Work in a folder and write standard output to a file there.

    Other threads that call this function wait.

    Parameters
    ----------
    folder : Path
        The folder. It must exist.
    printed : str
        Name of the file that receives standard output.
    """
    with _TURN, chdir(folder), Path(printed).open("a") as file, redirect_stdout(file):
        yield


def absolute_path(path: Path | str) -> Path:
    """Return an absolute path, relative to the folder outside of all `working_in` of other threads."""
    with _TURN:
        return Path(path).absolute()
