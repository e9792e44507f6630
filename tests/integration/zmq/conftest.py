"""Nodes: folders of their own for sockets and locks, which is what tells one machine from another here."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.connectors.zmq import ZmqConnector
from isthmus.connectors.zmq.credentials import Credentials
from isthmus.connectors.zmq.node import Card, Node
from isthmus.testing.peer import Peer


class NodeOfTests:
    """A node, with an address of the loopback network; opens connectors and peers on it."""

    def __init__(
        self, address: str, folder: str, key_folder: Path, patch: pytest.MonkeyPatch
    ) -> None:
        self.address = address
        self.folder = folder
        self._key_folder = key_folder
        self._patch = patch
        self.opened: list[ZmqConnector | Peer] = []

    def open(self, name: str = "test", **options: Any) -> ZmqConnector:
        self._enter()
        connector = ZmqConnector(name, **{"address": self.address, "timeout": 20, **options})
        self.opened.append(connector)
        return connector

    def peer(self, connector: ZmqConnector) -> Peer:
        """Return another process of this node with a connector of the same configuration."""
        self._enter()
        peer = Peer(connector)
        self.opened.append(peer)
        return peer

    def close(self) -> None:
        """Close all; returns when the servers have left."""
        for one in self.opened:
            one.close()
        for path in Path(self.folder).rglob("serving"):
            wait_for_exit(path)

    def card(self, connector: ZmqConnector) -> Card | None:
        """Return the running server, as its users know it."""
        self._enter()
        spec = connector.spec
        node = Node(spec, Credentials(spec.key))
        try:
            return node.card()
        finally:
            node.close()

    def kill(self, connector: ZmqConnector, how: signal.Signals = signal.SIGKILL) -> None:
        """Send the server a signal, and wait for its end."""
        card = self.card(connector)
        assert card is not None
        os.kill(card.pid, how)
        wait_for_exit(Path(card.socket).parent / "serving")

    def _enter(self) -> None:
        self._patch.setenv("ISTHMUS_ZMQ_DIR", self.folder)
        self._patch.setenv("ISTHMUS_CONFIG_DIR", str(self._key_folder))


def wait_for_exit(serving: Path) -> None:
    """Block until the server that has this file locked has ended."""
    with open(serving) as file:
        fcntl.flock(file, fcntl.LOCK_SH)


@pytest.fixture
def nodes(
    zmq_collector: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[NodeOfTests]]:
    """Two nodes with a common home."""
    made = []
    with tempfile.TemporaryDirectory(prefix="isthmus-zmq-") as short:
        for number in (1, 2):
            folder = os.path.join(short, str(number))
            made.append(NodeOfTests(f"127.0.0.{number}", folder, tmp_path, monkeypatch))
        yield made
        for node in made:
            node.close()


@pytest.fixture
def node(nodes: list[NodeOfTests]) -> NodeOfTests:
    return nodes[0]
