"""TRL's DPOTrainer trains on pairs.parquet as it is, and scores answers as mmpref does."""

import math
from io import BytesIO
from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import DPOConfig, DPOTrainer

from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import CHOSEN, REJECTED, LogProbs, View
from mmpref.models import VisionLanguageModel
from mmpref.records.images import open_image
from mmpref.records.pairs import Pairs, write_valid_pairs
from mmpref.records.rows import Candidate, Pair


@pytest.fixture
def pairs(tmp_path: Path, picture) -> tuple[Path, list[Pair]]:
    """Pairs as a user may bring them: transparent, 16-bit, turned by EXIF, one pixel small, two."""

    def encoded(image, kind: str, **options) -> bytes:
        file = BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    turned = picture(2).getexif()
    turned[0x0112] = 6
    files = [
        encoded(picture(0).convert("RGBA"), "PNG"),
        encoded(picture(1).convert("L").convert("I;16"), "PNG"),
        encoded(picture(2), "JPEG", exif=turned),
        encoded(picture(3, (1, 1)), "PNG"),
        encoded(picture(4, (8, 6)).convert("CMYK"), "JPEG"),
        encoded(picture(5), "GIF"),
    ]
    rows = [
        Candidate("t", i, f"pair-{i}", images, f"Question {i}?", "Yes " * (i + 1), "No.", "test")
        for i, images in enumerate([files[:2], *([file] for file in files[2:])])
    ]
    path = tmp_path / "pairs.parquet"
    assert write_valid_pairs(path, rows) == (len(rows), 0)
    return path, list(Pairs(path))


def expected_logps(folder: Path, pairs: list[Pair]) -> dict[View, LogProbs]:
    vlm = VisionLanguageModel.load(folder)
    examples = [
        Example(
            pair.id,
            {
                "original": vlm.processor.encode_prompt(
                    pair.prompt, [open_image(i) for i in pair.images]
                )
            },
            {
                "chosen": vlm.processor.encode_answer(pair.chosen),
                "rejected": vlm.processor.encode_answer(pair.rejected),
            },
        )
        for pair in pairs
    ]
    with torch.no_grad():
        return log_probabilities(vlm, examples, (CHOSEN, REJECTED))


def test_trl_trains_on_the_file_and_agrees(tmp_path: Path, saved_llava: Path, pairs) -> None:
    path, records = pairs
    dataset = load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    trainer = DPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(saved_llava),
        processing_class=AutoProcessor.from_pretrained(saved_llava),
        train_dataset=dataset,
        peft_config=LoraConfig(r=4, target_modules=r".*language_model.*proj"),
        args=DPOConfig(
            output_dir=str(tmp_path / "run"),
            per_device_train_batch_size=len(records),
            max_steps=3,
            learning_rate=1e-2,
            lr_scheduler_type="constant",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            disable_tqdm=True,
        ),
    )
    trainer.train()
    first, *_, last = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert last["loss"] < 0.5
    assert last["rewards/margins"] > 0.5
    for view, logps in expected_logps(saved_llava, records).items():
        assert first[f"logps/{view}"] == pytest.approx(logps.sum.mean().item(), rel=1e-5)
