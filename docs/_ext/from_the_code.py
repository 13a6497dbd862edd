"""Directives whose content comes from the package at build time: tables, command output, parts of files."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


def _markdown(directive, text):
    """Parse Markdown in a page."""
    node = nodes.container()
    directive.state.nested_parse(text.splitlines(), directive.content_offset, node)
    return node.children


class KeysTable(SphinxDirective):
    """The keys of a problem file: one table and one heading for each section."""

    def run(self):
        from convexsnn.report.keys_table import schema_table

        head, rule, *rows = schema_table().splitlines()
        sections = {}
        for row in rows:
            section, _, key = row.split("`")[1].rpartition(".")
            whole = f"{section}.{key}" if section else key
            sections.setdefault(section, []).append(row.replace(f"`{whole}`", f"`{key}`", 1))
        text = []
        for section, its_rows in sections.items():
            title = f"`[{section}]`" if section else "Before the first section"
            text += [f"### {title}", "", head, rule, *its_rows, ""]
        return self.parse_text_to_nodes("\n".join(text), allow_section_headings=True)


class SolversTable(SphinxDirective):
    """The table of solvers, by loss."""

    def run(self):
        from convexsnn.report.solver_table import solver_table

        return _markdown(self, solver_table())


def commands():
    """Return every command with its arguments and options as Markdown, as its help says them."""
    done = subprocess.run(
        [sys.executable, "-m", "typer", "convexsnn.cli", "utils", "docs", "--name", "convexsnn"],
        capture_output=True, text=True, check=True, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    _, _, text = done.stdout.partition("\n## ")  # the page has a title of its own

    def heading(match):
        return f"{'###' if ' ' in match[1] else '##'} {match[1]}"

    return re.sub(r"^#+ `convexsnn (.*)`$", heading, "## " + text, flags=re.M)


class Names(SphinxDirective):
    """Documentation of public names, at their place in `convexsnn`."""

    has_content = True

    def run(self):
        import inspect
        from abc import ABC

        import convexsnn

        lines = []
        for name in " ".join(self.content).split():
            value = getattr(convexsnn, name)
            kind = "autoclass" if inspect.isclass(value) else "autofunction"
            options = ["   :noindex:"]
            if kind == "autoclass" and issubclass(value, ABC):  # a base class of ours
                options.append("   :inherited-members: ABC")
            lines += ["```{eval-rst}", f".. {kind}:: convexsnn.{name}", *options, "```", ""]
        return _markdown(self, "\n".join(lines))


class Marked(SphinxDirective):
    """The lines of a file between `# [name]` and `# [/name]`."""

    required_arguments = 2

    def run(self):
        file, name = self.arguments
        text = (ROOT / file).read_text(encoding="utf-8")
        self.env.note_dependency(str(ROOT / file))
        (part,) = re.findall(rf"^# \[{name}\]\n(.*?)^# \[/{name}\]", text, flags=re.S | re.M)
        block = nodes.literal_block(part.strip(), part.strip())
        block["language"] = "python"
        return [block]


class Output(Directive):
    """A command line and what it prints, run at build time in an empty folder."""

    has_content = True
    option_spec = {"lines": directives.nonnegative_int}

    def run(self):
        shown = []
        with tempfile.TemporaryDirectory() as folder:
            for line in self.content:
                words = line.split()
                done = subprocess.run(
                    [sys.executable, "-m", *words], capture_output=True, text=True, cwd=folder, check=False,
                    env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
                )  # fmt: skip
                if done.returncode:
                    raise self.error(f"{line}: {done.stderr}")
                printed = done.stdout.rstrip().splitlines()
                most = self.options.get("lines", len(printed))
                shown += [f"$ {line}", *printed[:most], *(["…"] if most < len(printed) else [])]
        text = "\n".join(shown)
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        return [block]


def setup(app):
    """Register the directives with Sphinx."""
    for name, directive in (
        ("keys-table", KeysTable), ("solvers-table", SolversTable), ("names", Names), ("marked", Marked),
        ("output", Output),
    ):  # fmt: skip
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
