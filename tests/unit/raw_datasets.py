"""Rows of the public preference datasets, in the exact form of their files."""

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mmpref.datasets.vlfeedback import RATINGS


def png(colour: str = "red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, "PNG")
    return file.getvalue()


def write(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))


def completion(response: str, *ratings: str, model: str = "llava-v1.5-7b") -> dict[str, Any]:
    annotations = {
        name: {"Rating": rating, "Rationale": "Because."}
        for name, rating in zip(RATINGS, ratings, strict=True)
    }
    return {"annotations": annotations, "model": model, "response": response}


VLFEEDBACK = {
    "id": "svit-conversation-0",
    "prompt": "What is on the table?",
    "models": ["llava-v1.5-7b", "qwen-vl-chat", "fuyu-8b", "idefics-9b"],
    "completions": [
        completion("A cup 【3†source】.", "4", "5", "4"),
        completion("A dog.", "2", "5", "1", model="qwen-vl-chat"),
        completion("A mug.", "5", "4", "4", model="fuyu-8b"),
        completion("Nothing.", "3", "N/A", "2", model="idefics-9b"),
    ],
    "img_path": "svit-conversation-0.jpg",
}


SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
MDPO = {
    "img_path": "images/llava-reasoning-3730.jpg",
    "prompt": f"{SYSTEM} USER: <image>\nHow might the atmosphere of the photo be? ASSISTANT:",
    "chosen": "The atmosphere of the photo appears to be rainy.",
    "rejected": "The street is bustling with activity.",
}


QUESTION = "What are the key features you observe in the image?"
RLHF_V = {
    "ds_name": "RLHF-V",
    "image": {"bytes": png(), "path": "llava1.5_0.jpg"},
    "text": json.dumps(
        {"question": QUESTION, "chosen": "A white shirt.", "rejected": "White pants."}
    ),
    "origin_dataset": "LCS-558K",
    "origin_split": '{"model": "InstructBLIP-Flan-T5-xxl", "type": "detailed_description"}',
    "idx": 0,
    "image_path": "rlhf_v/0.jpg",
}


RLAIF_V = {
    "ds_name": "RLAIF-V",
    "image": {"bytes": png(), "path": "a.jpg"},
    "question": QUESTION,
    "chosen": "A white shirt.",
    "rejected": "White pants.",
    "origin_dataset": "LCS-558K",
    "origin_split": "{}",
    "idx": "0",
    "image_path": "rlaif_v/0.jpg",
}


def said(*texts: str) -> list[dict[str, str]]:
    return [
        {"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)
    ]


COCO_ID = "COCO_train2014_000000353952"
POVID = {
    "id": COCO_ID,
    "image": f"./data/coco/{COCO_ID}.jpg",
    "conversations": said("<image>\nDescribe this image in detail.", "A cup on a table."),
    "rejected_conversations": said("<image>\nDescribe this image in detail.", "A cup and a dog."),
}


LLAVA_RLHF = {
    "id": "000000353952",
    "image": "000000353952.jpg",
    "conversations": said("<image>\nWhat?", "A cup.", "Where is it?", "In a room."),
    "output_1": {"from": "llava", "value": "On a dog."},
    "output_2": {"from": "llava", "value": "On a table."},
    "preference": 2,
    "hallucination": True,
}


POPE = {
    "image_id": "2415",
    "question": "Is there a cup in the image?",
    "answer": "yes",
    "chosen": "Yes, there is a cup.",
    "reject": "No, there is no cup.",
    "correct": False,
}
REWORDED = {"chosen": ["A cup.", "One cup."], "rejected": ["A dog.", "One dog."]}


def parts(*texts: str, image: bool = False) -> list[dict[str, Any]]:
    """Return a content as TRL's and HF's vision datasets have it; Parquet fills in the nulls."""
    pictures = [{"type": "image", "text": None}] if image else []
    return [*pictures, *({"type": "text", "text": text} for text in texts)]


TRL = {
    "images": [{"bytes": png(), "path": None}],
    "prompt": [{"role": "user", "content": parts("What is it?", image=True)}],
    "chosen": [{"role": "assistant", "content": parts("A cup.")}],
    "rejected": [{"role": "assistant", "content": parts("A dog.")}],
}
LLAMA_FACTORY = {
    "conversations": [{"from": "human", "value": "<image>What is it?"}],
    "chosen": {"from": "gpt", "value": "A cup."},
    "rejected": {"from": "gpt", "value": "A dog."},
    "images": ["cup.png"],
}
MS_SWIFT = {
    "messages": [
        {"role": "user", "content": "<image>What is it?"},
        {"role": "assistant", "content": "A cup."},
    ],
    "rejected_response": "A dog.",
    "images": ["cup.png"],
}
FORMATTED: dict[str, dict[str, Any]] = {
    "trl": TRL,
    "llama-factory": LLAMA_FACTORY,
    "ms-swift": MS_SWIFT,
}


def write_vlfeedback_images(folder: Path) -> None:
    with zipfile.ZipFile(folder / "merged_images.zip", "w") as zipped:
        zipped.writestr("merged_images/svit-conversation-0.jpg", png())
        zipped.writestr("merged_images/llava-reasoning-3730.jpg", png("blue"))


def write_genome(folder: Path) -> None:
    """Write two images of Visual Genome and its list of images, with one that is of no use."""
    for part, name, colour in (("VG_100K_2", "1", "red"), ("VG_100K", "2415", "blue")):
        (folder / part).mkdir(parents=True)
        (folder / part / f"{name}.jpg").write_bytes(png(colour))
    address = "https://cs.stanford.edu/people/rak248"
    write(
        folder / "image_data.json",
        [
            {"image_id": 1, "url": f"{address}/VG_100K_2/1.jpg", "width": 800},
            {"image_id": 2415, "url": f"{address}/VG_100K/2415.jpg", "width": 800},
            {"image_id": 7, "url": f"{address}/../..", "width": 800},
        ],
    )


def written(folder: Path) -> dict[str, dict[str, Any]]:
    """Write a small part of every public dataset; return what a study says to read it.

    Each has a row without its image too, but those whose images are inside have one without bytes.
    """
    rows: dict[str, tuple[str, Any]] = {
        "vlfeedback": ("vlfeedback_80k.jsonl", [VLFEEDBACK, VLFEEDBACK | {"id": "gone"}]),
        "mdpo": ("vlfeedback_llava_10k.json", [MDPO, MDPO | {"img_path": "images/gone.jpg"}]),
        "povid": (
            "POVID_preference_data_for_VLLMs_version_1.json",
            [POVID, POVID | {"image": "./data/coco/gone.jpg"}],
        ),
        "llava_rlhf": (
            "llava_7b_v1_preference.json",
            [LLAVA_RLHF, LLAVA_RLHF | {"image": "gone.jpg"}],
        ),
        "hadpo": ("hadpo/llava-v1.5/pope_data.json", [POPE, POPE | {"correct": True}]),
    }
    for name, (file, content) in rows.items():
        write(folder / name / file, content)
    described = {"1": REWORDED, "3": REWORDED}
    write(folder / "hadpo" / "hadpo" / "llava-v1.5" / "desc_data.json", described)
    for name, file, row in (
        ("rlhf_v", "RLHF-V-Dataset.parquet", RLHF_V),
        ("rlaif_v", "RLAIF-V-Dataset_000.parquet", RLAIF_V),
    ):
        (folder / name).mkdir()
        gone = {"bytes": None, "path": "gone.jpg"}
        pq.write_table(pa.Table.from_pylist([row, row | {"image": gone}]), folder / name / file)
    write_vlfeedback_images(folder / "vlfeedback")
    write_genome(folder / "genome")
    (folder / "coco").mkdir()
    (folder / "coco" / f"{COCO_ID}.jpg").write_bytes(png())
    images = {
        "vlfeedback": "vlfeedback",
        "mdpo": "vlfeedback",
        "povid": "coco",
        "llava_rlhf": "coco",
        "hadpo": "genome",
    }
    return {
        name: {"source": name, "folder": str(folder / name)}
        | ({"images": str(folder / images[name])} if name in images else {})
        for name in [*rows, "rlhf_v", "rlaif_v"]
    }


def formatted(folder: Path) -> dict[str, dict[str, Any]]:
    """Write rows in every trainer's format, one of each without its image; do as `written`."""
    for format, row in FORMATTED.items():
        (folder / format).mkdir()
        if format == "trl":
            file = folder / format / "train-00000-of-00001.parquet"
            pq.write_table(pa.Table.from_pylist([row, row | {"images": []}]), file)
        else:
            (folder / format / "cup.png").write_bytes(png())
            write(folder / format / "train.jsonl", [row, row | {"images": ["gone.png"]}])
    return {
        format: {"source": "preference_format", "folder": str(folder / format), "format": format}
        for format in FORMATTED
    }
