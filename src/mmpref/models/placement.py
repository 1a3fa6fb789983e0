"""Where a model's weights lie: on one GPU, spread over several, or partly in host memory.

Only the decoder's layers are spread, whole and in order. All else (embeddings, vision tower,
projector, head) lies on the first GPU, and so does what is given to the model and what it returns:
a layer takes its input to where it lies, and the last one brings its output back. A layer that no
GPU has room for lies in host memory and is on the first GPU while it runs.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from mmpref.errors import InputError
from mmpref.progress import say

WEIGHTS = 0.8
"""How much of a GPU's free memory weights may take, as `gpu_share` in config/rates.yaml; caches and
hidden states need the rest."""


def rooms() -> Iterator[tuple[torch.device, int]]:
    """Yield every visible GPU and the bytes of weights that it has room for.

    One by one: to ask a GPU takes memory of it.
    """
    for number in range(torch.cuda.device_count()):
        free, _ = torch.cuda.mem_get_info(number)
        yield torch.device("cuda", number), int(WEIGHTS * free)


def spread(layers: Sequence[int], rest: int, rooms: Sequence[int]) -> list[int | None]:
    """Return which GPU each layer lies on, by number; None where there is no room for it.

    All are bytes: of the layers, of the `rest` of the model, which lies on the first GPU, and the
    `rooms` of the GPUs, which are filled in proportion.
    """
    filled = min(1.0, (rest + sum(layers)) / sum(rooms))
    edges = list(accumulate(filled * room for room in rooms))
    places: list[int | None] = []
    gpu, used, before = 0, rest, rest
    for size in layers:
        # A layer lies where its middle does, if it fits.
        while gpu < len(rooms) and (used + size > rooms[gpu] or before + size / 2 > edges[gpu]):
            gpu, used = gpu + 1, 0
        places.append(gpu if gpu < len(rooms) else None)
        used, before = used + size, before + size
    return places


def place(model: Any, name: str, rooms: Iterable[tuple[torch.device, int]]) -> None:
    """Move a model to as few GPUs as have room for it, or else to all of them; for inference.

    Without any it stays where it is.

    Raises:
        InputError: the first GPU has no room for what is not a layer of the decoder.
    """
    layers = list(model.get_decoder().layers)
    sizes = [bytes_of(layer) for layer in layers]
    rest = bytes_of(model) - sum(sizes)
    gpus: list[torch.device] = []
    free: list[int] = []
    places: list[int | None] = []
    for gpu, room in rooms:
        gpus.append(gpu)
        free.append(room)
        places = spread(sizes, rest, free)
        if None not in places:
            break
    if not gpus:
        return
    if rest > free[0]:
        raise InputError(
            f"{name}: {rest / 1e9:.1f} GB of it must lie on one GPU, {gpus[0]} has room for "
            f"{free[0] / 1e9:.1f} GB; use a GPU with more free memory"
        )
    if not any(places) and None not in places:
        model.to(gpus[0])
        return
    _say_where(name, sizes, places)
    inside = {id(tensor) for layer in layers for tensor in _tensors(layer)}
    for tensor in _tensors(model):
        if id(tensor) not in inside:
            tensor.data = tensor.data.to(gpus[0])
    for layer, number in zip(layers, places, strict=True):
        layer.register_forward_pre_hook(_Taking(gpus[number or 0]), with_kwargs=True)
        if number is None:
            borrowed = _Borrowed(gpus[0])
            layer.register_forward_pre_hook(borrowed.bring)
            layer.register_forward_hook(borrowed.take_back, always_call=True)
        else:
            layer.to(gpus[number])
    layers[-1].register_forward_hook(lambda *call: send_to_device(call[-1], gpus[0]))


def bytes_of(module: nn.Module) -> int:
    """Return the bytes of a module's weights and buffers, what is tied counted once."""
    return sum(tensor.nbytes for tensor in _tensors(module))


class _Taking:
    """Before a layer runs: what it is given comes to its GPU. Caches see to themselves."""

    def __init__(self, gpu: torch.device) -> None:
        self.gpu = gpu

    def __call__(self, layer: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        given = send_to_device(kwargs, self.gpu, skip_keys="past_key_values")
        return send_to_device(args, self.gpu), given


class _Borrowed:
    """A layer in host memory, which is on a GPU while it runs."""

    def __init__(self, gpu: torch.device) -> None:
        self.gpu = gpu
        self.at_home: list[tuple[Tensor, Tensor]] = []

    def bring(self, layer: nn.Module, *_: Any) -> None:
        # What an adapter has added since belongs to the layer too.
        self.at_home = [(tensor, tensor.data) for tensor in _tensors(layer)]
        # A weight cannot be given data that was made in inference mode.
        with torch.inference_mode(False):
            for tensor, data in self.at_home:
                tensor.data = data.to(self.gpu, non_blocking=True)

    def take_back(self, *_: Any) -> None:
        for tensor, data in self.at_home:
            tensor.data = data
        self.at_home = []


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _say_where(name: str, sizes: Sequence[int], places: Sequence[int | None]) -> None:
    gpus = sorted({place for place in places if place is not None})
    counts = ", ".join(f"{places.count(gpu)} on GPU {gpu}" for gpu in gpus)
    say(f"{name}: its {len(places)} layers are spread over GPUs: {counts or 'none'}")
    if spilled := [size for size, place in zip(sizes, places, strict=True) if place is None]:
        say(
            f"{name}: no GPU has room for {len(spilled)} layers ({sum(spilled) / 1e9:.1f} GB); "
            "they lie in host memory and are copied at every pass, which is slow: give more GPUs"
        )
