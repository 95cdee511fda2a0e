"""Draw docs/savings.png from the rows of the demo: ``python docs/savings_picture.py [FOLDER]``.

With the folder of a finished demo, as ``runs/mn-oxides-laptop``, its relaxations replace the stored rows first.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cryslator_flows.analysis.savings import measure_all_savings
from cryslator_flows.documents.candidates import EnumerationCounts, TranslationStats
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.jobs.summarize import summarize
from cryslator_flows.report.savings_tables import describe_interval, plot_savings
from cryslator_flows.running.find import find_campaign

DOCS = Path(__file__).parent
ROWS = DOCS / "demo.jsonl"
PICTURE = DOCS / "savings.png"
# Nothing on the machine that ran it.
LOCAL = {"relaxations": {"__all__": {"cost": {"dir_name"}}}}


def read_rows() -> list[RelaxationComparison]:
    """Return the relaxations of the demo, without structures."""
    return [RelaxationComparison.model_validate_json(line) for line in ROWS.read_text().splitlines()]


def headline(rows: list[RelaxationComparison]) -> str:
    """Return the figures of README and measurements: mean steps, saving, interval and number of pairs."""
    (item,) = measure_all_savings(rows)
    return (
        f"{item.mean_unrelaxed:.1f} -> {item.mean:.1f}, saving {item.saving:.0%} "
        f"(95 % interval {describe_interval(item).replace('+', '')}, {item.n_pairs} pairs"
    )


def draw(path: Path) -> Path:
    """Draw the picture from the stored rows; return its path."""
    rows = read_rows()
    summary = summarize("mn-oxides-laptop", EnumerationCounts(), TranslationStats(), len(rows), rows)
    plot_savings(path, summary, rows)
    text = PngInfo()
    text.add_text("Source", digest())
    with Image.open(path) as image:
        image.save(path, pnginfo=text)
    return path


def digest() -> str:
    """Return the hash of the stored rows, which the picture carries."""
    return hashlib.sha256(ROWS.read_bytes()).hexdigest()


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        with find_campaign("mn-oxides-laptop", None, Path(folder)) as started:
            digests = [item.digest() for item in started.results.comparisons()]
        lines = [digest.model_dump_json(exclude_defaults=True, exclude=LOCAL) for digest in digests]
        ROWS.write_text("".join(f"{line}\n" for line in lines))
    draw(PICTURE)
    print(headline(read_rows()))
