"""Certificates for tests, made on the spot: good ones, expired ones, and of an authority nobody knows."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import os
from typing import Any

from isthmus.spec import require

__all__ = ["Authority"]

_DAY = datetime.timedelta(days=1)


class Authority:
    """An authority that signs certificates, with its files in a folder.

    Attributes:
        file: its own certificate, in PEM.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str = "authority") -> None:
        require("cryptography", extra="encrypted", what="certificates for tests")
        self._folder = os.fspath(folder)
        self._numbers = itertools.count()
        self._name = name
        self._key = _key()
        certificate = _signed(name, name, self._key, self._key, authority=True)
        self.file = self._write(name, certificate)

    def issue(self, host: str, *, expired: bool = False) -> str:
        """Return the file of a certificate for a host name or address, with its key."""
        key = _key()
        return self._write(host, _signed(host, self._name, key, self._key, expired=expired), key)

    def alone(self, name: str) -> str:
        """Return the file of a certificate signed by itself, with its key."""
        key = _key()
        return self._write(name, _signed(name, name, key, key), key)

    def _write(self, name: str, certificate: Any, key: Any = None) -> str:
        from cryptography.hazmat.primitives import serialization as form

        data = certificate.public_bytes(form.Encoding.PEM)
        if key is not None:
            data += key.private_bytes(
                form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
            )
        path = os.path.join(self._folder, f"{name}-{next(self._numbers)}.pem")
        with open(path, "wb") as file:
            file.write(data)
        return path


def _key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _signed(
    name: str,
    issuer: str,
    key: Any,
    signer: Any,
    *,
    authority: bool = False,
    expired: bool = False,
) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    def named(text: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    try:
        host: Any = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        host = x509.DNSName(name)
    now = datetime.datetime.now(datetime.UTC)
    end = now - _DAY if expired else now + _DAY
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - 10 * _DAY)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .sign(signer, hashes.SHA256())
    )
