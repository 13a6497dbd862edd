"""How the documentation is built: sphinx-build -W --keep-going docs docs/_build/html. It needs no network."""

import importlib
import pkgutil
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "_ext"))

from sphinx.util import logging  # noqa: E402

import convexsnn  # noqa: E402

project = "convexsnn"
author = "The convexsnn developers"
copyright = author  # noqa: A001
version = release = convexsnn.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "from_the_code",
    "mathml",
    "plain_docstrings",
]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # .ci/run executes the notebooks, and the pages show that output
nb_render_markdown_format = "myst"
html_math_renderer = "mathml"
exclude_patterns = ["_build", "_ext", "generated", "**.ipynb_checkpoints"]
autodoc_typehints = "none"  # shapes and units are in the docstrings
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_mock_imports = ["triton"]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
toc_object_entries = False  # each page copies the table of contents: the build would take twice as long
default_role = "code"  # a single backtick in a docstring is code
autosummary_generate = False
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
# symbols such as g and h stand in many classes: their mentions are no links
suppress_warnings = ["myst.header", "ref.python"]

html_theme = "furo"
html_title = f"convexsnn {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sourcelink = False


def _executed_notebooks():
    """Take the notebooks as .ci/run has executed them, else as they are."""
    target, executed = HERE / "notebooks", ROOT / "build" / "notebooks"
    target.mkdir(exist_ok=True)
    for source in sorted((ROOT / "notebooks").glob("*.ipynb")):
        run = executed / source.name
        shutil.copyfile(run if run.exists() else source, target / source.name)


def _reference_pages():
    """Write a page for every folder of the package, with all its modules: found by walking, not listed."""
    target = HERE / "reference"
    target.mkdir(exist_ok=True)
    for page in target.glob("*.md"):
        page.unlink()
    sections = {}
    for module in pkgutil.walk_packages(convexsnn.__path__, "convexsnn."):
        if not module.ispkg and not module.name.endswith("__main__"):
            section = module.name.split(".")[1] if module.name.count(".") > 1 else "package"
            sections.setdefault(section, []).append(module.name)
    for section, names in sorted(sections.items()):
        title = "Modules of the package itself" if section == "package" else section
        lines = [f"# {title}", ""]
        if section != "package":
            doc = (importlib.import_module(f"convexsnn.{section}").__doc__ or "").strip()
            lines += [doc, ""]
        for name in names:
            lines += [f"## {name.removeprefix('convexsnn.')}", ""]
            lines += ["```{eval-rst}", f".. automodule:: {name}", "```", ""]
        (target / f"{section}.md").write_text("\n".join(lines), encoding="utf-8")


_executed_notebooks()
_reference_pages()

def _commands_page():
    """Write what the help of every command says, as typer's own generator puts it."""
    from from_the_code import commands

    target = HERE / "generated"
    target.mkdir(exist_ok=True)
    (target / "commands.md").write_text(commands(), encoding="utf-8")


_commands_page()


def _offline(app, error):
    """Warn of pages that would ask the network for a script, a style, a font or a picture."""
    outside = re.compile(r"""(?:src=|<link[^>]*href=|url\()["']?(?:https?:)?//[^"' >)]+""")
    for file in () if error else [f for kind in ("html", "css") for f in Path(app.outdir).rglob(f"*.{kind}")]:
        for address in outside.findall(file.read_text(encoding="utf-8")):
            logging.getLogger(__name__).warning("%s: not offline: %s", file.relative_to(app.outdir), address)


def setup(app):
    """Register what is above with Sphinx."""
    app.connect("build-finished", _offline)
