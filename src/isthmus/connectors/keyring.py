"""Secret keys by reference: where they are is configuration, what they are never is."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from isthmus.errors import MissingSecretError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["KEY_ID_BYTES", "Keyring", "SecretKey"]

KEY_ID_BYTES = 8
_KEY = re.compile(r"[0-9a-fA-F]{64}")
_HOW = "a key is 64 hex digits, 32 random bytes: openssl rand -hex 32"


class SecretKey(NamedTuple):
    """A key, and the name that stored objects have for it."""

    id: bytes
    """Made from the key, so that one key has one name everywhere, and a wrong key is no right one."""
    secret: bytes

    def __repr__(self) -> str:
        return f"<key {self.id.hex()}>"


class Keyring:
    """The keys that several references lead to, newest first.

    Args:
        references: ``env:NAME`` for an environment variable, ``file:PATH`` for a file; each holds one key
            or several, newest first, with white space between.

    Raises:
        SpecError: a reference is of no such form.
    """

    def __init__(self, references: Sequence[str]) -> None:
        if not references or isinstance(references, str):
            raise SpecError("key references", "must be a list of at least one")
        for reference in references:
            kind, _, rest = reference.partition(":")
            if not rest or kind not in ("env", "file"):
                # Not shown: somebody may have put the key itself here.
                raise SpecError(
                    "key reference",
                    "must be env:NAME or file:PATH; the key itself never stands in a configuration",
                )
            if kind == "file" and not rest.startswith(("/", "~")):
                raise SpecError("key reference", f"{reference!r} must be absolute or start with ~")
        self.references = tuple(references)
        self._known: dict[bytes, SecretKey] = {}
        self._newest: SecretKey | None = None

    def newest(self) -> SecretKey:
        """Return the first key of the first reference; it is read once.

        Raises:
            MissingSecretError: it is not there. An older one is not taken in its place.
            SpecError: what is there is no key.
        """
        if self._newest is None:
            looked = self._read()
            if self._newest is None:
                raise MissingSecretError("encrypting", f"the key of {self.references[0]}", looked)
        return self._newest

    def find(self, key_id: bytes, name: Callable[[], str]) -> SecretKey:
        """Return a key by its id; an unknown one makes it look at every reference again.

        Raises:
            MissingSecretError: no reference leads to it; names the object, the key, and each reference.
            SpecError: what is there is no key.
        """
        key = self._known.get(key_id)
        if key is None:
            looked = self._read()
            key = self._known.get(key_id)
            if key is None:
                raise MissingSecretError(name(), f"key {key_id.hex()}", looked)
        return key

    def _read(self) -> tuple[str, ...]:
        """Look at every reference; return what was found there, in words."""
        looked = []
        for number, reference in enumerate(self.references):
            text = _lookup(reference)
            keys = [] if text is None else [_parse(reference, part) for part in text.split()]
            self._known.update((key.id, key) for key in keys)
            if number == 0 and keys:
                self._newest = keys[0]
            if text is None:
                looked.append(f"{reference} is not there")
            else:
                looked.append(f"{reference} has {', '.join(k.id.hex() for k in keys) or 'no key'}")
        return tuple(looked)


def _lookup(reference: str) -> str | None:
    kind, _, rest = reference.partition(":")
    if kind == "env":
        return os.environ.get(rest)
    try:
        with open(os.path.expanduser(rest), encoding="ascii", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpecError(reference, f"cannot be read: {error.strerror}") from None


def _parse(reference: str, text: str) -> SecretKey:
    if not _KEY.fullmatch(text):
        raise SpecError(reference, f"holds something that is no key; {_HOW}")
    secret = bytes.fromhex(text)
    key_id = hashlib.blake2b(secret, digest_size=KEY_ID_BYTES, person=b"isthmus key id")
    return SecretKey(key_id.digest(), secret)
