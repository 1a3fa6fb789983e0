"""GPUs that are only pretended: a test sees where a tensor is not brought to where it is needed.

All tensors lie in host memory, and say that they lie elsewhere. As on real GPUs, only tensors of one
device meet in an operation; numbers, and indices in host memory, are the exceptions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

HOST = torch.device("cpu")


def where(tensor: Tensor) -> torch.device:
    """Return the device that a tensor pretends to lie on."""
    return getattr(tensor, "pretended", HOST)


def put(tensor: Tensor, device: torch.device) -> Tensor:
    tensor.pretended = device  # type: ignore[attr-defined]
    return tensor


class PretendedGpus(TorchFunctionMode):
    """While this is entered, `cuda:0`, `cuda:1` and so on can be used."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func is Tensor.device.__get__:  # type: ignore[attr-defined]
            return where(args[0])
        if func is Tensor.data.__set__:  # type: ignore[attr-defined]
            put(args[0], where(args[1]))
            return func(*args)
        name = getattr(func, "__name__", "")
        if name == "to":
            return self._moved(*args, **options)
        if name == "cpu":
            return put(args[0].view_as(args[0]), HOST)
        if name == "copy_":
            return func(*args, **options)
        device = options.pop("device", None)
        if name in ("__getitem__", "__setitem__"):
            owner, *others = tree_leaves(args)
            used = [owner, *(one for one in others if where(one) != HOST)]
        else:
            used = tree_leaves((args, options))
        tensors = [one for one in used if isinstance(one, Tensor)]
        found = {where(one) for one in tensors if one.dim() or where(one) != HOST}
        if len(found) > 1:
            raise RuntimeError(f"{name}: expected all tensors to be on one device, found {found}")
        place = _device(device) if device is not None else next(iter(found), HOST)
        made = func(*args, **options)
        return tree_map_only(Tensor, lambda one: put(one, place), made)

    def _moved(self, tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        place = where(tensor)
        if args and isinstance(args[0], Tensor):
            place, args = where(args[0]), (args[0].dtype, *args[1:])
        elif args and isinstance(args[0], int | str | torch.device):
            place, args = _device(args[0]), args[1:]
        if (device := options.pop("device", None)) is not None:
            place = _device(device)
        options.pop("non_blocking", None)
        same = place == where(tensor)
        moved = tensor.to(*args, **options) if args or options else tensor
        if moved is tensor:
            return tensor if same else put(tensor.view_as(tensor), place)
        return put(moved, place)


def _device(device: Any) -> torch.device:
    return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
