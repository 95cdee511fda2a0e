"""The result of a campaign without relaxations: the selected candidates in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cryslator_flows.crystals.packing import PREDICTED
from cryslator_flows.results.relaxed_frame import describe_structure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.crystals.packing import TranslatedChunk
    from cryslator_flows.screening.hulls import Competition

SELECTED_COLUMNS = [
    "formula", "template_id", "formation_energy_per_atom", "formation_energy_uncertainty_90",
    "energy_above_known_hull", "space_group", "volume_per_atom", "out_of_domain",
]  # fmt: skip


def selected_frame(
    chosen: list[str], chunks: Iterable[TranslatedChunk], competition: Competition, potential: pd.DataFrame
) -> pd.DataFrame:
    """Make a table of selected candidates, in the order of the selection.

    Parameters
    ----------
    chosen : list of str
        Identifiers of the candidates.
    chunks : iterable of TranslatedChunk
        The translated candidates.
    competition : Competition
        Phases that the candidates may decompose into.
    potential : DataFrame
        From `potential_frame`; without rows if no potential selected.

    Returns
    -------
    DataFrame
        By ``candidate_id``: the prediction with its 90 % half width and the energy above the known hull in eV/atom,
        space group and volume in cubic angstrom of the translated structure, and predicted properties. If a potential
        selected, ``fitted_formation_energy_per_atom`` is its energy, and the energy above the known hull is by it.
    """
    rows = []
    for chunk in chunks:
        columns = chunk.translated.arrays()
        found = chunk.translated.take(np.flatnonzero(np.isin(columns["candidate_id"], np.array(chosen, dtype=np.str_))))
        predicted = {name: column for name, column in found.arrays().items() if name.startswith(PREDICTED)}
        for index, (candidate, translation) in enumerate(found.rows()):
            rows.append({
                "candidate_id": candidate.candidate_id,
                "formula": candidate.reduced_formula,
                "template_id": candidate.template_id,
                **translation.model_dump(include={*SELECTED_COLUMNS}),
                **describe_structure(translation.structure),
                **{name: column[index] for name, column in predicted.items()},
            })  # fmt: skip
    frame = pd.DataFrame(rows, columns=None if rows else ["candidate_id", *SELECTED_COLUMNS]).set_index("candidate_id")
    frame["energy_above_known_hull"] = competition.energies_above(
        frame["formula"].tolist(), frame["formation_energy_per_atom"].to_numpy(float)
    )
    more = [name for name in frame if name.startswith(PREDICTED)]
    frame = frame.loc[[name for name in chosen if name in frame.index], [*SELECTED_COLUMNS, *more]]
    if len(potential):
        fitted = potential.reindex(frame.index)
        frame["energy_above_known_hull"] = fitted["energy_above_known_hull"]
        frame.insert(2, "fitted_formation_energy_per_atom", fitted["fitted_formation_energy_per_atom"])
    return frame
