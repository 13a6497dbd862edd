"""Docstrings are written to be read as text; this turns them into reStructuredText.

A docstring has paragraphs, `code`, indented formulas, and the sections of the numpy convention. An indented
block after an empty line is shown as it stands. A star, a bar or an underscore in the text is that character.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

LISTED = {"Parameters", "Attributes", "Raises", "Returns", "Yields", "Warns"}  # napoleon reads their indents
CODE = re.compile(r"``.+?``|`[^`]+`|\*\*[^*]+\*\*", flags=re.S)
ITEM = re.compile(r"\s*(?:[-*•]|\d+[.)])\s")
AS_WRITTEN: dict[str, list[str]] = {}  # docstrings of properties, by name
BULLET = re.compile(r"^(\s*)[*•](?=\s)", flags=re.M)


def inline(text: str) -> str:
    """Escape what reStructuredText would read as markup, outside of code and bold."""
    parts, end, text = [], 0, BULLET.sub(r"\1-", text)
    for match in CODE.finditer(text):
        parts += [_escaped(text[end : match.start()]), match.group()]
        end = match.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return re.sub(r"\\|\*|\||`|_(?!\w)", lambda match: "\\" + match.group(), text)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def blocks(lines: list[str]) -> list[list[str]]:
    """Return the runs of lines between empty lines."""
    runs: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            runs[-1].append(line)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def restructured(lines: list[str]) -> list[str]:
    """Return a docstring's lines as reStructuredText."""
    result: list[str] = []
    in_list = in_item = False
    for block in blocks(lines):
        if len(block) > 1 and re.fullmatch(r"-{3,}", block[1].strip()) and not _indent(block[0]):
            in_list, in_item = block[0].strip() in LISTED, False
            body = block[2:]
            result += [*block[:2], *(inline("\n".join(body)).split("\n") if body else []), ""]
        elif in_list:
            result += [*inline("\n".join(block)).split("\n"), ""]
        elif _indent(block[0]) and not in_item:
            before = next((line for line in reversed(result) if line), "")
            if not _indent(before) and not before.endswith("::"):
                result += ["::", ""]
            result += [*block, ""]
        else:
            in_item = bool(ITEM.match(block[0]))
            result += [*_paragraph(block), ""]
    return result


def _paragraph(block: list[str]) -> list[str]:
    """Return one paragraph; lines that are indented more than it are a formula, except below list items."""
    if ITEM.match(block[0]) or not any(_indent(line) > _indent(block[0]) for line in block):
        return inline("\n".join(block)).split("\n")
    head = next(number for number, line in enumerate(block) if _indent(line) > _indent(block[0]))
    tail = next(
        (number for number in range(head, len(block)) if _indent(block[number]) <= _indent(block[0])),
        len(block),
    )
    formula = ["", "::", "", *block[head:tail], ""]
    rest = _paragraph(block[tail:]) if tail < len(block) else []
    return [*inline("\n".join(block[:head])).split("\n"), *formula, *rest]


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrite a docstring in place, before napoleon reads its sections."""
    if what == "module" and obj.__doc__:  # as it is written: autodoc takes indents away
        lines[:] = obj.__doc__.splitlines()
    lines[:] = restructured(lines)
    if what in ("property", "attribute", "data"):
        AS_WRITTEN[name] = list(lines)


def restore(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Undo napoleon in the docstring of a property: it takes "what: more" for a type and a meaning."""
    lines[:] = AS_WRITTEN.pop(name, lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Come before napoleon and after it."""
    app.connect("autodoc-process-docstring", process, priority=100)
    app.connect("autodoc-process-docstring", restore, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
