"""Every error that isthmus raises on purpose, under one root.

An error keeps its data in ``args``, so that it pickles, and makes its text in ``__str__``: what was
asked, what was found, and the next thing to try. Where a user would catch a builtin (a missing key, a
timeout, a failed import) the error is one of those too. Two branches tell whose fault it was:
:class:`ClosedError` is "you closed it", :class:`BrokenError` is "the world broke it".
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AddressError",
    "AliasError",
    "AlreadySetError",
    "AuthenticationError",
    "BorrowedError",
    "BrokenError",
    "CapabilityError",
    "ClosedError",
    "CodecError",
    "DependencyError",
    "ElsewhereError",
    "FullError",
    "IsthmusError",
    "KeyTypeError",
    "LifetimeEndedError",
    "LifetimeError",
    "LocalProtocolError",
    "MissingExtraError",
    "MissingLogError",
    "MissingObjectError",
    "MissingSecretError",
    "MovedError",
    "NameTakenError",
    "NoRouteError",
    "NotProxiableError",
    "OwnershipError",
    "PayloadError",
    "RemoteError",
    "RemoteProtocolError",
    "SpecError",
    "StreamInterrupted",
    "TamperedError",
    "UnknownKindError",
    "VerificationError",
    "VersionError",
    "WaitTimeoutError",
]


class IsthmusError(Exception):
    """Root of all errors raised by isthmus."""


class ClosedError(IsthmusError, ValueError):
    """A closed handle was used. ``args``: what it is."""

    def __str__(self) -> str:
        return f"{self.args[0]} is closed; open a new one (close() releases handles, it deletes no data)"


class LifetimeEndedError(ClosedError):
    """Something was to be added to a lifetime that has ended. ``args``: which."""

    def __str__(self) -> str:
        return (
            f"{self.args[0]} takes nothing more, its end would come too late; put what must live longer "
            "under another lifetime"
        )


class LifetimeError(ExceptionGroup[Exception], IsthmusError):
    """Parts of what a lifetime had to do failed. ``args``: what, and the errors (``exceptions``, too)."""

    def derive(self, excs: Sequence[Exception], /) -> LifetimeError:  # type: ignore[override]
        """Return one with some of the errors, for ``except*``."""
        return LifetimeError(self.message, excs)

    def __str__(self) -> str:
        first = self.exceptions[0]
        more = len(self.exceptions) - 1
        others = f", and {more} more" if more else ""
        text = f"{self.message}: {type(first).__name__}: {first}{others}"
        return f"{text}; try again when the channel is there"


class BrokenError(IsthmusError, ConnectionError):
    """The channel beneath did not do its part. ``args``: what failed, and how."""

    def __str__(self) -> str:
        return ": ".join(str(a) for a in self.args)


class LocalProtocolError(IsthmusError, ValueError):
    """This side uses a protocol wrongly; nothing was sent. ``args``: what was tried, why it cannot be."""

    def __str__(self) -> str:
        return ": ".join(str(a) for a in self.args)


class RemoteProtocolError(BrokenError):
    """The peer sent what the protocol does not allow. ``args``: what it does, what is wrong with it."""


class VersionError(IsthmusError):
    """Two sides speak no common version. ``args``: the peer, our versions, its versions (first, last)."""

    def __str__(self) -> str:
        peer, ours, theirs = self.args
        older = "this side" if ours[1] < theirs[0] else "the other side"
        return (
            f"{peer} speaks protocol versions {theirs[0]} to {theirs[1]}, this side {ours[0]} to "
            f"{ours[1]}; upgrade isthmus on {older}"
        )


class AuthenticationError(IsthmusError, PermissionError):
    """One side could not prove to the other that it may talk to it. ``args``: the peer, what is wrong."""

    def __init__(self, *args: object) -> None:
        # Not OSError's own, which would take two arguments for errno and text.
        self.args = args
        self.errno = errno.EACCES

    def __str__(self) -> str:
        return ": ".join(str(a) for a in self.args)


class AddressError(IsthmusError, ValueError):
    """An address that cannot be used. ``args``: the address, what is wrong with it."""

    def __str__(self) -> str:
        address, wrong = self.args
        return f"{address!r}: {wrong}"


class FullError(IsthmusError, OSError):
    """There is no room for an object. ``args``: where, bytes needed, what to do."""

    def __init__(self, *args: object) -> None:
        # Not OSError's own, which would take three arguments for errno, text and file name.
        self.args = args
        self.errno = errno.ENOSPC

    def __str__(self) -> str:
        where, need, hint = self.args
        return f"no room for {need} bytes in {where}; {hint}"


class CodecError(IsthmusError, ValueError):
    """Bytes that are not an object of ours, or an object that cannot become bytes."""

    def __str__(self) -> str:
        return ": ".join(str(a) for a in self.args)


class KeyTypeError(IsthmusError, TypeError):
    """A key of another connector, or no key at all. ``args``: connector, wanted type, the key."""

    def __str__(self) -> str:
        connector, wanted, key = self.args
        return (
            f"{connector} needs a {wanted}, got {key!r} of type {type(key).__name__}; "
            "use the key that put() returned, with the connector that made it"
        )


class MissingObjectError(IsthmusError, KeyError):
    """No object lies under a key. ``args``: store, key, producing host, time of production.

    The last two are empty strings where they are not known.
    """

    def __str__(self) -> str:
        store, key, host, made = self.args
        origin = f" (made on {host} at {made})" if host and made else ""
        return (
            f"store {store!r} holds no object under {key}{origin}; it was evicted, resolved once with "
            "evict=True, its lease ran out, or its storage was cleared"
        )


class MissingLogError(IsthmusError, LookupError):
    """A log, or a group of one, is not there any more. ``args``: broker, the log or group in words."""

    def __str__(self) -> str:
        broker, what = self.args
        return (
            f"{broker} has no {what}; it was deleted, or the server came back without its data: "
            "open it again to begin anew"
        )


class ElsewhereError(IsthmusError, LookupError):
    """The object lies where this process cannot reach. ``args``: connector, where, here, what to do."""

    def __str__(self) -> str:
        connector, there, here, hint = self.args
        return f"{connector} holds this object in the memory of {there}, out of reach of {here}; {hint}"


class PayloadError(IsthmusError, TypeError):
    """Not something that a connector can store. ``args``: the type's name, what is wrong with it."""

    def __str__(self) -> str:
        kind, wrong = self.args
        return (
            f"cannot store a {kind}: {wrong}; a connector takes bytes, bytearray, a C-contiguous "
            "memoryview, or a list of those"
        )


class CapabilityError(IsthmusError, TypeError):
    """A connector was asked for what its channel cannot do. ``args``: connector, the protocol it lacks."""

    def __str__(self) -> str:
        connector, lacks = self.args
        return f"{connector} is no {lacks}; choose a connector that is, or do without (isthmus.connectors)"


class NoRouteError(IsthmusError, LookupError):
    """No connector of several takes an object. ``args``: the object in words, why not by connector."""

    def __str__(self) -> str:
        what, refusals = self.args
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refusals.items())
        return f"no connector takes {what} ({reasons}); relax a policy, or name a fallback that takes it"


class MissingSecretError(IsthmusError, LookupError):
    """A secret that is needed is not here. ``args``: what for, which it is, what was looked at."""

    def __str__(self) -> str:
        what, which, looked = self.args
        where = "; ".join(looked) or "no place"
        return (
            f"{what} needs {which} ({where}); provide it here, for a secret never travels by itself"
        )


class TamperedError(IsthmusError, ValueError):
    """Stored bytes are not what their producer stored. ``args``: the object, what is wrong."""

    def __str__(self) -> str:
        what, wrong = self.args
        return f"{what} fails its authentication: {wrong}; it was damaged or changed in its channel"


class WaitTimeoutError(IsthmusError, TimeoutError):
    """What was waited for did not come in time. ``args``: what, seconds."""

    def __str__(self) -> str:
        what, seconds = self.args
        return f"{what} did not come within {seconds:g} s"


class AlreadySetError(IsthmusError, RuntimeError):
    """A future was set a second time. ``args``: which future, what stands there."""

    def __str__(self) -> str:
        which, stands = self.args
        return (
            f"{which} is set already, to {stands}, which stays; a future is set once: make one for each "
            "value, and let a task that may be run again catch this error"
        )


class OwnershipError(IsthmusError, RuntimeError):
    """A rule of ownership would be broken; nothing was changed.

    ``args``: the rule; the object; what stands against it, with the file and line where that was done
    (empty if nothing does); what to do.
    """

    def __str__(self) -> str:
        rule, which, against, hint = self.args
        return f"{rule}: {which}{f' {against}' if against else ''}; {hint}"


class MovedError(OwnershipError):
    """A handle was used whose object it no longer is the handle of: moved, dropped, its task ended."""


class BorrowedError(OwnershipError):
    """An object is borrowed, which stands against what was asked."""


class SpecError(IsthmusError, ValueError):
    """A specification whose fields are wrong. ``args``: of what, what is wrong."""

    def __str__(self) -> str:
        return ": ".join(str(a) for a in self.args)


class StreamInterrupted(IsthmusError):  # noqa: N818 - the name that the design gives it
    """A stream's producer began anew, and what it yields now need not go on from what it had yielded.

    ``args``: number of the last item that came, from 0; -1 if none did.
    """

    def __str__(self) -> str:
        (last,) = self.args
        return (
            f"the stream was interrupted after {last + 1} items; ask again, and declare the action "
            "resumable if it always yields the same"
        )


class UnknownKindError(IsthmusError, LookupError):
    """No plugin has this name. ``args``: group, the name asked for, the names there are."""

    def __str__(self) -> str:
        import difflib

        group, kind, known = self.args
        near = difflib.get_close_matches(str(kind), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown {group} {kind!r}{hint} (known: {', '.join(known) or 'none'})"


class NameTakenError(IsthmusError, ValueError):
    """A name is already registered for something else. ``args``: what, the name."""

    def __str__(self) -> str:
        what, name = self.args
        return f"{what} {name!r} is already registered for something else; choose another name"


class MissingExtraError(IsthmusError, ImportError):
    """An optional dependency is not installed. ``args``: what needs it, package, extra."""

    def __str__(self) -> str:
        what, package, extra = self.args
        return f"{what} needs {package!r}: pip install 'isthmus[{extra}]'"


class AliasError(IsthmusError, ModuleNotFoundError):
    """Nothing stands in for a module of a foreign package. ``args``: its full name, why."""

    def __init__(self, *args: str) -> None:
        # Not ImportError's own, which shows its first argument alone. `name` is what importers look at.
        super().__init__(*args)
        self.name = args[0]

    def __str__(self) -> str:
        module, why = self.args
        return f"isthmus does not stand in for {module}: {why}"


class NotProxiableError(IsthmusError, TypeError):
    """An object of which no useful proxy can be. ``args``: the object."""

    def __str__(self) -> str:
        return (
            f"no proxy of {self.args[0]!r}: `is` tells it from its proxy; pass the object itself, or "
            "skip_nonproxiable=True to have that done"
        )


class DependencyError(IsthmusError):
    """A task was not run because one that it needs failed. ``args``: the failed task, how it failed.

    The failure itself is the ``__cause__`` wherever both are known in one process.
    """

    def __str__(self) -> str:
        parent, failure = self.args
        return f"not run, because {parent} failed: {failure}"


class RemoteError(IsthmusError, RuntimeError):
    """A failure elsewhere whose own exception cannot be raised here. ``args``: its type, its text."""

    def __str__(self) -> str:
        kind, text = self.args
        return f"{kind}: {text}" if text else str(kind)


class VerificationError(IsthmusError):
    """A result is wrong. ``args``: whose result, what was found, what was expected."""

    def __str__(self) -> str:
        whose, found, expected = self.args
        return f"{whose} computed a wrong result: found {found}, expected {expected}"
