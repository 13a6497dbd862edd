"""Every field and array of every kind of folder, altered in turn: refused by name, or listed as free.

What may be altered stands in `true_claims.FREE`, with the reason. A weight may change as long as no spike
does, which `check_true` decides in fractions. A new field that nothing protects fails here.
"""

import json
import re
import shutil
import tomllib
from functools import partial

import numpy as np
import pytest
from contract_roads import SAVED
from fuzzed_files import RUNS
from guarded import outcome
from mutated_arrays import arrays_of, npz_bytes
from mutations import json_text, places, toml_text, value_at, with_value, without
from true_claims import FREE, FREE_OF_ADMM, UNREAD, check_true, contents

import convexsnn

LACKING = (  # of what is free, tables and arrays that no saved folder of the kind has
    r"problem\.toml: gradient(\..*)?",
    r"data\.npz: test_(inputs|targets)",
)
STEP = 37  # one alteration of so many is in the default tests, another for each road
WORDS = {"lif": "threshold", "spike": "membrane", "last": "all", "subtract": "zero", "l1": "group"}
WORDS |= {"cells": "tree", "tree": "cells", "any pattern": "cells"}
TABLES = {".json": (json.loads, json_text), ".toml": (tomllib.loads, toml_text)}


def other_values(value):
    """Yield other values in the place of one: of its type, and of another."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, str):
        yield WORDS.get(value, value + "x")
    elif isinstance(value, (int, float)):
        yield value + 1
        yield value * 2 + 0.5
    elif isinstance(value, list):
        yield value[:-1]
    elif value is None:
        yield 0.5
    yield "x" if not isinstance(value, str) else 1


def other_arrays(array):
    """Yield arrays in the place of one: other values (one, and all), type and shapes."""
    if array.dtype.kind == "U":
        yield np.asarray(WORDS.get(str(array), f"{array}x"))
    elif array.dtype.kind == "b":
        yield ~array
    elif array.size:
        first, other = array.copy(), array.ravel()[0]
        first.flat[0] = other + 1 if array.dtype.kind == "f" else other ^ 1
        yield first
        yield array ^ 1 if array.dtype.kind in "iu" else -2 * array - 0.25
    yield array.astype("S8") if array.dtype.kind == "U" else array.astype(complex)
    yield array[None]
    yield array[:0] if array.ndim else np.asarray([array, array])


def alterations(path):
    """Yield (place, what returns the new file) with each place lost, and with each other value in it."""
    data = path.read_bytes()
    if path.suffix == ".npz":
        arrays = arrays_of(data)
        for name, array in arrays.items():
            yield name, partial(npz_bytes, {k: v for k, v in arrays.items() if k != name})
            for other in other_arrays(array):
                yield name, partial(npz_bytes, {**arrays, name: other})
        return
    read, write = TABLES[path.suffix]
    tree = read(data.decode())
    for place in places(tree):
        value = value_at(tree, place)
        others = [] if isinstance(value, dict) else other_values(value)
        for altered in (without(tree, place), *(with_value(tree, place, other) for other in others)):
            yield ".".join(map(str, place)), partial(write, altered)


def altered_in_turn(road, folder, step=1, first=0):
    """Alter every place of a folder; return the patterns of `FREE` that were needed."""
    shutil.copytree(RUNS / road, folder)
    before, needed = contents(folder), set()
    free = FREE_OF_ADMM if (folder / "admm.json").exists() else FREE
    for path in sorted(folder.iterdir()):
        if path.name in UNREAD:
            continue
        good = path.read_bytes()
        for k, (place, data) in enumerate(alterations(path)):
            if (k + first) % step:
                continue
            written = data()
            path.write_bytes(written if isinstance(written, bytes) else written.encode())
            _, refusal = outcome(convexsnn.verify_folder, folder)
            if refusal is None:
                check_true(path, before)
                needed |= {pattern for pattern in free if re.fullmatch(pattern, f"{path.name}: {place}")}
        path.write_bytes(good)
    return needed


@pytest.mark.parametrize("road", SAVED)
def test_what_is_altered_is_refused_or_free(road, tmp_path):
    altered_in_turn(road, tmp_path / "run", STEP, SAVED.index(road))


@pytest.mark.night
def test_what_is_altered_in_any_folder_is_refused_or_free_and_nothing_is_free_that_need_not_be(tmp_path):
    needed = {road: altered_in_turn(road, tmp_path / road) for road in SAVED}
    of_admm = {road for road in SAVED if (RUNS / road / "admm.json").exists()}
    for roads, free in ((of_admm, FREE_OF_ADMM), (set(SAVED) - of_admm, FREE)):
        found = set().union(*(needed[road] for road in roads))
        assert {pattern for pattern in set(free) - found if pattern not in LACKING} == set()


@pytest.mark.parametrize("road", SAVED)
def test_what_verify_does_not_read_may_be_anything(road, tmp_path):
    folder = shutil.copytree(RUNS / road, tmp_path / "run")
    for path in folder.iterdir():
        if path.name in UNREAD:
            path.write_bytes(b"\0 anything")
    (folder / "manifest.json").write_bytes(b"{")
    convexsnn.verify_folder(folder)


def test_every_file_of_a_saved_folder_is_read_or_listed_as_unread(tmp_path):
    for road in SAVED:
        folder = shutil.copytree(RUNS / road, tmp_path / road)
        for path in folder.iterdir():
            if path.name not in UNREAD:
                good = path.read_bytes()
                path.write_bytes(b"\0 nothing")
                assert outcome(convexsnn.verify_folder, folder)[1] is not None, path
                path.write_bytes(good)
