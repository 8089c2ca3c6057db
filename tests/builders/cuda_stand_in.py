"""A stand-in for a GPU: torch's fake tensors on the device "cuda", which have shapes and types and no numbers.

What it finds, without a GPU: tensors of the CPU among those of the GPU, NumPy asked for what is not in the CPU's
memory or has no NumPy type, numbers read back (item(), masks as indices), copies between the two within a step,
generators of another device, and tensors of the GPU that a data loader's worker would touch. What it cannot find: wrong
numbers, kernels that do not exist, and faults of the backward pass, whose engine asks the driver.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)

PRECISIONS = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}


class Waits(TorchDispatchMode):
    """Collects what would let the CPU wait for the GPU: numbers read back, and copies between the two.

    On tensors of the CPU only what is read back is found, whatever the device; some of torch's operations read back on
    the CPU alone.
    """

    reads = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2", "unique_dim")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        whole = name == "to"  # as in inference mode; fake tensors know only its parts
        if name in self.reads or (name == "index" and any(_is_mask(index) for index in args[1])):
            self.found.append(name)  # fake tensors raise then
        result = (func.decompose if whole else func)(*args, **kwargs)
        leaves = tree_leaves((args, kwargs, result))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        devices = {t.device.type for t in tensors if t.ndim or name in ("to", "copy_", "_to_copy")}
        generators = {leaf.device.type for leaf in leaves if isinstance(leaf, torch.Generator)}
        if len(devices) > 1:
            self.found.append(f"{name} of {', '.join(sorted(devices))}")
        if generators and generators != devices:
            self.found.append(f"{name} with a generator of {', '.join(generators)}")
        return result


def _is_mask(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


class Touches(TorchDispatchMode):
    """Collects operations on tensors of the GPU, none of which a forked worker can do: it cannot start CUDA again."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, leaves = func.overloadpacket.__name__, tree_leaves((args, kwargs))
        if name != "device" and any(isinstance(leaf, Tensor) and leaf.device.type == "cuda" for leaf in leaves):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class StandIn:
    """A GPU that is not there: moves a model to it, and runs what is computed on it."""

    def __init__(self) -> None:
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)

    def moved(self, model: nn.Module) -> None:
        """Move a model's parameters and buffers; tensors that it holds otherwise stay where they are."""
        for module in model.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    module._parameters[name] = nn.Parameter(self._to(weight.detach()), weight.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = self._to(buffer)

    def _to(self, tensor: Tensor) -> Tensor:
        with self.mode:
            return self.mode.from_tensor(tensor).to(CUDA)

    @contextmanager
    def running(self, precision: str) -> Iterator[Waits]:
        """Compute with fake tensors in a precision; yields what waits."""
        kind = PRECISIONS[precision]
        with (
            patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
            patch("torch.cuda.is_bf16_supported", lambda *_, **__: True),
            patch.object(Tensor, "numpy", _numpy),
            self.mode,
            Waits() as waits,
            torch.autocast("cuda", kind) if kind else nullcontext(),
        ):
            yield waits


def _numpy(tensor: Tensor, **_: object) -> np.ndarray[Any, Any]:
    """Return zeros for a fake tensor, and refuse what torch refuses."""
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy")
    if tensor.dtype == torch.bfloat16:
        raise TypeError("Got unsupported ScalarType BFloat16")
    if tensor.requires_grad:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
