"""Run the three campaigns and write RESULTS.md; see README.md beside this file.

Example: python workflows/adapt/measure.py runs/adapt
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cryslator_flows.api import Campaign
from cryslator_flows.documents.adaptation import Adaptation
from cryslator_flows.report.adaptation_table import AdaptationText
from cryslator_flows.system.console import markdown_table

HERE = Path(__file__).parent
SPACES = "sulfides", "halides", "heuslers"
ADAPTATIONS = HERE / "adaptations.json"


def measure(folder: Path) -> dict[str, Adaptation]:
    """Run the campaigns in a folder, or continue them there; return the adaptation of each."""
    found = {}
    for space in SPACES:
        summary = Campaign.from_file(HERE / f"{space}.yaml").run(folder / space).summary
        assert summary.adaptation is not None
        found[space] = summary.adaptation
    return found


def results(adaptations: dict[str, Adaptation]) -> str:
    """Return RESULTS.md."""
    texts = {space: AdaptationText.of(item) for space, item in adaptations.items()}
    header = ["space", "model", *(f">{name}" for name in next(iter(texts.values())).measures)]
    rows = [[space, name, *cells] for space, text in texts.items() for name, cells in text.rows]
    notes = [f"**{space}**: {text.title}. {' '.join(text.sentences)}" for space, text in texts.items()]
    return "\n\n".join([
        "# The translator before and after its adaptation",
        "Made by `measure.py` from the candidates held out of the three campaigns, see README.md.",
        markdown_table(header, rows),
        *notes,
    ]) + "\n"  # fmt: skip


def main() -> None:
    """Measure if a folder is given, then write the results."""
    if len(sys.argv) > 1:
        found = {space: item.model_dump() for space, item in measure(Path(sys.argv[1])).items()}
        ADAPTATIONS.write_text(json.dumps(found, indent=1) + "\n")
    stored = json.loads(ADAPTATIONS.read_text())
    adaptations = {space: Adaptation.model_validate(item) for space, item in stored.items()}
    (HERE / "RESULTS.md").write_text(results(adaptations))


if __name__ == "__main__":
    main()
