"""Whether the claim of an altered result folder is still true, from its files alone.

The folder that it was made of is known to be true. So an altered one is true if it makes the same claim about
the same problem, and what stands behind it still holds: the spikes of network and witnesses are simulated
here in fractions, and a folder with a bound over all patterns goes to `independent_checker` as well.
"""

import json
import re
import shutil
import tempfile
import tomllib
from pathlib import Path

import numpy as np
from independent_checker import NotCovered, Refused, check
from naive_rational import exact_spikes

from convexsnn.networks import load_network
from convexsnn.networks.files import layers_from_arrays

KEYS = json.loads((Path(__file__).parent.parent / "contract" / "pinned" / "keys.json").read_text("utf-8"))
CLOSE = 1.001e-9  # of a number's size: what `verify` takes for rounding is below
ADMM_CLAIM = (
    "problem status scope fingerprint network units objective lower_bound gap train_accuracy test_accuracy"
).split()
MEANT = "only words for the reader"
SEARCH = "how the solution was found, which a claim about it does not rest on"
FREE = {  # "file: place" that no claim depends on, with the reason
    r"problem\.toml: (title|source|expected(\..*)?)": MEANT,
    r"problem\.toml: dictionary\.(?!margin$|weight_box$).*": f"{SEARCH}; these two are the definition",
    r"problem\.toml: solver\.(name|time_limit)": SEARCH,
    r"problem\.toml: (admm|gradient)(\..*)?": SEARCH,
    r"data\.npz: test_(inputs|targets)": "a certificate is about training data",
    r"certificate\.json: solver": SEARCH,
    r"certificate\.json: oracle": "a word: `verify` proves by its own oracle and names it",
    r"dictionary\.npz: (candidates|complete)": SEARCH,
    r"network\.npz: readout_leak": "of output membranes, which no certificate has",
}  # fmt: skip
FREE_OF_ADMM = {
    r"problem\.toml: (title|source|expected(\..*)?)": MEANT,
    r"problem\.toml: dictionary\.(?!margin$|weight_box$).*": "ADMM has no dictionary",
    r"problem\.toml: solver(\..*)?": "ADMM has no solver",
    r"problem\.toml: gradient(\..*)?": "ADMM takes no such gradients",
    r"data\.npz: test_(inputs|targets)": "scored again: accepted where the accuracy is the stated one",
    rf"admm\.json: (?!({'|'.join(ADMM_CLAIM)})\b).*": "curves and settings of the run",
}
EVIDENCE = r"certificate\.npz: (dual|weights|columns)"  # where it proves the same claim, the claim is as true
UNREAD = {  # files that the check of a certificate does not open
    "path.json": "numbers for a plot; the folder's claim is its certificate",
    "witnesses.npz": "the dictionary has a copy, which is the one that is checked",
    "trained-1.npz": "a network whose units the dictionary took; nothing reads it again",
    "trained-2.npz": "the same of the second network",
    "manifest.json": "which files `--force` may replace",
}
UNKNOWN = r"(network|dictionary|certificate|data)\.npz: \+.*"  # an array that nothing reads
WITNESSES = r"dictionary\.npz: (subnetwork.*|unit_of)"
NETWORK = r"network\.npz: (layer\d+_(weights|bias|recurrent|own_weight|leak)|output_weights)"


class Wrong(AssertionError):
    """A folder was accepted, and its claim is not the true one."""


# the content of files, read by nothing of ours


def contents(folder):
    """Return {"file: place": value} of all files of a folder that its check reads."""
    paths = [path for path in sorted(folder.iterdir()) if path.name not in UNREAD]
    return {place: value for path in paths for place, value in content(path).items()}


def content(path):
    """Return {"file: place": value} of a file."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {f"{path.name}: {name}": arrays[name] for name in arrays.files}
    read = json.loads if path.suffix == ".json" else tomllib.loads
    return {f"{path.name}: {place}": value for place, value in flat(read(path.read_text("utf-8")))}


def flat(tree, place=""):
    """Return pairs (place, value) of a tree; a list of values is one value."""
    if isinstance(tree, dict):
        pairs = [(f"{place}.{key}" if place else str(key), one) for key, one in tree.items()]
    elif isinstance(tree, list) and any(isinstance(one, (dict, list)) for one in tree):
        pairs = [(f"{place}.{k}", one) for k, one in enumerate(tree)]
    else:
        return [(place, tree)]
    return [found for name, one in pairs for found in flat(one, name)]


def same(one, other):
    """Return whether two values mean the same: equal words, or equal numbers of any type."""
    try:
        a, b = np.asarray(one), np.asarray(other)
    except ValueError:
        return False
    if a.dtype.kind in "US" or b.dtype.kind in "US" or a.dtype.kind == "O" or b.dtype.kind == "O":
        return a.dtype.kind == b.dtype.kind and a.shape == b.shape and bool((a == b).all())
    if a.ndim < 2 and b.size == 1:  # one number, and a list of one
        a, b = a.ravel(), b.ravel()
    return a.shape == b.shape and bool((a.astype(float) == b.astype(float)).all())


def close(one, other):
    """Return whether two numbers differ by no more than rounding."""
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (one, other))
    return numbers and abs(one - other) <= CLOSE * abs(other) + 1e-13


def rounded(one, other):
    """Return whether two arrays of margins differ by no more than the rounding of other machines."""
    return one is not None and one.shape == other.shape and np.allclose(one.astype(float), other, 1e-6, 1e-9)


def default(place, contents):
    """Return what a place of ``problem.toml`` means where it is empty."""
    file, _, key = place.partition(": ")
    if file != "problem.toml":
        return None
    if key == "training.task":
        loss = contents.get("problem.toml: training.loss", "squared")
        return "regression" if loss == "squared" else "classification"
    if key.endswith(".threshold"):
        kind = contents.get(place.replace("threshold", "neuron"), "lif")
        return 1.0 if kind == "lif" else 0.0
    section, _, name = re.sub(r"^(network\.layers)\.\d+", r"\1", key).rpartition(".")
    return KEYS.get(section or "top", {}).get(name, {}).get("default")


def altered(before, after):
    """Return the places at which two contents differ; a "+" marks one that is new."""
    places = [place for place in before if not same(after.get(place, default(place, after)), before[place])]
    return places + [re.sub(": ", ": +", place, count=1) for place in after if place not in before]


# the truth of a claim


def objective(folder, claim, tables):
    """Return the objective of the network in a folder, with its spikes in fractions."""
    with np.load(folder / "data.npz", allow_pickle=False) as file:
        data = {name: file[name].astype(float) for name in file.files}
    network, spec = load_network(folder / "network.npz"), tables["network"]
    seen, margin, box = data["inputs"], claim["margin"], claim["weight_box"]
    for layer, layer_spec in zip(network.layers, spec["layers"], strict=True):
        check_layer(layer, layer_spec, box)
        spikes, membranes, closest = exact_spikes(layer, seen)
        if min(closest) < margin * (1 - 1e-6):
            raise Wrong(f"a margin of {float(min(closest))}")
        seen = spikes.astype(float)
    bits = membranes if spec["readout"] == "membrane" else spikes
    steps = slice(None) if spec["supervise"] == "all" else slice(-1, None)
    bits = bits[:, steps].reshape(-1, bits.shape[2]).astype(float)
    weights = data.get("sample_weights", np.ones(len(seen))).repeat(len(bits) // len(seen))
    rows, out = weights / len(bits), network.output_weights
    losses = naive_losses(tables["training"], bits @ out, data["targets"].reshape(len(bits), -1))
    group = tables["training"]["penalty"] == "group"
    size = np.linalg.norm(out, axis=1).sum() if group else np.abs(out).sum()
    return rows @ losses + claim["regularization"] * size


def check_layer(layer, spec, box):
    """Compare a layer with its architecture: words, threshold, grid of leaks, box."""
    neuron = layer.neuron
    expected = {"kind": spec["neuron"], "threshold": spec["threshold"]}
    if neuron.kind == "lif":
        expected["reset"] = spec["reset"]
        if not np.isin(neuron.leak, spec["leak"]).all():
            raise Wrong(f"leak {neuron.leak}")
    for name, value in expected.items():
        if getattr(neuron, name) != value:
            raise Wrong(f"{name} {getattr(neuron, name)!r}")
    for weights in (layer.weights, layer.bias, layer.recurrent, getattr(neuron, "own_weight", None)):
        if weights is not None and not np.abs(weights).max() <= box:
            raise Wrong("a weight outside the box")


def naive_losses(training, z, y):
    """Return the loss of every row: outputs z (R, C), targets y (R, heads)."""
    loss = training["loss"]
    if loss == "softmax":
        return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y[:, 0].astype(int)]
    if training["task"] == "classification":
        if y.min() >= 0:
            low, classes = 0.0 if loss == "squared" else -1.0, int(y.max()) + 1
            y = y if classes > 2 or loss == "squared" else 2 * y - 1
            if classes > 2 or loss == "squared":
                y = np.where(y == np.arange(z.shape[1]), 1.0, low)
    margins = np.maximum(0.0, 1.0 - z * y)
    return {
        "squared": lambda: 0.5 * (z - y) ** 2,
        "hinge": lambda: margins,
        "squared_hinge": lambda: 0.5 * margins**2,
        "logistic": lambda: np.log1p(np.exp(-z * y)),
    }[loss]().sum(axis=1)


def check_witnesses(folder, claim, tables):
    """Simulate the witness of every column in fractions and compare it with the column."""
    with np.load(folder / "dictionary.npz", allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    with np.load(folder / "data.npz", allow_pickle=False) as file:
        inputs = file["inputs"].astype(float)
    spec = tables["network"]
    steps = slice(None) if spec["supervise"] == "all" else slice(-1, None)
    patterns = {}
    for p, (k, j) in enumerate(zip(stored["subnetwork_of"], stored["unit_of"], strict=True)):
        if int(k) not in patterns:
            seen = inputs
            for layer, layer_spec in zip(
                layers_from_arrays(stored, f"subnetwork{k}_"), spec["layers"], strict=True
            ):
                check_layer(layer, layer_spec, claim["weight_box"])
                spikes, membranes, _ = exact_spikes(layer, seen)
                seen = spikes.astype(float)
            bits = membranes if spec["readout"] == "membrane" else spikes
            patterns[int(k)] = bits[:, steps].reshape(-1, bits.shape[2])
        column = np.unpackbits(stored["packed"][p])[: len(patterns[int(k)])]
        if not (column == patterns[int(k)][:, int(j)]).all():
            raise Wrong(f"column {p} is not what its witness does")


def write_plainly(folder, places):
    """Write the arrays as the second check reads them: floats of 64 bits, none that nothing else reads."""
    for file in ("certificate.npz", "network.npz", "dictionary.npz", "data.npz"):
        with np.load(folder / file, allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files if f"{file}: +{name}" not in places}
        kept = {name: a.astype(float) if a.dtype.kind == "f" else a for name, a in kept.items()}
        np.savez(folder / file, **kept)


def check_true(path, before):
    """Raise `Wrong` unless the claim of a folder is true that was accepted with another file at `path`.

    `before` are the contents of the true one. Returns the places that are altered.
    """
    folder, file = path.parent, f"{path.name}: "
    after = {place: value for place, value in before.items() if not place.startswith(file)} | content(path)
    admm = any(place.startswith("admm.json") for place in before)
    places, kinds = altered(before, after), set()
    for place in places:
        if any(re.fullmatch(pattern, place, re.DOTALL) for pattern in (FREE_OF_ADMM if admm else FREE)):
            kinds.add("free")
        elif place.startswith(("certificate.json: ", "admm.json: ")) and place in after:
            if not close(after[place], before[place]):
                raise Wrong(f"{place}: {after[place]!r} in place of {before[place]!r}")
            kinds.add("number")
        elif place == "dictionary.npz: margins" and rounded(after.get(place), before[place]):
            kinds.add("free")
        elif re.fullmatch(UNKNOWN, place, re.DOTALL):
            kinds.add("unknown")
        elif not admm and re.fullmatch(EVIDENCE, place) and place in after:
            kinds.add("evidence")
        elif not admm and re.fullmatch(WITNESSES, place):
            kinds.add("witnesses")
        elif not admm and re.fullmatch(NETWORK, place):
            kinds.add("network")
        else:
            raise Wrong(f"{place}: {after.get(place)!r} in place of {before.get(place)!r}")
    if admm or not kinds - {"free", "unknown"}:
        return places
    claim = json.loads((folder / "certificate.json").read_text("utf-8"))
    tables = tomllib.loads((folder / "problem.toml").read_text("utf-8"))
    if "witnesses" in kinds:
        check_witnesses(folder, claim, tables)
    if "network" in kinds and not close(objective(folder, claim, tables), claim["objective"]):
        raise Wrong(f"objective {objective(folder, claim, tables)}, the claim says {claim['objective']}")
    if claim["scope"] == "all_patterns":
        try:
            with tempfile.TemporaryDirectory() as copy:
                write_plainly(shutil.copytree(folder, Path(copy) / "run"), places)
                check(Path(copy) / "run")
        except NotCovered:
            pass
        except Refused:
            if kinds - {"free", "unknown", "number"}:  # else the claim before, its numbers rounded otherwise
                raise
    return places
