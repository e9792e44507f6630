"""Configurations of the filters that come with isthmus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from isthmus.bench import filter as filters
from isthmus.bench.config import FilterConfig

if TYPE_CHECKING:
    from typing import Self

__all__ = ["AllConfig", "NoneConfig", "ObjectSizeConfig", "ObjectTypeConfig", "PickleSizeConfig"]


class AllConfig(FilterConfig):
    """Everything is transformed."""

    name: str = "all"

    def get_filter(self) -> filters.All:
        """Build the filter."""
        return filters.All()


class NoneConfig(FilterConfig):
    """Nothing is transformed."""

    name: str = "none"

    def get_filter(self) -> filters.Nothing:
        """Build the filter."""
        return filters.Nothing()


class _SizeConfig(FilterConfig):
    min_size: int = Field(0, ge=0, description="least bytes that are transformed")
    max_size: int | None = Field(None, ge=0, description="most bytes that are transformed")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_size is not None and self.max_size < self.min_size:
            raise ValueError(
                f"max_size {self.max_size} is less than min_size {self.min_size}: nothing would pass"
            )
        return self


class ObjectSizeConfig(_SizeConfig):
    """By size in memory: an array's buffer, or an object and the items of a container."""

    name: str = "object-size"

    def get_filter(self) -> filters.ObjectSize:
        """Build the filter."""
        return filters.ObjectSize(self.min_size, self.max_size)


class PickleSizeConfig(_SizeConfig):
    """By size when pickled: exact, at the price of pickling once more."""

    name: str = "pickle-size"

    def get_filter(self) -> filters.PickleSize:
        """Build the filter."""
        return filters.PickleSize(self.min_size, self.max_size)


class ObjectTypeConfig(FilterConfig):
    """By the name of the type or of a base of it."""

    name: str = "object-type"
    types: list[str] = Field(description="names such as ndarray, or numpy.ndarray", min_length=1)

    def get_filter(self) -> filters.ObjectType:
        """Build the filter."""
        return filters.ObjectType(tuple(self.types))
