import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmpref.datasets.local import read_local
from mmpref.errors import InputError
from mmpref.records.pairs import Pairs, validate, write_valid_pairs
from mmpref.records.rows import Candidate, Pair, Quarantined

ROW = {"id": "a", "image": "cat.png", "prompt": "What?", "chosen": "A cat.", "rejected": "A dog."}


def png(colour: str = "red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cat.png").write_bytes(png())
    return tmp_path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows))


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    ".jsonl": write_jsonl,
    ".json": write_json,
    ".csv": write_csv,
    ".parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path),
}


def results(path: Path, **options: Any) -> list[Pair | Quarantined]:
    rejected = options.get("require_rejected", True)
    return list(validate(read_local(path, **options), rejected))


def jsonl(folder: Path, *rows: Any, **options: Any) -> list[Pair | Quarantined]:
    """Read rows (JSON values, or lines as they are) as a JSON lines file."""
    path = folder / "mine.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines))
    return results(path, **options)


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_pairs(folder: Path, suffix: str) -> None:
    path = folder / f"mine{suffix}"
    answer = 'A "cat", they say,\non a Bäumchen.'
    WRITERS[suffix](path, [ROW, ROW | {"id": "b", "chosen": answer}])
    first_row = 2 if suffix == ".csv" else 1
    assert results(path) == [
        Pair("a", (png(),), "What?", "A cat.", "A dog.", path.name, {"row": first_row}),
        Pair("b", (png(),), "What?", answer, "A dog.", path.name, {"row": first_row + 1}),
    ]


def test_the_finished_file_is_read_again(folder: Path) -> None:
    path = folder / "mine.jsonl"
    write_jsonl(path, [ROW])
    write_valid_pairs(folder / "pairs.parquet", read_local(path))
    (pair,) = list(Pairs(folder / "pairs.parquet"))
    (again,) = results(folder / "pairs.parquet")
    assert isinstance(again, Pair)
    assert (again.id, again.images, again.prompt, again.chosen, again.rejected) == (
        pair.id,
        pair.images,
        pair.prompt,
        pair.chosen,
        pair.rejected,
    )


def test_conversations_of_one_message_and_placeholders(folder: Path) -> None:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]
    row = ROW | {
        "prompt": [{"role": "user", "content": parts}],
        "chosen": [{"role": "assistant", "content": "A cat."}],
    }
    longer = ROW | {"id": "b", "chosen": [{"content": "A"}, {"content": "B"}]}
    placeholder = ROW | {"id": "c", "prompt": "<image>\nWhat?"}
    twice = ROW | {"id": "d", "prompt": "<image> What is <image>?"}
    conversation, two_messages, llava, too_many = jsonl(folder, row, longer, placeholder, twice)
    assert isinstance(conversation, Pair)
    assert isinstance(llava, Pair)
    assert (conversation.prompt, conversation.chosen) == ("What?", "A cat.")
    assert llava.prompt == "What?"
    assert isinstance(two_messages, Quarantined)
    assert two_messages.reason == "should be text (is list)"
    assert isinstance(too_many, Quarantined)
    assert too_many.field == "prompt"
    assert too_many.reason == "does not have as many placeholders as images (2, not 1)"


def test_images_in_every_way_they_are_given(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "dog.png").write_bytes(png("blue"))
    row = {name: value for name, value in ROW.items() if name != "image"}
    absolute = str(folder / "deep" / "dog.png")
    given: list[dict[str, Any]] = [
        {"images": ["cat.png", "deep/dog.png"]},
        {"images": "cat.png"},
        {"image": ["deep/../cat.png"]},
        {"image": absolute},
        {"image": {"path": "cat.png", "bytes": None}},
        {"image": None, "images": [{"path": "cat.png"}]},
    ]
    pairs = jsonl(folder, *(row | {"id": str(i)} | images for i, images in enumerate(given)))
    cat, dog = png(), png("blue")
    expected = [(cat, dog), (cat,), (cat,), (dog,), (cat,), (cat,)]
    assert [pair.images for pair in pairs if isinstance(pair, Pair)] == expected


def test_absolute_paths_lead_into_the_image_folder_or_are_allowed_by_name(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "dog.png"
    elsewhere.write_bytes(png("blue"))
    row = ROW | {"image": str(elsewhere)}
    (refused,) = jsonl(folder, row)
    assert isinstance(refused, Quarantined)
    assert refused.reason == f"leaves the image folder ({elsewhere})"
    for allowed in ("/", elsewhere.parent):
        (pair,) = jsonl(folder, row, image_folder=allowed)
        assert isinstance(pair, Pair)
        assert pair.images == (png("blue"),)


def test_links_of_the_folders_owner_may_lead_elsewhere_but_nothing_above_them(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "images"
    elsewhere.mkdir()
    (elsewhere / "dog.png").write_bytes(png("blue"))
    (elsewhere.parent / "secret.png").write_bytes(png("green"))
    (folder / "link").symlink_to(elsewhere)
    linked, above = jsonl(
        folder, ROW | {"image": "link/dog.png"}, ROW | {"id": "b", "image": "link/../secret.png"}
    )
    assert isinstance(linked, Pair)
    assert linked.images == (png("blue"),)
    assert isinstance(above, Quarantined)
    assert above.reason.startswith("does not exist")


def test_an_image_folder_that_is_not_there(folder: Path) -> None:
    with pytest.raises(InputError, match="nowhere: is neither a folder of images nor a zip"):
        jsonl(folder, ROW, image_folder=folder / "nowhere")


def test_embedded_images_of_parquet(folder: Path) -> None:
    path = folder / "mine.parquet"
    rows = [ROW | {"image": {"bytes": png("blue"), "path": "x"}}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    (pair,) = results(path)
    assert isinstance(pair, Pair)
    assert pair.images == (png("blue"),)


def test_an_image_folder_of_its_own(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = elsewhere / "mine.jsonl"
    write_jsonl(path, [ROW])
    (lost,) = results(path)
    assert isinstance(lost, Quarantined)
    assert lost.reason == f"does not exist ({elsewhere}/cat.png)"
    (found,) = results(path, image_folder=folder)
    assert isinstance(found, Pair)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("absent.png", "does not exist"),
        ("/dev/zero", "leaves the image folder (/dev/zero)"),
        ("../cat.png", "leaves the image folder (../cat.png)"),
        ("deep/../../cat.png", "leaves the image folder"),
        ("loop.png", "cannot be read"),
        ("zero.png", "is a folder, device or pipe"),
        ("pipe.png", "is a folder, device or pipe"),
        ("", "is a folder, device or pipe"),
        ("mine.jsonl", "is not an image"),
        ("secret\0.png", "does not exist"),
        ("https://example.org/cat.png", "should be an image file"),
        ("data:image/png;base64,iVBO", "should be an image file"),
        (7, "should be a list of images"),
        ([7], "should be an image file"),
        ([], "is empty"),
        (None, "is missing"),
    ],
)
def test_images_that_are_none(folder: Path, image: Any, reason: str) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (row,) = jsonl(folder, ROW | {"image": image})
    assert isinstance(row, Quarantined)
    assert row.field == "images"
    assert row.reason.startswith(reason)


def test_lines_that_are_no_rows_are_quarantined_with_their_number(folder: Path) -> None:
    lines = [
        ROW,
        b"",
        b'{"id": "b", ',
        b"[1, 2]",
        b"[" * 100_000,
        b'{"id": 1' + b"0" * 5000 + b"}",
        json.dumps(ROW | {"id": "c", "chosen": "caf\xe9"}, ensure_ascii=False).encode("latin-1"),
        ROW | {"id": "d", "chosen": "\ud83d"},
        b'{"prompt": ' + b"[" * 800 + b"]" * 800 + b"}",
        ROW | {"id": "e"},
    ]
    rows = jsonl(folder, *lines)
    bad = [row for row in rows if isinstance(row, Quarantined)]
    assert [(row.row, row.field) for row in bad] == [
        (3, "row"),
        (4, "row"),
        (5, "row"),
        (6, "row"),
        (7, "chosen"),
        (8, "chosen"),
        (9, "prompt"),
    ]
    assert bad[0].content == {"line": '{"id": "b", '}
    assert bad[0].reason.startswith("is not JSON (")
    assert bad[4].reason == bad[5].reason == "is not valid Unicode"
    assert [row.id for row in rows if isinstance(row, Pair)] == ["a", "e"]
    assert write_valid_pairs(folder / "pairs.parquet", read_local(folder / "mine.jsonl")) == (2, 7)


def test_byte_order_marks_and_windows_line_ends(folder: Path) -> None:
    path = folder / "mine.csv"
    header, cells = ",".join(ROW), ",".join(ROW.values())
    path.write_bytes(b"\xef\xbb\xbf" + f"{header}\r\n{cells}\r\n".encode())
    (pair,) = results(path)
    assert isinstance(pair, Pair)
    assert (pair.id, pair.rejected) == ("a", "A dog.")


def test_bad_csv_rows_are_quarantined_whole(folder: Path) -> None:
    path = folder / "mine.csv"
    path.write_text(
        "id,image,prompt,chosen,rejected\n"
        "a,cat.png,What?,A cat, sitting.,A dog.\n"
        "b,cat.png,What?,A cat.\n"
        "\n"
        "c,cat.png,What?,,A dog.\n"
        'd,cat.png,"What?" he asked,A cat.,A dog.\n'
        "e,cat.png,What?,A cat.,A dog.\n"
        'f,cat.png,"What?,A cat.,A dog.\n'
        "g,cat.png,What?,A cat.,A dog.\n"
    )
    rows = results(path)
    assert [(row.row, row.field) for row in rows if isinstance(row, Quarantined)] == [
        (2, "row"),
        (3, "row"),
        (5, "chosen"),
        (6, "row"),
        (8, "row"),
    ]
    assert [row.id for row in rows if isinstance(row, Pair)] == ["e"]
    first, second, third, fourth, last = (row for row in rows if isinstance(row, Quarantined))
    assert first.reason == "does not have as many cells as the header (6, not 5)"
    assert first.content == {"line": "a,cat.png,What?,A cat, sitting.,A dog.\n"}
    assert second.reason == "does not have as many cells as the header (4, not 5)"
    assert third.reason == "is missing"
    assert fourth.content == {"line": 'd,cat.png,"What?" he asked,A cat.,A dog.\n'}
    assert last.content["line"].endswith("g,cat.png,What?,A cat.,A dog.\n")


def test_ids_are_given_derived_or_refused(folder: Path) -> None:
    plain = {name: value for name, value in ROW.items() if name != "id"}
    other = plain | {"chosen": "A cat on a mat."}
    given = [ROW | {"id": 17, "chosen": "1"}, plain, ROW | {"id": None} | other, plain]
    number, derived, null, repeated = jsonl(folder, *given)
    assert isinstance(number, Pair)
    assert isinstance(derived, Pair)
    assert isinstance(null, Pair)
    assert isinstance(repeated, Quarantined)
    assert number.id == "17"
    assert derived.id != null.id
    assert repeated.reason.startswith("is not unique")
    # The id belongs to the content: neither the order nor the format changes it.
    write_csv(folder / "mine.csv", [other, plain])
    assert [pair.id for pair in results(folder / "mine.csv")] == [null.id, derived.id]
    (refused,) = jsonl(folder, ROW | {"id": 1.5})
    assert isinstance(refused, Quarantined)
    assert refused.reason == "should be text (is float)"


def test_columns_may_have_other_names(folder: Path) -> None:
    names = {"prompt": "question", "image": "img_path", "chosen": "good", "rejected": "bad"}
    row = {names.get(name, name): value for name, value in ROW.items()}
    (pair,) = jsonl(folder, row, columns=names)
    assert isinstance(pair, Pair)
    assert (pair.prompt, pair.chosen, pair.rejected) == ("What?", "A cat.", "A dog.")
    with pytest.raises(InputError, match="columns names query, which a pref"):
        jsonl(folder, row, columns={"query": "question"})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_columns_are_named(folder: Path, suffix: str) -> None:
    path = folder / f"mine{suffix}"
    for missing, named in {
        "image": "image or images",
        "prompt": "prompt",
        "chosen": "chosen",
        "rejected": "rejected",
    }.items():
        WRITERS[suffix](path, [{name: ROW[name] for name in ROW if name != missing}])
        with pytest.raises(InputError, match=f"mine{suffix}: column {named} is missing; the fil"):
            results(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_rejected_may_be_absent_when_it_will_be_sampled(folder: Path, suffix: str) -> None:
    path = folder / f"mine{suffix}"
    WRITERS[suffix](path, [{name: ROW[name] for name in ROW if name != "rejected"}])
    (pair,) = results(path, require_rejected=False)
    assert isinstance(pair, Pair)
    assert pair.rejected == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.txt", b"", r"mine.txt: files of type .txt are not supported"),
        ("mine", b"", r"mine: files of type \(no suffix\) are not supported"),
        ("mine.json", b"{", "mine.json: is not JSON"),
        ("mine.json", b"[" * 100_000, "mine.json: is not JSON"),
        ("mine.json", b"{}", "mine.json: must be a JSON array of rows, is dict"),
        ("mine.parquet", b"PAR1", "mine.parquet: cannot be read as a Parquet file"),
        ("mine.csv", "id,prompt\n".encode("utf-16"), "mine.csv: column image or images is missing"),
    ],
)
def test_files_of_the_wrong_kind_are_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_local(tmp_path / name))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine.csv: does not exist"):
        list(read_local(tmp_path / "mine.csv"))


def test_wrong_types_in_parquet_reach_the_quarantine(folder: Path) -> None:
    path = folder / "mine.parquet"
    pq.write_table(pa.Table.from_pylist([ROW | {"chosen": 4.5, "id": 3}]), path)
    (candidate,) = read_local(path)
    assert isinstance(candidate, Candidate)
    (row,) = results(path)
    assert isinstance(row, Quarantined)
    assert (row.id, row.field, row.reason) == ("3", "chosen", "should be text (is float)")


def test_further_rejected_answers(folder: Path) -> None:
    first, second, bad = jsonl(
        folder,
        ROW | {"rejected_2": "A mouse.", "rejected_3": "A cow.", "rejected_5": "not read"},
        ROW | {"id": "b"},
        ROW | {"id": "c", "rejected_2": ""},
    )
    assert isinstance(first, Pair)
    assert first.more_rejected == ("A mouse.", "A cow.")
    assert isinstance(second, Pair)
    assert second.more_rejected == ()
    assert isinstance(bad, Quarantined)
    assert (bad.field, bad.reason) == ("more_rejected", "is empty")


def test_the_studys_reader_imports_nothing_heavy() -> None:
    code = "import sys, mmpref.datasets.local; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "pyarrow", "PIL", "torch", "pandas"} & set(done.stdout.split())
