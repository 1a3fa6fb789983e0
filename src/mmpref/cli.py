"""What all scripts share: how they end."""

import os
import sys
import time
import warnings
from collections.abc import Callable

from mmpref.errors import InputError
from mmpref.progress import say

# Read by the libraries when they are imported, which is after this module.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# What one library says to another about its next version is nothing to the user.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|torch)\b")

SECONDS_FOR_THE_FIRST = 5.0


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; end with 1 and one message on wrong input, with 130 on Ctrl-C.

    The processes of a training meet most mistakes together. The first one speaks, and its end is
    the end of the others; one that is still there later has met a mistake of its own.
    """
    try:
        main()
    except InputError as error:
        if os.environ.get("RANK", "0") != "0":
            time.sleep(SECONDS_FOR_THE_FIRST)
        say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
