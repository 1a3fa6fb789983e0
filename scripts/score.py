"""Rule score: the verdict on every response, and the metrics; the command `mmpref score`."""

import sys
from pathlib import Path

# This script is for people as well, who call it without the workflow's PYTHONPATH.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mmpref.cli import run
from mmpref.commands import score

if __name__ == "__main__":
    run(score)
