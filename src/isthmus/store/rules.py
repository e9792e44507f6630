"""The rules of ownership, as bookkeeping in the process that owns an object.

Rust's rules (dissertation, 4.3.3), checked while the program runs: an object has one owner; at any time
it has either one mutable reference or any number of others; a reference never outlives its owner.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from isthmus.errors import BorrowedError, MovedError, OwnershipError

if TYPE_CHECKING:
    from collections.abc import Callable

    from isthmus.store.renewal import Holding

__all__ = ["ANEW", "Borrow", "Loan", "Owner", "site"]

ANEW = "borrow() it anew from its owner"
_ONE_OWNER = "an object has one owner"
_ONE_MUTABLE = "an object has one mutable reference or any number of others, not both"
_VALID = "a reference never outlives its owner"
_PACKAGE = "isthmus.store"


def site() -> str:
    """Return file and line of the nearest caller outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Loan:
    """One task that has a reference."""

    __slots__ = ("done", "where")

    def __init__(self, where: str) -> None:
        self.where = where
        # Asked beside the callback of the task's future: that one runs after waiters of the result.
        self.done: Callable[[], bool] = lambda: False


class Borrow:
    """One reference: from ``borrow()`` to the end of the last task it was given to.

    A reference that was given to no task ends with its handle. A mutable one is for one task. One for
    reading may be given to another task after its tasks have ended, if the rules then allow it, as if it
    were borrowed again: whether two tasks overlap shall not decide whether a program is right.

    Args:
        owner: whose object it is; in a task that got it, a stand-in.
        mutable: whether it is the only one.
        where: it was made.
        received: it came with a task, and ends with that.
    """

    __slots__ = ("handle", "loans", "mutable", "owner", "received", "where")

    def __init__(self, owner: Owner, mutable: bool, where: str, *, received: bool = False) -> None:
        self.owner = owner
        self.mutable = mutable
        self.where = where
        self.received = received
        self.handle = True  # its handle lives and is still to be given to a task
        self.loans: list[Loan] = []

    def active(self) -> bool:
        """Return whether it has not ended."""
        if self.handle:
            return True
        self.loans = [loan for loan in self.loans if not loan.done()]
        return bool(self.loans)

    def check_read(self) -> None:
        """Refuse to fetch the object for a reference that has ended."""
        with self.owner.lock:
            if not self.active():
                raise MovedError(
                    "a reference ends with its task",
                    f"this reference to {self.owner.which}",
                    f"(borrowed at {self.where}) has ended",
                    ANEW,
                )

    def check_lend(self) -> None:
        """Refuse to give the reference to a task if the rules forbid it."""
        owner = self.owner
        with owner.lock:
            if self.mutable and self.received:
                raise OwnershipError(
                    "a mutable reference is not passed on",
                    owner.which,
                    f"is mutably borrowed {self.where}",
                    "change it here, or clone() what the other task needs",
                )
            if self.mutable and not self.handle:
                raise BorrowedError(
                    "a mutable reference is for one task",
                    owner.which,
                    f"mutably borrowed at {self.where} was given to one before",
                    "wait for that task, and mut_borrow() it anew",
                )
            if not self.active():
                owner.check_borrow(False)

    def lend(self, where: str) -> Loan:
        """Give the reference to a task; returns what tells when the task has ended."""
        with self.owner.lock:
            self.check_lend()
            if self not in self.owner.borrows:
                self.owner.borrows.append(self)
            self.handle = self.received
            loan = Loan(where)
            self.loans.append(loan)
            return loan

    def end(self, loan: Loan | None = None) -> None:
        """Note that a task has ended; without one, that the handle is gone which no task was given.

        Evicts an object that lost its owner before.
        """
        owner = self.owner
        with owner.lock:
            if loan is None:
                self.handle = False
            elif loan in self.loans:
                self.loans.remove(loan)
            if not self.active() and self in owner.borrows:
                owner.borrows.remove(self)
                if self.mutable and owner.holding is not None:
                    owner.holding.mine = False  # what was stored anew has a lease of its own
            orphan = owner.orphaned and owner.drop_orphan()
        if orphan and owner.holding is not None:
            owner.holding.evict()


class Owner:
    """What one process knows of an object that it owns.

    Args:
        which: the object in words, for errors.
        holding: what evicts the object; None if that is another's to do.
    """

    __slots__ = (
        "__weakref__",
        "borrows",
        "gone",
        "handles",
        "holding",
        "lock",
        "orphaned",
        "process",
        "which",
    )

    def __init__(self, which: str, holding: Holding | None = None) -> None:
        self.which = which
        self.holding = holding
        # Reentrant: the garbage collector may end a handle while we hold it.
        self.lock = threading.RLock()
        self.process = os.getpid()
        self.handles = 1
        self.borrows: list[Borrow] = []
        self.gone = ""  # how this process ceased to own it, and where
        self.orphaned = False  # its handle went while it was borrowed

    def borrowed(self, mutable: bool = False) -> Borrow | None:
        """Return a reference that has not ended, of any kind or a mutable one."""
        for borrow in self.borrows:
            if (borrow.mutable or not mutable) and borrow.active():
                return borrow
        return None

    def check_owned(self) -> None:
        """Refuse whatever needs an owner if this one has ceased to be it."""
        if self.gone:
            raise MovedError(
                _ONE_OWNER,
                f"this proxy of {self.which}",
                self.gone,
                "clone() it before, or borrow() it for the task",
            )
        if self.process != os.getpid():
            raise OwnershipError(
                _ONE_OWNER,
                self.which,
                f"belongs to process {self.process}, of which this one is a fork",
                "read it here, and let its owner do the rest, or clone() it before the fork",
            )

    def check_read(self) -> None:
        """Refuse to fetch the object for its owner."""
        with self.lock:
            if self.gone:
                self.check_owned()
            if self.process == os.getpid():
                self._refuse(self.borrowed(mutable=True), "cannot be read by its owner")

    def check_borrow(self, mutable: bool) -> None:
        """Refuse a reference that the rules forbid."""
        with self.lock:
            self.check_owned()
            if self.orphaned:
                raise MovedError(
                    _VALID, self.which, "lost its owner, which went out of scope", ANEW
                )
            what = "cannot be borrowed" + (" mutably" if mutable else "")
            self._refuse(self.borrowed(mutable=not mutable), what)

    def borrow(self, mutable: bool, where: str) -> Borrow:
        """Make a reference."""
        with self.lock:
            self.check_borrow(mutable)
            borrow = Borrow(self, mutable, where)
            self.borrows.append(borrow)
            return borrow

    def check_alone(self, what: str, *, mutable: bool = False) -> None:
        """Refuse what needs that nobody has a reference (or, with `mutable`, a mutable one)."""
        with self.lock:
            self.check_owned()
            rule = _ONE_MUTABLE if what == "update" else _VALID
            self._refuse(self.borrowed(mutable), f"cannot {what} it", rule)

    def leave(self, what: str, how: str) -> None:
        """Cease to own the object.

        Args:
            what: "move" or "drop", for the error.
            how: what happened, and where.
        """
        with self.lock:
            self.check_alone(what)
            self.gone = how

    def lose_handle(self) -> bool:
        """Note that a handle of the object went out of scope.

        Returns:
            Whether the object is to be evicted.

        Raises:
            BorrowedError: a task has a reference; it is evicted when the last has ended.
        """
        with self.lock:
            self.handles -= 1
            if self.handles or self.gone or self.process != os.getpid():
                return False
            borrow = self.borrowed()
            if borrow is not None:
                self.orphaned = True
                # Without a task it is no mistake: a function's variables end in the order of their making.
                lent = next((one for one in self.borrows if one.loans), None)
                self._refuse(lent, "went out of scope", _VALID, "it is kept until then")
                return False
            self.gone = "went out of scope"
            return True

    def drop_orphan(self) -> bool:
        """Return, once, whether the last reference to an object without a handle has ended."""
        if self.gone or self.borrowed() is not None:
            return False
        self.gone = "went out of scope while it was borrowed"
        return True

    def _refuse(
        self, borrow: Borrow | None, what: str, rule: str = _ONE_MUTABLE, hint: str = ""
    ) -> None:
        if borrow is None:
            return
        kind = "mutably borrowed" if borrow.mutable else "borrowed"
        given = f", given to a task at {borrow.loans[0].where}" if borrow.loans else ""
        raise BorrowedError(
            rule,
            self.which,
            f"{what}: it is {kind} at {borrow.where}{given}",
            hint or "wait for the task that has the reference, or drop() a reference that none has",
        )
