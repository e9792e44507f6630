from __future__ import annotations

import os
import pickle
import random
import sys
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.connectors.encrypted import EncryptedConnector, EncryptedKey
from isthmus.connectors.file import FileConnector, FileKey
from isthmus.connectors.keyring import Keyring
from isthmus.connectors.memory import MemoryConnector
from isthmus.connectors.multi import MultiConnector, Policy
from isthmus.connectors.sealing import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES
from isthmus.errors import (
    KeyTypeError,
    MissingExtraError,
    MissingSecretError,
    SpecError,
    TamperedError,
)
from isthmus.proxy import extract
from isthmus.store import Store

NAME = "ISTHMUS_TEST_KEY"
OLD, NEW = "0a" * 32, "0b" * 32
SEALED = CHUNK_BYTES + TAG_BYTES
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 9)


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, OLD)


@pytest.fixture
def files(tmp_path: Path, secret: None) -> Iterator[EncryptedConnector]:
    with EncryptedConnector(FileConnector(tmp_path / "channel"), [f"env:{NAME}"]) as connector:
        yield connector


def stored(connector: EncryptedConnector, key: EncryptedKey) -> Path:
    """Return the file that an object lies in."""
    folder = connector.config()["inner"]["options"]["store_dir"]
    return next(Path(folder).glob(f"{FileKey(key.key[2:-2]).name}.*"))


def data_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_nothing_in_the_clear_reaches_the_channel(
    files: EncryptedConnector, tmp_path: Path
) -> None:
    marker = b"a name of a patient"
    sizes = (len(marker), 5_000, CHUNK_BYTES * 2 + 77)
    for size in sizes:
        files.put((marker * (size // len(marker) + 1))[:size])
    files.put_batch([marker, [marker, marker]])
    files.put_at(files.reserve(), marker)
    with Store("clinic", files) as store:
        store.put({"who": marker.decode()})
        store.proxy([marker] * 1_000)
        found = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
        assert len(found) == len(sizes) + 5
        for data in found:
            assert marker not in data
            assert b"patient" not in data
            assert bytes.fromhex(OLD) not in data


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_chunks(files: EncryptedConnector, size: int) -> None:
    data = data_of(size)
    cut = size // 3
    key = files.put([data[:cut], memoryview(data)[cut:]])
    assert files.get(key) == data
    chunks = max(1, -(-size // CHUNK_BYTES))
    assert stored(files, key).stat().st_size == HEADER_BYTES + size + chunks * TAG_BYTES
    info = files.stat(key)
    assert info is not None
    assert info.size == size
    for offset in (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES):
        for length in (0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 4 * CHUNK_BYTES):
            assert files.get_range(key, offset, length) == data[offset : offset + length]


def test_the_same_object_never_looks_the_same(files: EncryptedConnector) -> None:
    # Not even under one reserved key, where two may race with what differs.
    key = files.reserve()
    looks = []
    for _ in range(2):
        files.put_at(key, b"x" * 100)
        looks.append(stored(files, key).read_bytes())
        files.evict(key)
    one, two = looks
    assert one[HEADER_BYTES:] != two[HEADER_BYTES:]
    starts = range(HEADER_BYTES, HEADER_BYTES + 84)
    assert not {one[i : i + 16] for i in starts} & {two[i : i + 16] for i in starts}


@pytest.mark.parametrize("size", [0, 1, 1_000])
def test_any_changed_byte_is_found(files: EncryptedConnector, size: int) -> None:
    key = files.put(data_of(size))
    path = stored(files, key)
    good = path.read_bytes()
    step = max(1, len(good) // 150)
    for at in {*range(HEADER_BYTES + 1), *range(0, len(good), step), len(good) - 1}:
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        # A changed key id names a key that nobody has.
        with pytest.raises((TamperedError, MissingSecretError)):
            files.get(key)
        with pytest.raises((TamperedError, MissingSecretError)):
            files.get_range(key, 0, size + 1)
    path.write_bytes(good)
    assert files.get(key) == data_of(size)


@pytest.mark.parametrize("size", [0, 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 9])
def test_any_other_length_is_found(files: EncryptedConnector, size: int) -> None:
    key = files.put(data_of(size))
    path = stored(files, key)
    good = path.read_bytes()
    marks = [HEADER_BYTES + n * SEALED for n in range(4)] + [0, len(good)]
    lengths = {mark + d for mark in marks for d in (-17, -16, -1, 0, 1, 16, 17)}
    for length in sorted(n for n in lengths if 0 <= n != len(good)):
        path.write_bytes(good[:length] + bytes(max(0, length - len(good))))
        with pytest.raises(TamperedError):
            files.get(key)
        with pytest.raises(TamperedError):
            files.get_range(key, 0, size + 1)
        with pytest.raises(TamperedError):  # an answer must not claim an end that is not one
            files.get_range(key, length, size + 1)


def chunks_of(path: Path) -> tuple[bytes, list[bytes]]:
    whole = path.read_bytes()
    body = whole[HEADER_BYTES:]
    return whole[:HEADER_BYTES], [body[i : i + SEALED] for i in range(0, len(body), SEALED)]


def test_chunks_stand_only_in_their_own_place(files: EncryptedConnector) -> None:
    size = 4 * CHUNK_BYTES  # all sealed chunks are of one size
    key, other = files.put(data_of(size)), files.put(data_of(size))
    path = stored(files, key)
    header, (a, b, c, d) = chunks_of(path)
    strangers_header, strangers = chunks_of(stored(files, other))
    good = path.read_bytes()
    for wrong in (
        [b, a, c, d],
        [a, b, d, c],
        [a, a, c, d],
        [a, c, d],
        [a, b, c],
        [a, b, c, d, d],
        [b, c, d],
        [a, strangers[1], c, d],
        strangers,
    ):
        path.write_bytes(header + b"".join(wrong))
        with pytest.raises(TamperedError, match=r"chunk|length"):
            files.get(key)
    path.write_bytes(strangers_header + b"".join(strangers))
    with pytest.raises(TamperedError, match="another object lies in its place"):
        files.get(key)
    posing = strangers_header[:12] + header[12:24] + strangers_header[24:]
    path.write_bytes(posing + b"".join(strangers))
    with pytest.raises(TamperedError, match="chunk 1 of 4"):
        files.get(key)
    path.write_bytes(b"")
    with pytest.raises(TamperedError, match="does not begin"):
        files.get(key)
    path.write_bytes(good)
    assert files.get(key) == data_of(size)


def test_who_has_no_key_is_told_which(
    files: EncryptedConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = files.put(b"data")
    key_id = Keyring([f"env:{NAME}"]).newest().id.hex()
    monkeypatch.delenv(NAME)
    with EncryptedConnector.from_config(files.config()) as consumer:
        with pytest.raises(
            MissingSecretError, match=rf"{key.object}.*{key_id}.*{NAME} is not there"
        ):
            consumer.get(key)
        with pytest.raises(MissingSecretError, match=f"encrypting.*env:{NAME}"):
            consumer.put(b"x")
        assert consumer.exists(key)  # passing on and cleaning up need no key
        monkeypatch.setenv(NAME, NEW)
        with pytest.raises(MissingSecretError, match=f"{key_id}.*env:{NAME} has [0-9a-f]{{16}}"):
            consumer.get(key)
        monkeypatch.setenv(NAME, OLD)
        assert consumer.get(key) == b"data"
        consumer.evict(key)
        assert not consumer.exists(key)


def test_a_proxy_resolves_only_where_the_key_is(
    files: EncryptedConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store("vault", files) as store:
        wire = pickle.dumps(store.proxy({"dose": 3}))
    assert bytes.fromhex(OLD) not in wire
    assert OLD.encode() not in wire
    monkeypatch.delenv(NAME)
    proxy: Any = pickle.loads(wire)
    with pytest.raises(MissingSecretError, match=NAME):
        extract(proxy)
    monkeypatch.setenv(NAME, OLD)
    assert proxy["dose"] == 3
    from isthmus.store import get_store

    opened = get_store(proxy)
    assert opened is not None
    opened.close()


def test_rotation_by_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.key"
    path.write_text(NEW + "\n")
    with EncryptedConnector(FileConnector(tmp_path / "c"), [f"env:{NAME}"]) as before:
        old = before.put(b"old")
        keys = [f"file:{path}", f"env:{NAME}"]
        with EncryptedConnector(FileConnector(tmp_path / "c"), keys) as after:
            new = after.put(b"new")
            assert after.get_batch([old, new]) == [b"old", b"new"]
        with pytest.raises(MissingSecretError):
            before.get(new)
        monkeypatch.delenv(NAME)
        with EncryptedConnector(FileConnector(tmp_path / "c"), keys) as later:
            assert later.get(new) == b"new"
            with pytest.raises(MissingSecretError, match=f"file:{path} has .*{NAME} is not there"):
                later.get(old)


def test_rotation_within_one_reference(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(OLD)
    inner = FileConnector(tmp_path / "c")
    with EncryptedConnector(inner, [f"file:{path}"]) as long_lived:
        old = long_lived.put(b"old")
        path.write_text(f"{NEW}\n{OLD}\n")
        with EncryptedConnector.from_config(long_lived.config()) as fresh:
            new = fresh.put(b"new")
            assert fresh.get(old) == b"old"
        assert long_lived.get(new) == b"new"  # it looks again
        third = long_lived.put(b"third")
        path.write_text(NEW)
        with EncryptedConnector.from_config(long_lived.config()) as fresh:
            assert fresh.get(third) == b"third"  # and encrypts with the newest from then on


@pytest.mark.parametrize(
    "keys",
    [[], OLD, [OLD], ["env:"], ["file:relative/path"], [f"env:{NAME}", f"key:{OLD}"]],
    ids=range(6),
)
def test_a_key_in_the_place_of_a_reference_is_refused_and_not_shown(keys: Any) -> None:
    with pytest.raises(SpecError) as caught:
        EncryptedConnector(MemoryConnector("refused"), keys)
    assert OLD not in str(caught.value)


@pytest.mark.parametrize("text", ["", "secret-password", OLD[:-1], f"{OLD} {NEW}x"])
def test_what_is_no_key_is_refused_and_not_shown(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, text)
    with EncryptedConnector(MemoryConnector("no key"), [f"env:{NAME}"]) as connector:
        with pytest.raises((SpecError, MissingSecretError)) as caught:
            connector.put(b"x")
        assert NAME in str(caught.value)
        assert not text or text[:8] not in str(caught.value)


def test_a_configuration_has_references_only(files: EncryptedConnector) -> None:
    assert files.config()["keys"] == [f"env:{NAME}"]
    for shown in (repr(files), str(files.config()), repr(files._keyring.newest())):
        assert OLD not in shown
        assert str(bytes.fromhex(OLD)) not in shown


@pytest.mark.parametrize("object_id", ["", "AAAA", "*" * 16, "A" * 15, "A" * 20])
def test_a_key_that_none_could_have_made_is_refused(
    files: EncryptedConnector, object_id: str
) -> None:
    good = files.put(b"x")
    with pytest.raises(KeyTypeError):
        files.get(good._replace(object=object_id))
    with pytest.raises(KeyTypeError):
        files.get(good._replace(key='["../../etc/passwd"]'))
    with pytest.raises(TamperedError):
        files.get(good._replace(object="A" * 16))


def test_memory(files: EncryptedConnector) -> None:
    size = 40 * CHUNK_BYTES + 5
    data = [b"head", data_of(size)]
    files.get(files.put(b"imports what is needed"))
    tracemalloc.start()
    try:
        key = files.put(data)
        put_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        out = files.get(key)
        get_peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert out is not None
    assert len(out) == size + 4
    assert put_peak < size + 2 * CHUNK_BYTES  # the ciphertext and the chunk that is being joined
    assert get_peak < size + CHUNK_BYTES // 2  # the plaintext, once


def test_what_else_lies_in_the_channel_is_not_listed(files: EncryptedConnector) -> None:
    plain = files._inner.open().put(b"in the clear")
    key = files.put(b"x" * 10)
    assert [(info.key, info.size) for info in files.list()] == [(key, 10)]
    forged = files._key(os.urandom(12), plain)
    with pytest.raises(TamperedError, match="does not begin"):
        files.get(forged)


def test_it_composes_with_multi(tmp_path: Path) -> None:
    """Either way round: a member may be encrypted, or all of them at once."""
    keys = [f"env:{NAME}"]
    safe = EncryptedConnector(FileConnector(tmp_path / "a"), keys)
    members = {
        "safe": (safe, Policy(tags="private")),
        "plain": (MemoryConnector(uuid.uuid4().hex), Policy(priority=1)),
    }
    with MultiConnector(members) as multi, Store("some", multi) as store:
        key: Any = store.put([1, 2], tags="private")
        assert key.connector == "safe"
        assert store.get(key) == [1, 2]
        with MultiConnector.from_config(multi.config()) as again:
            assert again.exists(key)
    members = {
        "lists": (FileConnector(tmp_path / "b"), Policy(types="list")),
        "other": (FileConnector(tmp_path / "c"), Policy(priority=-1)),
    }
    with EncryptedConnector(MultiConnector(members), keys) as all_safe:
        with Store("all", all_safe) as store:
            found = [store.get(k) for k in (store.put([1]), store.put("x", tags=()))]
            assert found == [[1], "x"]
            assert [len(list((tmp_path / name).iterdir())) for name in "bc"] == [1, 1]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtraError, match=r"isthmus\[encrypted\]"):
        EncryptedConnector(MemoryConnector("bare"), [f"env:{NAME}"])
