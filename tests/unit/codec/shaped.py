"""A module that both sides can import, with figure 3.6's serializer in its corrected form."""

from __future__ import annotations

import io
from typing import Any

from isthmus.codec import deserialize, serialize


class Model:
    """Stands for a torch module, which saves itself to a file."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def save(self, file: io.BytesIO) -> None:
        file.write(repr(self.weight).encode())


def serialize_model(obj: Any) -> bytes:
    if isinstance(obj, Model):
        buf = io.BytesIO()
        obj.save(buf)
        return b"model" + buf.getvalue()
    return serialize(obj)


def deserialize_model(data: Any) -> Any:
    if bytes(data[:5]) == b"model":
        return Model(float(bytes(data[5:])))
    return deserialize(data)


class Namespace:
    @staticmethod
    def static(x: int) -> int:
        return x

    @classmethod
    def made(cls, x: int) -> Any:
        return cls, x
