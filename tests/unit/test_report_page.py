import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from synthetic_study import BASES, NASTY, SyntheticStudy, open_items, write_study

from mmpref.errors import InputError
from mmpref.records.items import read_items
from mmpref.records.pairs import Pairs
from mmpref.reporting import figures
from mmpref.reporting.page import Figures, Sampled, write_page
from mmpref.reporting.published import beside
from mmpref.reporting.sources import Source
from mmpref.reporting.tables import Results, Tables, read_results, summarise
from mmpref.scoring.verdicts import score
from mmpref.study.published import Beside, Comparison

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def inputs(study: SyntheticStudy) -> dict[str, Any]:
    """Everything that `write_page` takes, of a whole study."""
    results = read_results(study.scores)
    tables = summarise(results, BASES, seed=0)
    labels = {"base": "Base", "dpo": "DPO", "mdpo": "mDPO"}
    colours = figures.palette(list(labels), {"mdpo": "#d55e00"})
    runs = {
        run: [figures.read_metrics(path) for path in paths] for run, paths in study.metrics.items()
    }
    statistics = json.loads(study.statistics.read_text())
    cover = figures.hallucination_vs_cover(tables.main, "captions", colours, labels)
    return {
        "title": "Demo: DPO and mDPO in the toy world",
        "seed": 0,
        "bases": BASES,
        "results": results,
        "tables": tables,
        "items": {name: read_items(path) for name, path in study.items.items()},
        "colours": colours,
        "labels": labels,
        "figures": Figures(
            cover={"captions": figures.svg(cover)},
            training=[figures.svg(figures.training_curves(runs, colours, labels))],
            sampling=[figures.svg(figures.sampling_statistics({"bdhs": statistics}))],
        ),
        "sampled": {"bdhs": Sampled(statistics, list(Pairs(study.pairs)))},
        "study": "name: demo\nruns:\n  base: {model: toy}  # </pre>\n",
        "versions": {"mmpref": "0.1.0", "torch": "2.13.0"},
        "gallery": 30,
    }


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return inputs(write_study(tmp_path_factory.mktemp("study")))


@pytest.fixture(scope="module")
def page(content, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    write_page(path, **content)
    return path


def test_pairs_that_were_kept_out_are_counted(content, page, tmp_path):
    assert "Pairs kept out" not in page.read_text()
    counts = {"mdpo": {"read": 120, "kept_out": 3}}
    write_page(tmp_path / "page.html", **content, kept_out=counts)
    assert "mDPO: 3 of 120" in (tmp_path / "page.html").read_text()


class Elements(HTMLParser):
    """The start tags of a page with their attributes, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_equal_input_gives_equal_bytes(content, page, tmp_path):
    write_page(tmp_path / "again.html", **content)
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_nothing_is_loaded_from_elsewhere_and_the_file_is_small(page):
    text = page.read_text()
    assert len(text) < 4e6
    elements = Elements(text)
    assert not elements.of("link")
    for _, attributes in elements.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert re.match(r"#|data:image/(png|jpeg);base64,", value or "")
    # Names of vocabularies are the only addresses in it.
    addresses = set(re.findall(r"https?://[^\"' ]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in text
    assert "url(" not in re.sub(r"url\(#[^)]*\)", "", text)


def test_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in Elements(page.read_text()).tags
           if "id" in attributes]  # fmt: skip
    assert len(ids) == len(set(ids))


def test_text_of_models_stays_text(content, page):
    text = page.read_text()
    assert NASTY not in text
    assert "&lt;script&gt;document.title" in text
    assert "# &lt;/pre&gt;" in text
    assert len(Elements(text).of("script")) == 1


def test_mentions_are_marked_where_they_are(content, page):
    table = content["results"]["captions"]["base"][0].table
    shown = re.findall(r'data-benchmark="captions".*?</article>', page.read_text(), re.DOTALL)
    assert len(shown) == 13  # of 30; there are only 4 photographs, the others share the rest
    marked = 0
    for card in shown:
        row = table[table["id"] == re.search(r"· (c\d+)</p>", card)[1]].iloc[0]
        answer = re.search(r'data-run="base".*?<dd>(.*?)</dd>', card, re.DOTALL)[1]
        for kind in ("hallucinated", "grounded"):
            names = re.findall(rf'<mark class="{kind}">(.*?)</mark>', answer)
            assert names == [mention["name"] for mention in row[f"{kind}_mentions"]]
            marked += len(names)
        shown_text = re.sub("<[^>]*>", "", answer).strip()
        assert shown_text == (row["response"] or "no answer")
    assert marked > 20


def test_the_main_table_marks_the_best_run_and_shows_every_interval(content, page):
    text = page.read_text()
    main = content["tables"].main.set_index(["benchmark", "metric", "run"])["mean"]
    main = main.sort_index()
    assert main["captions", "CHAIRs"].idxmin() == "mdpo"
    rows = re.findall(r"<tr style.*?</tr>", text, re.DOTALL)
    first = [re.search(r'<td>\s*<span class="(.*?)">(.*?)<', row).groups() for row in rows[:3]]
    assert first == [
        ("mean", f"{main['captions', 'CHAIRs', 'base']:.2f}"),
        ("mean", f"{main['captions', 'CHAIRs', 'dpo']:.2f}"),
        ("mean best", f"{main['captions', 'CHAIRs', 'mdpo']:.2f}"),
    ]
    assert "60 items" in text
    for row in rows:
        numbers = re.findall(r'class="mean[^>]*>(\d[^<]*)<', row)
        assert len(numbers) == row.count('class="interval"') == row.count('class="track"')
        if "DPO" in row:
            assert len(numbers) == row.count('class="difference')


def test_two_models_stand_in_blocks_of_their_own(content, tmp_path):
    def named(number):
        return {f"{run}-{number}": one for run, one in content["results"]["captions"].items()}

    results = {"captions": named(1) | named(2)}
    bases = {
        f"{run}-{number}": f"{base}-{number}" for number in (1, 2) for run, base in BASES.items()
    }
    runs = [*results["captions"]]
    tables = summarise(results, bases, seed=0)
    shown = {
        **content,
        "results": results,
        "tables": tables,
        "bases": bases,
        "colours": figures.palette(runs),
        "labels": {run: run.upper() for run in runs},
        "figures": Figures(),
        "items": {"captions": content["items"]["captions"]},
    }
    write_page(tmp_path / "index.html", **shown)
    text = (tmp_path / "index.html").read_text()
    table = text[text.index('<table class="results">') : text.index("</table>")]
    blocks = table.split("<tbody>")[1:]
    for number, block in enumerate(blocks, 1):
        assert re.findall(r'class="dot"></span>(\S+?)<', block) == [
            f"{run}-{number}" for run in ("BASE", "DPO", "MDPO")
        ]
        assert f'<th scope="rowgroup" colspan="8">BASE-{number}</th>' in block
        # All but the base are compared.
        rows = block.split("<tr style")[1:]
        assert ['class="difference' in row for row in rows] == [False, True, True]
    assert "difference to <em>BASE-1</em> or <em>BASE-2</em> on the same items" in text
    summary = re.search(r'<p class="summary">(.*?)</p>', text)[1]
    # A sentence for each model.
    sentences = [part for part in summary.split("On captions, ") if part]
    assert [set(re.findall(r"[A-Z]+-(\d)", one)) for one in sentences] == [{"1"}, {"2"}]


def test_a_study_of_photographs_without_training_or_sampling(tmp_path):
    items = open_items(5)
    responses = [{"id": item.id, "response": f"{item.id} & more"} for item in items]
    results = {"photos": {"base": [score(items, responses)]}}
    write_page(
        tmp_path / "index.html",
        title="Photos",
        seed=0,
        bases={},
        results=results,
        tables=summarise(results, BASES, seed=0),
        items={"photos": items},
        colours={"base": "#777777"},
        labels={},
        figures=Figures(),
        sampled={},
        study="name: photos\n",
        versions={},
    )
    text = (tmp_path / "index.html").read_text()
    sections = [attributes["id"] for attributes in Elements(text).of("section")]
    assert sections == ["results", "gallery", "provenance"]
    assert text.count("<article") == 5
    assert "photo 3 &amp; more" in text
    assert "<dd><mark" not in text


def test_a_study_of_pairs_alone(content, tmp_path):
    results: Results = {}
    write_page(
        tmp_path / "index.html",
        **{
            **content,
            "results": results,
            "tables": summarise(results, BASES, seed=0),
            "figures": Figures(),
        },
    )
    sections = Elements((tmp_path / "index.html").read_text()).of("section")
    assert [attributes["id"] for attributes in sections] == ["preferences", "provenance"]


def test_an_image_that_cannot_be_shown_is_named(content, tmp_path):
    broken = {
        name: [replace(item, images=(b"no image",)) for item in items]
        for name, items in content["items"].items()
    }
    with pytest.raises(InputError, match=r"captions: item 'c\d+': its image is not an image"):
        write_page(tmp_path / "index.html", **{**content, "items": broken})
    assert not (tmp_path / "index.html").exists()


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """A function that runs Chromium on a page with more options: standard output and error."""
    if not CHROMIUM:
        pytest.skip("no chromium on PATH; apt-get install chromium runs this test")

    def run(page: Path, *options: str) -> tuple[str, str]:
        done = subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                # Whatever is asked of a name server fails, and says so on the console.
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
                "--enable-logging=stderr",
                "--virtual-time-budget=3000",
                *options,
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout, done.stderr

    return run


def console(log: str) -> list[str]:
    return [line for line in log.splitlines() if ":CONSOLE" in line]


def test_the_browser_has_nothing_to_complain_about(page, browse):
    dom, log = browse(page, "--dump-dom")
    assert console(log) == []
    assert dom.count("<article") == 36  # 30 in the gallery, 6 pairs
    assert "<title>Demo: DPO and mDPO in the toy world</title>" in dom


def test_the_console_is_listened_to(page, browse, tmp_path):
    """The test above cannot pass because messages are missed."""
    broken = page.read_text().replace('"use strict";', "missing.name;").replace(
        "</main>", '<img src="https://example.org/i.png"></main>'
    )  # fmt: skip
    (tmp_path / "broken.html").write_text(broken)
    _, log = browse(tmp_path / "broken.html", "--dump-dom")
    assert any("missing is not defined" in line for line in console(log))
    assert any("Content Security Policy" in line for line in console(log))


def seen_after(clicks: str, page: Path, browse, path: Path) -> Any:
    """Return what the script `clicks` puts into the title of the page."""
    path.write_text(page.read_text().replace("</script>", f"{clicks}</script>"))
    dom, log = browse(path, "--dump-dom")
    assert console(log) == []
    return json.loads(re.search(r"<title>(.*?)</title>", dom)[1])


def test_filters_hide_what_was_not_asked_for(page, content, browse, tmp_path):
    # One after the other, a user's clicks; what is to be seen after each goes into the title.
    clicks = """
    const seen = [];
    const form = document.querySelector(".filters");
    function set(name, value) {
      const field = form.elements[name];
      if (field.type === "checkbox") field.checked = value; else field.value = value;
      field.dispatchEvent(new Event("input", {bubbles: true}));
      const cards = [...document.querySelectorAll("#gallery .card")].filter((c) => c.offsetHeight);
      const answers = cards.flatMap((c) => [...c.querySelectorAll("[data-run]")])
        .filter((a) => a.offsetHeight);
      seen.push([cards.length, answers.length, form.elements.count.value]);
    }
    set("run", ""); set("run", "mdpo"); set("flawed", true); set("run", ""); set("flawed", false);
    set("differs", true); set("differs", false); set("benchmark", "yesno");
    document.title = JSON.stringify(seen);
    """
    seen = seen_after(clicks, page, browse, tmp_path / "clicked.html")
    cards = re.findall(r'<article class="card" data-benchmark.*?</article>', page.read_text(),
                       re.DOTALL)  # fmt: skip
    of_mdpo = sum(bool(re.search('data-run="mdpo" data-flawed', card)) for card in cards)
    flawed = sum("data-flawed" in card for card in cards)
    differ = sum("data-differs" in card for card in cards)
    yesno = sum('data-benchmark="yesno"' in card for card in cards)
    total = len(cards)
    assert 0 < of_mdpo < flawed < total
    assert 0 < differ < total
    expected = [(total, 3), (total, 1), (of_mdpo, 1), (flawed, 3), (total, 3), (differ, 3),
                (total, 3), (yesno, 3)]  # fmt: skip
    assert seen == [[n, n * answers, f"{n} of {total}"] for n, answers in expected]


def test_failures_are_browsed_by_run_and_text(page, content, browse, tmp_path):
    clicks = """
    const seen = [];
    const form = document.querySelector("#failures .filters");
    function set(name, value) {
      form.elements[name].value = value;
      form.elements[name].dispatchEvent(new Event("input", {bubbles: true}));
      const rows = [...document.querySelectorAll("#failures tbody tr")];
      seen.push([rows.filter((r) => r.offsetHeight).length, form.elements.count.value]);
    }
    set("group", "0"); set("group", "1"); set("text", "CUP"); set("text", "no such text");
    document.title = JSON.stringify(seen);
    """
    seen = seen_after(clicks, page, browse, tmp_path / "clicked.html")
    first, second = (
        scores[0].table[scores[0].table["flawed"]]
        for scores in list(content["results"]["captions"].values())[:2]
    )
    shown = second["response"] + second["expected"]
    with_cup = shown.str.contains("cup", case=False).sum()
    assert 0 < with_cup < len(second)
    expected = [(len(first), len(first)), (len(second),) * 2, (with_cup, len(second)),
                (0, len(second))]  # fmt: skip
    assert seen == [[n, f"{n} of {of}"] for n, of in expected]


@pytest.mark.parametrize("width", [1200, 375])
def test_the_page_fits_the_window(page, browse, tmp_path, width):
    # A window of Chromium is at least 500 pixels wide, a frame in it may be as narrow as a phone.
    measure = "parent.postMessage(document.documentElement.scrollWidth, '*');"
    (tmp_path / "measured.html").write_text(
        page.read_text().replace("</script>", f"{measure}</script>")
    )
    (tmp_path / "frame.html").write_text(
        "<script>onmessage = (event) => { document.title = event.data; };</script>"
        f'<iframe src="measured.html" style="width: {width}px; height: 900px; border: 0"></iframe>'
    )
    dom, _ = browse(tmp_path / "frame.html", "--dump-dom", "--window-size=1300,1000")
    assert int(re.search(r"<title>(\d+)</title>", dom)[1]) <= width


def test_something_is_to_be_seen(page, browse, tmp_path):
    shot = tmp_path / "shot.png"
    browse(page, f"--screenshot={shot}", "--window-size=1200,900")
    with Image.open(shot) as image:
        assert image.size == (1200, 900)
        colours = {colour for _, colour in image.convert("RGB").getcolors(10**6)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours  # the dots of DPO and mDPO


def test_a_run_that_covers_less_is_not_the_headline(content, page, tmp_path):
    main, differences = content["tables"].main, content["tables"].differences.copy()
    cover = (differences["metric"] == "Cover") & (differences["run"] == "mdpo")
    assert (differences.loc[cover, "high"] < 0).all()
    assert "mDPO has the lowest CHAIRs" not in page.read_text()

    differences.loc[cover, ["difference", "low", "high"]] = [0.0, -0.1, 0.1]
    tables = Tables(main, differences)
    write_page(tmp_path / "index.html", **{**content, "tables": tables})
    assert "mDPO has the lowest CHAIRs" in (tmp_path / "index.html").read_text()


def test_published_numbers_are_shown_with_what_is_not_comparable(content, page, tmp_path):
    value = Beside(
        run="mdpo",
        benchmark="captions",
        metric="CHAIRs",
        row="Table 1: x",
        column="c/s",
        value=9,
        factor=1,
        base="base",
        base_value=20,
    )
    said = Comparison(
        source="A paper",
        tables={"Table 1": "Runs (a model; A paper)"},
        values=[value],
        remarks={"captions": ["Another judge <b>."]},
        left_out=["other/score"],
    )
    rows = beside(content["tables"].main, said)
    write_page(tmp_path / "index.html", **content, published=(rows, said))
    text = (tmp_path / "index.html").read_text()
    section = text[text.index('<section id="published">') :].partition("</section>")[0]
    assert "Another judge &lt;b&gt;." in section
    assert "<td>9.00</td>" in section
    assert "<td>-11.0</td>" in section
    assert "other/score" in section
    assert 'id="published"' not in page.read_text()


def test_what_went_in_is_shown_with_its_licence(content, page, tmp_path):
    sources = [
        Source("model", "a/b", "0123abc", "apache-2.0", stated_in="manifest.json"),
        Source("dataset x", "c/<d>", None, "CC BY-NC 4.0", stated_in="dataset.json"),
        Source("dataset y", "mine.jsonl"),
    ]
    write_page(tmp_path / "index.html", **content, sources=sources)
    text = (tmp_path / "index.html").read_text()
    section = text[text.index('<section id="sources">') :].partition("</section>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in section.split("<tr>")[2:]]
    assert rows == [
        ["model", "a/b", "0123abc", "apache-2.0", "manifest.json"],
        ["dataset x", "c/&lt;d&gt;", "unknown",
         '<mark class="hallucinated">CC BY-NC 4.0</mark> non-commercial', "dataset.json"],
        ["dataset y", "mine.jsonl", "unknown", "unknown", "–"],
    ]  # fmt: skip
    assert 'id="sources"' not in page.read_text()
