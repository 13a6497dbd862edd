"""Mutations of ``.npz`` files: of arrays, of the headers of arrays, and of the archive around them."""

import io
import struct
import warnings
import zipfile

import numpy as np
from mutations import WORDS, mutated_bytes

SHAPES = [
    "(10**12,)", "(4611686018427387904, 4)", "(9223372036854775807,)", "(18446744073709551616,)", "(-1,)",
    "(-3, -4)", "(0, 9223372036854775807)", "()", "(0,)", "(1,) * 100", "(True,)", "(1.5,)", "('a',)", "[2]",
    "None", "(1000000,)", "(3, 4, 5)", "(" + "1, " * 40 + ")",
]  # fmt: skip
TYPES = [
    "'|O'", "'<f4'", "'>f8'", "'<c16'", "'<f2'", "'<U0'", "'<U7'", "'<U1000000'", "'|S8'", "'|V8'",
    "'<M8[ns]'",
    "'|b1'", "'<i8'", "'<u1'", "[('a', '<f8')]", "[('a', '|O')]", "('<f8', (10**9,))", "('<f8', (2,))", "''",
    "'<f8,<f8'", "'<g'", "None", "'x' * 9", "[]", "{}", "1",
]  # fmt: skip
NAMES = [
    "../inputs", "/etc/passwd", "..", "", ".npy", "a/b", "a\\b", "layer1_weights", "layer9_weights",
    "layer1_x",
    "layer01_weights", "layer1_", "layer-1_weights", "layer1_weights.npy", "subnetwork0_layer2_weights",
    "subnetwork0_x", "subnetwork99999999999_layer1_weights", "Weights", "a\nb", "\x1b[2J", "\u202e", "é",
    "x" * 60_000,
    "output_weights", "digest", "format", "identity", "test_inputs", "sample_weights", "columns",
]  # fmt: skip
VALUES = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-3,
    5e-324,
    1e-300,
    1e9,
    1e150,
    1e300,
    1.7e308,
]
WHOLES = [0, 1, -1, 2, 7, 99, 127, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63)]
SIZES = [1e-16, 1e-14, 1e-12, 1e-10, 1e-9, 1e-8, 1e-6, 1e-3, 0.1, 1.0]


def other_values(rng, array):
    """Return an array with other values in one place, in some or in all."""
    array = array.copy()
    if array.dtype.kind == "U":
        word = rng.choice(
            [*WORDS[:-4], "lif", "threshold", "subtract", "none", "zero", "membrane", "all", "spike"]
        )
        return np.where(np.ones(array.shape, bool), np.asarray(word), array)
    if not array.size or array.dtype.kind not in "biuf":
        return array
    chosen = np.zeros(array.size, bool)
    chosen[[rng.randrange(array.size) for _ in range(rng.choice((1, 1, 3)))]] = True
    chosen = (chosen | (rng.random() < 0.3)).reshape(array.shape)
    if array.dtype.kind == "b":
        return array ^ chosen
    if array.dtype.kind in "iu":
        value = rng.choice((rng.choice(WHOLES), None, None))
        value = rng.choice((1, -1)) if value is None else value
        new = np.full(array.shape, value, np.int64).astype(array.dtype) + (abs(value) == 1) * array
    else:
        kind = rng.randrange(4)
        new = {
            0: lambda: np.full(array.shape, rng.choice(VALUES)),
            1: lambda: array * (1 + rng.choice(SIZES) * rng.choice((1, -1))),
            2: lambda: array + rng.choice(SIZES) * rng.choice((1, -1)),
            3: lambda: rng.choice(
                (-array, np.nextafter(array, np.inf), np.roll(array, 1), np.sort(array, axis=None))
            ),
        }[kind]()
        new = np.reshape(new, array.shape)
    return np.where(chosen, new, array).astype(array.dtype)


def _shape(rng, array):
    kinds = [
        lambda: array.T, lambda: array[:0], lambda: array.reshape(-1)[:1].reshape(()), lambda: array[None],
        lambda: array[..., None], lambda: np.concatenate([array, array]), lambda: array[:-1],
        lambda: array[1:],
        lambda: array[::-1], lambda: array.reshape(-1), lambda: np.asfortranarray(array),
        lambda: array[..., :0],
        lambda: np.zeros((1000, 1000)), lambda: np.asarray(0.0), lambda: array[..., ::-1],
        lambda: np.broadcast_to(array.reshape(-1)[:1], (3,) * 32), lambda: np.zeros((0, 10**6)),
    ]  # fmt: skip
    try:
        return rng.choice(kinds[:-2] if rng.random() < 0.9 else kinds[-1:])()
    except (IndexError, ValueError):
        return array.reshape(1, -1)


def _type(rng, array):
    types = [
        "f4", "f2", ">f8", "i8", "i4", "u1", "i1", "u8", ">i8", "c16", "b1", "U8", "S8", "M8[s]", "g", "O",
        "V8",
        [("a", "f8")],
    ]  # fmt: skip
    try:
        with warnings.catch_warnings(action="ignore"):  # the imaginary part is lost
            return array.astype(rng.choice(types))
    except (ValueError, TypeError, RuntimeError, OverflowError):
        return np.asarray([None, "a", [1]], dtype=object)


def mutated_arrays(rng, arrays):
    """Return arrays with one of them altered, or lost, renamed or another added."""
    arrays = dict(arrays)
    name = rng.choice(list(arrays))
    kind = rng.randrange(12)
    with np.errstate(all="ignore"):
        if kind < 5:
            arrays[name] = other_values(rng, arrays[name])
        elif kind < 7:
            arrays[name] = _shape(rng, arrays[name])
        elif kind < 9:
            arrays[name] = _type(rng, arrays[name])
        elif kind == 9:
            del arrays[name]
        elif kind == 10:
            arrays[rng.choice(NAMES)] = arrays[name] if rng.random() < 0.5 else arrays.pop(name)
        else:
            other = rng.choice(list(arrays))
            arrays[name], arrays[other] = arrays[other], arrays[name]
    return arrays


# files


def member_bytes(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=True)
    return file.getvalue()


def packed(members, compression=zipfile.ZIP_DEFLATED):
    """Return an archive of named bytes; a list of pairs, so that a name can stand twice."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name or "x")
            info.filename = name  # as given, also where zipfile would tidy it
            info.compress_type = compression
            with warnings.catch_warnings(action="ignore"):  # a name may stand twice
                archive.writestr(info, data)
    return file.getvalue()


def npz_bytes(arrays):
    return packed([(f"{name}.npy", member_bytes(array)) for name, array in arrays.items()])


def arrays_of(data):
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def header(descr="'<f8'", shape="(3,)", fortran="False", version=1, pad=0, extra=""):
    """Return the start of an array as any text, which need not be what follows."""
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, {extra}}}".encode()
    text += b" " * pad + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


def _mutated_header(rng, data):
    """Return an array's bytes with another header before the same values, or fewer or more of them."""
    body = data[10 + struct.unpack("<H", data[8:10])[0] :]
    parts = {}
    for key, choices in (("descr", TYPES), ("shape", SHAPES)):
        if rng.random() < 0.6:
            parts[key] = rng.choice(choices)
    if rng.random() < 0.2:
        parts["fortran"] = rng.choice(("True", "1", "None"))
    if rng.random() < 0.2:
        parts["version"] = rng.choice((2, 3, 4, 255))
    if rng.random() < 0.1:
        parts["pad"] = rng.choice((10_000, 60_000, 70_000 if parts.get("version") else 60_000))
    if rng.random() < 0.1:
        parts["extra"] = rng.choice(("'x': 1", "1", "'shape': (1,)", "__import__('os')", "(" * 300))
    body = rng.choice((body, body, body[:-1], body + b"\0", b"", body * 2))
    if rng.random() < 0.2:  # as many bytes as the shape says, to be taken for an array
        body = bytes(rng.choice((0, 8, 24, 32, 8000)))
    return header(**parts) + body


FLAGS = {  # place in a local header, and in the central folder
    "flag": (6, 8), "method": (8, 10), "crc": (14, 16), "packed size": (18, 20), "size": (22, 24),
    "name length": (26, 28), "extra length": (28, 30),
}  # fmt: skip


def _mutated_archive(rng, data):
    """Return an archive with numbers of its own records altered: encryption, method, sizes, places."""
    data = bytearray(data)
    local, central = FLAGS[rng.choice(list(FLAGS))]
    starts = [
        (mark, [k for k in range(len(data)) if data[k : k + 4] == mark], place)
        for mark, place in ((b"PK\3\4", local), (b"PK\1\2", central))
    ]
    for _, found, place in rng.choice((starts, starts[:1], starts[1:])):
        if found:
            at = rng.choice(found) + place
            data[at : at + 2] = struct.pack("<H", rng.choice((0, 1, 9, 0x800, 12, 14, 99, 0x2041, 65535)))
    return bytes(data)


def _bomb(rng, arrays):
    name = rng.choice(list(arrays))
    shape = rng.choice(((6_000_000,), (2500, 2500), (1, 6_000_000, 1), (6_000_000, 0)))
    return npz_bytes({**arrays, name: np.zeros(shape, rng.choice(("f8", "u1", "i8", "?")))})


def mutated_npz(rng, data):
    """Return the bytes of an ``.npz`` file after one mutation or several."""
    kind = rng.randrange(20)
    if kind == 0:
        return mutated_bytes(rng, data)
    if kind == 1:
        return _mutated_archive(rng, data)
    arrays = arrays_of(data)
    if kind == 2:
        return mutated_bytes(rng, packed([(f"{k}.npy", member_bytes(v)) for k, v in arrays.items()], 0))
    if kind < 6:
        members = [(f"{name}.npy", member_bytes(array)) for name, array in arrays.items()]
        at = rng.randrange(len(members))
        name, member = members[at]
        what = rng.randrange(6)
        if what < 3:
            members[at] = name, _mutated_header(rng, member)
        elif what == 3:
            members.append((name, rng.choice((member, members[0][1]))))
        elif what == 4:
            members.append(
                (rng.choice(("x.txt", "../x.npy", "/x.npy", "x", "a/", "é.npy", "\0.npy")), member)
            )
        else:
            members[at] = name, rng.choice((b"", b"\x93NUMPY", b"x" * 100, member[:20], member + b"x"))
        return packed(members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED)))
    if kind == 6 and rng.random() < 0.3:
        return _bomb(rng, arrays)
    if kind == 7 and rng.random() < 0.3:
        return rng.choice(
            (b"", b"PK\5\6" + bytes(18), data + data, data[:-22], b"x" * 50 + data, data + b"x" * 50)
        )
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if arrays:
            arrays = mutated_arrays(rng, arrays)
    return npz_bytes(arrays)
