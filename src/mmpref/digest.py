"""What a script's result depends on in this package.

Snakemake does not see through imports, so rules take `digest(files)` as a parameter. It changes
with the code of these files and of the modules they import, directly or not, but not with what is
only for people: comments, docstrings, layout, type hints, error messages, progress, help texts.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_FILE_NAME = re.compile(r"[\w-]+(\.\w+)+")

# Modules that change no result. The study's values are parameters of the rules already; if the
# classes that check them counted, a new option of the report would train everything anew.
LEFT_OUT = ("mmpref.study.", "mmpref.cli.", "mmpref.errors.", "mmpref.progress.")
# Functions and arguments whose texts are for people.
SPEECH, HELP = ("say", "track"), ("description", "help")


def digest(files: Iterable[str | Path], source: str | Path) -> str:
    """Return a short digest of the code of `files` and of what they import from `source`.

    `source` is the folder that holds the package. A file other than code (a template, a
    prompt) counts when it lies beside a module that names it in a string.
    """
    root = Path(source).resolve()
    used = [_module(file, root) for file in sorted(modules(files, root))]
    content = hashlib.sha256(b"".join(module.code for module in used))
    for data in sorted({data for module in used for data in module.data}):
        content.update(data.read_bytes())
    return content.hexdigest()[:12]


def modules(files: Iterable[str | Path], source: str | Path) -> set[Path]:
    """Return the modules of `source` that `files` import, directly or not, and `files`."""
    root = Path(source).resolve()
    pending, seen = [Path(file).resolve() for file in files], set[Path]()
    while pending:
        file = pending.pop()
        if file not in seen:
            seen.add(file)
            pending.extend(_module(file, root).imports)
    return seen


class _Module(NamedTuple):
    """What a module computes, the modules it imports and the files it names."""

    code: bytes
    imports: frozenset[Path]
    data: frozenset[Path]


@cache
def _module(file: Path, root: Path) -> _Module:
    tree = _Computation().visit(ast.parse(file.read_text(encoding="utf-8"), str(file)))
    nodes = list(ast.walk(tree))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    names = (text for text in texts if isinstance(text, str) and _FILE_NAME.fullmatch(text))
    data = (path for path in map(file.with_name, names) if path.is_file())
    return _Module(ast.dump(tree).encode(), frozenset(_imports(nodes, root)), frozenset(data))


class _Computation(ast.NodeTransformer):
    """Takes out of a module what does not change its results."""

    def generic_visit(self, node: ast.AST) -> Any:
        if isinstance(getattr(node, "returns", None), ast.expr):
            node.returns = None  # type: ignore[attr-defined]
        return super().generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        # A docstring, of a module, a function or a constant.
        documents = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if documents or _called(node.value) == "say" else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> Any:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        # A field of a class keeps its name and default.
        node.annotation = ast.Constant(value=None)
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        types_only = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if types_only else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        return _WithoutTexts().visit(self.generic_visit(node))

    def visit_Call(self, node: ast.Call) -> Any:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in HELP]
        self.generic_visit(node)
        if _called(node) in SPEECH:
            node.args = [_WithoutTexts().visit(argument) for argument in node.args]
        return node


class _WithoutTexts(ast.NodeTransformer):
    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        return ast.Constant(value="")

    def visit_Constant(self, node: ast.Constant) -> Any:
        return ast.Constant(value="") if isinstance(node.value, str) else node


def _called(node: ast.AST) -> str | None:
    return getattr(getattr(node, "func", None), "id", None)


def _imports(nodes: Iterable[ast.AST], root: Path) -> Iterator[Path]:
    """Yield the files of the package that a module imports."""
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] != "mmpref" or f"{name}.".startswith(LEFT_OUT):
                continue
            # Importing a module runs the __init__ of every package above it.
            for length in range(1, len(parts) + 1):
                path = root.joinpath(*parts[:length])
                yield from filter(Path.is_file, (path.with_suffix(".py"), path / "__init__.py"))
