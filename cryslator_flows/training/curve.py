"""Plot of validation errors during a fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cryslator_flows.system.whole_files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

CURVE = "curve.png"
PANELS = (
    ("energy_mae", None, "energy MAE", 1.0),
    ("volume_error", "relaxed_volume", "volume error (%)", 100.0),
    ("displacement", "relaxed_displacement", "displacement (A)", 1.0),
)


def draw_curve(run_dir: Path) -> None:
    """Draw validation errors against steps, from ``metrics.jsonl`` of a run, as ``curve.png`` beside it.

    Parameters
    ----------
    run_dir : Path
        The `run_dir` of `fit`.
    """
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(10, 3), layout="constrained")
    for axis, (name, at_rest, label, factor) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for key, color, words in ((name, "#0072b2", "from unrelaxed"), (at_rest, "#e69f00", "change of relaxed")):
            if key is not None:
                values = [factor * row["validation"][key] for row in rows]
                axis.plot(steps, values, "o-", ms=3, color=color, label=f"{words}: {values[-1]:.3g}")
        axis.set_xlabel("steps")
        axis.set_title(f"{label}, validation", fontsize=10)
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8)
    with whole_file(run_dir / CURVE) as file:
        figure.savefig(file, dpi=110)
