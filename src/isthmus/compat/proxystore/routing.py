"""Several connectors behind one, with ProxyStore's policies said in ours.

ProxyStore asks for tags in two ways: those of ``subset_tags`` must all be among the policy's, those of
``superset_tags`` must include all of the policy's. Ours has one set of tags for an object. So the
second kind gets a prefix, every connector has all that any policy of that kind knows, and each policy
requires its own.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from isthmus.compat.proxystore.connectors import Clearing
from isthmus.connectors import multi
from isthmus.connectors.policy import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isthmus.connectors import Connector

__all__ = ["MultiConnector", "Policy", "native_tags"]

_SUPERSET = "superset:"
_TAGS = {"subset_tags", "superset_tags"}


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which objects a connector takes.

    Args:
        priority: the highest wins among connectors that take an object.
        host_pattern: regular expression, or several, of the hosts that may put.
        min_size_bytes: size of the smallest object.
        max_size_bytes: size of the largest.
        subset_tags: what an object's `subset_tags` have to be among.
        superset_tags: what an object's `superset_tags` have to include.
    """

    priority: int = 0
    host_pattern: str | Iterable[str] | None = None
    min_size_bytes: int = 0
    max_size_bytes: int = sys.maxsize
    subset_tags: Iterable[str] = ()
    superset_tags: Iterable[str] = ()

    def native(self, known: Iterable[str]) -> multi.Policy:
        """Return the same as a policy of ours.

        Args:
            known: the superset tags of all policies beside it.
        """
        patterns = self.host_pattern or ()
        return multi.Policy(
            min_bytes=self.min_size_bytes,
            max_bytes=None if self.max_size_bytes == sys.maxsize else self.max_size_bytes,
            hosts=tuple(
                f"^(?:{p})$" for p in ([patterns] if isinstance(patterns, str) else patterns)
            ),
            tags=(*self.subset_tags, *(_SUPERSET + tag for tag in sorted(known))),
            requires=tuple(_SUPERSET + tag for tag in self.superset_tags),
            priority=self.priority,
        )


class MultiConnector(Clearing[multi.MultiKey], multi.MultiConnector):
    """Puts each object where a policy takes it.

    Args:
        connectors: by name, a connector and its policy: one of ProxyStore's form, or one of ours.
        clear: delete what the connectors hold when this is closed.
        **options: further ones of :class:`isthmus.connectors.multi.MultiConnector`.
    """

    def __init__(
        self,
        connectors: Mapping[str, tuple[Connector[Any], Policy | multi.Policy] | multi.Member],
        clear: bool = False,
        **options: Any,
    ) -> None:
        given = {
            name: one[1] for name, one in connectors.items() if not isinstance(one, multi.Member)
        }
        known = {t for p in given.values() if isinstance(p, Policy) for t in p.superset_tags}
        members: dict[str, multi.Member | tuple[Connector[Any], multi.Policy]] = {}
        for name, one in connectors.items():
            if isinstance(one, multi.Member):
                members[name] = one
            else:
                policy = one[1]
                members[name] = (
                    one[0],
                    policy.native(known) if isinstance(policy, Policy) else policy,
                )
        super().__init__(members, **options)
        self._told(clear)

    def put(self, obj: Any, **options: Any) -> multi.MultiKey:
        """Store an object where it fits; see :func:`native_tags` for its tags."""
        return super().put(obj, **native_tags(self, options))

    def put_batch(self, objs: Any, **options: Any) -> list[multi.MultiKey]:
        """Store several objects, each where it fits."""
        return super().put_batch(objs, **native_tags(self, options))


def native_tags(connector: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return options of a `put` with `subset_tags` and `superset_tags` said as `tags`."""
    if not isinstance(connector, multi.MultiConnector) or not options.keys() & _TAGS:
        return options
    options = dict(options)
    subset, superset = options.pop("subset_tags", ()), options.pop("superset_tags", ())
    spec: Any = connector.spec
    known = {tag for m in spec.connectors.values() for tag in m.policy.requires}
    asked = {_SUPERSET + tag for tag in names(superset)} & known
    return {**options, "tags": (*names(options.get("tags", ())), *names(subset), *sorted(asked))}
