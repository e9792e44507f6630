"""The shipped suite on every kind of address."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from isthmus.net import TLS
from isthmus.testing.certificates import Authority
from isthmus.testing.net_contract import NetContract


class TestUnix(NetContract):
    @pytest.fixture
    def address(self, socket_folder: Path) -> str:
        return f"unix://{socket_folder}/socket"


class TestTCP(NetContract):
    @pytest.fixture
    def address(self) -> str:
        return "tcp://127.0.0.1:0"


class TestIPv6(NetContract):
    @pytest.fixture
    def address(self) -> str:
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
        return "tcp://[::1]:0"


class TestWebSocket(NetContract):
    @pytest.fixture
    def address(self) -> str:
        return "ws://127.0.0.1:0/isthmus"


class Secure(NetContract):
    @pytest.fixture(autouse=True)
    def certificates(self, authority: Authority) -> None:
        self.server_tls = TLS(authority.issue("127.0.0.1"))
        self.client_tls = TLS(authorities=authority.file)


class TestTLS(Secure):
    @pytest.fixture
    def address(self) -> str:
        return "tls://127.0.0.1:0"


class TestMutualTLS(NetContract):
    """Each side trusts the other's certificate and no other."""

    @pytest.fixture(autouse=True)
    def certificates(self, authority: Authority) -> None:
        server, client = authority.alone("server"), authority.alone("client")
        self.server_tls = TLS(server, anchors=Path(client).read_text())
        self.client_tls = TLS(client, anchors=Path(server).read_text())

    @pytest.fixture
    def address(self) -> str:
        return "tls://127.0.0.1:0"


class TestSecureWebSocket(Secure):
    @pytest.fixture
    def address(self) -> str:
        return "wss://127.0.0.1:0/"
