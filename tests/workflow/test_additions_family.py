"""A family from outside: one file, and a study with a model of it."""

import json
import shutil
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "adding-a-family.md"


def test_a_family(checkout, saved_llava):
    source = DOCS.read_text().split("```python\n", 1)[1].split("```", 1)[0]
    file = checkout.folder / "src" / "mmpref" / "models" / "families" / "llava_doubled.py"
    file.write_text(source)
    shutil.copytree(saved_llava, checkout.folder / "doubled")
    config = checkout.folder / "doubled" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "llava_doubled"}))

    def change(study):
        study["models"]["doubled"] = {"source": "local", "folder": "doubled"}
        study["models"]["plain"] = {"source": "local", "folder": "plain"}
        study["runs"]["doubled"] = {"model": "doubled"}
        study["runs"]["plain"] = {"model": "plain"}

    shutil.copytree(saved_llava, checkout.folder / "plain")
    checkout.change_study(change)
    benchmark = "captions"
    wanted = [f"results/responses/{run}/seed0/{benchmark}.jsonl" for run in ("doubled", "plain")]
    checkout.snakemake(*wanted)
    doubled, plain = (
        [json.loads(line) for line in (checkout.folder / path).read_text().splitlines()]
        for path in wanted
    )
    assert [one["id"] for one in doubled] == [one["id"] for one in plain]
    assert [one["response"] for one in doubled] != [one["response"] for one in plain]

    # An edit of the family is an edit of what its models answer, and of nothing else.
    checkout.edit(
        str(file.relative_to(checkout.folder)), "2 * torch.arange(len", "3 * torch.arange(len"
    )
    assert checkout.planned(*wanted) == {"respond_shard": 1, "respond": 1}
