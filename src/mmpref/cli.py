"""What all scripts share: how they end."""

import os
import sys
from collections.abc import Callable

from mmpref.errors import InputError
from mmpref.progress import say

# Read by the libraries when they are imported, which is after this module.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; end with 1 and one message on wrong input, with 130 on Ctrl-C.

    Of several processes of a training, which meet the same mistake, the first one speaks.
    """
    try:
        main()
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":
            say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
