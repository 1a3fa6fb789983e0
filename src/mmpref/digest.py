"""What a script's result depends on in this package.

Snakemake does not see through imports: it would not rerun training after the trainer was edited.
Rules therefore take `digest(script)` as a parameter. It changes with the code of the script and of
the modules it imports, directly or not, and with nothing else: not with comments, docstrings or
layout, and not with other modules.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "mmpref"
# The study's values are parameters of the rules already; the classes that check them must not
# count, or a new option of the report would train everything anew.
LEFT_OUT = {"mmpref.study"}


def digest(script: str | Path, source: str | Path) -> str:
    """Return a short digest of the code of `script` and of what it imports from `source`.

    `source` is the folder that holds the package. Files that are no code (templates, word lists)
    count when they lie beside an imported module.
    """
    root = Path(source).resolve()
    pending, seen = [Path(script).resolve()], set()
    while pending:
        file = pending.pop()
        if file not in seen:
            seen.add(file)
            pending.extend(_imported(file, root))
    folders = {file.parent for file in seen if root in file.parents}
    data = {
        path
        for folder in folders
        for path in folder.iterdir()
        if path.is_file() and path.suffix != ".py"
    }
    content = hashlib.sha256()
    for file in sorted(seen):
        content.update(_code(file))
    for file in sorted(data):
        content.update(file.read_bytes())
    return content.hexdigest()[:12]


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


@cache
def _code(file: Path) -> bytes:
    """Return a module's code, less docstrings, in a form that layout does not change."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                del body[0]
    return ast.dump(tree).encode()


def _imported(file: Path, root: Path) -> Iterator[Path]:
    """Yield the files of the package that a module imports."""
    for node in ast.walk(_tree(file)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] != PACKAGE or LEFT_OUT & {name, ".".join(parts[:-1])}:
                continue
            # Importing a module runs the __init__ of every package above it.
            for length in range(1, len(parts) + 1):
                path = root.joinpath(*parts[:length])
                if path.with_suffix(".py").is_file():
                    yield path.with_suffix(".py")
                elif (path / "__init__.py").is_file():
                    yield path / "__init__.py"
