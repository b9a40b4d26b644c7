"""Values that YAML 1.1 reads in another way than most people, and keys that are given twice."""

from pathlib import Path
from typing import Any

import pytest

from search_spaces import SpaceError, load_space
from search_spaces.plain_yaml import SurpriseError, load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("1.0e3", 1000.0),
        (".5e+2", 50.0),
        ("-2e-4", -0.0002),
        ("1.0e-3", 0.001),
        ("1_000", 1000),
        ("0x1F", 31),
        ("007", 7),
        ("0", 0),
        ("-12", -12),
        ("2.50", 2.5),
        ("yes", True),
        ("~", None),
        ("'1e-3'", "1e-3"),
        ("e3", "e3"),
        ("1e", "1e"),
    ],
)
def test_a_value_is_read_as_people_mean_it(text: str, value: Any) -> None:
    assert load_yaml(f"a: {text}") == {"a": value}
    assert type(load_yaml(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("0011", "0011 as 9"),
        ("-010", "-010 as -8"),
        ("0_64", "0_64 as 52"),
        ("1:30", "1:30 as 90"),
        ("1:30.5", "1:30.5 as 90.5"),
        ("190:20:30", "190:20:30 as 685230"),
        ("2024-01-01", "2024-01-01 as a date"),
        ("2001-99-99", "2001-99-99 as a date"),
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00 as a date"),
    ],
)
def test_a_surprise_is_refused_with_its_line(text: str, read: str) -> None:
    with pytest.raises(SurpriseError, match=rf"^line 3: YAML reads {read}[.,] .*'{text}'$"):
        load_yaml(f"a: 1\nb:\n- {text}")
    assert load_yaml(f"a: '{text}'") == {"a": text}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key a is also in line 1"),
        ("a:\n  b: {c: 1,\n   c: 1}", "line 3: the key c is also in line 2"),
        ("- {x.y: 1, 'x.y': 2}", "line 1: the key x.y is also in line 1"),
        ("a: {no: 1, 'no': 2}", "line 1: the key no is also in line 1"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(text: str, message: str) -> None:
    with pytest.raises(SurpriseError, match=f"^{message}. Keep one of the two$"):
        load_yaml(text)


def test_a_merge_of_mappings_is_not_a_key_twice() -> None:
    text = "a: {b: {c: &x {<<: &y {k: 1}, k: 2}}}\nd: {<<: *x, e: 3}\nf: {<<: [*x, *y]}"
    assert load_yaml(text) == {
        "a": {"b": {"c": {"k": 2}}},
        "d": {"k": 2, "e": 3},
        "f": {"k": 2},
    }


@pytest.mark.parametrize(
    "text",
    [
        "0011",
        "no",
        "On",
        "1e-3",
        "1:30",
        "2024-01-01",
        "1_000",
        "0",
        "1.0",
        ".inf",
        "=",
        "2001-99-99",
    ],
)
def test_names_stay_as_written(text: str) -> None:
    names = [("names",), ("more", "names")]
    assert load_yaml(f"names: [{text}, {{{text}: {text}}}]", names) == {
        "names": [text, {text: text}]
    }
    assert load_yaml(f"more: {{names: {text}, count: 5}}", names) == {
        "more": {"names": text, "count": 5}
    }
    assert load_yaml(f"more: &m {{names: {text}}}\nnames: []\nother: *m", names)["more"] == {
        "names": text
    }
    assert load_yaml(f"x: &x {{names: {text}}}\nmore: {{<<: *x}}", names)["more"] == {"names": text}
    assert load_yaml(text, [()]) == text


def test_no_value_stays_no_value_and_an_alias_may_contain_itself() -> None:
    assert load_yaml("names: [~, null, '']", [("names",)]) == {"names": [None, None, ""]}
    loop = load_yaml("names: &n [1, *n]", [("names",)])["names"]
    assert loop[0] == "1"
    assert loop[1] is loop
    assert load_yaml("", [("names",)]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "parameters:\n  a: {low: 0, high: 1}\n  a: {low: 0, high: 2}",
            "line 3: the key a is also",
        ),
        ("first: {a: 1}\nfirst: {a: 2}\nparameters: {a: {choices: [1, 2]}}", "line 2: the key fir"),
        ("parameters: {a: {low: 0, low: 1, high: 2}}", "line 1: the key low"),
        ("parameters: {a: {choices: [010, 020]}}", "line 1: YAML reads 010 as 8"),
        ("parameters: {a: {choices: [x, 1:30]}}", "line 1: YAML reads 1:30 as 90"),
        ("parameters: {a: {choices: [2024-01-01]}}", "line 1: YAML reads 2024-01-01 as a date"),
    ],
)
def test_a_search_space_is_read_in_the_same_way(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(SpaceError, match=rf"space\.yaml: {message}"):
        load_space(str(path))


def test_numbers_with_an_exponent_are_numbers_everywhere_in_a_space(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "first: {a: 1e-3, b: 1e-3}\n"
        "parameters:\n"
        "  a: {low: 1e-5, high: 1e-2, log: true}\n"
        "  b: {choices: [1e-3, 1E2]}\n"
        "  c: {low: 0, high: 1e0, step: 5e-1, when: {b: [1e-3]}}\n"
    )
    space = load_space(str(path))
    assert space.first == {"a": 0.001, "b": 0.001}
    assert space.parameters["a"].low == 0.00001
    assert space.parameters["b"].choices == (0.001, 100.0)
    assert space.parameters["c"].values("c") == [0, 0.5, 1.0]
    assert space.has({"a": 0.001, "b": 0.001, "c": 0.5})
