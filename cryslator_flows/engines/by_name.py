"""Relax makers by short name or import path."""

from __future__ import annotations

import inspect
import sys
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobflow import Maker

from cryslator_flows.engines.arguments import check_argument_kinds, check_ase_arguments
from cryslator_flows.engines.torchsim import TorchSimRelaxMaker
from cryslator_flows.errors import CampaignError, NotInstalledError, nearest, one_line
from cryslator_flows.system.current_folder import working_in

FORCE_FIELD_MAKER = "atomate2.forcefields.jobs.ForceFieldRelaxMaker"
TORCH_SIM_MAKER = "atomate2.torchsim.core.TorchSimOptimizeMaker"

CHGNET_DEFAULTS: dict[str, Any] = {
    "force_field_name": "CHGNet",
    "relax_kwargs": {"fmax": 0.05},
    "optimizer_kwargs": {"optimizer": "BFGS"},
    "ionic_step_data": ("energy",),
}
PRESETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chgnet": (FORCE_FIELD_MAKER, "chgnet", CHGNET_DEFAULTS),
    "gpaw": ("cryslator_flows.engines.gpaw.GpawRelaxMaker", "gpaw", {}),
    **{
        name: (f"atomate2.vasp.flows.{module}.{name}", "", {})
        for module, name in (
            ("core", "DoubleRelaxMaker"),
            ("mp", "MPGGADoubleRelaxMaker"),
            ("mp", "MPGGADoubleRelaxStaticMaker"),
            ("mp", "MPMetaGGADoubleRelaxMaker"),
            ("mp", "MP24DoubleRelaxStaticMaker"),
        )
    },
}


DFT_MAKERS = (
    "atomate2.abinit.", "atomate2.aims.", "atomate2.cp2k.", "atomate2.vasp.", "cryslator_flows.engines.gpaw.",
)  # fmt: skip

# The package that pip installs for a module that a maker needs.
PACKAGES = {
    "calorine": "calorine",
    "chgnet": "'cryslator-flows[chgnet]'",
    "deepmd": "deepmd-kit",
    "fairchem": "fairchem-core",
    "mace": "mace-torch",
    "matgl": "matgl",
    "mattersim": "mattersim",
    "nequip": "nequip",
    "quippy": "quippy-ase",
    "sevenn": "sevenn",
    "torch_sim": "'atomate2[torchsim]' (Python 3.12 or later)",
    "upet": "upet",
}
# Modules of atomate2's force fields, by the first part of the names of `MLFF`.
FORCE_FIELDS = {
    "Allegro": "nequip", "CHGNet": "chgnet", "DeepMD": "deepmd", "FAIRChem": "fairchem", "GAP": "quippy",
    "M3GNet": "matgl", "MACE": "mace", "MatPES": "matgl", "MatterSim": "mattersim", "NEP": "calorine",
    "Nequip": "nequip", "SevenNet": "sevenn", "UPET": "upet",
}  # fmt: skip


def build_relax_maker(name: str, kwargs: dict[str, Any], key: str = "relaxation") -> Maker:
    """Build the maker that relaxes structures.

    Parameters
    ----------
    name : str
        A preset (``chgnet``, ``gpaw``, ``DoubleRelaxMaker``, ``MPGGADoubleRelaxMaker``,
        ``MPGGADoubleRelaxStaticMaker``, ``MPMetaGGADoubleRelaxMaker``, ``MP24DoubleRelaxStaticMaker``) or the import
        path of an atomate2 maker, as in ``atomate2.vasp.jobs.core.RelaxMaker``. For
        ``atomate2.torchsim.core.TorchSimOptimizeMaker`` it is a `TorchSimRelaxMaker` with these arguments.
    kwargs : dict
        Arguments of the maker; they replace the preset's.
    key : str
        The key of both in the campaign file, for errors.

    Returns
    -------
    Maker
        A maker with ``make(structure, prev_dir=None)``.

    Raises
    ------
    CampaignError
        The name is unknown, arguments are wrong, or the class makes no relaxation. A class that is not a Maker is
        neither built nor called.
    NotInstalledError
        The package of the maker is not installed.
    """
    path, package, defaults = PRESETS.get(name, (name, "", {}))
    if package and find_spec(package) is None:
        raise NotInstalledError(f"{key}.maker {name!r}: package not installed; pip install 'cryslator-flows[{name}]'")
    if path == TORCH_SIM_MAKER:
        check_argument_kinds(TorchSimRelaxMaker, kwargs, f"{key}.kwargs")
        return _torch_sim_maker(kwargs, key)
    if "." not in path:
        raise CampaignError(
            f"{key}.maker {name!r}: neither a known name nor the import path of an atomate2 maker; "
            f"{nearest(name, PRESETS)}"
        )
    maker_class = _maker_class(name, path, key)
    check_argument_kinds(maker_class, kwargs, f"{key}.kwargs")
    try:
        maker = maker_class(**{**defaults, **kwargs})
        make = getattr(maker, "make", None)
    except CampaignError:
        raise
    # The user's maker may do anything while it is built.
    except (Exception, SystemExit) as error:
        hint = _nearest_force_field(kwargs) if "MLFF" in str(error) else f"see the fields of {path}"
        raise CampaignError(f"{key}.kwargs: {one_line(error)}; {hint}") from error
    if make is None or "prev_dir" not in inspect.signature(make).parameters:
        raise CampaignError(f"{key}.maker {name!r}: has no make(structure, prev_dir=None); give a relax maker")
    if not _relaxes(maker):
        raise CampaignError(f"{key}.maker {name!r}: relaxes nothing; give a relax maker")
    if path == FORCE_FIELD_MAKER and str(getattr(maker, "calculator_meta", None)) == "MLFF.Forcefield":
        raise CampaignError(f"{key}.kwargs: force_field_name is missing; {_nearest_force_field(kwargs)}")
    check_ase_arguments(maker, f"{key}.kwargs")
    return maker


def _relaxes(maker: Maker) -> bool:
    """Return False for a maker of other calculations alone; a flow may end with one, relaxation and static."""
    # atomate2 gives these names to its makers of other calculations.
    if not any(kind in type(maker).__name__ for kind in ("Static", "MDMaker", "Integrate")):
        return True
    parts = (getattr(maker, item.name) for item in fields(maker))
    return any(_relaxes(part) for part in parts if isinstance(part, Maker))


def _maker_class(name: str, path: str, key: str) -> type[Maker]:
    module, _, attribute = path.rpartition(".")
    try:
        maker_class = getattr(import_module(module), attribute)
    # The user's module may do anything while it is imported.
    except (Exception, SystemExit) as error:
        missing = str(error.name).partition(".")[0] if isinstance(error, ImportError) else ""
        if missing in PACKAGES:
            raise NotInstalledError(
                f"{key}.maker {name!r}: cannot be imported ({error}); pip install {PACKAGES[missing]}"
            ) from error
        reason = (
            error if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {one_line(error)}"
        )
        raise CampaignError(
            f"{key}.maker {name!r}: cannot be imported ({reason}); choose from {', '.join(PRESETS)} or give the import "
            "path of an atomate2 maker"
        ) from error
    if not (isinstance(maker_class, type) and issubclass(maker_class, Maker)):
        raise CampaignError(f"{key}.maker {name!r}: is not a jobflow Maker; give the import path of a relax maker")
    return maker_class


def make_importable(name: str, folder: Path, key: str = "relaxation") -> None:
    """Make a module beside the campaign file importable, so that its maker can be built.

    Parameters
    ----------
    name : str
        The import path of the maker.
    folder : Path
        The folder of the campaign file.
    key : str
        The key of the maker in the campaign file, for errors.

    Raises
    ------
    CampaignError
        Another module of this name hides it.
    """
    top = name.partition(".")[0]
    beside = [path for path in (folder / f"{top}.py", folder / top / "__init__.py") if path.is_file()]
    if not beside:
        return
    if str(folder) not in sys.path:
        # Last, so that no file of the folder hides an installed package.
        sys.path.append(str(folder))
    found = find_spec(top)
    if found is None or found.origin is None or not Path(found.origin).samefile(beside[0]):
        origin = "another module" if found is None else found.origin
        raise CampaignError(f"{key}.maker {name!r}: {beside[0]} is hidden by {origin}; rename it")


def build_potential_maker(name: str, kwargs: dict[str, Any], key: str = "relaxation.mlip") -> Maker:
    """Build a maker that relaxes with an interatomic potential.

    Parameters
    ----------
    name, kwargs, key
        As in `build_relax_maker`.

    Raises
    ------
    CampaignError
        As from `build_relax_maker`, the name is unknown, or the maker is of a DFT code.
    """
    path = PRESETS.get(name, (name,))[0]
    if "." not in path or path.startswith(DFT_MAKERS):
        problem = "runs DFT, but this key needs an interatomic potential" if "." in path else "not a known name"
        raise CampaignError(
            f"{key}.maker {name!r}: {problem}; give 'chgnet', or {FORCE_FIELD_MAKER} with "
            "kwargs: {force_field_name: MACE-MP-0}, say"
        )
    return build_relax_maker(name, kwargs, key)


def chgnet_maker() -> Maker:
    """Build the preset ``chgnet``, also where CHGNet is not installed and its jobs cannot run."""
    module, _, attribute = FORCE_FIELD_MAKER.rpartition(".")
    maker: Maker = getattr(import_module(module), attribute)(**CHGNET_DEFAULTS)
    return maker


def check_installed(maker: Maker, key: str = "relaxation") -> None:
    """Refuse a maker whose interatomic potential cannot be imported here, before its first job runs.

    Parameters
    ----------
    maker : Maker
        From `build_relax_maker`.
    key : str
        Its key in the campaign file.

    Raises
    ------
    NotInstalledError
        The package of the potential is not installed; the message has the command that installs it.
    """
    model, module = "torch-sim", "torch_sim"
    if not isinstance(maker, TorchSimRelaxMaker):
        meta = getattr(maker, "calculator_meta", None)
        model = _model_name(maker)
        by_path = model.partition(".")[0] if isinstance(meta, str) else ""
        module = next((FORCE_FIELDS[name] for name in FORCE_FIELDS if model.startswith(name)), by_path)
    if module and find_spec(module) is None:
        # A module of the user has no package.
        remedy = f"pip install {PACKAGES[module]}" if module in PACKAGES else f"install {module}, or set PYTHONPATH"
        raise NotInstalledError(f"{key}: {model}: not installed here; {remedy}")


def _model_name(maker: Maker) -> str:
    meta = getattr(maker, "calculator_meta", None)
    return str(getattr(meta, "value", meta))


def check_weights(maker: Maker, key: str = "relaxation") -> None:
    """Load an interatomic potential as its jobs do, in another folder.

    Parameters
    ----------
    maker : Maker
        From `build_relax_maker`, installed; other makers than those of potentials pass.
    key : str
        Its key in the campaign file.

    Raises
    ------
    CampaignError
        Its weights are missing, or cannot be loaded.
    """
    from atomate2.forcefields.jobs import ForceFieldRelaxMaker

    if isinstance(maker, TorchSimRelaxMaker):
        path = Path(str(maker.settings.get("model_path")))
        if path.suffix and not path.is_file():
            raise CampaignError(f"{key}.kwargs.model_path: {path} does not exist; give the file of the weights")
        return
    if not isinstance(maker, ForceFieldRelaxMaker):
        return
    with TemporaryDirectory() as folder, working_in(Path(folder), "load.out"):
        try:
            maker.calculator  # noqa: B018
        # The potential may do anything while it is loaded.
        except (Exception, SystemExit) as error:
            raise CampaignError(
                f"{key}: {_model_name(maker)}: cannot be loaded ({one_line(error)}); install its weights, or "
                "give a whole path to them in calculator_kwargs"
            ) from error


def _torch_sim_maker(settings: dict[str, Any], key: str) -> TorchSimRelaxMaker:
    """Build the maker; check its settings where torch-sim is installed, which a submit node does not need."""
    maker = TorchSimRelaxMaker(settings=settings)
    if find_spec("torch_sim") is not None:
        try:
            maker.optimize_maker()
        except CampaignError as error:
            raise CampaignError(f"{key}.kwargs: {error}") from error
    return maker


def _nearest_force_field(kwargs: dict[str, Any]) -> str:
    from atomate2.forcefields.utils import MLFF

    names = [member.value for member in MLFF if member is not MLFF.Forcefield]
    return nearest(str(kwargs.get("force_field_name")), names)
