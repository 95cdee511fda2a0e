"""The potentials of the comparison, with one setting: BFGS, a free cell, 0.05 eV/angstrom, 500 steps at most."""

from __future__ import annotations

from typing import Any

from cryslator_flows.engines.by_name import CHGNET_DEFAULTS, FORCE_FIELD_MAKER


def sevennet(model: str) -> tuple[str, dict[str, Any]]:
    """Maker and arguments of a SevenNet model, as in ``relaxation.mlip`` of a campaign file."""
    return FORCE_FIELD_MAKER, {
        **CHGNET_DEFAULTS,
        "force_field_name": "SevenNet",
        "calculator_kwargs": {"model": model, "device": "cpu"},
    }


POTENTIALS: dict[str, tuple[str, dict[str, Any]]] = {
    "CHGNet": ("chgnet", {}),
    "SevenNet-0": sevennet("7net-0"),
    "SevenNet-l3i5": sevennet("7net-l3i5"),
}
