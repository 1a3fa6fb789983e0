"""The study's JSON schema and the tables of config/README.md, written from its classes.

`python -m mmpref.study.documentation` rewrites both.
"""

import json
from pathlib import Path
from typing import Any

from mmpref.study.study import Study

BEGIN = "<!-- written by `python -m mmpref.study.documentation`; edit the classes it names -->"


def schema() -> str:
    """Return the JSON schema of a study file."""
    return json.dumps(Study.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def tables() -> str:
    """Return a Markdown table of keys for every part of a study."""
    root = Study.model_json_schema()
    parts = {"Study": root, **root["$defs"]}
    return "\n\n".join(_table(name, part) for name, part in parts.items()) + "\n"


def _table(name: str, part: dict[str, Any]) -> str:
    rows = [
        f"### {name}",
        "",
        part["description"],
        "",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    required = part.get("required", [])
    for key, value in part["properties"].items():
        default = "required" if key in required else _default(value)
        meaning = value.get("description", "")
        rows.append(f"| `{key}` | {_type(value)} | {default} | {meaning} |")
    return "\n".join(rows)


def _default(value: dict[str, Any]) -> str:
    return f"`{json.dumps(value['default'])}`" if "default" in value else ""


def _type(value: dict[str, Any]) -> str:
    """Return a type as a person would say it."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    for union in ("anyOf", "oneOf"):
        if union in value:
            return " or ".join(_type(choice) for choice in value[union] if choice != _NULL)
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}"
    if value.get("type") == "object":
        content: dict[str, Any] = value.get("additionalProperties") or next(
            iter(value.get("patternProperties", {}).values()), {}
        )
        return f"mapping of names to {_type(content)}"
    return str(value.get("type", "anything")) + _bounds(value)


_NULL = {"type": "null"}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def _bounds(value: dict[str, Any]) -> str:
    found = [f"{words} {value[key]:g}" for key, words in _BOUNDS.items() if key in value]
    return ", " + ", ".join(found) if found else ""


def write(config: Path) -> None:
    """Write `schema.json` and the tables of `README.md` in the folder `config`."""
    (config / "schema.json").write_text(schema(), encoding="utf-8")
    readme = config / "README.md"
    head = readme.read_text(encoding="utf-8").split(BEGIN)[0]
    readme.write_text(f"{head}{BEGIN}\n\n{tables()}", encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[3] / "config")
