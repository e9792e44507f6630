from __future__ import annotations

import pickle
import tomllib
from pathlib import Path

import pytest

from isthmus import broker, connectors, errors, stream
from isthmus.spec import Registry, Spec, require

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


class Pump(Spec):
    litres: int
    label: str = "main"


def test_a_spec_travels_as_its_non_default_fields() -> None:
    assert Pump(3).config() == {"litres": 3}
    assert Pump.from_config({"litres": 3, "label": "x"}) == Pump(3, "x")
    equal_but_not_identical = "".join(["ma", "in"])
    assert Pump(3, equal_but_not_identical).config() == {"litres": 3}


class Station(Spec):
    pumps: dict[str, Pump] = {}  # noqa: RUF012 - msgspec makes each its own
    spare: Pump = Pump(1)
    names: tuple[str, ...] = ()


def test_a_spec_within_a_spec_leaves_its_defaults_out_too() -> None:
    station = Station({"a": Pump(2)}, Pump(3, "x"), ("n",))
    config = {"pumps": {"a": {"litres": 2}}, "spare": {"litres": 3, "label": "x"}, "names": ["n"]}
    assert station.config() == config
    assert Station.from_config(config) == station
    assert Station(spare=Pump(1, "main")).config() == {}


@pytest.mark.parametrize(
    ("config", "says"),
    [({"litres": "3"}, "int"), ({}, "litres"), ({"litres": 1, "size": 2}, "size")],
)
def test_a_wrong_spec_names_the_field(config: dict[str, object], says: str) -> None:
    with pytest.raises(errors.SpecError, match=says):
        Pump.from_config(config)


def test_a_spec_is_frozen_and_hashable() -> None:
    pump = Pump(1)
    assert hash(pump) == hash(Pump(1))
    with pytest.raises(AttributeError):
        pump.litres = 2  # type: ignore[misc]


def test_an_unknown_kind_gets_the_nearest_name() -> None:
    registry: Registry[object] = Registry("pump", "isthmus.no_such_group", {"rotary": "x:y"})
    with pytest.raises(errors.UnknownKindError, match="did you mean 'rotary'"):
        registry.get("rotari")


def test_a_kind_is_registered_once() -> None:
    registry: Registry[object] = Registry("pump", "isthmus.no_such_group", {"rotary": "x:y"})
    one = object()
    assert registry.register("mine", one) is one
    assert registry.register("mine", one) is one
    assert registry.get("mine") is one
    for kind in ("mine", "rotary"):
        with pytest.raises(errors.NameTakenError):
            registry.register(kind, object())
    with pytest.raises(ModuleNotFoundError, match="'x'"):  # still the built-in one
        registry.get("rotary")


def test_builtins_are_the_entry_points_of_this_distribution() -> None:
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]
    assert declared["isthmus.connectors"] == connectors.connectors.builtin
    assert declared["isthmus.brokers"] == broker.brokers.builtin
    assert declared["isthmus.streams"] == stream.channels.builtin


def test_a_missing_extra_names_itself() -> None:
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'isthmus\[torch\]'"):
        require("no_such_package_anywhere", extra="torch", what="storing tensors")


SAMPLES = [
    errors.ClosedError("store 'a'"),
    errors.LifetimeEndedError("a lifetime"),
    errors.LifetimeError("a lifetime could not end", [errors.BrokenError("redis", "gone")]),
    errors.BrokenError("redis", "gone"),
    errors.FullError("/dev/shm", 10, "free some"),
    errors.CodecError("bad magic"),
    errors.KeyTypeError("FileConnector", "FileKey", 3),
    errors.MissingObjectError("a", "k", "host", "12:00"),
    errors.MissingLogError("MemoryBroker()", "log 'a'"),
    errors.ElsewhereError("shared memory", "host a", "host b", "use files"),
    errors.PayloadError("str", "it is not a buffer of bytes"),
    errors.CapabilityError("FileConnector('x')", "WaitingConnector"),
    errors.NoRouteError("5 bytes", {"fast": "takes at most 3 bytes"}),
    errors.MissingSecretError("an object", "key 00ff", ("env:KEY is not set",)),
    errors.TamperedError("an object", "chunk 3 of 4"),
    errors.WaitTimeoutError("a key", 1.5),
    errors.AlreadySetError("future 7", "the result 3"),
    errors.OwnershipError("one owner", "object 1", "pickled at a.py:3", "submit it"),
    errors.MovedError("use after move", "object 1", "moved at a.py:3", "clone it first"),
    errors.BorrowedError("one writer", "object 1", "", "drop the reference first"),
    errors.SpecError("Pump", "no"),
    errors.StreamInterrupted(4),
    errors.LocalProtocolError("a frame", "too many payloads"),
    errors.RemoteProtocolError("a peer", "no message"),
    errors.VersionError("a peer", (1, 1), (2, 3)),
    errors.AuthenticationError("a peer", "a wrong token"),
    errors.AddressError("tcp://", "no host"),
    errors.UnknownKindError("pump", "x", ["y"]),
    errors.NameTakenError("store", "a"),
    errors.MissingExtraError("x", "torch", "torch"),
    errors.AliasError("proxystore.store.future", "there are none yet"),
    errors.NotProxiableError(None),
    errors.DependencyError("task a-1", "ValueError: no"),
    errors.RemoteError("SystemExit", "3"),
    errors.VerificationError("cholesky", "0.1", "at most 1e-12"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_errors_pickle_and_speak(error: errors.IsthmusError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert len(str(error)) > 5
    assert isinstance(error, errors.IsthmusError)


def test_every_public_error_has_a_sample() -> None:
    assert {type(e).__name__ for e in SAMPLES} == set(errors.__all__) - {"IsthmusError"}
