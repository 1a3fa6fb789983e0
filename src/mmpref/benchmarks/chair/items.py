"""CHAIR's items: COCO images to describe, and what is in them."""

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from mmpref.benchmarks.chair import image_id
from mmpref.benchmarks.chair.words import Words, official_mentions, read_words
from mmpref.errors import InputError
from mmpref.language.words import singular
from mmpref.records.items import Item

PROMPT = "Please describe this image in detail."
SUBSET = "coco2014_gt_objects_subset.json"
# Segmentations are gigabytes as Python objects; they are dropped as they are read.
_KEPT = {"images", "annotations", "categories", "id", "image_id", "category_id", "name"}


def image_ids(folder: Path) -> list[str]:
    """Return the ids of COCO's val2014 images by number, or without annotations of the subset's.

    `folder` is that of `items`. Raises InputError when it has neither.
    """
    _, captions = _annotations(folder, "val")
    if captions.is_file():
        ids = {str(id) for (id,) in _rows(captions, _read_json(captions), "images", "id")}
    else:
        ids = set(_of_subset(folder))
    return sorted(ids, key=int)


def items(folder: Path, images: Collection[str] | None = None) -> list[Item]:
    """Return one item per COCO 2014 image, of those in `images` (ids) if given, by number.

    `folder` holds `synonyms.txt` and COCO's `annotations/instances_{train,val}2014.json` and
    `annotations/captions_{train,val}2014.json` of one or both splits, or instead of these
    `coco2014_gt_objects_subset.json` (id to classes). An image's objects are the classes of its
    instances and those that the official word rule finds in its reference captions; that rule
    takes about 0.15 ms per reference caption, so name the images where they are few.

    Raises InputError when files are missing or foreign, or an image is not in them.
    """
    truths = ground_truth(folder, images, read_words(folder), singular)
    return [
        Item(id, (), PROMPT, {"kind": "chair", "image": image, "objects": objects})
        for id, (image, objects) in truths.items()
    ]


def ground_truth(
    folder: Path, images: Collection[str] | None, words: Words, base: Callable[[str], str]
) -> dict[str, tuple[str, list[str]]]:
    """Return by image id, in order of number, the image's file name and its classes, sorted.

    Without COCO's annotations in `folder` they come from the subset, and the id stands for the
    file name. Raises InputError as `items` does.
    """
    wanted = None if images is None else {image_id(image) for image in images}
    splits = [_annotations(folder, split) for split in ("train", "val")]
    splits = [files for files in splits if any(path.is_file() for path in files)]
    truths = {} if splits else _of_subset(folder)
    for files in splits:
        truths |= _of_split(*files, wanted, words, base)
    missing = sorted((wanted or set()) - truths.keys(), key=int)
    if missing:
        raise InputError(
            f"{folder}: no ground truth for {len(missing)} images ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); put COCO's instances and captions of the "
            "split they are from (train2014, val2014) into annotations/ there"
        )
    return {id: truths[id] for id in sorted(truths if wanted is None else wanted, key=int)}


def _annotations(folder: Path, split: str) -> tuple[Path, Path]:
    """Return where the instances and the captions of a split are."""
    annotations = folder / "annotations"
    return annotations / f"instances_{split}2014.json", annotations / f"captions_{split}2014.json"


def _of_split(
    instances: Path,
    captions: Path,
    wanted: set[str] | None,
    words: Words,
    base: Callable[[str], str],
) -> dict[str, tuple[str, list[str]]]:
    content = _read_json(captions)
    names = {
        str(id): str(name)
        for id, name in _rows(captions, content, "images", "id", "file_name")
        if wanted is None or str(id) in wanted
    }
    objects: dict[str, set[str]] = {id: set() for id in names}
    for id, caption in _rows(captions, content, "annotations", "image_id", "caption"):
        if str(id) in names:
            found = official_mentions(str(caption), words, base)
            objects[str(id)].update(kind for _, kind in found)
    if names:
        content = _read_json(instances, lambda found: {k: found[k] for k in _KEPT & found.keys()})
        kinds = {}
        for category, name in _rows(instances, content, "categories", "id", "name"):
            if name not in words.classes:
                raise InputError(f"{instances}: category {name!r} is not one of COCO's 80")
            kinds[category] = words.classes[name]
        for id, category in _rows(instances, content, "annotations", "image_id", "category_id"):
            if category not in kinds:
                raise InputError(f"{instances}: category_id {category!r} is not among categories")
            if str(id) in names:
                objects[str(id)].add(kinds[category])
    return {id: (name, sorted(objects[id])) for id, name in names.items()}


def _rows(
    path: Path, content: dict[str, Any], section: str, *fields: str
) -> Iterator[tuple[Any, ...]]:
    """Yield `fields` of the rows in a section of a file of annotations."""
    for number, row in enumerate(content.get(section) or [], start=1):
        try:
            yield tuple([row[field] for field in fields])
        except (KeyError, TypeError):
            raise InputError(
                f"{path}: {section}, row {number}: lacks one of {', '.join(fields)}; give "
                "COCO 2014's own file"
            ) from None


def _of_subset(folder: Path) -> dict[str, tuple[str, list[str]]]:
    path = folder / SUBSET
    content = _read_json(path)
    for id, objects in content.items():
        if not isinstance(objects, list) or not id.isdigit():
            raise InputError(
                f"{path}: entry {id!r}: is not an image's number with a list of classes; write one"
            )
    return {id: (id, sorted(objects)) for id, objects in content.items()}


def _read_json(
    path: Path, hook: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes(), object_hook=hook)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); CHAIR needs COCO 2014's instances and captions in "
            f"annotations/, both of a split, or {SUBSET}"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is not a JSON object; download it again")
    return content
