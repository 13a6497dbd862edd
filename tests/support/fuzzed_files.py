"""Files of result folders, each of them mutated by a seed, and what is right where `verify` takes them."""

import json
import random
import re
import shutil
import tomllib
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
from guarded import outcome
from independent_checker import NotCovered, Refused, check
from mutated_arrays import arrays_of, mutated_npz, npz_bytes, other_values
from mutations import json_text, mutated_table_file, near, places, toml_text, value_at, with_value
from true_claims import UNREAD, Wrong, check_true, contents, write_plainly

import convexsnn
from convexsnn.arrays import digest
from convexsnn.errors import ConvexSNNError
from convexsnn.lowering import definition_of
from convexsnn.problem import load_saved_problem

RUNS = Path(__file__).parent.parent / "contract" / "runs"
WORDS_OF_KEYS = {
    "neuron": ("lif", "threshold", "recurrent_threshold"),
    "reset": ("subtract", "subtract_after", "zero", "none"),
    "readout": ("spike", "membrane", "rate"),
    "supervise": ("last", "all"),
    "loss": ("squared", "hinge", "squared_hinge", "logistic", "softmax"),
    "penalty": ("l1", "group"),
    "source": ("exact", "column_generation", "gaussian"),
}
LARGEST = "0.05"  # GB that the arrays of a file may have here, so that bombs are small


def mutated(rng, name, data):
    """Return the bytes of a file after a mutation of its kind."""
    if name.endswith(".npz"):
        return mutated_npz(rng, data)
    read, write = (json.loads, json_text) if name.endswith(".json") else (tomllib.loads, toml_text)
    return mutated_table_file(rng, data, read, write)


def plausible(rng, name, data):
    """Return the bytes of a file with one value that may as well be right: near, or another of its kind."""
    if name.endswith(".npz"):
        arrays = arrays_of(data)
        chosen = rng.choice(list(arrays))
        return npz_bytes({**arrays, chosen: other_values(rng, arrays[chosen])})
    tree = tomllib.loads(data.decode())
    path = rng.choice([one for one in places(tree) if not isinstance(value_at(tree, one), dict)])
    value = value_at(tree, path)
    words = [one for one in WORDS_OF_KEYS.get(path[-1], ()) if one != value]
    return toml_text(with_value(tree, path, rng.choice(words) if words else near(rng, value))).encode()


def mutated_checkpoint(rng, data):
    """Return the bytes of a mutated checkpoint; in most of them the digest is that of the new arrays.

    Of its texts, the history is mutated as JSON is.
    """
    if rng.random() < 0.25:
        arrays = arrays_of(data)
        history = mutated_table_file(rng, str(arrays["history"]).encode(), json.loads, json_text)
        data = npz_bytes({**arrays, "history": np.asarray(history.decode("utf-8", "replace"))})
    else:
        data = mutated_npz(rng, data)
    if rng.random() < 0.85:
        with suppress(Exception):  # what numpy does not read has no digest
            arrays = arrays_of(data)
            del arrays["digest"]
            data = npz_bytes({**arrays, "digest": np.asarray(digest(**arrays))})
    return data


class Folders:
    """Copies of all saved folders. `one` mutates a file, checks what is said of it, and puts it back."""

    def __init__(self, place):
        self.before, self.files = {}, []
        for run in sorted(RUNS.iterdir()):
            folder = shutil.copytree(run, place / run.name)
            self.before[folder] = contents(folder)
            self.files += [path for path in sorted(folder.iterdir()) if path.name not in UNREAD]
        self.claims = [path for path in self.files if path.name == "certificate.json"]

    def one(self, seed):
        """Return "refused", or "accepted" with whether the file is not the one before."""
        rng = random.Random(seed)
        path = rng.choice(self.files)
        good = path.read_bytes()
        path.write_bytes(mutated(rng, path.name, good))
        try:
            _, refusal = outcome(convexsnn.verify_folder, path.parent, exact=rng.random() < 0.1)
            if refusal:
                return "refused"
            with warnings.catch_warnings(action="ignore"):
                differing = check_true(path, self.before[path.parent])
            return "accepted, altered" if differing else "accepted, the same"
        finally:
            path.write_bytes(good)

    def restated(self, seed):
        """Mutate problem or data, and claim the same of that problem: a second check says what is true.

        Returns "refused", "accepted", or "no problem" if there is none to make a claim about.
        """
        rng = random.Random(f"restated {seed}")
        claim = rng.choice(self.claims)
        path = claim.parent / rng.choice(("problem.toml", "data.npz"))
        good = {one: one.read_bytes() for one in claim.parent.iterdir()}
        change = mutated if rng.random() < 0.1 else plausible
        path.write_bytes(change(rng, path.name, good[path]))
        try:
            problem, _ = outcome(load_saved_problem, claim.parent)
            if problem is None:
                return "no problem"
            state(claim, problem)
            _, refusal = outcome(convexsnn.verify_folder, claim.parent, exact=rng.random() < 0.3)
            if refusal is None:
                problem.save(claim.parent)  # with the keys that were left at their defaults
                write_plainly(claim.parent, ())
                check_again(claim.parent)
            return "refused" if refusal else "accepted"
        finally:
            for one, data in good.items():
                one.write_bytes(data)


def check_again(folder):
    """Raise `Wrong` if the second check refuses a folder."""
    try:
        check(folder)
    except NotCovered:
        pass
    except Refused as reason:
        if re.fullmatch(r"column \d+: other spikes than stated", str(reason)):
            return  # of a witness on a face, where rounding decides; the network has none
        raise Wrong(f"accepted, and refused by the second check: {reason}") from reason


def state(claim, problem):
    """Let a claim speak of a problem, as far as the problem alone decides what it says."""
    stated = json.loads(claim.read_text("utf-8"))
    stated |= {"problem": problem.name, "fingerprint": problem.fingerprint()}
    stated |= {"margin": problem.dictionary.margin, "weight_box": problem.dictionary.weight_box}
    stated |= {"tolerance": problem.solver.tolerance}
    with suppress(ConvexSNNError):
        stated["definition"] = str(definition_of(problem))
    claim.write_text(json.dumps(stated), "utf-8")
