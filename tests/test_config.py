import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryslator_flows.config import MAX_DEPTH, read_yaml
from cryslator_flows.errors import DataError

ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' stands here again"),
        ("a:\n  b: 1\n  b: 1", "line 3: key 'b' stands here again"),
        ("a: 1\nb: 2024-13-45", "line 2: '2024-13-45' cannot be read as timestamp"),
        ("a: !!float abc", "line 1: 'abc' cannot be read as float"),
        ("a: " + "9" * 5000, "line 1: '9999.*' cannot be read as int"),
        ("a: 1\nb: " + "[" * 3000 + "]" * 3000, f"line 2: more than {MAX_DEPTH} levels"),
        ("a: &a [*a]", "line 1: refers to itself"),
        (ALIASES, "line 19: more than 1000000 values"),
        (MERGES, "line .*: more than 1000000 values"),
        ("a: .nan", "line 1: .nan is not a finite number"),
        ("a:\n- 1e400", "line 2: 1e400 is not a finite number"),
        ("a: 1\n\tb: 2", "line 2: cannot be read as YAML"),
        ("a: 1\nb: \x01", "line 2: cannot be read as YAML"),
        ('a: "\\ud800"', "line 1: '.*' cannot be read as str"),
        ("a: 1\nb: !!python/object:os.system x", "line 2: could not determine a constructor"),
        (": :", "line 1: cannot be read as YAML .an empty key"),
        ("? {a: 1}\n: 2", "line 1: found unhashable key"),
        ("a: 1\n---\nb: 2", "line 2: cannot be read as YAML .but found another document"),
    ],
)
def test_mistakes_have_their_line(tmp_path, text, words):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"file\.yaml, {words}") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"), ("off", "off"), ("true", True), ("1e-2", 0.01), ("1E3", 1000.0), ("1:30", "1:30"),
        ("12:00:00", "12:00:00"), ("010", 10), ("~", None), ("", None), ("\ufeffa", "a"),
        ("{a: &x 1, b: *x}", {"a": 1, "b": 1}),
        ("b: &b {x: 1, y: 2}\nc: {<<: *b, y: 3}", {"b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}}),
    ],
)  # fmt: skip
def test_values_are_what_people_mean(tmp_path, text, value):
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_yaml(str(path)) == value


# YAML reads keys of up to 1,022 characters; JSON writes one character as twelve at most.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_json_is_read_as_it_is(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "file.json"
    path.write_text(json.dumps(content))
    assert read_yaml(path) == content
