"""The dependency direction and the house rules, read off the syntax tree."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "art_perception"
MODULES = sorted(PACKAGE.rglob("*.py"))
SIBLINGS = ("data", "models", "estimation", "urdf", "io", "eval")
CORE = {"types", "errors", "bounds", "torchscript", "geometry"}
# What each unit may import besides itself. A unit is a folder or a top-level module.
ALLOWED = {
    "__init__": set(),
    "types": set(),
    "errors": set(),
    "bounds": set(),
    "torchscript": {"errors"},
    "geometry": {"types", "errors"},
    **{sibling: CORE for sibling in SIBLINGS},
    "propose": CORE | {"models", "estimation"},
    "fit": CORE | {"models", "estimation"},
    "complete": CORE | {"models", "estimation", "fit"},
    "generate": CORE | {"models"},
    "prior": CORE | {"complete", "fit", "models", "prior_shape"},
    "prior_shape": CORE | {"complete", "fit", "models", "estimation"},
    "pipeline": CORE | {"propose", "prior", "prior_shape"} | set(SIBLINGS) - {"eval"},
    "train": CORE | {"data", "models", "eval"},
    "viz": CORE | set(SIBLINGS) | {"pipeline"},
    "ros": CORE | set(SIBLINGS) | {"pipeline", "prior", "viz"},
    "cli": CORE | set(SIBLINGS) | {"pipeline", "generate", "viz", "train", "eval.benchmark"},
    "eval.benchmark": CORE | set(SIBLINGS) | {"pipeline", "propose", "complete"},
}
LONGEST_MODULE, LONGEST_FUNCTION, LONG_FUNCTION, LONG_SHARE, MEDIAN_FUNCTION = 450, 60, 40, 0.02, 12


def unit(dotted: str) -> str:
    """The unit of a module given without the package's name, `geometry.lie` -> `geometry`."""
    return "eval.benchmark" if dotted.startswith("eval.benchmark") else dotted.split(".")[0]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported module or name with its full dotted path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions() -> list[tuple[str, int]]:
    """Name and length in lines, decorators not counted, of every function of the package."""
    return [
        (f"{dotted(path)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_down(path: Path):
    own = unit(dotted(path))
    for name in imports(ast.parse(path.read_text())):
        root, _, rest = name.partition(".")
        if root == "art_perception" and rest and not rest.startswith("__"):
            assert unit(rest) == own or unit(rest) in ALLOWED[own], f"{own} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_only_ros_imports_rclpy(path: Path):
    ros_modules = {name for name in imports(ast.parse(path.read_text())) if name.split(".")[0] in {"rclpy", "launch"}}
    assert not ros_modules or unit(dotted(path)) == "ros"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_no_forwarded_keywords_and_no_stubs(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.args.kwarg is None, f"line {node.lineno}: **{node.args.kwarg.arg} hides what is accepted"
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert "NotImplementedError" not in ast.dump(node.exc), f"line {node.lineno}: a stub"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_modules_are_short(path: Path):
    assert len(path.read_text().splitlines()) < LONGEST_MODULE


def test_functions_are_short():
    lengths = dict(functions())
    assert not [name for name, length in lengths.items() if length > LONGEST_FUNCTION]
    long = [name for name, length in lengths.items() if length > LONG_FUNCTION]
    assert len(long) <= LONG_SHARE * len(lengths), long
    assert statistics.median(lengths.values()) <= MEDIAN_FUNCTION
