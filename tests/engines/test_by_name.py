import pytest
from atomate2.forcefields.jobs import ForceFieldRelaxMaker
from atomate2.forcefields.utils import MLFF
from atomate2.vasp.jobs.core import RelaxMaker
from hypothesis import given, settings
from hypothesis import strategies as st

from cryslator_flows.analysis.same_minimum import compare_ends
from cryslator_flows.analysis.savings import measure_savings, paired_steps
from cryslator_flows.documents.relaxations import Ending, Relaxation, RelaxationComparison, RelaxationCost
from cryslator_flows.engines.by_name import FORCE_FIELDS as FORCE_FIELD_MODULES
from cryslator_flows.engines.by_name import PACKAGES, build_relax_maker, check_installed
from cryslator_flows.errors import CampaignError

FORCE_FIELDS = "atomate2.forcefields.jobs.ForceFieldRelaxMaker"


def test_engines():
    assert isinstance(build_relax_maker("chgnet", {"steps": 7}), ForceFieldRelaxMaker)
    assert build_relax_maker("chgnet", {"steps": 7}).steps == 7
    assert isinstance(build_relax_maker("atomate2.vasp.jobs.core.RelaxMaker", {}), RelaxMaker)
    for name, kwargs, word in (
        ("chgnett", {}, "did you mean 'chgnet'"),
        ("atomate2.vasp.jobs.core.NoMaker", {}, "cannot be imported"),
        ("chgnet", {"step": 7}, "step"),
        ("atomate2.common.jobs.transform.build_supercell", {}, "relaxation"),
        ("collections.OrderedDict", {}, "is not a jobflow Maker"),
        ("atomate2.forcefields.jobs.ForceFieldStaticMaker", {"force_field_name": "CHGNet"}, "relaxes nothing"),
        ("atomate2.vasp.jobs.mp.MPGGAStaticMaker", {}, "relaxes nothing"),
        (FORCE_FIELDS, {"force_field_name": "MACE-MP-O"}, r"relaxation.kwargs: .*did you mean 'MACE-MP-0'"),
        (FORCE_FIELDS, {}, "force_field_name is missing; choose from: Allegro, CHGNet"),
    ):
        with pytest.raises(CampaignError, match=word):
            build_relax_maker(name, kwargs)
    with pytest.raises(CampaignError, match=r"^relaxation.mlip.kwargs: "):
        build_relax_maker("chgnet", {"step": 7}, "relaxation.mlip")


@pytest.mark.parametrize("name", ["MPGGADoubleRelax", "MPMetaGGADoubleRelax", "MP24DoubleRelax"])
def test_relaxation_with_static_is_a_relaxation(name):
    maker = build_relax_maker(f"atomate2.vasp.flows.mp.{name}StaticMaker", {})
    assert type(maker.static_maker).__name__ in {"MPGGAStaticMaker", "MPMetaGGAStaticMaker", "MP24StaticMaker"}


@pytest.mark.parametrize(
    ("kwargs", "command"),
    [
        ({"force_field_name": "MACE-MP-0"}, "pip install mace-torch"),
        ({"force_field_name": "SevenNet"}, "pip install sevenn"),
        ({"force_field_name": "MatPES-PBE"}, "pip install matgl"),
        ({"force_field_name": "CHGNet"}, r"pip install 'cryslator-flows\[chgnet\]'"),
        ({"calculator_meta": "mace.calculators.MACECalculator"}, "pip install mace-torch"),
        ({"calculator_meta": "nowhere.Calculator"}, "install nowhere, or set PYTHONPATH"),
    ],
)
def test_potential_that_is_not_installed(monkeypatch, kwargs, command):
    """A maker can be built where the potential is not installed, as on a submit node; it cannot run there."""
    maker = build_relax_maker(FORCE_FIELDS, kwargs)
    monkeypatch.setattr("cryslator_flows.engines.by_name.find_spec", lambda name: None)
    with pytest.raises(CampaignError, match=f"^relaxation.mlip: .* {command}$"):
        check_installed(maker, "relaxation.mlip")


def test_what_is_installed_or_needs_no_potential():
    for maker in (build_relax_maker("chgnet", {}), RelaxMaker(), build_relax_maker("DoubleRelaxMaker", {})):
        check_installed(maker)


def test_every_force_field_of_atomate2_has_its_package():
    names = [member.value for member in MLFF if member is not MLFF.Forcefield]
    for name in names:
        module = next(module for start, module in FORCE_FIELD_MODULES.items() if name.startswith(start))
        assert module in PACKAGES


def test_preset_without_its_package(monkeypatch):
    monkeypatch.setattr("cryslator_flows.engines.by_name.find_spec", lambda name: None)
    with pytest.raises(CampaignError, match=r"pip install 'cryslator-flows\[chgnet\]'"):
        build_relax_maker("chgnet", {})


def relaxation(start, structure, energy=-5.0, steps=10, converged=True):
    cost = RelaxationCost(engine="test", ionic_steps=steps, converged=converged)
    return Relaxation(start=start, job_uuids=["u"], structure=structure, energy_per_atom=energy, cost=cost)


def test_outcomes(perovskite, rutile):
    unrelaxed = relaxation("unrelaxed", perovskite)

    def ending(structure, energy=-5.0, start="translated", converged=True):
        (found,) = compare_ends([unrelaxed, relaxation(start, structure, energy, converged=converged)], 0.005)
        return found.outcome

    moved = perovskite.copy()
    moved.translate_sites(range(5), [0.2, 0, 0])
    larger = perovskite.copy()
    larger.scale_lattice(perovskite.volume * 2)
    assert ending(moved, -5.004) == ending(moved, -4.996, "mlip") == "same minimum"
    assert ending(perovskite, -5.01) == "ended lower"
    assert ending(perovskite, -4.9) == ending(rutile, -4.999) == ending(larger) == "ended higher"
    assert ending(perovskite, converged=False) == "unconverged"
    assert ending(perovskite, converged=None) == "not compared"
    failed = Relaxation(start="translated", job_uuids=["u"], error="x")
    assert compare_ends([unrelaxed, failed], 0.005) == [Ending(start="translated", outcome="failed")]
    assert compare_ends([relaxation("translated", perovskite)], 0.005)[0].outcome == "not compared"
    assert compare_ends([unrelaxed], 0.005) == []


def test_every_start_is_judged_by_itself(perovskite, rutile):
    starts = [relaxation("unrelaxed", perovskite), relaxation("translated", rutile), relaxation("mlip", perovskite)]
    assert [item.outcome for item in compare_ends(starts, 0.005)] == ["ended higher", "same minimum"]


def comparison(unrelaxed, translated, outcome="same minimum"):
    return RelaxationComparison(
        candidate_id="0", template_id="t", substitution={}, reduced_formula="X", formation_energy_per_atom=0,
        relaxations=[relaxation("unrelaxed", None, steps=unrelaxed), relaxation("translated", None, steps=translated)],
        endings=[Ending(start="translated", outcome=outcome)],
    )  # fmt: skip


def test_only_the_same_minimum_counts():
    rows = [comparison(10, 5), comparison(100, 1, "ended lower"), comparison(None, 3), comparison(8, 9)]
    assert paired_steps(rows, "ionic steps") == [(10, 5), (8, 9)]
    assert paired_steps(rows, "electronic steps") == []


def test_saving_by_hand():
    result = measure_savings([(20, 10), (10, 12), (30, 15), (40, 20), (25, 18)], "ionic steps")
    assert result.saving == pytest.approx(1 - 75 / 125)
    assert (result.mean_unrelaxed, result.mean, result.ratio) == (25, 15, 0.6)
    assert result.share_slower == 0.2
    assert result.interval[0] < result.saving < result.interval[1]
    assert 0 < result.p_value < 1
    assert measure_savings([], "ionic steps") is None
    few = measure_savings([(20, 10)], "ionic steps")
    assert few.interval is few.p_value is None


@given(st.lists(st.integers(1, 60), min_size=5, max_size=20))
@settings(max_examples=15)
def test_equal_starts_save_nothing(steps):
    result = measure_savings([(step, step) for step in steps], "ionic steps")
    assert result.saving == 0
    assert result.interval == (0, 0)
    assert result.p_value is None
    assert result.share_slower == 0


def test_interval_covers_the_truth():
    """Of 95 % intervals on samples from a known distribution about 95 % hold the true saving."""
    import numpy as np

    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        unrelaxed = rng.integers(10, 40, 40)
        translated = np.maximum(1, np.round(unrelaxed * rng.uniform(0.5, 0.9, 40))).astype(int)
        low, high = measure_savings(
            list(zip(unrelaxed.tolist(), translated.tolist(), strict=True)), "ionic steps"
        ).interval
        hits += low <= 0.3 <= high
    assert 50 <= hits <= 60
