"""Mutations of bytes, of JSON and of TOML, drawn from a `random.Random`: the same seed, the same file."""

import json
import math

WORDS = [
    "", " ", "x", "nan", "auto", "all", "..", "../data.npz", "/dev/zero", "a\nb", "\x1b[2J", "\u202eb", "\0",
    "\ud800", "é" * 3, "\U0001f600", "{x}", "%s%n", "x" * 300, "y" * 100_000, "0", "true",
]  # fmt: skip
NUMBERS = [
    0, 1, -1, 2, 7, 255, 2**31, 2**53 + 1, 2**63 - 1, -(2**63) + 1, 2**63, 10**20, 0.0, -0.0, 0.5, 1e-9,
    1e-300,
    5e-324, 1e9, 1e150, 1e300, 1.7e308, -1e308,
]  # fmt: skip
NESTED = 3000


class Raw(str):
    """Text to write as it is, where a value belongs."""


RAWS = [
    Raw(text)
    for text in (
        "1" + "0" * 400, "-" + "9" * 5000, "1e400", "-1e400", "1e-400", "NaN", "-Infinity", "nan", "inf",
        "-inf",
        "0x10", "1_000", "01", "+1", "1.", ".5", "1e5", "[" * NESTED + "]" * NESTED, "[" * NESTED,
        '{"a":' * NESTED,
        '"\\ud800"', '"\\u0000"', '"\\x"', "''", '""" \n """', "1979-05-27T07:32:00Z", "07:32:00", "", ",",
        "null",
        "None", "[1,]", "{}", "[]", "[[]]", "[{}]", "true", "TRUE",
    )
]  # fmt: skip


def mutated_bytes(rng, data):
    """Return bytes with a few flips, or with a part lost, repeated, inserted or overwritten."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 30))):
        if not data:
            break
        start = rng.randrange(len(data))
        stop = min(len(data), start + rng.choice((1, 2, 4, 8, 64, 1024)))
        kind = rng.randrange(8)
        if kind < 3:
            data[start] ^= 1 << rng.randrange(8)
        elif kind == 3:
            data[start] = rng.randrange(256)
        elif kind == 4:
            del data[start:stop]
        elif kind == 5:
            data[start:start] = data[start:stop]
        elif kind == 6:
            data[start:start] = rng.randbytes(stop - start)
        elif rng.random() < 0.3:
            del data[start:]
        else:
            data[start:stop] = bytes([rng.choice((0, 255, 32, 10))]) * (stop - start)
    return bytes(data)


def mutated_text(rng, text):
    """Return the bytes of a text with characters, lines or a byte-order mark put in, moved or taken out."""
    lines = text.split("\n")
    kind = rng.randrange(8)
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    if kind == 0:
        lines.insert(at, lines[other])
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        place = rng.randrange(len(lines[at]) + 1)
        lines[at] = lines[at][:place] + rng.choice(WORDS + RAWS) + lines[at][place:]
    elif kind == 4:
        lines[at] = lines[at].swapcase()
    elif kind == 5:
        return text.encode(rng.choice(("utf-8-sig", "utf-16", "utf-32", "utf-7")))
    elif kind == 6:
        return text.replace("\n", rng.choice(("\r\n", "\r", "\0", "\u2028", " "))).encode()
    else:
        return (text + rng.choice(("x", "\0", "}", "[", "\n" * 10_000, text, "# \x1b", "\ufeff"))).encode()
    return "\n".join(lines).encode("utf-8", "surrogatepass")


# trees: tables, lists and values, as JSON and TOML have them


def places(tree, path=()):
    """Return the paths of all values below a tree, tables and lists included."""
    if isinstance(tree, dict):
        below = tree.items()
    elif isinstance(tree, list):
        below = enumerate(tree)
    else:
        return []
    return [found for key, one in below for found in [(*path, key), *places(one, (*path, key))]]


def value_at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def with_value(tree, path, value):
    """Return a copy of a tree with another value at a path."""
    if not path:
        return value
    copied = tree.copy()
    copied[path[0]] = with_value(tree[path[0]], path[1:], value)
    return copied


def without(tree, path):
    """Return a copy of a tree without what is at a path."""
    parent = value_at(tree, path[:-1]).copy()
    del parent[path[-1]]
    return with_value(tree, path[:-1], parent)


def near(rng, value):
    """Return a value of the same type, near to one or far from it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(
            (value + 1, value - 1, -value, value * 2, value * 10**6, value + 2**32, float(value))
        )
    if isinstance(value, float):
        size = rng.choice((1e-16, 1e-14, 1e-12, 1e-10, 1e-9, 1e-8, 1e-6, 1e-3, 1.0, 1e6))
        step = rng.choice((math.nextafter(value, math.inf), math.nextafter(value, -math.inf), -value, 0.0))
        return rng.choice((value * (1 + size), value * (1 - size), value + size, step))
    if isinstance(value, str):
        place = rng.randrange(len(value) + 1)
        return rng.choice((
            value[:place] + rng.choice(WORDS) + value[place:], value[:place], value.upper(), value * 2,
        ))  # fmt: skip
    if isinstance(value, list):
        return rng.choice(
            (value[1:], value[::-1], value * 2, [*value, rng.choice(NUMBERS)], [value], value[:1])
        )
    return {key: one for key, one in value.items() if rng.random() < 0.7} if value is not None else 0


def any_value(rng, tree, value):
    """Return something to stand in the place of a value of a tree."""
    kind = rng.randrange(8)
    if kind < 3:
        return near(rng, value)
    if kind == 3:
        return rng.choice(RAWS)
    if kind == 4:
        return rng.choice(WORDS)
    if kind == 5:
        return rng.choice(NUMBERS)
    if kind == 6:
        return value_at(tree, rng.choice(places(tree)))
    return rng.choice((True, False, [], {}, [value], {"a": value}, [[value] * 3] * 3, None))


class Pairs(dict):
    """A table that is written with `more` pairs after its own, so that keys can stand twice."""

    more = ()


def mutated_tree(rng, tree):
    """Return a tree with a value altered, or a key lost, renamed, twice or unknown."""
    path = rng.choice(places(tree))
    value = value_at(tree, path)
    kind = rng.randrange(12)
    if kind < 7:
        return with_value(tree, path, any_value(rng, tree, value))
    if kind == 7:
        return without(tree, path)
    parent = value_at(tree, path[:-1])
    if not isinstance(parent, dict):
        return with_value(tree, path, any_value(rng, tree, value))
    if kind == 8:
        name = rng.choice(
            (path[-1].upper(), path[-1] + "s", path[-1][:-1], rng.choice(WORDS), path[-1] + "\n")
        )
        renamed = {name if key == path[-1] else key: one for key, one in parent.items()}
        return with_value(tree, path[:-1], renamed)
    if kind == 9:
        doubled = Pairs(parent)
        doubled.more = ((path[-1], rng.choice((value, any_value(rng, tree, value)))),)
        return with_value(tree, path[:-1], doubled)
    if kind == 10:
        other = rng.choice(list(parent))
        return with_value(with_value(tree, path, parent[other]), (*path[:-1], other), value)
    return with_value(tree, path[:-1], {**parent, rng.choice(WORDS): any_value(rng, tree, value)})


def _written(value, pair, null):
    def text(value):
        if isinstance(value, Raw):
            return str(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None:
            return null
        if isinstance(value, str):
            return json.dumps(value).replace("\x7f", "\\u007F")
        if isinstance(value, (int, float)):
            return repr(value)
        if isinstance(value, list):
            return f"[{', '.join(map(text, value))}]"
        pairs = [*value.items(), *getattr(value, "more", ())]
        return "{" + ", ".join(json.dumps(str(key)) + pair + text(one) for key, one in pairs) + "}"

    return text(value)


def json_text(tree):
    return _written(tree, ": ", "null")


def toml_text(tree):
    """Return a tree as TOML with one line for every key of its first level."""
    pairs = [*tree.items(), *getattr(tree, "more", ())]
    return "".join(f"{json.dumps(str(k))} = {_written(v, ' = ', '0')}\n" for k, v in pairs)


def mutated_table_file(rng, data, read, write):
    """Return the bytes of a JSON or TOML file after one mutation or several; of its bytes, text or tree."""
    kind = rng.randrange(10)
    if kind == 0:
        return mutated_bytes(rng, data)
    if kind < 3:
        return mutated_text(rng, data.decode())
    tree = read(data.decode())
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not places(tree):
            break
        tree = mutated_tree(rng, tree)
    return write(tree).encode("utf-8", "surrogatepass")
