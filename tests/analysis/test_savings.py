import numpy as np
import pytest

from cryslator_flows.analysis import savings
from cryslator_flows.analysis.savings import (
    compared_starts,
    count_outcomes,
    measure_all_savings,
    measure_savings,
    paired_steps,
)
from cryslator_flows.documents.relaxations import Ending, Relaxation, RelaxationComparison, RelaxationCost


def relaxation(start, electronic, **cost):
    """Made-up cost: two ionic steps that share the electronic steps."""
    made = {
        "engine": "test", "ionic_steps": 2, "converged": True, "n_kpoints": 4,
        "electronic_steps": electronic and [electronic - 1, 1], **cost,
    }  # fmt: skip
    return Relaxation(start=start, job_uuids=["u"], energy_per_atom=-5.0, cost=RelaxationCost(**made))


def comparison(unrelaxed, outcome="same minimum", **others):
    relaxations = [unrelaxed, *others.values()] if unrelaxed else [*others.values()]
    return RelaxationComparison(
        candidate_id="0", template_id="t", substitution={}, reduced_formula="X", formation_energy_per_atom=0,
        relaxations=relaxations, endings=[Ending(start=start, outcome=outcome) for start in others],
    )  # fmt: skip


def pair(unrelaxed, translated, outcome="same minimum", **cost):
    starts = relaxation("unrelaxed", unrelaxed, **cost), relaxation("translated", translated, **cost)
    return comparison(starts[0], outcome, translated=starts[1])


def test_every_start_and_every_kind_of_step():
    rows = [
        comparison(
            relaxation("unrelaxed", 40, n_kpoints=10),
            mlip=relaxation("mlip", 20, n_kpoints=20),
            translated=relaxation("translated", 30, n_kpoints=None),
        ),
        pair(60, 30),
    ]
    assert compared_starts(rows) == ["translated", "mlip"]
    assert [(item.quantity, item.start, item.n_pairs, item.ratio) for item in measure_all_savings(rows)] == [
        ("electronic steps", "translated", 2, pytest.approx(0.6)),
        ("electronic steps", "mlip", 1, 0.5),
        # Only the candidate whose k-points are known; the finer mesh of the other start is paid for.
        ("electronic steps x k-points", "translated", 1, 0.5),
        ("electronic steps x k-points", "mlip", 1, 1.0),
        ("ionic steps", "translated", 2, 1.0),
        ("ionic steps", "mlip", 1, 1.0),
    ]
    assert measure_all_savings([]) == []


def test_core_hours_where_they_are_known():
    rows = [
        comparison(
            relaxation("unrelaxed", 40, core_hours=8.0), translated=relaxation("translated", 30, core_hours=hours)
        )
        for hours in (2.0, 4.0, None)
    ]
    (item,) = [item for item in measure_all_savings(rows) if item.quantity == "core-hours"]
    assert (item.n_pairs, item.mean_unrelaxed, item.mean, item.saving) == (2, 8.0, 3.0, pytest.approx(0.625))


def test_other_ends_are_counted_not_measured():
    outcomes = ["same minimum", "ended lower", "ended higher", "unconverged", "failed", "ended lower"]
    rows = [pair(40, 10 + number, outcome) for number, outcome in enumerate(outcomes)]
    assert count_outcomes(rows) == {
        "translated": {"same minimum": 1, "ended lower": 2, "ended higher": 1, "unconverged": 1, "failed": 1}
    }
    assert {item.n_pairs for item in measure_all_savings(rows)} == {1}
    assert paired_steps(rows, "electronic steps") == [(40, 10)]


@pytest.mark.parametrize("doubles", [["unrelaxed"], ["translated"], ["unrelaxed", "translated"]])
def test_no_saving_from_a_test_double(doubles):
    starts = [relaxation(name, 40, synthetic=name in doubles) for name in ("unrelaxed", "translated")]
    assert measure_all_savings([comparison(starts[0], translated=starts[1])] * 6) == []


def test_what_is_no_pair():
    different = comparison(relaxation("unrelaxed", 40), translated=relaxation("translated", 9, engine="other"))
    zero = pair(40, 10, ionic_steps=0)
    assert (
        paired_steps([different, zero, comparison(None, translated=relaxation("translated", 9))], "ionic steps") == []
    )
    assert paired_steps([zero], "electronic steps") == [(40, 10)]


def test_wilcoxon_by_hand():
    """Five candidates, all faster by different numbers: 2 of 2**5 equally likely sign patterns are as extreme."""
    assert measure_savings([(10 + n, 10) for n in (1, 2, 3, 4, 5)], "ionic steps").p_value == pytest.approx(2 / 32)


def test_interval_in_small_samples_holds_the_truth():
    """Of ten lognormal pairs; plain percentiles, which are too narrow there, hold it in 87 % of these cases."""
    rng = np.random.default_rng(0)
    truth = 1 - np.exp(-0.4 + 0.4**2 / 2)
    hits = 0
    for _ in range(300):
        unrelaxed = rng.lognormal(5, 0.5, 10)
        other = unrelaxed * rng.lognormal(-0.4, 0.4, 10)
        low, high = measure_savings(list(zip(unrelaxed, other, strict=True)), "electronic steps").interval
        hits += low <= truth <= high
    assert 0.9 <= hits / 300 <= 0.98


def test_large_campaigns_are_resampled_in_batches(monkeypatch):
    rng = np.random.default_rng(0)
    pairs = [tuple(row) for row in rng.integers(5, 50, (50, 2)).tolist()]
    whole = measure_savings(pairs, "ionic steps")
    monkeypatch.setattr(savings, "BATCH_STEPS", 20_000)
    assert measure_savings(pairs, "ionic steps") == whole
