import json

import pytest
from matplotlib import image

from cryslator_flows.training.feature_map import draw_feature_map
from cryslator_flows.training.records import PairRecord
from cryslator_flows.translator.loaded import LoadedModel
from cryslator_flows.translator.model_folder import find_model
from tests.training.test_evaluate import pair


@pytest.mark.slow
def test_picture_and_numbers(tmp_path, perovskite, rutile):
    rows = []
    for number in range(12):
        relaxed = (perovskite if number % 2 else rutile).copy()
        unrelaxed = relaxed.copy()
        unrelaxed.scale_lattice(relaxed.volume * (1 + 0.03 * number))
        rows.append(PairRecord.model_validate(pair(unrelaxed, relaxed, f"t{number}")))
    model = LoadedModel(find_model("cryslator-universal"))
    numbers = draw_feature_map(model, rows, tmp_path)
    assert numbers["targets"] == 12
    assert numbers["model_version"] == model.version
    # Translation brings the two structures of a target together.
    assert 0 < numbers["both_translated_distance"] < numbers["unrelaxed_distance"]
    assert 0 <= numbers["both_translated_nearest_is_own"] <= 1
    assert json.loads((tmp_path / "feature-map.json").read_text()) == numbers
    picture = image.imread(tmp_path / "feature-map.png")
    assert picture.std() > 0.05
