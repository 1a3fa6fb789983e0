"""The command line of all scripts, and how they end."""

import errno
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from mmpref.errors import InputError
from mmpref.progress import say
from mmpref.study.parts import Part

# Read by the libraries when they are imported, which is after this module.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# What one library says to another about its next version is nothing to the user.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|torch)\b")

SECONDS_FOR_THE_FIRST = 5.0


def run(main: Callable[..., None] | dict[str, Callable[..., None]]) -> None:
    """Call `main` with the arguments of the command line, which its types and docstring describe.

    Of several functions the command line names one. A part of a study is given as JSON. Ends with 1
    and one message on wrong input, with 130 on Ctrl-C.
    """
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def part(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Part] | None:
        kind = info.type
        if not (isinstance(kind, type) and issubclass(kind, Part)):
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="JSON",
            instance_from_str=lambda texts: kind.model_validate_json(texts[0]),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [value.model_dump_json()],
        )

    command: Any = tyro.extras.subcommand_cli_from_dict if isinstance(main, dict) else tyro.cli
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    with registry:
        ending(lambda: command(main, config=config))


def ending(main: Callable[[], None]) -> None:
    """Call `main`; end with 1 and one message on wrong input or a full disk, with 130 on Ctrl-C.

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
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        say(f"error: the disk is full ({error}); make room, then start the same command again")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
