"""What a result was made from, so that files which do not belong together are noticed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpref.errors import InputError
from mmpref.files import sha256


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Return a short hexadecimal digest of JSON-like facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def model_identity(folder: str | Path) -> str:
    """Return a digest of a model folder's weights, configuration, tokenizer and processor.

    Raises:
        InputError: there are no weights in the folder.
    """
    files = {
        file.name: sha256(file)
        for file in Path(folder).iterdir()
        if file.suffix in {".safetensors", ".json", ".jinja", ".model", ".txt"}
        and not file.name.startswith(".")
    }
    if not any(name.endswith(".safetensors") for name in files):
        raise InputError(f"{folder}: no weights here (no .safetensors file)")
    return fingerprint(files)


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return `key: recorded, not wanted` for every key that differs, in nested mappings too."""
    found = []
    for key in sorted({*recorded, *wanted}):
        before, now = recorded.get(key), wanted.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += [f"{key}.{line}" for line in differences(before, now)]
        elif before != now:
            found.append(f"{key}: {before}, not {now}")
    return found
