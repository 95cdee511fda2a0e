"""Changes that a campaign file may make to the VASP jobs of its relax maker."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cryslator_flows.config import StrictModel
from cryslator_flows.engines.arguments import check_argument_kinds, check_kinds
from cryslator_flows.errors import CampaignError, nearest, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from atomate2.vasp.jobs.base import BaseVaspMaker
    from jobflow import Maker


KEY = "relaxation.vasp"
# Places that describe the arguments.
REFERENCES = {"input_set": "the fields of the input set generator", "powerups": "atomate2.vasp.powerups"}


class VaspSettings(StrictModel):
    """Changes to every VASP job of the relax maker, in the order input set, powerups, run."""

    input_set: dict[str, Any] = Field(
        default_factory=dict,
        description="Fields of the input set generator, as in {user_incar_settings: {ENCUT: 600}}; maps are merged",
    )
    powerups: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Functions of atomate2.vasp.powerups with their arguments, as in {use_auto_ispin: {}}",
    )
    run_vasp_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of atomate2's run_vasp, as in {vasp_cmd: srun vasp_std}; maps are merged",
    )


class GuardLimits(StrictModel):
    """Limits of the first ionic step from a translated structure; beyond them it is too bad to continue.

    The defaults are for oxides, from CHGNet's forces and stresses of 200 validation pairs of oxides. Beyond a
    limit are 27 % of the unrelaxed structures (median 1.1 eV/angstrom, 13 GPa). Of the translated structures 2 % are
    (median 0.5 eV/angstrom, 1 GPa). A structure beyond a limit starts no better than substitution alone.

    Examples
    --------
    >>> GuardLimits(max_force=3.0, max_pressure=20.0).max_force
    3.0
    """

    max_force: float = Field(5.0, gt=0, description="Largest force on an atom of a good start, in eV/angstrom")
    max_pressure: float = Field(
        30.0, gt=0, description="Largest pressure or tension of a good start where the cell relaxes, in GPa"
    )
    electronic_convergence: bool = Field(
        True, description="True if the first ionic step must converge in fewer electronic steps than NELM allows"
    )


def apply_vasp_settings(maker: Maker, settings: VaspSettings) -> Maker:
    """Change the VASP jobs that a maker makes.

    Parameters
    ----------
    maker : Maker
        A relax maker with at least one VASP maker in it.
    settings : VaspSettings
        The changes.

    Returns
    -------
    Maker
        A changed copy.

    Raises
    ------
    CampaignError
        `maker` holds no VASP maker, or a field, powerup or argument does not exist.
    """
    from atomate2.vasp import powerups
    from atomate2.vasp.run import run_vasp

    from cryslator_flows.engines.handlers import update_vasp_makers

    parameters = inspect.signature(run_vasp).parameters
    _check_names("run_vasp_kwargs", settings.run_vasp_kwargs, parameters)
    # Annotations of arguments with the default None lack it.
    kinds = {
        name: f"{parameter.annotation} | None" if parameter.default is None else str(parameter.annotation)
        for name, parameter in parameters.items()
    }
    check_kinds(kinds, settings.run_vasp_kwargs, f"{KEY}.run_vasp_kwargs")
    changed = []

    def change(vasp_maker: BaseVaspMaker) -> BaseVaspMaker:
        changed.append(vasp_maker)
        generator = vasp_maker.input_set_generator
        _check_names("input_set", settings.input_set, [field.name for field in fields(generator)])
        now = {name: _merge(getattr(generator, name), value) for name, value in settings.input_set.items()}
        run = {
            name: _merge(vasp_maker.run_vasp_kwargs.get(name), value)
            for name, value in settings.run_vasp_kwargs.items()
        }
        check_argument_kinds(type(generator), settings.input_set, f"{KEY}.input_set")
        with _checking("input_set"):
            return replace(
                vasp_maker,
                input_set_generator=replace(generator, **now),
                run_vasp_kwargs={**vasp_maker.run_vasp_kwargs, **run},
            )

    maker = update_vasp_makers(maker, change)
    if not changed:
        raise CampaignError(f"relaxation.vasp: {maker.name!r} makes no VASP jobs; drop this key or choose a VASP maker")
    known = [name for name in vars(powerups) if name.startswith(("update_", "use_"))]
    _check_names("powerups", settings.powerups, known)
    for name, arguments in settings.powerups.items():
        with _checking(f"powerups.{name}"):
            maker = getattr(powerups, name)(maker, **arguments)
    return maker


@contextmanager
def _checking(key: str) -> Iterator[None]:
    """Raise one clear error for the errors of atomate2 and pymatgen at values of a wrong kind."""
    try:
        yield
    except Exception as error:
        raise CampaignError(f"{KEY}.{key}: {one_line(error)}; see {REFERENCES[key.partition('.')[0]]}") from error


def _merge(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new


def _check_names(key: str, given: dict[str, Any], known: Any) -> None:
    for name in given:
        if name not in known:
            raise CampaignError(f"{KEY}.{key}: unknown {name!r}; {nearest(name, known)}")
