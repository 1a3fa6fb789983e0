"""GPUs that are only pretended: a test sees where a tensor is not brought to where it is needed.

All tensors lie in host memory, and say that they lie elsewhere. As on real GPUs, only tensors of
one device meet in an operation; numbers, and indices in host memory, are the exceptions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

HOST = torch.device("cpu")


def where(tensor: Tensor) -> torch.device:
    """Return the device that a tensor pretends to lie on."""
    return getattr(tensor, "pretended", HOST)


def put(tensor: Tensor, device: torch.device) -> Tensor:
    tensor.pretended = device  # type: ignore[attr-defined]
    return tensor


class PretendedGpus(TorchFunctionMode):
    """While this is entered, `cuda:0`, `cuda:1` and so on can be used."""

    def __enter__(self) -> "PretendedGpus":
        new = nn.Parameter.__new__

        # What makes parameters of tensors is not seen by any mode.
        def tell(cls: type, data: Any = None, requires_grad: bool = True) -> Any:
            made: Any = new(cls, data, requires_grad)
            return made if data is None else put(made, where(data))

        self.patch = patch.object(nn.Parameter, "__new__", tell)
        self.patch.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.patch.stop()
        super().__exit__(*error)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return where(args[0])
        if func == Tensor.data.__set__:  # type: ignore[attr-defined]
            put(args[0], where(args[1]))
            return func(*args)
        name = getattr(func, "__name__", "")
        if name == "to":
            return self._moved(*args, **options)
        if name == "cpu":
            return put(args[0].view_as(args[0]), HOST)
        if name in ("copy_", "_has_compatible_shallow_copy_type", "_parse_to"):
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
        for one in tree_leaves(made):
            if isinstance(one, Tensor):
                put(one, place)
        return made

    def _moved(self, tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        place, dtype = where(tensor), tensor.dtype
        for one in (*args, options.get("dtype"), options.get("device")):
            if isinstance(one, Tensor):
                place, dtype = where(one), one.dtype
            elif isinstance(one, torch.dtype):
                dtype = one
            elif isinstance(one, str | torch.device) or type(one) is int:
                place = _device(one)
        if (place, dtype) == (where(tensor), tensor.dtype):
            return tensor
        moved = tensor.to(dtype)
        return put(moved.view_as(moved) if moved is tensor else moved, place)


def _device(device: Any) -> torch.device:
    return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
