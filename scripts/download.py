"""Rule download: public files at the revisions in mmpref's downloads.yaml."""

from mmpref.cli import run
from mmpref.fetching import download

if __name__ == "__main__":
    run(download)
