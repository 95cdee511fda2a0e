"""Start-up: the command line's help, the bare import, and loading the released model, each in processes of their own.

Example: python tests/benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from rich.console import Console
from rich.table import Table

IMPORT_TRANSLATOR = "from cryslator_flows.translator.translator import Translator"
LOAD = f"""
from time import perf_counter
{IMPORT_TRANSLATOR}
began = perf_counter()
Translator.from_pretrained()
print(perf_counter() - began)
"""


def wall(command: list[str]) -> float:
    """Seconds that a command takes."""
    began = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - began


def printed(code: str) -> float:
    """The number that a program prints."""
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    repeats = range(parser.parse_args().repeats)
    cryslator = str(Path(sys.executable).parent / "cryslator")
    bare = median(wall([sys.executable, "-c", ""]) for _ in repeats)
    rows = {
        "python alone": bare,
        "cryslator --help": median(wall([cryslator, "--help"]) for _ in repeats),
        "python -c 'import cryslator_flows'": median(
            wall([sys.executable, "-c", "import cryslator_flows"]) for _ in repeats
        ),
        "python -c 'import torch'": median(wall([sys.executable, "-c", "import torch"]) for _ in repeats),
        f"python -c '{IMPORT_TRANSLATOR}'": median(wall([sys.executable, "-c", IMPORT_TRANSLATOR]) for _ in repeats),
        "Translator.from_pretrained() after it": median(printed(LOAD) for _ in repeats),
    }
    table = Table("what", "s, median")
    for name, seconds in rows.items():
        table.add_row(name, f"{seconds:.3f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
