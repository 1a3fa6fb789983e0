"""Pairs in the formats of other trainers: TRL, ms-swift and LLaMA-Factory."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.progress import say, track
from mmpref.records.images import FORMATS
from mmpref.records.pairs import Pairs
from mmpref.records.rows import IMAGE_PLACEHOLDER, Pair

Format = Literal["trl", "ms-swift", "llama-factory"]

PLACEHOLDERS = (IMAGE_PLACEHOLDER, "<video>", "<audio>")
"""What ms-swift and LLaMA-Factory replace by a file, wherever it stands in a text."""

ROWS = "pairs.jsonl"


def export_pairs(path: Path, to: Format, folder: Path) -> int:
    """Write the pairs of a file to a new `folder` in the format of a trainer; return how many.

    - `trl`: `pairs.parquet`, the file itself, which `datasets` loads and TRL trains on;
    - `ms-swift`: `pairs.jsonl` with `messages`, `images` and `rejected_response`;
    - `llama-factory`: `pairs.jsonl` (sharegpt: `conversations`, `chosen`, `rejected`, `images`) and
      `dataset_info.json`, which lists it under the folder's name.

    Each row of the JSON lines has its `id` too, and names its images relative to the folder, where
    each image is written once. Rows are those of the file in its order, read one row group at a
    time. Only the first rejected answer of a pair is written.

    Raises:
        InputError: the file is not one of pairs, a text holds one of `PLACEHOLDERS`, an image's
            format is unknown, or the folder has something in it.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: already exists and is not empty; give a new folder")
    pairs = Pairs(path)
    with replacing(folder) as temporary:
        temporary.mkdir()
        if to == "trl":
            shutil.copyfile(path, temporary / "pairs.parquet")
            return len(pairs)
        (temporary / "images").mkdir()
        row_of = {"ms-swift": _ms_swift, "llama-factory": _llama_factory}[to]
        with (temporary / ROWS).open("w", encoding="utf-8") as file:
            for row in _rows(pairs, row_of, temporary):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if to == "llama-factory":
            entry = json.dumps({folder.resolve().name: _ENTRY}, indent=2, ensure_ascii=False)
            (temporary / "dataset_info.json").write_text(entry + "\n", encoding="utf-8")
    return len(pairs)


_ENTRY = {
    "file_name": ROWS,
    "formatting": "sharegpt",
    "ranking": True,
    "columns": {
        "messages": "conversations",
        "chosen": "chosen",
        "rejected": "rejected",
        "images": "images",
    },
}


def _rows(
    pairs: Pairs, row_of: Callable[[Pair, str], dict[str, Any]], folder: Path
) -> Iterator[dict[str, Any]]:
    more = 0
    # As they lie in the file: by number, a row group would be read again for each of its rows.
    for number in track(np.argsort(pairs.places).tolist(), "pairs", len(pairs)):
        pair = pairs[number]
        where = f"{pairs.path}, pair {pair.id}"
        for name, text in (("prompt", pair.prompt), *pair.answers.items()):
            found = next((one for one in PLACEHOLDERS if one in text), None)
            if found:
                raise InputError(
                    f"{where}, {name}: holds {found}, which trainers replace by a file; remove it"
                )
        images = [_written(image, folder, where) for image in pair.images]
        question = IMAGE_PLACEHOLDER * len(images) + pair.prompt
        yield {"id": pair.id, **row_of(pair, question), "images": images}
        more += bool(pair.more_rejected)
    if more:
        say(
            f"note: {more} of {len(pairs)} pairs have more than one rejected answer; the first "
            "one was written"
        )


def _ms_swift(pair: Pair, question: str) -> dict[str, Any]:
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": pair.chosen},
    ]
    return {"messages": messages, "rejected_response": pair.rejected}


def _llama_factory(pair: Pair, question: str) -> dict[str, Any]:
    return {
        "conversations": [{"from": "human", "value": question}],
        "chosen": {"from": "gpt", "value": pair.chosen},
        "rejected": {"from": "gpt", "value": pair.rejected},
    }


def _written(image: bytes, folder: Path, where: str) -> str:
    """Return the name of an image file in `folder`, which is written unless it is there."""
    try:
        with Image.open(BytesIO(image), formats=FORMATS) as opened:
            # A JPEG with a preview calls itself MPO; no program knows that suffix.
            suffix = "jpeg" if opened.format == "MPO" else str(opened.format).lower()
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{where}, images: cannot be read as an image ({error}); write the pairs anew"
        ) from None
    name = f"images/{hashlib.sha256(image).hexdigest()[:32]}.{suffix}"
    if not (folder / name).exists():
        (folder / name).write_bytes(image)
    return name
