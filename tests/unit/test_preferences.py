import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmpref.errors import InputError
from mmpref.records import parquet
from mmpref.records.folders import ImageFolder
from mmpref.records.pairs import SCHEMA, Pairs, validate, write_pairs, write_valid_pairs
from mmpref.records.rows import Candidate, Pair, Quarantined


def png(colour: str = "red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, "PNG")
    return file.getvalue()


PNG = png()
ROOT = ImageFolder("/")
GOOD = Candidate("rows.jsonl", 1, "a", [PNG], "What is it?", "A red wall.", "A red car.", "test")


def pair(number: int, rejected: str = "A red car.") -> Pair:
    return Pair(
        f"pair-{number}", (PNG,), "What is it?", "A red wall.", rejected, "test", {"row": number}
    )


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def only(row: Candidate, require_rejected: bool = True) -> Pair | Quarantined:
    (result,) = validate([row], require_rejected)
    return result


def test_a_good_row_becomes_a_pair() -> None:
    row = replace(GOOD, prompt="  What is it?\n", meta={"k": 1})
    assert only(row) == Pair(
        "a", (PNG,), "What is it?", "A red wall.", "A red car.", "test", {"k": 1}
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("id", None, "is missing"),
        ("id", 17, r"should be text \(is int\)"),
        ("id", " ", "is empty"),
        ("prompt", "", "is empty"),
        ("prompt", None, "is missing"),
        ("prompt", ["What?"], r"should be text \(is list\)"),
        ("prompt", "<image>\nWhat?", "holds the placeholder <image>"),
        ("chosen", " \n\t", "is empty"),
        ("chosen", 3.5, r"should be text \(is float\)"),
        ("rejected", "\u3000", "is empty"),
        ("rejected", None, "is missing"),
        ("rejected", " A  red\nwall. ", "is the same as chosen"),
        ("rejected", "a broken \ud83d face", "is not valid Unicode"),
        ("images", None, "is missing"),
        ("images", [], "is empty"),
        ("images", "a.png", r"should be a list of images \(is str\)"),
        ("images", [PNG, 4], r"should be an image file \(is int\)"),
        ("images", [b""], "has zero bytes"),
        ("images", [b"no picture"], "is not an image"),
        ("images", [PNG[:-30]], "is damaged"),
        ("images", [ROOT.image("/nowhere/a.png")], r"does not exist \(/nowhere/a.png\)"),
        ("images", [ROOT.image("/dev/zero")], "is a folder, device or pipe"),
    ],
)
def test_a_bad_row_is_quarantined(field: str, value: Any, reason: str) -> None:
    result = only(replace(GOOD, **{field: value}))
    assert isinstance(result, Quarantined)
    assert (result.file, result.row, result.field) == ("rows.jsonl", 1, field)
    assert result.id == ("a" if field != "id" else str(value or ""))
    assert re.match(reason, result.reason)


def test_the_second_row_of_an_id_is_quarantined() -> None:
    broken, first, second = replace(GOOD, chosen=""), replace(GOOD, row=2), replace(GOOD, row=3)
    results = list(validate([broken, first, second]))
    assert [type(result) for result in results] == [Quarantined, Pair, Quarantined]
    assert isinstance(results[2], Quarantined)
    assert results[2].reason == "is not unique (first in rows.jsonl, row 2)"


def test_rows_for_a_sampler_may_lack_the_rejected_answer() -> None:
    result = only(replace(GOOD, rejected=None), require_rejected=False)
    assert isinstance(result, Pair)
    assert result.rejected == ""
    # A rejected answer that is there has to be one all the same.
    assert isinstance(only(replace(GOOD, rejected=" "), require_rejected=False), Quarantined)


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.lists(st.text(max_size=2), max_size=2)
)
texts = st.text(st.characters(), max_size=4)  # with surrogates, blanks, NUL
images = st.one_of(
    st.sampled_from([PNG, PNG[:40], b"", b"text", ROOT.image("/nowhere.png")]),
    st.binary(max_size=9),
)
rows = st.builds(
    Candidate,
    file=st.just("rows.jsonl"),
    row=st.integers(1, 99),
    id=texts | anything,
    images=st.lists(images, max_size=2) | anything,
    prompt=texts | anything,
    chosen=texts | anything,
    rejected=texts | anything,
    source=st.just("test"),
    meta=st.dictionaries(texts, texts, max_size=1),
)
good_rows = st.builds(
    Candidate,
    file=st.just("rows.jsonl"),
    row=st.integers(1, 99),
    id=st.sampled_from("abcdef"),
    images=st.just([PNG]),
    prompt=st.just("What?"),
    chosen=st.text(min_size=1, max_size=3),
    rejected=st.text(min_size=1, max_size=3),
    source=st.just("test"),
    meta=st.dictionaries(texts, texts, max_size=1),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(rows | good_rows, max_size=8), st.booleans())
def test_no_row_is_lost(candidates: list[Candidate], require_rejected: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pairs.parquet")
        try:
            kept, quarantined = write_valid_pairs(path, candidates, require_rejected)
        except InputError:
            assert not path.exists()
            kept, quarantined = 0, len(candidates)
        else:
            assert len(Pairs(path, require_rejected)) == kept
        lines = read_lines(Path(folder, "quarantine.jsonl"))
    assert kept + quarantined == len(candidates)
    assert len(lines) == quarantined
    left = [(row.row, row.prompt, row.chosen, row.rejected) for row in candidates]
    for line in lines:  # NaN is no JSON value that equals itself, so texts are compared
        content = line["content"]
        fields = (line["row"], content["prompt"], content["chosen"], content["rejected"])
        index = [repr(row) for row in left].index(repr(fields))
        del left[index]
    assert len(left) == kept


def test_the_quarantine_file_says_what_where_and_why(tmp_path: Path) -> None:
    bad = replace(
        GOOD, row=7, id="b", chosen="", images=[PNG, ROOT.image("/x/y.png")], rejected="Grün"
    )
    unread = Quarantined("rows.jsonl", 8, "", "row", "is not JSON (at 1)", {"line": "{"})
    assert write_valid_pairs(tmp_path / "pairs.parquet", [bad, GOOD, unread]) == (1, 2)
    first, second = read_lines(tmp_path / "quarantine.jsonl")
    assert first == {
        "file": "rows.jsonl",
        "row": 7,
        "id": "b",
        "field": "chosen",
        "reason": "is empty",
        "content": {
            "images": [f"<{len(PNG)} bytes>", "/x/y.png"],
            "prompt": "What is it?",
            "chosen": "",
            "rejected": "Grün",
            "source": "test",
            "meta": {},
        },
    }
    assert second["content"] == {"line": "{"}


def test_no_pair_left_names_the_file_and_the_most_frequent_reasons(tmp_path: Path) -> None:
    bad = [replace(GOOD, row=9, chosen="")]
    bad += [replace(GOOD, row=row, images=[ROOT.image(f"/no/{row}.png")]) for row in (3, 4, 5)]
    with pytest.raises(InputError) as error:
        write_valid_pairs(tmp_path / "pairs.parquet", bad)
    message = str(error.value)
    assert "of 4 rows" in message
    assert "3 x images does not exist (/no/3.png), as in rows.jsonl, row 3; 1 x chosen" in message
    assert len((tmp_path / "quarantine.jsonl").read_text().splitlines()) == 4
    assert not (tmp_path / "pairs.parquet").exists()
    with pytest.raises(InputError, match=r"of 0 rows.*source is empty"):
        write_valid_pairs(tmp_path / "pairs.parquet", [])


def test_pairs_come_back_as_they_were(tmp_path: Path) -> None:
    pairs = [
        pair(1),
        replace(pair(2), images=(PNG, png("blue")), prompt="Zwei Bäume? \u2028 \0"),
        replace(pair(3), meta={"file": "Bäume/\udcff.png", "nested": [1, {"a": None}]}),
    ]
    assert write_pairs(tmp_path / "pairs.parquet", iter(pairs)) == 3
    assert list(Pairs(tmp_path / "pairs.parquet")) == pairs
    write_pairs(tmp_path / "none.parquet", [])
    assert list(Pairs(tmp_path / "none.parquet")) == []


def test_equal_pairs_give_equal_bytes_in_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    images = [png(f"#0000{number:02}") for number in range(10)]
    pairs = [replace(pair(number), images=(image,)) for number, image in enumerate(images)]
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    write_pairs(one, pairs)
    write_pairs(two, (replace(item, meta=dict(item.meta)) for item in pairs))
    assert one.read_bytes() == two.read_bytes()
    assert pq.ParquetFile(one).metadata.num_row_groups == 3
    monkeypatch.setattr(parquet, "GROUP_BYTES", max(map(len, images)) + 1)
    write_pairs(two, pairs)
    assert pq.ParquetFile(two).metadata.num_row_groups == 5
    assert list(Pairs(two)) == pairs


def test_the_features_are_those_that_datasets_would_write() -> None:
    from datasets import Features, Image, List, Value

    messages = List({"role": Value("string"), "content": Value("string")})
    features = Features(
        id=Value("string"),
        images=List(Image()),
        prompt=messages,
        chosen=messages,
        rejected=messages,
        source=Value("string"),
        meta=Value("string"),
        more_rejected=List(Value("string")),
        position=Value("int64"),
    )
    assert Features.from_arrow_schema(SCHEMA) == features
    assert features.arrow_schema.equals(SCHEMA)


def test_pairs_without_rejected_answer_are_for_samplers_only(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    write_pairs(path, [pair(1), pair(2, rejected="")])
    assert list(Pairs(path, require_rejected=False)) == [pair(1), pair(2, rejected="")]
    with pytest.raises(InputError, match=r"pairs.parquet, row 2, rejected: is empty; let a sampl"):
        list(Pairs(path))


def written(path: Path, **columns: Any) -> Path:
    """Write one good row whose `columns` are replaced (by None: left out)."""
    write_pairs(path, [pair(1)])
    table = pq.read_table(path)
    for name, value in columns.items():
        table = table.drop_columns(name)
        if value is not None:
            table = table.append_column(name, value)
    pq.write_table(table, path)
    return path


def messages(*contents: str | None, role: str = "assistant") -> pa.Array:
    row = [{"role": role, "content": content} for content in contents]
    return pa.array([row], SCHEMA.field("chosen").type)


def image(content: bytes | None) -> pa.Array:
    return pa.array([[{"bytes": content, "path": "a.png"}]], SCHEMA.field("images").type)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"chosen": None}, "column chosen: missing; the file has id, images, prompt, rejected"),
        ({"chosen": pa.array(["text"])}, "column chosen: must be list.* is string"),
        ({"images": pa.array([PNG])}, "column images: must be list.* is binary"),
        ({"id": pa.array([3])}, "column id: must be string, is int64"),
        ({"id": pa.array([""])}, "row 1, id: is empty"),
        ({"id": pa.array([None], pa.string())}, "row 1, id: is empty"),
        ({"source": pa.array([None], pa.string())}, "row 1, source: is missing"),
        ({"meta": pa.array(["nonsense"])}, "row 1, meta: must be a JSON object"),
        ({"meta": pa.array(["[1]"])}, "row 1, meta: must be a JSON object"),
        ({"meta": pa.array([None], pa.string())}, "row 1, meta: must be a JSON object"),
        ({"chosen": messages()}, "row 1, chosen: must hold one message of role assistant"),
        ({"chosen": messages(" ")}, "row 1, chosen: must hold one message"),
        ({"chosen": messages(None)}, "row 1, chosen: must hold one message"),
        ({"chosen": messages("a", "b")}, "row 1, chosen: must hold one message"),
        ({"chosen": messages("a", role="user")}, "row 1, chosen: must hold one message"),
        ({"prompt": messages("a")}, "row 1, prompt: must hold one message of role user"),
        ({"rejected": messages()}, "row 1, rejected: is empty"),
        ({"images": image(None)}, "row 1, images: is not embedded"),
        ({"images": image(b"")}, "row 1, images: is not embedded"),
        ({"images": pa.array([[]], SCHEMA.field("images").type)}, "row 1, images: is empty"),
    ],
)
def test_a_wrong_file_is_named_with_row_and_field(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    path = written(tmp_path / "pairs.parquet", **columns)
    with pytest.raises(InputError, match=f"pairs.parquet, {message}"):
        list(Pairs(path))


def test_files_of_other_writers_are_read(tmp_path: Path) -> None:
    """Polars and newer Arrow write large strings, lists and binaries."""
    path = written(tmp_path / "pairs.parquet")
    message = pa.struct([("content", pa.large_string()), ("role", pa.large_string())])
    image = pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])
    types = {
        "id": pa.large_string(),
        "images": pa.large_list(image),
        "prompt": pa.large_list(message),
    }
    table = pq.read_table(path)
    rows = table.to_pylist()
    wide = pa.table(
        {
            name: pa.array(
                [row[name] for row in rows], types.get(name, table.schema.field(name).type)
            )
            for name in table.column_names
        }
    )
    pq.write_table(wide, path)
    assert list(Pairs(path)) == [pair(1)]


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.parquet", [pair(1), pair(2), pair(1)])
    with pytest.raises(InputError, match=r"pairs.parquet, row 3, id: 'pair-1' occurs twice"):
        list(Pairs(tmp_path / "pairs.parquet"))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    with pytest.raises(InputError, match=r"pairs.parquet: does not exist"):
        list(Pairs(path))
    with pytest.raises(InputError, match="cannot be read as a Parquet file"):
        list(Pairs(tmp_path))
    write_pairs(path, [pair(number) for number in range(50)])
    data = path.read_bytes()
    damaged = [b"", b"id,prompt\n", data[:100], data[:-10], data[100:]]
    damaged.append(data[:200] + bytes(300) + data[500:])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"pairs.parquet(, row|: cannot be read)"):
            list(Pairs(path))


def test_flipped_bits_never_pass_for_content(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pairs = [replace(pair(n), images=(png(f"#0000{n:02}"),)) for n in range(20)]
    write_pairs(path, pairs)
    data = path.read_bytes()
    refused = 0
    for position in range(0, len(data), 17):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        try:
            assert list(Pairs(path)) == pairs, position  # what nobody reads may well have changed
        except InputError:
            refused += 1
    assert refused > len(data) / 17 / 2


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    write_pairs(path, [pair(1)])

    def interrupted() -> Iterator[Pair]:
        yield pair(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pairs(path, interrupted())
    assert list(Pairs(path)) == [pair(1)]
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource, sys
from mmpref.records.pairs import write_pairs
from mmpref.records.rows import Pair
write_pairs(sys.argv[1], [])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
noise = __import__("random").Random(0).randbytes(1_000_000)
write_pairs(sys.argv[1], [Pair("a", (noise,), "What?", "yes", "no", "test")])
"""


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "OSError" in done.stderr
    assert list(Pairs(path)) == []
    assert list(tmp_path.iterdir()) == [path]
