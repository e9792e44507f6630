"""The dissertation's names of agents (chapter 5), of which there are none yet."""

from __future__ import annotations

from isthmus.compat.alias import Alias

__all__ = ["ALIAS"]

ALIAS = Alias(
    "academy",
    "1.0.0",
    {},
    {"": "agents are no part of isthmus yet; install academy-py, which is used where it is found"},
)
