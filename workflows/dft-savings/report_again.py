"""Write the results of protocol 1 again, from the translated start of the later model.

Example: python workflows/dft-savings/report_again.py workflows/dft-savings/results-1-again.jsonl

Writes RESULTS-1-AGAIN.md beside the rows.
"""

from __future__ import annotations

import argparse
from math import hypot
from pathlib import Path
from typing import Any

from measure import HERE
from report import read_rows
from report_2 import COLUMNS, Rows, again, again_markdown, cells, electronic

from cryslator_flows.campaign.relaxation_settings import UNCERTAIN_ABOVE
from cryslator_flows.documents.candidates import BOND
from cryslator_flows.system.console import markdown_table

# Candidates whose formulas are among no training pairs of cryslator-universal.
UNSEEN = ("AlPO4", "Ca2MnO4", "KTaO3", "MgMnO3", "Sr2MnO4", "Sr2TiO4")


def half_width(run: dict[str, Any]) -> float:
    """Return the 90 % half width of a translated structure without its volume, in angstrom."""
    translation = run["translation"]
    return hypot(BOND * translation["shape_uncertainty_90"], translation["displacement_uncertainty_90"])


def by_rule(first: Rows, repeated: Rows) -> Rows:
    """Return the rows if uncertain candidates began at the potential's structure in place of the translated one."""
    chosen: Rows = {}
    for name, (translated,) in repeated.items():
        runs = {run["start"]: run for run in first[name]}
        taken = runs["mlip"] if half_width(translated) > UNCERTAIN_ABOVE else translated
        chosen[name] = [runs["unrelaxed"], {**taken, "start": "translated"}]
    return chosen


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    file = parser.parse_args().rows
    first, repeated = read_rows(HERE / "results.jsonl"), read_rows(file)
    rule = by_rule(first, repeated)
    lines = []
    for name, (run,) in repeated.items():
        steps = {item["start"]: sum(item["electronic_steps"]) for item in first[name]}
        lines.append([
            run["formula"],
            str(steps["unrelaxed"]),
            str(steps["translated"]),
            str(sum(run["electronic_steps"])),
            str(steps["mlip"]),
            str(run["outcome"]),
            f"{half_width(run):.3f}",
        ])  # fmt: skip
    models = sorted(
        {f"{run['translation']['model_name']} {run['translation']['model_version']}" for (run,) in repeated.values()}
    )
    header = ["candidate", "unrelaxed", "cryslator-oxides", "translated", "mlip", "end", "90 % half width (A)"]
    unseen = electronic(
        {name: runs for name, runs in again(first, repeated).items() if runs[0]["formula"] in UNSEEN}, "translated"
    )
    assert unseen is not None
    uncertain = sum(half_width(run) > UNCERTAIN_ABOVE for (run,) in repeated.values())
    text = f"""# Protocol 1 again, from a later model

Made by `python workflows/dft-savings/report_again.py workflows/dft-savings/results-1-again.jsonl`. The
[protocol](PROTOCOL-2.md) was written before. The {len(repeated)} candidates of [protocol 1](PROTOCOL.md) were relaxed
from the translated start of {", ".join(models)}. The unrelaxed and the `mlip` runs are those of
[protocol 1](RESULTS.md).

Electronic steps with GPAW, of candidates that reached the same minimum as from the unrelaxed start:

{again_markdown(first, repeated)}

The paper reports 32 %, and 40 % was aimed at.

**Training data.** The formulas of {len(repeated) - len(UNSEEN)} candidates occur, in whatever crystal, among the
training pairs of the model. The others ({", ".join(UNSEEN)}) save {unseen.saving:.1%}.

## A rule for uncertain structures

The model states how far a translated structure may be from the minimum. Above {UNCERTAIN_ABOVE} A, a limit that was
fitted on validation pairs, a campaign that names a potential starts from the potential's structure
(`relaxation.uncertain_above`). It would do so for {uncertain} of these {len(repeated)} candidates. Protocol 1 has no
start `translated_mlip`, so `mlip` stands for it:

{markdown_table(["start", *COLUMNS], [["by the rule", *cells(electronic(rule, "translated"))]])}

## Runs

Electronic steps of each candidate, and what the model says of its structure:

{markdown_table(header, lines)}
"""
    file.with_name("RESULTS-1-AGAIN.md").write_text(text)


if __name__ == "__main__":
    main()
