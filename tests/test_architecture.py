"""Who may import whom (architecture.md), and the budgets of style.md; lazy imports count."""

import ast
import importlib
import inspect
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "convexsnn"
FILES = sorted(ROOT.rglob("*.py"))
NAMES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for path in FILES
]
MODULES = dict(zip(NAMES, FILES, strict=True))

# the road in its order: a folder imports from those above it alone
EVERYONE = {"errors", "files", "arrays", "threads"}
MAY_IMPORT = {
    "errors": set(),
    "compile_cache": set(),
    "threads": {"errors"},
    "files": {"errors"},
    "arrays": {"errors", "files"},
    "fields": {"errors"},
    "distinct": EVERYONE,
    "bit_kernels": set(),
    "bits": EVERYONE | {"bit_kernels", "distinct"},
    "tasks": EVERYONE,
    "networks": EVERYONE | {"fields"},
    "simulate": EVERYONE | {"networks"},
    "programs": EVERYONE | {"bits", "distinct"},  # knows no neuron
    "blocks": EVERYONE | {"programs"},  # knows no network
    "solvers": EVERYONE | {"programs"},  # knows no network
    "dictionary": EVERYONE | {"bits", "distinct", "networks", "simulate"},
    # of programs the names of losses and penalties, which a problem file chooses from; of the dictionary the
    # sources alone, which know what a problem asks for
    "problem": EVERYONE | {"dictionary", "distinct", "fields", "networks", "programs", "tasks"},
    "pricing": EVERYONE | {"bits", "dictionary", "distinct", "networks", "simulate"},
    # knows no solver
    "lowering": EVERYONE | {"dictionary", "networks", "pricing", "problem", "programs", "simulate"},
    "training": EVERYONE | {"networks", "problem", "programs", "simulate", "tasks"},
}
MAY_IMPORT["certify"] = MAY_IMPORT["lowering"] | {"distinct", "lowering"}
MAY_IMPORT["admm"] = MAY_IMPORT["training"] | {"bits", "blocks", "dictionary", "distinct", "lowering"}
MAY_IMPORT["admm"] |= {"training"}
MAY_IMPORT["gradient"] = MAY_IMPORT["training"] | {"fields", "training"}
MAY_IMPORT["convex"] = set(MAY_IMPORT)
MAY_IMPORT["roads"] = set(MAY_IMPORT)
MAY_IMPORT["report"] = set(MAY_IMPORT) - {"roads"}
MAY_IMPORT["terminal"] = {"errors", "files", "threads"}
MAY_IMPORT["bench"] = set(MAY_IMPORT)
MAY_IMPORT["cli"] = set(MAY_IMPORT)
MAY_IMPORT["__main__"] = {"cli"}
WITH_TORCH = ("convexsnn.gradient", "convexsnn.bench.gradient_")  # the training, and what measures it
SECTIONS = sorted({name.split(".")[1] for name in NAMES if "." in name})


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(name):
    """Return every module of ours that a module imports: at its top, in a function, for types alone."""
    found = set()
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                found.add(argument.value)
            else:  # a name made at run time: only the package's own front door does that
                assert name == "convexsnn", f"{name}: computed import in line {node.lineno}"
    return {module for module in found if module == "convexsnn" or module.startswith("convexsnn.")}


def test_the_table_has_every_part():
    assert set(SECTIONS) <= set(MAY_IMPORT)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "convexsnn"])
def test_imports_keep_to_the_table(name):
    section = name.split(".")[1]
    for module in imports_of(name):
        assert module != "convexsnn", f"{name} imports the front door"
        other = module.split(".")[1]
        assert other == section or other in MAY_IMPORT[section], f"{name} imports {module}"


def test_nobody_imports_the_command_line():
    assert [name for name in NAMES if "convexsnn.cli" in imports_of(name)] == ["convexsnn.__main__"]


def test_there_are_no_cycles():
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done or name not in MODULES:
            return
        path.append(name)
        for module in sorted(imports_of(name) - {name}):
            visit(module)
        path.pop()
        done.add(name)

    for name in NAMES:
        visit(name)


def test_the_core_needs_no_optional_package():
    """Mlxtend and what draws are extras: never at the top of a module; torch in a package that needs it."""
    optional = {"torch", "dask", "distributed", "mlxtend", "matplotlib", "sklearn", "celer", "skglm", "nir"}
    optional.add("nbformat")
    for name, path in MODULES.items():
        if name.startswith(WITH_TORCH):
            continue  # convexsnn.gradient says what to install
        for node in tree_of(path).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.partition(".")[0] for n in names} & optional, name


@pytest.mark.parametrize("name", NAMES)
def test_files_are_short(name):
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 400


def body_lines(function):
    """Return the lines of a function's body, docstring apart."""
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(getattr(body[0], "value", None), ast.Constant):
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


FUNCTION_LINES = {
    f"{name}:{node.lineno} {node.name}": body_lines(node)
    for name, path in MODULES.items()
    for node in ast.walk(tree_of(path))
    if isinstance(node, ast.FunctionDef)
}


def test_functions_are_short():
    assert {name: lines for name, lines in FUNCTION_LINES.items() if lines > 60} == {}
    assert sorted(FUNCTION_LINES.values())[len(FUNCTION_LINES) // 2] <= 15


def test_half_of_the_files_are_short():
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES)
    assert lengths[len(lengths) // 2] <= 200


@pytest.mark.parametrize("name", NAMES)
def test_names_say_what(name):
    vague = {"utils", "util", "helpers", "helper", "common", "private", "manager", "misc"}
    assert not vague & set(name.split("."))


def test_folders_are_one_level_deep():
    assert max(len(name.split(".")) for name in NAMES) <= 3


@pytest.mark.parametrize("name", NAMES)
def test_no_global_seed_and_no_pickle(name):
    calls = {ast.unparse(n.func) for n in ast.walk(tree_of(MODULES[name])) if isinstance(n, ast.Call)}
    assert not calls & {"np.random.seed", "pickle.load", "pickle.loads", "eval", "exec"}
    for node in ast.walk(tree_of(MODULES[name])):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False"


def test_processes_are_started_isolated():
    """By one function, which keeps the current folder out of the path."""
    for name in NAMES:
        text = MODULES[name].read_text(encoding="utf-8")
        assert name == "convexsnn.threads" or "sys.executable" not in text, name
        started = [
            node for node in ast.walk(tree_of(MODULES[name])) if isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("subprocess.run", "subprocess.Popen")
        ]  # fmt: skip
        assert not started or "python(" in text, name
        assert all("environment()" in ast.unparse(node) for node in started), name
        assert not {"os.system", "os.popen", "shell=True"} & set(text.split()), name


def test_torch_is_imported_in_one_package_alone():
    for name in NAMES:
        imported = {
            word.partition(".")[0]
            for node in ast.walk(tree_of(MODULES[name]))
            for word in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        if imported & {"torch", "triton"}:
            assert name.startswith(WITH_TORCH), name


def test_no_folder_is_above_a_fifth_of_the_package():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    for section in SECTIONS:
        own = sum(count for name, count in lines.items() if name.startswith(f"convexsnn.{section}"))
        assert own <= sum(lines.values()) / 5, section


def test_no_module_is_hidden_by_a_name_of_its_package():
    """`import convexsnn.solvers.failure as m` gives the module; the front door's `simulate` is meant so."""
    for name in NAMES:
        package, _, last = name.rpartition(".")
        if package and name != "convexsnn.simulate":
            importlib.import_module(name)
            value = vars(sys.modules[package]).get(last)
            assert value is None or inspect.ismodule(value), name


TESTS = Path(__file__).parent
SHARED = {"contract", "support"}  # what is pinned, and what tests share


def test_tests_mirror_the_package():
    """A file of tests is found by the name of the module that it tests, in the folder of the same name."""
    for path in sorted(TESTS.rglob("test_*.py")):
        folder = path.parent.name
        if path.parent == TESTS or folder in SHARED:
            continue
        modules = [name.split(".")[2] for name in NAMES if name.startswith(f"convexsnn.{folder}.")]
        assert any(f"{path.stem}_".startswith(f"test_{module}_") for module in modules + [folder]), path


def test_every_folder_has_tests():
    folders = {path.parent.name for path in TESTS.rglob("test_*.py")}
    packages = {name.split(".")[1] for name in NAMES if name.count(".") == 2}
    assert packages - folders == set()
