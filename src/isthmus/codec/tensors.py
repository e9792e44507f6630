"""torch: the memory of storages out of band, everything else as torch itself reduces it.

Because storages are what travels, every tensor that torch can pickle works (gradients, strides, sparse
layouts, bfloat16, Parameters, subclasses), and tensors that share a storage share one afterwards too.
"""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import torch
from torch.storage import TypedStorage

from isthmus.codec.devices import wants_original_device
from isthmus.errors import CodecError

if TYPE_CHECKING:
    from isthmus.codec.frame import Buffer

__all__ = ["reducers"]


def reducers() -> dict[type, Any]:
    """Return the reducers of this module by exact type."""
    return {
        torch.Tensor: _reduce_tensor,
        TypedStorage: _reduce_typed,
        torch.UntypedStorage: _reduce_storage,
    }


def _reduce_tensor(tensor: torch.Tensor) -> Any:
    if tensor.layout is torch.strided and tensor.device.type != "meta" and not tensor.is_quantized:
        used = tensor.numel() * tensor.element_size()
        if 2 * used < tensor.untyped_storage().nbytes():
            # A small view of a large storage does not take all of it along.
            part = tensor.detach().clone().requires_grad_(tensor.requires_grad)
            part.__dict__.update(tensor.__dict__)
            tensor = part
    load, *rest = tensor.__reduce_ex__(5)
    if load is torch._utils._rebuild_tensor_v3:
        # Newer dtypes (float8): torch reduces them so, but cannot load what it wrote.
        return _load_tensor, *rest
    return load, *rest


def _load_tensor(
    storage: torch.UntypedStorage,
    offset: int,
    size: Any,
    stride: Any,
    requires_grad: bool,
    hooks: Any,
    dtype: torch.dtype,
    metadata: Any = None,
) -> torch.Tensor:
    tensor = torch.empty(0, dtype=dtype, device=storage.device).set_(storage, offset, size, stride)
    if metadata:
        torch._utils.set_tensor_metadata(tensor, metadata)
    tensor._backward_hooks = hooks
    return tensor.requires_grad_(requires_grad)


def _reduce_typed(storage: TypedStorage) -> Any:
    # torch makes a new TypedStorage for each tensor; the untyped one within is the same object for all
    # tensors of one memory, so pickle's memo keeps them together.
    return _load_typed, (storage._untyped_storage, storage.dtype)


def _load_typed(storage: torch.UntypedStorage, dtype: torch.dtype) -> TypedStorage:
    return TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def _reduce_storage(storage: torch.UntypedStorage) -> Any:
    device = str(storage.device)
    if storage.device.type == "meta":
        raise CodecError("a storage on torch's meta device has no data", "make it on a real device")
    if not storage.nbytes():
        return _load_storage, (b"", device)
    host = storage if device == "cpu" else storage.cpu()
    flat = torch.empty(0, dtype=torch.uint8).set_(host)
    return _load_storage, (PickleBuffer(flat.numpy()), device)


def _load_storage(data: Buffer, device: str) -> torch.UntypedStorage:
    view = memoryview(data)
    if view.nbytes:
        # torch has no read-only tensors, and writing to memory that is read-only ends the process.
        flat = torch.frombuffer(bytearray(view) if view.readonly else view, dtype=torch.uint8)
    else:
        flat = torch.empty(0, dtype=torch.uint8)
    if device != "cpu" and wants_original_device():
        try:
            flat = flat.to(device)
        except (RuntimeError, AssertionError) as e:
            raise CodecError(f"this process cannot put a tensor on {device!r}", e) from e
    return flat.untyped_storage()
