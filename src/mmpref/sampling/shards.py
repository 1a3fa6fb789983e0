"""Sampling in parts: by shard, and from where an interrupted shard stopped."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch

from mmpref.errors import InputError
from mmpref.fingerprint import fingerprint
from mmpref.models import VisionLanguageModel
from mmpref.preferences import Pair

_VALUES_PER_TENSOR = 256


def shard_of(pairs: Sequence[Pair], shard: int, shards: int) -> list[Pair]:
    """Return the pairs of a shard, 0 <= `shard` < `shards`: every `shards`-th one."""
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} of {shards} does not exist")
    return list(pairs[shard::shards])


def merge(shards: Sequence[Sequence[Pair]]) -> list[Pair]:
    """Return the pairs of all shards, given in the order of their numbers, in the original order.

    Raises:
        InputError: their lengths are not those of the shards of one list.
    """
    total = sum(map(len, shards))
    for number, pairs in enumerate(shards):
        expected = len(range(number, total, len(shards)))
        if len(pairs) != expected:
            raise InputError(
                f"shard {number} of {len(shards)} has {len(pairs)} pairs where {expected} of "
                f"{total} are expected: one was sampled from other pairs; sample the shards anew"
            )
    return [shards[i % len(shards)][i // len(shards)] for i in range(total)]


def model_fingerprint(vlm: VisionLanguageModel) -> str:
    """Return a digest of a model's configuration, tokenizer, template and (sampled) weights.

    Of every tensor some values count, spread over it: training changes them all.
    """
    digest = hashlib.sha256()
    for name, tensor in vlm.model.state_dict().items():
        flat = tensor.reshape(-1)
        some = flat[:: max(1, len(flat) // _VALUES_PER_TENSOR)].to(torch.float64).cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(some.numpy().tobytes())
    vocabulary = sorted(vlm.tokenizer.get_vocab().items())
    template = getattr(vlm.processor, "chat_template", None)
    return fingerprint(
        {"weights": digest.hexdigest(), "vocabulary": vocabulary, "template": template}
    )


class Journal:
    """A file of JSON lines that survives being killed: `rows` holds what an earlier run stored.

    The first line names what the rows belong to; with another `key` the file is begun anew. A last
    line that was only half written is removed.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        header = json.dumps({"journal of": key}).encode() + b"\n"
        content = path.read_bytes() if path.exists() else b""
        whole = 0
        if content.startswith(header):
            whole = len(header)
            for line in content[whole:].splitlines(keepends=True):
                row = _row_of(line)
                if row is None:
                    break
                self.rows.append(row)
                whole += len(line)
        self._file: IO[bytes] = path.open("r+b" if content else "wb")
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._write(header)

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Store rows; they are on disk when this returns."""
        self._write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _row_of(line: bytes) -> dict[str, Any] | None:
    """Return the row in a line, None if the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
