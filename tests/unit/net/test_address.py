from __future__ import annotations

import pytest

from isthmus.errors import AddressError
from isthmus.net import Address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("tcp://example:7000", ("tcp", "example", 7000, "")),
        ("tls://10.0.0.1:1", ("tls", "10.0.0.1", 1, "")),
        ("tcp://[::1]:7000", ("tcp", "::1", 7000, "")),
        ("tcp://[fe80::1%eth0]:7000", ("tcp", "fe80::1%eth0", 7000, "")),
        ("unix:///run/a b.sock", ("unix", "", 0, "/run/a b.sock")),
        ("ws://example/x?y=1", ("ws", "example", 80, "/x?y=1")),
        ("wss://example", ("wss", "example", 443, "/")),
    ],
)
def test_addresses_are_taken_apart_and_put_together(text, parts) -> None:
    address = Address.parse(text)
    assert (address.scheme, address.host, address.port, address.path) == parts
    assert Address.parse(str(address)) == address
    assert Address.parse(address) is address


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("example:7000", "starts with one of"),
        ("http://example", "starts with one of"),
        ("tcp://example", "needs a port"),
        ("tcp://:7000", "needs host and port"),
        ("tcp://user@example:7", "needs host and port"),
        ("tcp://example:70000", "(?i)port"),
        ("tcp://example:7000/x", "has no path"),
        ("unix://relative", "absolute path"),
        ("unix:///" + "x" * 107, "at most 107 bytes"),
    ],
)
def test_what_is_no_address_says_why(text, hint) -> None:
    with pytest.raises(AddressError, match=hint) as found:
        Address.parse(text)
    assert found.value.args[0] == text
