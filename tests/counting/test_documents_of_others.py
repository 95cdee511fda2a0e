"""Task documents with holes and with fields of other shapes than emmet's."""

import pytest

from cryslator_flows.counting import count_steps
from cryslator_flows.errors import CountingError


def document(counts, **about):
    calculation = {"vasp_version": "6.4.2", "output": {"num_electronic_steps": counts}}
    return {"state": "successful", "dir_name": "/runs/a", "calcs_reversed": [calculation], **about}


def test_a_count_that_is_none_leaves_all_unknown():
    cost = count_steps(document([10, None, 5]))
    assert cost.electronic_steps is cost.ionic_steps is None
    assert cost.converged is True


@pytest.mark.parametrize("counts", [7, [3, -1], ["many"]])
def test_counts_that_are_none_name_their_field(counts):
    with pytest.raises(CountingError, match=r"output\.num_electronic_steps: .* correct the document"):
        count_steps(document(counts))


def test_a_broken_cost_names_its_field():
    with pytest.raises(CountingError, match=r"/runs/a, RelaxationCost\.engine: .* correct the document"):
        count_steps({"cost": {"engine": 5}, "dir_name": "/runs/a"})


def test_a_broken_record_leaves_the_count_unknown():
    cost = count_steps(document([3], additional_json={"cryslator_cost": "lost"}))
    assert cost.electronic_steps is None


def test_a_row_of_a_jobstore_is_what_its_job_returned():
    assert count_steps({"uuid": "a", "index": 1, "output": document([3, 2])}).electronic_steps == [3, 2]


def test_atomate_1_has_another_key_for_the_time():
    cost = count_steps(document([3], run_stats={"overall": {"Elapsed time (sec)": 22.0}}))
    assert cost.wall_time == 22.0
