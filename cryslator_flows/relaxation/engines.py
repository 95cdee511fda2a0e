"""Relax makers by short name or import path."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from cryslator_flows.errors import CampaignError, nearest

if TYPE_CHECKING:
    from jobflow import Maker

CHGNET_DEFAULTS: dict[str, Any] = {
    "force_field_name": "CHGNet",
    "relax_kwargs": {"fmax": 0.05},
    "optimizer_kwargs": {"optimizer": "BFGS"},
    "ionic_step_data": ("energy",),
}
PRESETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chgnet": ("atomate2.forcefields.jobs.ForceFieldRelaxMaker", "chgnet", CHGNET_DEFAULTS),
    "gpaw": ("cryslator_flows.relaxation.gpaw.GpawRelaxMaker", "gpaw", {}),
    **{
        name: (f"atomate2.vasp.flows.{module}.{name}", "", {})
        for module, name in (
            ("core", "DoubleRelaxMaker"),
            ("mp", "MPGGADoubleRelaxMaker"),
            ("mp", "MPMetaGGADoubleRelaxMaker"),
        )
    },
}


def build_relax_maker(name: str, kwargs: dict[str, Any]) -> Maker:
    """Build the maker that relaxes structures.

    Parameters
    ----------
    name : str
        A preset (``chgnet``, ``gpaw``, ``DoubleRelaxMaker``, ``MPGGADoubleRelaxMaker``,
        ``MPMetaGGADoubleRelaxMaker``) or the import path of an atomate2 maker, as in
        ``atomate2.vasp.jobs.core.RelaxMaker``.
    kwargs : dict
        Arguments of the maker; they replace the preset's.

    Returns
    -------
    Maker
        A maker with ``make(structure, prev_dir=None)``.

    Raises
    ------
    CampaignError
        Unknown name, package not installed, wrong arguments, or not such a maker.
    """
    path, package, defaults = PRESETS.get(name, (name, "", {}))
    if package and find_spec(package) is None:
        raise CampaignError(f"relaxation.maker {name!r}: package not installed; pip install 'cryslator-flows[{name}]'")
    if "." not in path:
        raise CampaignError(
            f"relaxation.maker {name!r}: neither a known name nor the import path of an atomate2 maker; "
            f"{nearest(name, PRESETS)}"
        )
    module, _, attribute = path.rpartition(".")
    try:
        maker_class = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise CampaignError(
            f"relaxation.maker {name!r}: cannot be imported ({error}); "
            f"choose from {', '.join(PRESETS)} or give the import path of an atomate2 maker"
        ) from error
    try:
        maker = maker_class(**{**defaults, **kwargs})
    except (TypeError, ValueError) as error:
        raise CampaignError(f"relaxation.kwargs: {error}; see the fields of {path}") from error
    make = getattr(maker, "make", None)
    if make is None or "prev_dir" not in inspect.signature(make).parameters:
        raise CampaignError(f"relaxation.maker {name!r}: has no make(structure, prev_dir=None); give a relax maker")
    return maker
