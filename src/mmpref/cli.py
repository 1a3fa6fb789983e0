"""What all scripts share: their command line, and how they end."""

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import get_args

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


Command = Callable[..., None] | dict[str, Callable[..., None]]


def run(main: Command) -> None:
    """Call `main` with the arguments of the command line, which its types and docstring describe.

    Of several functions the command line names one. A part of a study is given as JSON. Ends with 1
    and one message on wrong input, with 130 on Ctrl-C.
    """
    ending(lambda: call(main))


def call(main: Command) -> None:
    """Call `main` with the arguments of the command line."""
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

    @registry.primitive_rule
    def optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[object] | None:
        kinds = [kind for kind in get_args(info.type) if kind is not type(None)]
        if kinds not in ([Path], [str], [int]) or len(get_args(info.type)) != 2:
            return None
        # tyro writes {None}|PATH; what is left out is None anyway.
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=kinds[0].__name__.upper(),
            instance_from_str=lambda texts: kinds[0](texts[0]),
            is_instance=lambda value: value is None or isinstance(value, kinds[0]),
            str_from_instance=lambda value: ["none" if value is None else str(value)],
        )

    config = (tyro.conf.FlagCreatePairsOff,)
    with registry:
        if isinstance(main, dict):
            tyro.extras.subcommand_cli_from_dict(main, config=config)
        else:
            tyro.cli(main, config=config)


def ending(main: Callable[[], None]) -> None:
    """Call `main`; end with 1 and one message on wrong input, with 130 on Ctrl-C.

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
