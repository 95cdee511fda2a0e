"""Phase diagrams of the page: of predicted energies as in the selection, and of the engine's."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Element
from pymatgen.util.string import htmlify

from cryslator_flows.analysis.ends import lowest_ends
from cryslator_flows.results.relaxed_frame import known_competition
from cryslator_flows.screening.hulls import hull_entries, phase_diagram
from cryslator_flows.screening.known_phases import symbols_of, systems_within
from cryslator_flows.system.look import GREEN, GREY, VERMILION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from cryslator_flows.documents.references import FetchedPhases
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.report.page.candidate_table import CandidateTable
    from cryslator_flows.report.page.figures import Figure
    from cryslator_flows.screening.hulls import Competition

# Corners of a tetrahedron; a system of more elements has no drawing.
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0.5, 3**0.5 / 2, 0], [0.5, 3**0.5 / 6, (2 / 3) ** 0.5]])
MOST_ELEMENTS = len(CORNERS)
MOST_SYSTEMS = 12
# Phases higher above the hull are left out, in eV/atom.
HIGHEST = 0.5
# Candidates with a label, the nearest to the hull, of those on it and of those above, by number of elements.
MOST_LABELS = {2: 8, 3: 8, 4: 4}
# Markers of a figure in three dimensions look larger.
SIZES = {2: 1.0, 3: 1.0, 4: 0.5}
KINDS = {
    "known, stable": ("circle", GREY, 9), "known, above hull": ("circle-open", GREY, 7),
    "candidate, stable": ("square", GREEN, 11), "candidate, above hull": ("diamond-open", VERMILION, 10),
}  # fmt: skip


def chosen_systems(formulas: Iterable[str]) -> list[frozenset[str]]:
    """Return the chemical systems of formulas that can be drawn, `MOST_SYSTEMS` at most, in their order."""
    found = dict.fromkeys(map(symbols_of, formulas))
    return [system for system in found if 2 <= len(system) <= MOST_ELEMENTS][:MOST_SYSTEMS]


def draw_hulls(
    systems: Iterable[frozenset[str]], lowest: Mapping[str, float], competition: Competition | None
) -> dict[str, Figure]:
    """Draw phase diagrams; elements are at 0.

    Parameters
    ----------
    systems : iterable of frozenset of str
        Symbols of the elements of each chemical system.
    lowest : Mapping
        Formula to the lowest formation energy of all candidates, in eV/atom.
    competition : Competition or None
        Phases that the candidates may decompose into; None for the elements alone.

    Returns
    -------
    dict
        Figures by chemical system. Systems without a candidate have none.
    """
    within = systems_within(systems)
    inside = {formula: energy for formula, energy in lowest.items() if symbols_of(formula) in within}
    known = hull_entries(competition.within(systems) if competition else {}, {})
    candidates = hull_entries({}, inside)
    ours = {id(entry) for entries in candidates.values() for entry in entries}
    everything = {system: known.get(system, []) + candidates.get(system, []) for system in {*known, *candidates}}
    return {
        "-".join(sorted(system)): _draw(phase_diagram(everything, system), ours)
        for system in systems
        if system in candidates
    }


def all_hulls(
    candidates: CandidateTable,
    comparisons: list[RelaxationComparison],
    relaxed: pd.DataFrame | None,
    fetched: FetchedPhases | None,
) -> dict[str, Any]:
    """Draw the phase diagrams of the relaxed and then of the most stable candidates.

    Parameters
    ----------
    candidates : CandidateTable
        The translated candidates.
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    relaxed : DataFrame or None
        From `relaxed_frame`.
    fetched : FetchedPhases or None
        As for `relaxed_frame`.

    Returns
    -------
    dict
        Names of the ``systems`` and their figures: ``predicted``, and by the energies of the ``engine``. The latter has
        known phases where their energies may stand beside the engine's, see `known_competition`. Empty without figures.
    """
    energies = (
        {} if relaxed is None else relaxed.groupby("formula")["formation_energy_per_atom"].min().dropna().to_dict()
    )
    trusted = [row.formula for row in candidates.rows if row.trusted]
    systems = chosen_systems([*sorted(energies, key=lambda formula: energies[formula]), *trusted])
    competition = candidates.cuts.competition()
    predicted = draw_hulls(systems, candidates.lowest, competition)
    ends = lowest_ends(comparisons)
    chosen = [item for item in comparisons if item.candidate_id in ends]
    engine = draw_hulls(systems, energies, known_competition(chosen, competition, fetched)) if energies else {}
    names = ["-".join(sorted(system)) for system in systems]
    found = [name for name in names if name in predicted or name in engine]
    return {"systems": found, "predicted": predicted, "engine": engine} if found else {}


def _draw(diagram: PhaseDiagram, ours: set[int]) -> Figure:
    """Draw one system: lines of the hull, and phases with their distances from it."""
    # Where most phases lie: beside the top, so that their labels are below each other.
    number = Counter(element for entry in diagram.all_entries for element in entry.composition)
    elements = sorted(diagram.elements, key=lambda element: (-number[element], str(element)))
    if len(elements) == 2:
        elements.sort(key=str)
    corners = [str(element) for element in elements]
    lines = {pair for facet in diagram.facets for pair in combinations(sorted(facet), 2)}
    ends = [(diagram.qhull_entries[one], diagram.qhull_entries[other]) for one, other in sorted(lines)]
    hull = [entry for pair in ends for entry in (*pair, None)]
    line = {"mode": "lines", "line": {"color": "var(--soft)", "width": 1.5}, "hoverinfo": "skip", "showlegend": False}
    data = [line | _places(diagram, elements, hull)]
    stable = {id(entry) for entry in diagram.stable_entries}
    above = {id(entry): diagram.get_e_above_hull(entry) or 0.0 for entry in diagram.all_entries}
    shown = sorted(
        (entry for entry in diagram.all_entries if above[id(entry)] <= HIGHEST), key=lambda entry: above[id(entry)]
    )
    for place, (name, (symbol, color, size)) in enumerate(KINDS.items()):
        part = [entry for entry in shown if (id(entry) in ours, id(entry) in stable) == (place >= 2, place % 2 == 0)]
        if not part:
            continue
        words = [_words(diagram, entry, above[id(entry)]) for entry in part]
        labels = [
            label if place >= 2 or (place == 0 and _is_labelled(entry, len(elements))) else ""
            for entry, (label, _) in zip(part, words, strict=True)
        ]
        if place >= 2:
            most = MOST_LABELS[len(elements)]
            labels[most:] = [""] * len(labels[most:])
        data.append({
            "mode": "markers+text", "name": name, "text": labels, "hovertext": [hint for _, hint in words],
            "hoverinfo": "text",
            "textposition": [_side(entry, elements, name, index) for index, entry in enumerate(part)],
            "textfont": {"color": "var(--ink)", "size": 12},
            "marker": {
                "symbol": symbol, "color": color, "size": size * SIZES[len(elements)],
                "line": {"color": color, "width": 2},
            },
            **({} if len(elements) == MOST_ELEMENTS else {"cliponaxis": False}),
            **_places(diagram, elements, part),
        })  # fmt: skip
    return {"data": data, "layout": _layout(corners)}


def _is_labelled(entry: PDEntry, dimensions: int) -> bool:
    """Decide on the label of a known stable phase: a triangle has titles at its corners, a tetrahedron little place."""
    return not entry.is_element if dimensions == 3 else entry.is_element or dimensions == 2


def _side(entry: PDEntry, elements: list[Element], name: str, index: int) -> str:
    """Return the side of a phase on which its label hides least: outside the triangle, or below the hull."""
    if len(elements) != 3:
        return "bottom center" if name.endswith("stable") else "top center"
    _, left, right = (entry.composition[element] > 0 for element in elements)
    if left and right:
        return f"{('middle', 'bottom', 'top')[index % 3]} {'left' if name.startswith('known') else 'right'}"
    if entry.composition[elements[0]] == 0:
        return ("bottom center", "top center")[index % 2]
    return "middle left" if bool(left) == name.startswith("known") else "middle right"


def _words(diagram: PhaseDiagram, entry: PDEntry, above: float) -> tuple[str, str]:
    """Return the label of a phase and what the pointer shows."""
    formula = htmlify(entry.composition.reduced_formula)
    energy = diagram.get_form_energy_per_atom(entry)
    if above <= diagram.numerical_tol:
        return formula, f"{formula}<br>formation energy {energy:.3f} eV/atom<br>on the hull"
    hint = f"{formula}<br>formation energy {energy:.3f} eV/atom<br>{above:.3f} eV/atom above the hull"
    return f"{formula} +{above:.3f}", hint


def _places(diagram: PhaseDiagram, elements: list[Element], entries: list[PDEntry | None]) -> dict[str, Any]:
    """Return plotly's kind and coordinates of entries; None breaks a line."""
    shares: NDArray[np.floating] = np.array([
        [np.nan] * len(elements) if entry is None else [entry.composition.get_atomic_fraction(e) for e in elements]
        for entry in entries
    ])  # fmt: skip
    if len(elements) == 2:
        energies = [None if entry is None else round(diagram.get_form_energy_per_atom(entry), 5) for entry in entries]
        return {"type": "scatter", "x": _listed(shares[:, 1]), "y": energies}
    if len(elements) == 3:
        return {"type": "scatterternary", **{axis: _listed(shares[:, k]) for k, axis in enumerate("abc")}}
    places = shares @ CORNERS
    return {"type": "scatter3d", **{axis: _listed(places[:, k]) for k, axis in enumerate("xyz")}}


def _listed(values: NDArray[np.floating]) -> list[float | None]:
    """Return numbers that JSON has."""
    return [None if np.isnan(value) else round(float(value), 5) for value in values]


def _layout(corners: list[str]) -> dict[str, Any]:
    # Above the plot a legend fits on the narrowest screen.
    common = {"legend": {"orientation": "h", "y": 1.04, "yanchor": "bottom"}, "margin": {"t": 40, "b": 45}}
    if len(corners) == 2:
        x = {"title": {"text": f"share of {corners[1]}"}, "range": [-0.04, 1.04]}
        return {**common, "xaxis": x, "yaxis": {"title": {"text": "formation energy, eV/atom"}, "automargin": True}}
    if len(corners) == 3:
        sides = {
            f"{axis}axis": {"title": {"text": corner}, "showticklabels": False, "showgrid": False, "ticks": ""}
            for axis, corner in zip("abc", corners, strict=True)
        }
        return {**common, "margin": {"t": 40, "b": 30, "l": 30, "r": 30}, "ternary": {"sum": 1, **sides}}
    hidden = {f"{axis}axis": {"visible": False} for axis in "xyz"}
    camera = {"eye": {"x": 0.3, "y": -1.5, "z": 0.4}, "projection": {"type": "orthographic"}}
    ratio = {axis: 1.7 * float(extent) for axis, extent in zip("xyz", CORNERS.max(axis=0), strict=True)}
    scene = {**hidden, "aspectmode": "manual", "aspectratio": ratio, "camera": camera}
    return {**common, "margin": {"t": 10, "b": 0, "l": 0, "r": 0}, "scene": scene}
