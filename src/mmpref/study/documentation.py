"""The study's JSON schema and the tables of config/README.md, written from its classes.

`python -m mmpref.study.documentation` rewrites both.
"""

import json
from pathlib import Path
from typing import Any

from mmpref.study.study import Study

BEGIN = "<!-- written by `python -m mmpref.study.documentation`; edit the classes it names -->"
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def schema() -> str:
    """Return the JSON schema of a study file."""
    return json.dumps(Study.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def tables() -> str:
    """Return a Markdown table of keys for every part of a study."""
    root = Study.model_json_schema()
    parts = {"Study": root, **root["$defs"]}
    return "\n\n".join(_table(name, part) for name, part in parts.items()) + "\n"


def _table(name: str, part: dict[str, Any]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, value in part["properties"].items():
        default = f"`{json.dumps(value['default'])}`" if "default" in value else ""
        if key in part.get("required", []):
            default = "required"
        rows.append(f"| `{key}` | {_type(value)} | {default} | {value.get('description', '')} |")
    return "\n".join([f"### {name}", "", part["description"], "", *rows])


def _type(value: dict[str, Any]) -> str:
    """Return a type as a person would say it."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in value or "enum" in value:
        return ", ".join(f"`{one}`" for one in value.get("enum") or [value["const"]])
    if choices := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(_type(choice) for choice in choices if choice != {"type": "null"})
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}"
    if value.get("type") == "object":
        of_names = list(value.get("patternProperties", {}).values())
        return f"mapping of names to {_type(value.get('additionalProperties') or of_names[0])}"
    bounds = [f", {words} {value[key]:g}" for key, words in BOUNDS.items() if key in value]
    return value.get("type", "anything") + "".join(bounds)


def write(config: Path) -> None:
    """Write `schema.json` and the tables of `README.md` in the folder `config`."""
    (config / "schema.json").write_text(schema(), encoding="utf-8")
    readme = config / "README.md"
    head = readme.read_text(encoding="utf-8").split(BEGIN)[0]
    readme.write_text(f"{head}{BEGIN}\n\n{tables()}", encoding="utf-8")


if __name__ == "__main__":
    write(Path(__file__).parents[3] / "config")
