"""How much memory reading pairs and items takes, against their number, with images of 100 kB.

Every figure is the growth of a fresh process: its highest resident memory less what it had when all
was imported. The files, up to 4 GB, are made in a temporary folder and removed again. Takes about
five minutes:

    PYTHONPATH=src python benchmarks/memory.py [NUMBER ...]

MB, on two cores; of these about 110 are what Arrow takes for a file of any size:

| pairs | file | write | training | reference | sampling | other image | answers |
|---|---|---|---|---|---|---|---|
| 1,000 | 0.09 GB | 73 | 125 | 121 | 121 | 126 | 124 |
| 4,000 | 0.37 GB | 74 | 125 | 125 | 125 | 128 | 124 |
| 16,000 | 1.49 GB | 91 | 142 | 138 | 138 | 140 | 132 |
| 40,000 | 3.73 GB | 130 | 173 | 174 | 173 | 176 | 147 |
"""

import argparse
import io
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from mmpref.logprobs.degradation import degraded_images
from mmpref.records.items import Item, Items, write_items
from mmpref.records.pairs import Pairs, write_pairs
from mmpref.records.rows import Pair, shard_of

NUMBERS = (1_000, 4_000, 16_000, 40_000)
IMAGE_BYTES = 100_000
READS = 500
TEXT = "There is a cup on the table, and next to it a plate with two slices of bread. " * 6


def jpegs(number: int) -> Iterator[bytes]:
    """JPEG files of equal size, no two alike: decoders stop before what is behind the end."""
    file = io.BytesIO()
    Image.effect_noise((400, 400), 60).convert("RGB").save(file, "JPEG", quality=75)
    for index in range(number):
        padding = random.Random(index).randbytes(IMAGE_BYTES - len(file.getvalue()))
        yield file.getvalue() + padding


def pairs(number: int) -> Iterator[Pair]:
    for index, image in enumerate(jpegs(number)):
        yield Pair(f"pair-{index}", (image,), "What is this?", TEXT, TEXT[1:], "memory", {})


def items(number: int) -> Iterator[Item]:
    for index, image in enumerate(jpegs(number)):
        yield Item(f"item-{index}", (image,), "What is this?", {"kind": "open"})


def write(path: Path, number: int) -> int:
    return write_pairs(path, pairs(number))


def write_them(path: Path, number: int) -> int:
    write_items(path, items(number))
    return number


def draws(number: int) -> list[int]:
    return random.Random(0).choices(range(number), k=READS)


def training(path: Path, number: int) -> int:
    """Pairs in the order of a training: random."""
    found = Pairs(path)
    return sum(bool(found[index].images) for index in draws(number))


def reference(path: Path, number: int) -> int:
    """All pairs in their order."""
    return sum(bool(pair.images) for pair in Pairs(path))


def sampling(path: Path, number: int) -> int:
    """One shard of four."""
    return sum(bool(pair.images) for pair in shard_of(Pairs(path), 1, 4))


def other_image(path: Path, number: int) -> int:
    """Another example's image for random pairs."""
    found = Pairs(path)
    for index in draws(number)[:100]:
        degraded_images("other_image", found[index], found, 0, 0)
    return 100


def answers(path: Path, number: int) -> int:
    """All items in their order."""
    return sum(bool(item.images) for item in Items(path))


STAGES: dict[str, Callable[[Path, int], int]] = {
    "write pairs": write,
    "training": training,
    "reference": reference,
    "sampling": sampling,
    "other image": other_image,
    "write items": write_them,
    "answers": answers,
}


def megabytes(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def measured(stage: str, path: Path, number: int) -> str:
    """Return the growth in MB, and the milliseconds for each pair or item, of a fresh process."""
    command = [sys.executable, __file__, str(number), "--stage", stage, "--file", str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("numbers", nargs="*", type=int, default=NUMBERS)
    parser.add_argument("--stage", help="measure this in the process itself")
    parser.add_argument("--file", type=Path)
    arguments = parser.parse_args()
    if arguments.stage:
        before, start = megabytes("VmRSS"), time.perf_counter()
        done = STAGES[arguments.stage](arguments.file, arguments.numbers[0])
        milliseconds = (time.perf_counter() - start) * 1000 / done
        print(f"{megabytes('VmHWM') - before:.0f} MB, {milliseconds:.2f} ms")
        return
    print("| pairs | file | " + " | ".join(STAGES) + " |")
    print("|---|---|" + "---|" * len(STAGES))
    for number in arguments.numbers:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            path = Path(folder, "file.parquet")
            cells = [measured(stage, path, number) for stage in STAGES]
            size = f"{path.stat().st_size / 2**30:.2f} GB"
        print(f"| {number:,} | {size} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
