"""Run a script as ``python SCRIPT ARGUMENT...`` does."""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Run the script that the first argument names."""
    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
