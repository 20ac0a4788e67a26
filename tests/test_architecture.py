"""Which part of the project may import which, and which modules may name flags."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "pyimagesearch"

BASE = {"averages", "cli", "config", "devices", "errors", "files", "layers", "metrics", "readers", "remote", "workers"}
"""Modules that all parts use. `config` is a module of the tutorial, but has only settings."""

TUTORIAL = {"data_preprocess", "losses", "srgan", "srgan_training", "utils", "vgg"}

MAY_IMPORT = {
    "scripts": {"training", "evaluation", "inference", "tutorial", "data", "base"},
    "training": {"training", "evaluation", "inference", "tutorial", "data", "base"},
    "evaluation": {"evaluation", "inference", "data", "base"},
    "inference": {"inference", "data", "base"},
    "tutorial": {"tutorial", "data", "base"},
    "data": {"data", "base"},
    "base": {"base"},
}

CSS_VARIABLE = "--place"
"""Of the page with sliders; it only looks like a flag."""

MODULES = sorted(ROOT.glob(f"{PACKAGE}/**/*.py"))
SCRIPTS = sorted(ROOT.glob("*.py"))


def module_name(path):
    """Return the name of a file of the package, such as "pyimagesearch.data.pairs"."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module):
    """Return the part of the project that a module belongs to, or None for one that is in no table."""
    _, *parts = module.split(".")
    if len(parts) > 1:
        return parts[0] if parts[0] in MAY_IMPORT else None
    return {**dict.fromkeys(BASE, "base"), **dict.fromkeys(TUTORIAL, "tutorial")}.get("".join(parts))


def imported(source, known):
    """Return the modules of the package that a source text imports, wherever in it that is."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not understood here"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members & known or {node.module}
    return {name for name in found if name.split(".")[0] == PACKAGE}


def complaints(module, own_room, source, known):
    """Return a line for each forbidden import of a source text."""
    return [
        f"{module} ({own_room}) must not import {other} ({room(other)})"
        for other in sorted(imported(source, known))
        if room(other) not in MAY_IMPORT[own_room]
    ]


def flags_in(source):
    """Return the string literals of a source text that name a flag."""
    literals = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    texts = (text.replace(CSS_VARIABLE, "") for text in literals if isinstance(text, str))
    return [text for text in texts if re.search("--[a-z]", text)]


KNOWN = {module_name(path) for path in MODULES}
EMPTY = {PACKAGE, *(f"{PACKAGE}.{name}" for name in ("training", "evaluation", "inference", "data"))}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_modules_import_what_is_below_them(path):
    module = module_name(path)
    if module in EMPTY:
        assert not imported(path.read_text(), KNOWN)
        return
    assert room(module), f"{module}: is in no table; add it to one of the parts"
    assert complaints(module, room(module), path.read_text(), KNOWN) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_modules_that_are_there(path):
    assert complaints(path.name, "scripts", path.read_text(), KNOWN) == []


@pytest.mark.parametrize(
    ("own_room", "statement"),
    [
        ("data", "from pyimagesearch.training import builders"),
        ("data", "from pyimagesearch.srgan import SRGAN"),
        ("base", "import pyimagesearch.data.pairs"),
        ("inference", "def late():\n    from pyimagesearch.evaluation import scores"),
        ("inference", "from pyimagesearch import utils"),
        ("evaluation", "from pyimagesearch.kitchen import stove"),
        ("scripts", "from pyimagesearch import kitchen"),
    ],
)
def test_upward_imports_and_unknown_modules_are_noticed(own_room, statement):
    assert complaints("module", own_room, statement, KNOWN)


def test_scripts_are_imported_by_none():
    names = {path.stem for path in SCRIPTS}
    for path in MODULES:
        nodes = ast.walk(ast.parse(path.read_text()))
        assert not names & {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem != "cli"], ids=module_name)
def test_only_scripts_and_cli_name_flags(path):
    assert flags_in(path.read_text()) == []


def test_flags_are_noticed():
    assert flags_in('raise UserError(f"{path}: missing; give --input")') == [": missing; give --input"]
