"""POPE's questions."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpref.errors import InputError
from mmpref.records.items import SETTINGS, Item

# The random questions of 2023, which LLaVA-1.5 and LLaVA-RLHF report, are fewer than today's.
OLD = "random-2910"
_OLD_ROWS, _ROWS, _YES = 2910, 3000, 1500
_OBJECT = re.compile(r"Is there an? (.+) in the image\?")


def items(folder: Path, source: str = "coco", settings: Sequence[str] = SETTINGS) -> list[Item]:
    """Return the questions of `source` (`coco`, `aokvqa` or `gqa`) in the given settings.

    The files are those of POPE's folder `output`. Ids are those of the file; with several settings,
    whose ids repeat, `SETTING/ID`. Truth is `label`, `setting`, `object` and `image`. The setting
    `random-2910` is the older random file; a file of any other length than 3,000 and 2,910 rows is
    taken for the user's own.

    Raises InputError when a file is missing, is another file, or another version of it.
    """
    questions = []
    for setting in settings:
        for id, row in _rows(_file(folder, source, setting), setting).items():
            found = _OBJECT.fullmatch(row["text"])
            truth = {
                "kind": "pope",
                "image": row["image"],
                "label": row["label"],
                "setting": setting,
                "object": found[1] if found else row["text"],
            }
            unique = id if len(settings) == 1 else f"{setting}/{id}"
            questions.append(Item(unique, (), row["text"], truth))
    return questions


def other_version(items: int, answers: int) -> str | None:
    """Say why so many answers cannot be about so many items, where it is a matter of versions."""
    advice = (
        f"{answers} answers to {items} questions: there are two versions of POPE's random "
        "questions about COCO, of 2,910 (LLaVA-1.5's) and 3,000 rows; score the answers as "
        "pope-coco-random-2910 or pope-coco-random, with the data of that version"
    )
    return advice if {items, answers} == {_OLD_ROWS, _ROWS} else None


def _file(folder: Path, source: str, setting: str) -> Path:
    if setting not in (*SETTINGS, OLD):
        known = ", ".join((*SETTINGS, OLD))
        raise InputError(f"POPE: setting {setting!r} is unknown; write one of {known}")
    stem = "coco_pope" if source == "coco" else f"{source}_pope_seem"
    name = f"{stem}_{'random' if setting == OLD else setting}.json"
    for place in (folder / source, folder / "seem" / source, folder):
        if (place / name).is_file():
            return place / name
    raise InputError(
        f"{folder}: has no {name}, neither there nor in {source}/ or seem/{source}/; "
        "give the folder `output` of POPE"
    )


def _rows(path: Path, setting: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a file, JSON lines or an array, by id, once they are checked."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = filter(str.strip, text.split("\n"))
        rows = json.loads(text if text.lstrip().startswith("[") else f"[{','.join(lines)}]")
    except ValueError as error:
        raise InputError(
            f"{path}: neither JSON lines nor an array ({error}); download it again"
        ) from None
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        if not isinstance(row, dict) or not isinstance(row.get("question_id"), int | str):
            raise InputError(f"{where}: question_id is missing; give a file of POPE questions")
        id, label = str(row["question_id"]), row.get("label")
        where += f" (question_id {id})"
        if id in found:
            raise InputError(f"{where}: question_id: twice; make ids unique")
        for field in ("image", "text"):
            if not isinstance(row.get(field), str):
                raise InputError(f"{where}: {field} is missing; write a text")
        if label not in ("yes", "no"):
            raise InputError(f"{where}: label is {label!r}; write yes or no")
        found[id] = row
    if not found:
        raise InputError(f"{path}: has no question; download it again")
    yes = sum(row["label"] == "yes" for row in found.values())
    version = f"{path}: {len(found):,} rows, {yes:,} of them with label yes"
    if setting == OLD and (len(found), yes) != (_OLD_ROWS, _YES):
        raise InputError(
            f"{version}: not the random questions of LLaVA-1.5's time, which are {_OLD_ROWS:,} "
            f"({_YES:,} yes); use the setting random"
        )
    if setting != OLD and len(found) == _OLD_ROWS:
        raise InputError(
            f"{version}: the older version of the random questions, of LLaVA-1.5's time; use the "
            f"setting {OLD}, or download today's {_ROWS:,}"
        )
    if len(found) == _ROWS and yes != _YES:
        raise InputError(f"{version}: {_YES:,} are; download it again")
    return found
