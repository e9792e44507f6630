from __future__ import annotations

import json
import pickle
import re
import socket
import tomllib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.connectors import RangeConnector
from isthmus.connectors.file import FileConnector
from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.memory import MemoryConnector, MemoryKey, MemorySpec
from isthmus.connectors.multi import Member, MultiConnector, MultiKey, Policy, Request
from isthmus.connectors.policy import class_names
from isthmus.errors import (
    BrokenError,
    CapabilityError,
    CodecError,
    FullError,
    KeyTypeError,
    NoRouteError,
    SpecError,
)
from isthmus.proxy import extract
from isthmus.store import Store

HERE = socket.gethostname()

Make = Callable[..., MultiConnector]


def memory() -> MemoryConnector:
    return MemoryConnector(uuid.uuid4().hex)


@pytest.fixture
def make() -> Iterator[Make]:
    """Make a connector of memories by their policies."""
    opened: list[MultiConnector] = []

    def multi(fallback: str | None = None, **policies: Policy) -> MultiConnector:
        members = {name: (memory(), policy) for name, policy in policies.items()}
        opened.append(MultiConnector(members, fallback))
        return opened[-1]

    yield multi
    for connector in opened:
        connector.close()


def test_sizes_route(make: Make) -> None:
    multi = make(small=Policy(max_bytes=10), middle=Policy(min_bytes=11, max_bytes=20))
    assert [multi.put(bytes(n)).connector for n in (0, 10, 11, 20)] == [
        "small",
        "small",
        "middle",
        "middle",
    ]
    assert multi.put([b"12345", b"678901"]).connector == "middle"
    with pytest.raises(NoRouteError, match=r"21 bytes.*small: .*at most 10.*middle: .*at most 20"):
        multi.put(bytes(21))


def test_the_highest_priority_wins_then_the_first(make: Make) -> None:
    multi = make(a=Policy(), b=Policy(priority=2, max_bytes=5), c=Policy(priority=2), d=Policy())
    assert multi.put(b"12345").connector == "b"
    assert multi.put(b"123456").connector == "c"
    assert make(a=Policy(), b=Policy()).put(b"").connector == "a"


class Base:
    pass


class Derived(Base):
    pass


def test_classes_are_known_by_name_along_their_resolution_order() -> None:
    names = class_names(Derived)
    for cls in ("Derived", "Base"):
        assert {cls, f"{__name__}.{cls}", f"{__name__.partition('.')[0]}.{cls}"} <= set(names)
    assert not any("object" in name for name in names)
    assert "object" in class_names(object)
    assert class_names("torch.Tensor") == ("torch.Tensor",)


def test_a_store_says_what_it_stores(make: Make) -> None:
    multi = make(
        arrays=Policy(types=("numpy.ndarray",), priority=1),
        mine=Policy(types="*.Base", priority=1),
        rest=Policy(),
    )
    with Store("typed", multi) as store:
        assert store.put(np.arange(3)).connector == "arrays"  # type: ignore[attr-defined]
        assert store.put(Derived()).connector == "mine"  # type: ignore[attr-defined]
        assert store.put([1]).connector == "rest"  # type: ignore[attr-defined]
        assert store.put([1], of="numpy.ndarray").connector == "arrays"  # type: ignore[attr-defined]
        keys: list[Any] = store.put_batch([np.arange(3), "text", Base()])
        assert [key.connector for key in keys] == ["arrays", "rest", "mine"]
        assert store.get_batch(keys[:2])[1] == "text"


def test_a_pattern_may_be_a_regular_expression(make: Make) -> None:
    with make(
        elsewhere=Policy(hosts=(r"^no-such-host-\d+$",), priority=9),
        here=Policy(hosts=(f"^{re.escape(HERE)}$",), priority=1),
        anywhere=Policy(),
    ) as connector:
        assert connector.put(b"x").connector == "here"


def test_hosts_route(make: Make) -> None:
    multi = make(
        elsewhere=Policy(hosts=("no-such-host-*",), priority=9),
        here=Policy(hosts=("no-such-host-*", f"{HERE[:2]}*"), priority=1),
        near=Policy(consumers=("gpu-*", HERE), priority=5),
    )
    assert multi.put(b"").connector == "here"
    assert multi.put(b"", consumer="gpu-7").connector == "near"
    assert multi.put(b"", consumer=["gpu-7", HERE]).connector == "near"
    assert multi.put(b"", consumer=["gpu-7", "login-1"]).connector == "here"


def test_tags_that_are_asked_for_must_be_there(make: Make) -> None:
    multi = make(
        anywhere=Policy(tags={"site-b", "site-a"}, priority=-1),
        cluster=Policy(tags=["site-a"]),
        secret=Policy(tags="secret", requires="secret", priority=9),
    )
    assert multi.put(b"").connector == "cluster"
    assert multi.put(b"", tags="site-a").connector == "cluster"
    assert multi.put(b"", tags=["site-a", "site-b"]).connector == "anywhere"
    assert multi.put(b"", tags={"secret"}).connector == "secret"
    with pytest.raises(NoRouteError, match=r"tagged secret, site-a.*secret: lacks tags site-a"):
        multi.put(b"", tags=("secret", "site-a"))
    with Store("tags", multi) as store:
        assert extract(store.proxy("x", tags="site-b")) == "x"
        assert store.proxy_batch(["x"], tags="site-b")[0] == "x"
        with pytest.raises(NoRouteError):
            store.proxy("x", tags="site-c")


def odd_sizes(request: Request) -> bool | str:
    return bool(request.size and request.size % 2) or "the size is even"


def never(request: Request) -> bool:
    return False


def by_size(request: Request) -> float:
    return float(request.size or 0)


def test_a_policy_of_your_own(make: Make) -> None:
    multi = make(
        odd=Policy(accepts=f"{__name__}:odd_sizes", priority=50),
        never=Policy(accepts=f"{__name__}:never", priority=99),
        large=Policy(priority=f"{__name__}:by_size"),
        plain=Policy(priority=10),
    )
    assert [multi.put(bytes(n)).connector for n in (3, 4, 60, 61)] == [
        "odd",
        "plain",
        "large",
        "large",
    ]
    only = make(odd=Policy(accepts=f"{__name__}:odd_sizes"), no=Policy(accepts=f"{__name__}:never"))
    with pytest.raises(NoRouteError, match=r"odd: the size is even; no: .*never refuses"):
        only.put(b"12")
    with pytest.raises(CodecError, match="no_such_function"):
        make(a=Policy(accepts=f"{__name__}:no_such_function")).put(b"")


class Unwell(ConnectorHandle[MemoryKey]):
    """Always full, or always broken: no disk here could be made so."""

    kind, spec_type, key_type = "unwell", MemorySpec, MemoryKey

    def __init__(self, name: str = "full") -> None:
        super().__init__(MemorySpec(name))

    def put(self, obj: Any) -> MemoryKey:
        if self.config() == {"name": "full"}:
            raise FullError("it", len(obj), "empty it")
        raise BrokenError("it", "broke")

    def get(self, key: MemoryKey) -> bytes | None:
        self._check(key)
        return None

    def exists(self, key: MemoryKey) -> bool:
        return False

    def evict(self, key: MemoryKey) -> None:
        self._check(key)


@pytest.mark.parametrize("how", ["full", "broken"])
def test_the_fallback_takes_what_the_chosen_one_cannot(how: str) -> None:
    members = {
        "first": (memory(), Policy(max_bytes=5, priority=99, tags=["a"])),
        "unwell": (Unwell(how), Policy(tags=["a", "b"])),
    }
    with MultiConnector(members, fallback="first") as multi:
        assert multi.put(b"12345").connector == "first"
        assert [k.connector for k in multi.put_batch([b"1", b"2"], tags="a")] == ["first"] * 2
        with pytest.raises((FullError, BrokenError)):
            multi.put(b"123456")  # its own policy holds for a fallback too
        with pytest.raises((FullError, BrokenError)):
            multi.put(b"1", tags="b")


def test_the_fallback_comes_last(make: Make) -> None:
    multi = make(fallback="last", last=Policy(priority=99), small=Policy(max_bytes=3))
    assert multi.put(b"123").connector == "small"
    assert multi.put(b"1234").connector == "last"


def test_a_batch_that_fits_nowhere_stores_nothing(make: Make) -> None:
    multi = make(a=Policy(max_bytes=3), b=Policy(min_bytes=4, max_bytes=5))
    with pytest.raises(NoRouteError):
        multi.put_batch([b"1", b"1234", b"123456"])
    assert list(multi.list()) == []
    keys = multi.put_batch([b"1234", b"1", b"12345"])
    assert [k.connector for k in keys] == ["b", "a", "b"]
    assert multi.get_batch([keys[1], keys[0]]) == [b"1", b"1234"]


def test_reserve_routes_by_constraints_and_size(make: Make) -> None:
    multi = make(a=Policy(max_bytes=3), b=Policy(min_bytes=4, tags=["t"]))
    assert multi.reserve().connector == "a"
    assert multi.reserve(size=9).connector == "b"
    assert multi.reserve(tags="t").connector == "b"
    key = multi.reserve(size=1)
    assert multi.put_at(key, b"longer than it said") is True
    assert multi.get(key) == b"longer than it said"


def test_what_a_member_cannot_do_is_said() -> None:
    members = {"unwell": (Unwell(), Policy(priority=1)), "memory": (memory(), Policy(max_bytes=9))}
    with MultiConnector(members) as multi:
        assert multi.reserve().connector == "memory"
        with pytest.raises(NoRouteError, match="unwell connector cannot reserve"):
            multi.reserve(size=10)
        key = MultiKey("unwell", '["a",1]')
        assert isinstance(multi, RangeConnector)
        for operation in (
            lambda: multi.get_range(key, 0, 1),
            lambda: multi.wait(key, 0),
            lambda: multi.stat(key),
            lambda: multi.put_at(key, b""),
            lambda: list(multi.list()),
            lambda: multi.lease(key, 5.0),
            lambda: multi.renew([key]),
            lambda: multi.put_at(key, b"", lease=5.0),
            multi.clear,
            multi.sweep,
        ):
            with pytest.raises(CapabilityError, match=r"Unwell.* is no .*Connector"):
                operation()


def test_what_has_a_lease_goes_where_leases_are_given() -> None:
    members = {"unwell": (Unwell(), Policy(priority=1)), "memory": (memory(), Policy(max_bytes=9))}
    with MultiConnector(members) as multi:
        keys = [multi.put(b"1", lease=600.0), *multi.put_batch([b"2", b"3"], lease=600.0)]
        assert [key.connector for key in keys] == ["memory"] * 3
        assert multi.renew(keys) == [True] * 3
        with pytest.raises(NoRouteError, match="unwell connector cannot give leases"):
            multi.put(b"longer than nine", lease=600.0)
        with pytest.raises(NoRouteError, match="unwell connector cannot give leases"):
            multi.put_batch([b"1", b"longer than nine"], lease=600.0)


@pytest.mark.parametrize("key", [("none", "[]"), ("a", "["), ("a", '["x"]'), ("a", '[1,"x"]')])
def test_a_key_of_nobody_is_refused(make: Make, key: tuple[str, str]) -> None:
    multi = make(a=Policy())
    with pytest.raises(KeyTypeError):
        multi.get(MultiKey(*key))


def test_its_configuration_is_short_and_fits_toml(tmp_path: Path) -> None:
    toml = f"""
        fallback = "disk"
        [connectors.memory]
        kind = "memory"
        policy = {{ max_bytes = 1000, types = ["ndarray"], priority = 2 }}
        [connectors.disk]
        kind = "file"
        options = {{ store_dir = "{tmp_path}" }}
    """
    config = tomllib.loads(toml)
    with MultiConnector.from_config(config) as multi:
        assert multi.config() == config
        assert multi.spec.connectors["memory"].policy == Policy(  # type: ignore[attr-defined]
            max_bytes=1000, types=["ndarray"], priority=2
        )
        assert multi.put(b"x", of="ndarray").connector == "memory"
        assert multi.put(b"x").connector == "disk"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"connectors": {}}, "no connectors"),
        ({"connectors": {"a": {"kind": "memory"}}, "fallback": "b"}, "'b', among a"),
        ({"connectors": {"a": {"kind": "memory", "policy": {"min_bytes": -1}}}}, "min_bytes"),
        ({"connectors": {"a": {"kind": "memory", "policy": {"max_size": 1}}}}, "max_size"),
        ({"connectors": {"a": {"kind": "memory", "options": {"size": 1}}}}, "size"),
    ],
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        MultiConnector.from_config(config)


def test_a_consumer_opens_only_what_it_reads_from(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    members = {
        "good": Member("file", {"store_dir": str(tmp_path / "good")}),
        "blocked": Member("file", {"store_dir": str(blocked)}, Policy(priority=-1)),
    }
    with MultiConnector(members) as multi, Store("lazily", multi) as store:
        proxy = pickle.loads(pickle.dumps(store.proxy({"a": 1})))
        blocked.write_text("no folder can be made here")
        assert proxy == {"a": 1}
        with pytest.raises(BrokenError):
            multi.exists(MultiKey("blocked", json.dumps(["0a0a0a0a-1-0a0a0a0a0a0a"])))


def test_one_within_another(tmp_path: Path) -> None:
    inner = MultiConnector({"a": (FileConnector(tmp_path), Policy(max_bytes=5))})
    with MultiConnector({"in": (inner, Policy()), "out": (memory(), Policy(min_bytes=6))}) as multi:
        key = multi.put(b"1", of="x")
        assert multi.get(key) == b"1"
        assert [info.key for info in multi.list()] == [key]
        with MultiConnector.from_config(multi.config()) as again:
            assert again.get(key) == b"1"


def test_a_relative_path_does_not_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    member = {"kind": "file", "options": {"store_dir": "objects"}}
    with MultiConnector.from_config({"connectors": {"a": member}}) as multi:
        key = multi.put(b"x")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        with MultiConnector.from_config(multi.config()) as again:
            assert again.get(key) == b"x"
