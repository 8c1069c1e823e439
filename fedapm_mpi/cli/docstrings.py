"""Docstrings and constants of modules, read from their source without importing them.

Plug-ins import torch, which takes seconds; ``--help`` or a list need not wait for it.
"""

import ast
from functools import cache
from pathlib import Path

HERE = Path(__file__).parents[1]


@cache
def tree(module: str) -> ast.Module:
    """Return a module of this package, named from the package on, as a syntax tree."""
    path = HERE.joinpath(*module.split(".")).with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


def parts(package: str) -> list[str]:
    """Return the names of the modules of a package that have a plug-in, sorted."""
    stems = (path.stem for path in (HERE / package).glob("*.py"))
    return sorted(s for s in stems if s != "base" and not s.startswith("_"))


def docstring(module: str) -> str:
    """Return a module's docstring, or an empty string."""
    return ast.get_docstring(tree(module)) or ""


def constant(module: str, name: str) -> str:
    """Return a string that a module assigns to a name."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return str(ast.literal_eval(node.value))
    msg = f"{module} assigns nothing to {name}"
    raise LookupError(msg)


def registered(module: str) -> tuple[str, str]:
    """Return the name under which a module registers a plug-in, and its class."""
    for node in tree(module).body:
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                if (
                    isinstance(decorator, ast.Call)
                    and isinstance(decorator.func, ast.Attribute)
                    and decorator.func.attr == "register"
                ):
                    return str(ast.literal_eval(decorator.args[0])), node.name
    msg = f"{module} registers nothing"
    raise LookupError(msg)


def options(module: str, name: str) -> dict[str, bool]:
    """Return the fields of a dataclass, and whether each may be left out."""
    found: dict[str, bool] = {}
    for kind in reversed(_shadow(module, name).__mro__):
        found |= vars(kind).get("fields", {})
    return found


@cache
def _shadow(module: str, name: str) -> type:
    """Return an empty class that inherits as one of the package does."""
    imported: dict[str, str] = {}
    own = {node.name for node in tree(module).body if isinstance(node, ast.ClassDef)}
    for node in tree(module).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, where = node.module.partition(".")
            if package == "fedapm_mpi":
                imported |= {alias.name: where for alias in node.names}
        if isinstance(node, ast.ClassDef) and node.name == name:
            above = [base.id for base in node.bases if isinstance(base, ast.Name)]
            known = [one for one in above if one in imported or one in own]
            bases = tuple(_shadow(imported.get(one, module), one) for one in known)
            return type(name, bases, {"fields": _fields(node)})
    msg = f"{module} has no class {name}"
    raise LookupError(msg)


def _fields(node: ast.ClassDef) -> dict[str, bool]:
    return {
        line.target.id: line.value is not None
        for line in node.body
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and "ClassVar" not in ast.unparse(line.annotation)
    }
