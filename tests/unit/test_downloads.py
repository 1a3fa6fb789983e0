import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import Hub, serving

from mmpref.downloads import CONFIG, load, verify
from mmpref.errors import InputError
from mmpref.fetching import fetch

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

needs_shared = pytest.mark.skipif(
    not (SHARED / "benchmarks").is_dir(), reason="no ../shared beside the checkout"
)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `files` on the loopback; of those in `cut`, half the body; notes what is asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []

    def url(self, name: str = "") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.strip("/")
        if self.command == "GET":
            self.server.asked.append(name)
        if name not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        # What a dataset hub adds.
        self.send_header("ETag", f'"{sha(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            cut = name in self.server.cut
            self.wfile.write(content[: len(content) // 2] if cut else content)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("MMPREF_DOWNLOADS", raising=False)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


class Config:
    """A configuration with one download, `tiny`."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.path, self.server = folder / "downloads.yaml", server
        self.entry: dict[str, Any] = {
            "source": "a test",
            "revision": "r1",
            "licence": "none",
            "files": [],
        }

    def file(self, path: str, content: bytes | None = None, **fields: Any) -> None:
        """Add a file; with content, one that the server has, pinned unless `sha256` is None."""
        if content is not None:
            self.server.files[path] = content
            fields = {"url": self.server.url(path), "sha256": sha(content), **fields}
        self.entry["files"].append({"path": path, **fields})
        self.write()

    def archive(self, name: str, content: bytes, pinned: bool = True) -> None:
        self.server.files[name] = content
        archive = {"url": self.server.url(name)} | ({"sha256": sha(content)} if pinned else {})
        self.entry.setdefault("archives", {})[name] = archive
        self.write()

    def write(self) -> None:
        files = [
            {key: value for key, value in file.items() if value is not None}
            for file in self.entry["files"]
        ]
        self.path.write_text(yaml.safe_dump({"tiny": {**self.entry, "files": files}}))

    def fetch(self, target: Path, mirror: Path | None = None) -> dict[str, Any]:
        fetch("tiny", target, mirror, self.path)
        return json.loads((target / "manifest.json").read_text())


@pytest.fixture
def config(tmp_path: Path, server: Server) -> Config:
    return Config(tmp_path, server)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_files_are_fetched_checked_and_recorded(tmp_path: Path, config: Config) -> None:
    config.file("a.json", b"[1, 2, 3]", rows=3)
    config.file("deep/b.txt", b"words\n")
    target = tmp_path / "out" / "tiny"
    manifest = config.fetch(target)
    assert tree(target) == {"a.json": b"[1, 2, 3]", "deep/b.txt": b"words\n"}
    a, b = sha(b"[1, 2, 3]"), sha(b"words\n")
    assert manifest == {
        "download": "tiny",
        "source": "a test",
        "revision": "r1",
        "licence": "none",
        "files": [
            {"path": "a.json", "sha256": a, "bytes": 9, "pinned": True, "rows": 3},
            {"path": "deep/b.txt", "sha256": b, "bytes": 6, "pinned": True, "rows": None},
        ],
        "archives": [],
    }
    assert os.listdir(target.parent) == ["tiny"]


def test_an_earlier_folder_is_replaced_whole(tmp_path: Path, config: Config) -> None:
    target = tmp_path / "tiny"
    write(target, {"old.txt": b"old", "manifest.json": b"[]"})
    config.file("a.txt", b"new")
    config.fetch(target)
    assert tree(target) == {"a.txt": b"new"}


def test_a_wrong_sum_is_named_with_the_right_one(tmp_path: Path, config: Config) -> None:
    config.file("a.txt", b"right")
    config.server.files["a.txt"] = b"wrong"
    with pytest.raises(InputError, match=r"tiny: a\.txt: .*MIRROR/tiny/a\.txt") as error:
        config.fetch(tmp_path / "tiny")
    assert sha(b"right") in str(error.value)
    assert sha(b"wrong") in str(error.value)
    assert config.server.url("a.txt") in str(error.value)
    assert not (tmp_path / "tiny").exists()
    config.server.files["a.txt"] = b"right"
    config.fetch(tmp_path / "tiny")


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.json", b'[{"id": 1}, {"id": 2}]', 2),
        ("a.json", b'{"id": 1}\n{"id": 2}\n\n{"id": 3}\n', 3),
        ("a.json", b'{"info": {}, "questions": [1, 2, 3, 4], "license": "x"}', 4),
        ("a.json", b'{"cat": ["kitten"], "dog": ["puppy", "hound"], "bus": []}', 3),
        ("a.json", b'{"1": {"answer": "a"}, "2": {"answer": "b"}}', 2),
        ("a.jsonl", b'{"id": 1}\n{"id": 2}', 2),
        ("a.txt", b"one\n\ntwo\nthree", 3),
    ],
)
def test_rows_are_counted(
    tmp_path: Path, config: Config, name: str, content: bytes, rows: int
) -> None:
    config.file(name, content, rows=rows)
    assert config.fetch(tmp_path / "tiny")["files"][0]["rows"] == rows
    config.entry["files"][0]["rows"] = rows + 1
    config.write()
    with pytest.raises(InputError, match=rf"tiny: {name}: has {rows} rows, not {rows + 1} "):
        config.fetch(tmp_path / "tiny")


@pytest.mark.parametrize("pinned", [True, False])
def test_a_body_that_breaks_off_is_no_file(tmp_path: Path, config: Config, pinned: bool) -> None:
    content = b"a long story " * 1000
    config.file("a.txt", content, **({} if pinned else {"sha256": None}))
    config.server.cut = {"a.txt"}
    with pytest.raises(InputError, match=r"tiny: a\.txt: cannot fetch http.*start again"):
        config.fetch(tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()
    config.server.cut = set()
    config.fetch(tmp_path / "tiny")
    assert tree(tmp_path / "tiny") == {"a.txt": content}


def test_without_the_server_the_mirror_is_named(tmp_path: Path, config: Config) -> None:
    config.file("a.txt", b"text")
    url = config.server.url("a.txt")
    config.server.shutdown()
    config.server.socket.close()
    with pytest.raises(InputError, match=r"put the file at MIRROR/tiny/a\.txt .*MMPREF_DOWN") as e:
        config.fetch(tmp_path / "tiny")
    assert url in str(e.value)


def test_an_interrupted_download_goes_on(tmp_path: Path, config: Config) -> None:
    config.file("a.txt", b"first")
    config.file("b.txt", b"second", sha256=None)
    config.archive("c.zip", zipped(**{"c.txt": b"third"}))
    config.file("c.txt", archive="c.zip")
    config.file("d.txt", b"fourth")
    del config.server.files["d.txt"]
    with pytest.raises(InputError, match=r"d\.txt: cannot fetch .*404"):
        config.fetch(tmp_path / "tiny")
    assert config.server.asked == ["a.txt", "b.txt", "c.zip", "d.txt"]
    config.server.files["d.txt"] = b"fourth"
    config.fetch(tmp_path / "tiny")
    assert config.server.asked[4:] == ["d.txt"]
    assert tree(tmp_path / "tiny") == {
        "a.txt": b"first",
        "b.txt": b"second",
        "c.txt": b"third",
        "d.txt": b"fourth",
    }


def test_what_is_left_of_another_revision_is_not_used(tmp_path: Path, config: Config) -> None:
    config.file("a.txt", b"old", sha256=None)
    config.file("b.txt", b"second")
    del config.server.files["b.txt"]
    with pytest.raises(InputError, match="cannot fetch"):
        config.fetch(tmp_path / "tiny")
    config.entry["revision"] = "r2"
    config.write()
    config.server.files |= {"a.txt": b"new", "b.txt": b"second"}
    config.fetch(tmp_path / "tiny")
    assert tree(tmp_path / "tiny") == {"a.txt": b"new", "b.txt": b"second"}


def test_only_the_listed_members_of_an_archive_are_taken(tmp_path: Path, config: Config) -> None:
    members = {
        "data/items.json": b"[1, 2]",
        "data/secret.txt": b"no",
        "data/images/1.jpg": b"one",
        "data/images/more/2.jpg": b"two",
        "elsewhere/3.jpg": b"no",
    }
    config.archive("all.zip", zipped(**members))
    config.file("items.json", archive="all.zip", member="data/items.json", rows=2)
    config.file("images/", archive="all.zip", member="data/images/", count=2)
    manifest = config.fetch(tmp_path / "tiny")
    assert tree(tmp_path / "tiny") == {
        "items.json": b"[1, 2]",
        "images/1.jpg": b"one",
        "images/more/2.jpg": b"two",
    }
    assert [file["path"] for file in manifest["files"]] == [
        "items.json",
        "images/1.jpg",
        "images/more/2.jpg",
    ]
    assert all(file["pinned"] for file in manifest["files"])
    assert manifest["files"][1]["sha256"] == sha(b"one")
    (archive,) = manifest["archives"]
    assert (archive["path"], archive["pinned"]) == ("all.zip", True)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"other.txt": b"x"}, r"all\.zip: has no items\.txt"),
        ({"items.txt": b"x"}, r"images/: 0 files in .*all\.zip, not 2"),
        ({"items.txt": b"x", "images/1.jpg": b"x"}, r"images/: 1 files in .*all\.zip, not 2"),
    ],
)
def test_an_archive_that_lacks_something_is_refused(
    tmp_path: Path, config: Config, members: dict[str, bytes], message: str
) -> None:
    config.archive("all.zip", zipped(**members))
    config.file("items.txt", archive="all.zip")
    config.file("images/", archive="all.zip", count=2)
    with pytest.raises(InputError, match=message):
        config.fetch(tmp_path / "tiny")


@pytest.mark.parametrize("broken", [b"no zip", zipped(**{"a.txt": b"abc" * 99})[:-60]])
def test_an_archive_that_cannot_be_read_is_fetched_again(
    tmp_path: Path, config: Config, broken: bytes
) -> None:
    config.archive("all.zip", broken, pinned=False)
    config.file("a.txt", archive="all.zip")
    with pytest.raises(
        InputError, match=r"tiny: .*all\.zip: is not a zip archive that can be read"
    ):
        config.fetch(tmp_path / "tiny")
    config.server.files["all.zip"] = zipped(**{"a.txt": b"abc"})
    config.fetch(tmp_path / "tiny")


def test_a_zip_bomb_is_refused_and_not_kept(tmp_path: Path, config: Config) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images/1.jpg", bytes(40_000_000))
    config.archive("all.zip", buffer.getvalue(), pinned=False)
    config.file("images/", archive="all.zip")
    with pytest.raises(
        InputError, match=r"tiny: .*all\.zip: refused as a zip bomb \(images/1\.jpg"
    ):
        config.fetch(tmp_path / "tiny")
    assert not list(tmp_path.rglob("*.jpg"))
    assert not list(tmp_path.rglob("all.zip"))


@pytest.mark.parametrize("evil", ["../../evil", "a/../../../evil", "/evil", "..\\evil"])
def test_no_member_leaves_the_folder(tmp_path: Path, config: Config, evil: str) -> None:
    config.archive("all.zip", zipped(**{"images/1.jpg": b"one", f"images/{evil}": b"evil"}))
    config.file("images/", archive="all.zip")
    before = set(tmp_path.rglob("*evil*"))
    with pytest.raises(InputError, match=r"all\.zip: refused: .*evil' is not a path inside"):
        config.fetch(tmp_path / "out" / "tiny")
    assert set(tmp_path.rglob("*evil*")) == before
    assert not Path("/evil").exists()


def test_a_file_without_a_known_sum_is_trusted_once(
    tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    config.file("a.txt", b"first", sha256=None)
    config.archive("b.zip", zipped(**{"b.txt": b"second"}), pinned=False)
    config.file("b.txt", archive="b.zip")
    target = tmp_path / "tiny"
    manifest = config.fetch(target)
    said = capsys.readouterr().err
    assert "trusted on first use" in said
    assert f"a.txt {sha(b'first')}" in said
    assert f"b.zip {sha(config.server.files['b.zip'])}" in said
    assert "b.txt" not in said
    assert [file["pinned"] for file in manifest["files"]] == [False, False]
    config.fetch(target)
    assert "trusted" not in capsys.readouterr().err

    config.server.files["a.txt"] = b"changed"
    with pytest.raises(InputError, match=r"a\.txt: .*delete its manifest\.json") as error:
        config.fetch(target)
    assert sha(b"first") in str(error.value)
    assert sha(b"changed") in str(error.value)
    assert tree(target)["a.txt"] == b"first"
    (target / "manifest.json").unlink()
    config.fetch(target)
    assert tree(target)["a.txt"] == b"changed"


def test_a_mirror_takes_the_networks_place(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.file("a.txt", b"first")
    config.archive("b.zip", zipped(**{"b.txt": b"second", "images/1.jpg": b"one"}))
    config.file("b.txt", archive="b.zip")
    config.file("images/", archive="b.zip", count=1)
    mirror = tmp_path / "mirror"
    write(mirror / "tiny", {"a.txt": b"first", "b.zip": config.server.files["b.zip"]})
    config.fetch(tmp_path / "whole", mirror)
    whole = {"a.txt": b"first", "b.txt": b"second", "images/1.jpg": b"one"}
    assert tree(tmp_path / "whole") == whole

    (mirror / "tiny" / "b.zip").unlink()
    write(mirror / "tiny", {"b.txt": b"second", "images/1.jpg": b"one"})
    monkeypatch.setenv("MMPREF_DOWNLOADS", str(mirror))
    manifest = config.fetch(tmp_path / "unpacked")
    assert tree(tmp_path / "unpacked") == whole
    assert {file["path"]: file["pinned"] for file in manifest["files"]} == {
        "a.txt": True,
        "b.txt": False,
        "images/1.jpg": False,
    }
    assert config.server.asked == []


def test_a_mirror_may_have_another_name_for_the_folder(tmp_path: Path, config: Config) -> None:
    config.file("a.txt", b"first")
    config.entry["folder"] = "../beside"
    config.write()
    (tmp_path / "mirror").mkdir()
    write(tmp_path / "beside", {"a.txt": b"first"})
    config.fetch(tmp_path / "tiny", tmp_path / "mirror")
    assert config.server.asked == []


def test_what_a_mirror_lacks_comes_from_the_network(tmp_path: Path, config: Config) -> None:
    config.file("a.txt", b"first")
    config.file("b.txt", b"second")
    write(tmp_path / "mirror" / "tiny", {"a.txt": b"first"})
    config.fetch(tmp_path / "tiny", tmp_path / "mirror")
    assert config.server.asked == ["b.txt"]


def test_a_mirrors_wrong_file_is_refused_and_left_alone(tmp_path: Path, config: Config) -> None:
    config.file("a.txt", b"first")
    wrong = tmp_path / "mirror" / "tiny" / "a.txt"
    write(wrong.parent, {"a.txt": b"wrong"})
    with pytest.raises(InputError, match=r"tiny: a\.txt: its SHA-256 is") as error:
        config.fetch(tmp_path / "tiny", tmp_path / "mirror")
    for part in (sha(b"first"), sha(b"wrong"), str(wrong)):
        assert part in str(error.value)
    assert wrong.read_bytes() == b"wrong"
    with pytest.raises(InputError, match=r"nowhere: the mirror .* is not a folder"):
        config.fetch(tmp_path / "tiny", tmp_path / "nowhere")


def test_another_file_is_accepted_only_for_a_reason(
    tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    config.file("a.txt", b"first", same={sha(b"1st"): "the same in short"})
    write(tmp_path / "mirror" / "tiny", {"a.txt": b"1st"})
    manifest = config.fetch(tmp_path / "tiny", tmp_path / "mirror")
    assert "a.txt: not the pinned file, but accepted: the same in short" in capsys.readouterr().err
    assert manifest["files"][0]["pinned"] is False


def test_files_to_get_by_hand_are_asked_for(tmp_path: Path, config: Config) -> None:
    config.file("images/", by_hand="the drive of the authors", count=2)
    place = tmp_path / "by-hand" / "tiny" / "images"
    with pytest.raises(InputError, match="get the drive of the authors") as error:
        config.fetch(tmp_path / "tiny")
    assert f"{place} (2 files)" in str(error.value)
    write(place, {"1.jpg": b"one"})
    with pytest.raises(InputError, match=r"images/: 1 files in .*images, not 2"):
        config.fetch(tmp_path / "tiny")
    write(place, {"2.jpg": b"two"})
    config.fetch(tmp_path / "tiny")
    assert tree(tmp_path / "tiny") == {"images/1.jpg": b"one", "images/2.jpg": b"two"}


def test_verify_says_which_files_are_the_pinned_ones(tmp_path: Path, config: Config) -> None:
    config.file("a.txt", b"first")
    config.file("b.txt", b"second")
    config.file("missing.txt", b"third")
    config.file("free.txt", b"fourth", sha256=None)
    own = tmp_path / "own"
    write(own, {"a.txt": b"first", "b.txt": b"mine", "free.txt": b"fourth", "more.txt": b"x"})
    assert verify(own, "tiny", config.path) == {
        "a.txt": {"sha256": sha(b"first"), "pinned": True},
        "b.txt": {"sha256": sha(b"mine"), "pinned": False},
        "free.txt": {"sha256": sha(b"fourth"), "pinned": False},
    }
    with pytest.raises(InputError, match=r"no download 'tinny'; did you mean 'tiny'\?"):
        verify(own, "tinny", config.path)


def test_verify_believes_in_members_of_a_pinned_archive(tmp_path: Path, config: Config) -> None:
    config.archive("b.zip", zipped(**{"b.txt": b"second"}))
    config.file("b.txt", archive="b.zip")
    config.fetch(tmp_path / "tiny")
    assert verify(tmp_path / "tiny", "tiny", config.path)["b.txt"]["pinned"] is True
    (tmp_path / "tiny" / "b.txt").write_bytes(b"touched")
    assert verify(tmp_path / "tiny", "tiny", config.path)["b.txt"]["pinned"] is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "abc"}, r"tiny\.files\.0\.sha256: .*\(given: 'abc'\)"),
        ({"url": None}, r"tiny\.files\.0: .*give one of url, archive and by_hand"),
        ({"archive": "a.zip"}, r"tiny\.files\.0: .*give one of"),
        ({"path": "../a.txt"}, r"tiny\.files\.0\.path: .*is not a path inside"),
        ({"path": "/a.txt"}, r"tiny\.files\.0\.path: .*is not a path inside"),
        ({"path": "images/"}, r"tiny\.files\.0: .*a folder .* comes from archive or by_hand"),
        ({"path": "manifest.json"}, r"tiny: .*files: manifest\.json stands there twice"),
        ({"url": "file:///etc/passwd"}, r"tiny\.files\.0\.url"),
        ({"url": None, "archive": "a.zip"}, r"tiny: .*archives: a\.zip must be both"),
        ({"url": "hf://datasets/a/b@main/a.txt"}, r"tiny\.files\.0\.url"),
        ({"row": 3}, r"tiny\.files\.0\.row: Extra inputs"),
        ({"rows": 0}, r"tiny\.files\.0\.rows"),
        ({"count": 3}, r"tiny\.files\.0: .*`count` is for a folder"),
    ],
)
def test_mistakes_in_the_configuration_are_named(
    config: Config, change: dict[str, Any], message: str
) -> None:
    config.file("a.txt", b"first")
    config.entry["files"][0] |= change
    config.write()
    with pytest.raises(InputError, match=rf"downloads\.yaml: {message}"):
        load(config.path)


def test_a_configuration_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "downloads.yaml"
    with pytest.raises(InputError, match="cannot be read"):
        load(path)
    path.write_text("a: [")
    with pytest.raises(InputError, match="is not YAML"):
        load(path)
    path.write_text("- a")
    with pytest.raises(InputError, match="valid dictionary"):
        load(path)


def run_script(config: Config, target: Path, hub: Hub) -> subprocess.CompletedProcess[str]:
    """Run scripts/download.py with the test's configuration."""
    code = (
        "import functools, runpy, sys, mmpref.fetching as d; "
        f"d.fetch = functools.partial(d.fetch, config={str(config.path)!r}); "
        f"sys.argv = ['download.py', 'tiny', '--output', {str(target)!r}]; "
        f"runpy.run_path({str(ROOT / 'scripts' / 'download.py')!r}, run_name='__main__')"
    )
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = own | {"HF_ENDPOINT": hub.url, "HF_HOME": str(config.path.parent / "hub")}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )


def test_files_of_a_dataset_hub(tmp_path: Path, config: Config) -> None:
    place = f"hf://datasets/some/data@{COMMIT}"
    config.file("a.jsonl", url=f"{place}/a.jsonl", rows=2)
    config.file("b.zip", url=f"{place}/deep/second.zip", sha256=sha(b"second" * 50))
    first, second = b"{}\n{}\n", b"second" * 50
    with serving() as hub:
        files = hub.repositories["some/data"] = {"a.jsonl": first, "deep/second.zip": second}
        done = run_script(config, tmp_path / "tiny", hub)
        assert done.returncode == 0, done.stderr
        assert hub.sent == {"a.jsonl": len(first), "deep/second.zip": len(second)}
        assert tree(tmp_path / "tiny") == {"a.jsonl": first, "b.zip": second}
        assert f"a.jsonl {sha(first)}" in done.stderr

        hub.damaged["a.jsonl"] = b"{}\n[]\n"
        done = run_script(config, tmp_path / "tiny2", hub)
        assert done.returncode == 1
        assert "dataset some/data at revision 0123" in done.stderr
        assert "does not have the sum that the hub states" in done.stderr
        hub.damaged.clear()
        files["deep/second.zip"] = b"other"
        done = run_script(config, tmp_path / "tiny3", hub)
        assert done.returncode == 1
        assert f"error: tiny: b.zip: its SHA-256 is {sha(b'other')}" in done.stderr
        assert "Traceback" not in done.stderr
        del files["deep/second.zip"]
        done = run_script(config, tmp_path / "tiny4", hub)
        assert done.returncode == 1
        assert "has no file deep/second.zip" in done.stderr
        assert "MIRROR/tiny/b.zip" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_configuration_is_valid_and_names_no_hub() -> None:
    text = CONFIG.read_text()
    assert not re.search(r"huggingface\.co|hf\.co|hf-mirror|modelscope|anaconda|conda-forge", text)
    for name, download in load().items():
        for url in [one.url for one in (*download.files, *download.archives.values()) if one.url]:
            if "github" in url and "/releases/" not in url:
                (commit,) = re.findall(r"/([0-9a-f]{40})/", url)
                assert commit in download.revision, (name, url)


@needs_shared
def test_the_pinned_sums_are_those_of_the_shared_files() -> None:
    lines = (SHARED / "benchmarks" / "SHA256SUMS").read_text().splitlines()
    known = {path.removeprefix("./"): found for found, path in (line.split() for line in lines)}
    for name, download in load().items():
        for file in download.files:
            path = f"{download.folder or name}/{file.path}"
            assert file.sha256 == known.pop(path, file.sha256), path
    assert {path for path in known if "captions/" not in path} == {
        "README.md",
        "chair/coco2014_gt_objects_subset.json",
        "vqa/abstract_v002_question_types.txt",
    }


@needs_shared
@pytest.mark.parametrize("name", ["pope", "amber", "llava-bench-coco", "nltk_data"])
def test_downloads_work_from_the_shared_mirror(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMPREF_DOWNLOADS", str(SHARED / "benchmarks"))
    fetch(name, tmp_path / name)
    found = verify(tmp_path / name, name)
    assert set(found) == {file.path for file in load()[name].files} == set(tree(tmp_path / name))
    # Two of NLTK's files are conversions there.
    others = {Path(path).name for path, file in found.items() if not file["pinned"]}
    converted = {"wordnet.zip", "averaged_perceptron_tagger_eng.classes.json"}
    assert others == (converted if name == "nltk_data" else set())
