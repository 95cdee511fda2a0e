"""Provenance of the page's numbers: settings, cuts and model."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import yaml

from cryslator_flows.crystals.packing import PREDICTED
from cryslator_flows.errors import ModelError
from cryslator_flows.translator.model_folder import find_model

if TYPE_CHECKING:
    from cryslator_flows.documents.summary import CampaignSummary
    from cryslator_flows.screening.cuts import Cuts

# The page shows only these keys of a store: its address and access stay private.
STORE_KEYS = ("type", "collection_name")


def describe_settings(settings: dict[str, Any]) -> str:
    """Write the campaign file as YAML, without folders of files and access to stores.

    Parameters
    ----------
    settings : dict
        See `StartedCampaign.settings`.
    """
    return yaml.safe_dump(_portable(settings), sort_keys=False, allow_unicode=True, width=100) if settings else ""


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("source") == "store" and isinstance(value.get("store"), dict):
            value = {**value, "store": {key: value["store"][key] for key in STORE_KEYS if key in value["store"]}}
        return {key: _portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item) for item in value]
    for kind in (PurePosixPath, PureWindowsPath):
        if isinstance(value, str) and kind(value).is_absolute():
            return f".../{kind(value).name}"
    return value


def describe_cuts(cuts: Cuts) -> list[str]:
    """Describe the cuts of a selection in words, in the order of their application."""
    uncertain, above, energy = cuts.max_uncertainty, cuts.max_energy_above_hull, cuts.max_formation_energy
    phases = ["the known compounds of the Materials Project"] * cuts.known_phases
    number = len(cuts.references)
    phases += [f"{number} reference{'s' * (number > 1)}"] * bool(number)
    rank = "formation energy" if above is None else "energy above the hull"
    words = {
        "translated atoms do not nearly coincide": True,
        "in the model's domain": cuts.in_domain_only,
        f"uncertainty (68 %) of at most {uncertain} eV/atom": uncertain is not None,
        f"at most {above} eV/atom above the hull of {' and '.join(['these candidates', *phases])}": above is not None,
        f"predicted formation energy of at most {energy} eV/atom": energy is not None,
        **{f"{PREDICTED}{name} {window} (model {window.model})": True for name, window in cuts.properties.items()},
        f"at most {cuts.per_composition} of each formula, lowest first": cuts.per_composition is not None,
        f"at most {cuts.top_k} in all, lowest {rank} first": cuts.top_k is not None,
    }
    return [text for text, applies in words.items() if applies]


def describe_model(summary: CampaignSummary, model: str | None) -> dict[str, str]:
    """Describe the test scores of the model that translated, if exactly this model is installed here.

    Parameters
    ----------
    summary : CampaignSummary
        The summary, whose versions name the model.
    model : str or None
        The campaign's model, by name or folder.

    Returns
    -------
    dict
        Words by name of the score; empty if unknown.
    """
    try:
        folder = find_model(model or "")
        if folder.version() != summary.versions.get(folder.name):
            return {}
        test = next(iter(folder.metrics().get("test", [])), None)
    except (ModelError, OSError, ValueError):
        return {}
    score = next(
        (s for s in (test or {}).get("scores", []) if (s["method"], s["input"]) == (folder.name, "unrelaxed")), None
    )
    if test is None or score is None:
        return {}
    words = {}
    if score.get("energy_mae") is not None:
        words["formation energy MAE"] = f"{score['energy_mae']:.3f} eV/atom, {test['n_energies']} crystals"
    if score.get("uncertainty"):
        words["energies inside the 90 % interval"] = f"{score['uncertainty']['coverage_90']:.1%}"
    if structure := score.get("structure"):
        words["volume error"] = f"{structure['volume_error']:.1%}, {test['n_targets']} crystals"
        words["displacement error"] = f"{structure['displacement']:.3f} Å"
    return words
