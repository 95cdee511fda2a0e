"""Fit variants of a recipe with equal budgets and compare them on its test pairs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from cryslator_flows.config import StrictModel, read_strict
from cryslator_flows.errors import DataError
from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.training.card import ABLATIONS
from cryslator_flows.training.checkpoint import sole_training
from cryslator_flows.training.evaluate import first_of_each_target
from cryslator_flows.training.prepare import pair_row, prepare, to_pairs
from cryslator_flows.training.splits import read_test
from cryslator_flows.training.train import train_network
from cryslator_flows.training.validation import validate
from cryslator_flows.translator.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryslator_flows.training.fit_settings import Progress
    from cryslator_flows.training.recipe import Recipe


class Variant(StrictModel):
    """One variant: its changes to the common settings."""

    variant: str = Field(description="Name of the variant in the table")
    network: dict[str, Any] = Field(default_factory=dict, description="Fields of NetworkConfig to change")
    fit: dict[str, Any] = Field(default_factory=dict, description="Fields of FitConfig to change")
    passes: list[int] = Field(default_factory=lambda: [1], description="Numbers of passes to score")


class AblationPlan(StrictModel):
    """Content of ``ablations.yaml``."""

    note: str = Field(description="Common properties of the variants, in words")
    reading: str = Field("", description="Conclusions from the finished table, in words")
    network: dict[str, Any] = Field(default_factory=dict, description="Changes to the recipe that all variants share")
    fit: dict[str, Any] = Field(default_factory=dict, description="Changes to the recipe that all variants share")
    variants: list[Variant] = Field(min_length=1)


def vary(recipe: Recipe, *changes: tuple[dict[str, Any], dict[str, Any]]) -> Recipe:
    """Return a recipe with fields of network and fit changed, in the given order.

    Raises
    ------
    DataError
        A field does not exist or has a wrong value.
    """
    network, fit = asdict(recipe.network), asdict(recipe.fit)
    for network_change, fit_change in changes:
        network |= network_change
        nested = {key: {**fit[key], **value} for key, value in fit_change.items() if isinstance(value, dict)}
        fit |= {**fit_change, **nested}
    try:
        return type(recipe).model_validate({**recipe.model_dump(), "network": network, "fit": fit})
    except (ValidationError, TypeError) as error:
        raise DataError(f"a variant cannot be made of the recipe ({' '.join(str(error).split())})") from error


def ablate(
    plan_file: Path | str, recipe: Recipe, run_dir: Path | str, report: Callable[[str, Progress], None]
) -> list[dict[str, Any]]:
    """Fit and score every variant. Finished variants are not fitted again.

    Parameters
    ----------
    plan_file : Path or str
        The plan. The result is written beside it as ``ablations.json``.
    recipe : Recipe
        Recipe that the variants change. The first test pair of each target is scored.
    run_dir : Path or str
        Folder with one subfolder for each variant.
    report : callable
        Called with the variant's name after every epoch.

    Returns
    -------
    list of dict
        One row for each variant and number of passes.

    Raises
    ------
    DataError
        The plan or the recipe is wrong.
    StoreError
        The same variants are being fitted, or a folder cannot be written.
    """
    plan_file, run_dir = Path(plan_file), Path(run_dir)
    plan = read_strict(plan_file, AblationPlan)
    if not (records := read_test(recipe)):
        raise DataError(f"{plan_file}: the recipe names no test pairs to score variants on; add `test:` to it")
    test = to_pairs(pair_row(record, recipe.target) for record in first_of_each_target(records))
    recipes = [vary(recipe, (plan.network, plan.fit), (variant.network, variant.fit)) for variant in plan.variants]
    rows = []
    for index, (variant, varied) in enumerate(zip(plan.variants, recipes, strict=True)):
        folder = run_dir / f"variant-{index}"
        with sole_training(folder):
            prepare(varied, folder / "prepared.npz")
            trained = train_network(folder / "prepared.npz", folder, partial(report, variant.variant), None)
        network = trained.network
        assert isinstance(network, Network)
        for passes in variant.passes:
            network.config = replace(network.config, passes=passes)
            scored = validate(network.eval(), test)
            scored.pop("score")
            name = variant.variant if len(variant.passes) == 1 else f"{variant.variant}, passes: {passes}"
            rows.append({"variant": name, "epochs": trained.summary["epochs"], **scored})
    result = {"note": plan.note, "reading": plan.reading, "rows": rows}
    write_whole(plan_file.parent / ABLATIONS, json.dumps(result, indent=2) + "\n")
    return rows
