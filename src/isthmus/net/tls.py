"""TLS 1.3: contexts from files, whose certificate is accepted, and what binds a proof to a connection."""

from __future__ import annotations

import hashlib
import hmac
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from isthmus.errors import (
    AuthenticationError,
    BrokenError,
    IsthmusError,
    RemoteProtocolError,
    SpecError,
)
from isthmus.net.link import ready

if TYPE_CHECKING:
    import socket

__all__ = ["TLS", "fingerprint"]

NO_GOODBYE = "it ended without a goodbye: the peer died, or something in between cut it"


@dataclass(frozen=True)
class TLS:
    """How one side uses TLS. Certificates and keys are named by file, in PEM.

    A client checks that the server's certificate is signed by `authorities` (None: those of the system)
    for the host that it asked for. With `anchors` or `fingerprints`, which name peers themselves, the
    host's name does not matter. A server asks for its clients' certificates if it has `authorities` or
    `anchors`.

    Args:
        certificate: file of the own certificate, and of those between it and its authority. A server needs
            one.
        key: file of its private key, not encrypted; None: it is in the certificate's file.
        authorities: file of the certificates that may sign the peer's.
        anchors: PEM text of the peers' own certificates, which are trusted as they are.
        fingerprints: the peer's certificate must be one of these, by SHA-256 in hexadecimal digits, with
            colons or without.
        server_name: what a client asks for, in place of the address's host.
        bind: let the handshake's proof cover both certificates, so that nobody can end TLS in between. Both
            sides have to agree; False is for a proxy in front of a server, which is then believed.
    """

    certificate: str | None = None
    key: str | None = None
    authorities: str | None = None
    anchors: str | None = None
    fingerprints: tuple[str, ...] = ()
    server_name: str | None = None
    bind: bool = True

    def client_context(self) -> ssl.SSLContext:
        """Return a context to connect with.

        Raises:
            SpecError: a file is not there, or holds something else.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.anchors or (self.fingerprints and not self.authorities):
            context.check_hostname = False
        if self.fingerprints and not (self.anchors or self.authorities):
            context.verify_mode = ssl.CERT_NONE  # the fingerprint is checked, by `check`
        elif not (self.anchors or self.authorities):
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return self._load(context)

    def server_context(self) -> ssl.SSLContext:
        """Return a context to listen with.

        Raises:
            SpecError: there is no certificate; a file is not there, or holds something else.
        """
        if self.certificate is None:
            raise SpecError(
                "TLS", "who listens needs a certificate and its key, such as TLS(certificate=…)"
            )
        if self.fingerprints and not (self.authorities or self.anchors):
            raise SpecError(
                "TLS", "to be sent a client's certificate, name who signed it, or anchors"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0  # nobody resumes; and who closes without reading them would reset
        if self.authorities or self.anchors:
            context.verify_mode = ssl.CERT_REQUIRED
        return self._load(context)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self.anchors:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        what = self.certificate
        try:
            if self.certificate:
                # Without a function OpenSSL would ask the terminal for the key's password.
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
            what = self.authorities
            if self.authorities:
                context.load_verify_locations(self.authorities)
            what = "anchors"
            if self.anchors:
                context.load_verify_locations(cadata=self.anchors)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise SpecError(
                "TLS", f"cannot use {what}: {why}; it has to be PEM, a key unencrypted"
            ) from None
        return context

    def secured(self, *, client: bool) -> Secured:
        """Return what connections need, with the files as they are now. Raises as the contexts do."""
        context = self.client_context() if client else self.server_context()
        own = _first_certificate(self.certificate) if self.certificate else b""
        return Secured(self, context, own)

    def check(self, where: str, theirs: bytes) -> None:
        """Hold the peer's certificate (DER) against the fingerprints.

        Raises:
            AuthenticationError: it is none of them.
        """
        if not self.fingerprints:
            return
        found = fingerprint(theirs) if theirs else "no certificate"
        for one in self.fingerprints:
            if hmac.compare_digest(one.replace(":", "").lower(), found):
                return
        raise AuthenticationError(
            where, f"its certificate, of SHA-256 {found}, is none of those that are expected there"
        )

    def binding(self, theirs: bytes, *, client: bool, own: bytes) -> bytes:
        """Return what both sides know of the connection: the server's certificate, then the client's.

        The idea of RFC 5929's tls-server-end-point; Python has no exporter of keying material (RFC 9266).
        """
        if not self.bind:
            return b""
        server, other = (theirs, own) if client else (own, theirs)
        return hashlib.sha256(server).digest() + hashlib.sha256(other).digest()


class Secured(NamedTuple):
    """A context, and the own certificate in it (DER), which the context does not tell."""

    tls: TLS
    context: ssl.SSLContext
    own: bytes


def _first_certificate(path: str) -> bytes:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
        start = text.index(ssl.PEM_HEADER)
        end = text.index(ssl.PEM_FOOTER, start) + len(ssl.PEM_FOOTER)
        return ssl.PEM_cert_to_DER_cert(text[start:end])
    except (OSError, ValueError) as error:
        raise SpecError("TLS", f"no certificate in {path}: {error}") from None


def fingerprint(certificate: bytes | str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a certificate, given in DER or as a PEM file, in hexadecimal digits.

    Raises:
        SpecError: there is no such file, or no certificate in it.
    """
    if not isinstance(certificate, bytes):
        certificate = _first_certificate(os.fspath(certificate))
    return hashlib.sha256(certificate).hexdigest()


async def secure(
    sock: socket.socket, secured: Secured, where: str, host: str | None
) -> tuple[ssl.SSLSocket, bytes]:
    """Do the handshake over a connected socket; `host` is None for the server.

    Returns:
        The socket to use from now on, and the binding.

    Raises:
        AuthenticationError: one side does not accept the other's certificate.
        RemoteProtocolError: the other side does not speak TLS 1.3.
        BrokenError: the connection broke.
    """
    tls, context, own = secured
    client = host is not None
    # It takes the descriptor over; if it raises, the given socket still has it.
    wrapped = context.wrap_socket(
        sock,
        server_side=not client,
        server_hostname=tls.server_name or host,
        do_handshake_on_connect=False,
        suppress_ragged_eofs=False,
    )
    try:
        while True:
            try:
                wrapped.do_handshake()
                break
            except ssl.SSLWantReadError:
                await ready(wrapped)
            except ssl.SSLWantWriteError:
                await ready(wrapped, write=True)
        theirs = wrapped.getpeercert(binary_form=True) or b""
        tls.check(where, theirs)
        return wrapped, tls.binding(theirs, client=client, own=own)
    except BaseException as error:
        wrapped.close()
        if isinstance(error, ssl.SSLEOFError | ConnectionResetError):
            raise BrokenError(
                where,
                "it closed within the TLS handshake; see that TLS is on both sides, or on none",
            ) from error
        if isinstance(error, OSError) and not isinstance(error, IsthmusError):
            raise translate(where, error) from error
        raise


def translate(where: str, error: OSError) -> IsthmusError:
    """Return our error for one of the ssl module, or of a socket."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return AuthenticationError(
            where,
            f"its certificate is not accepted: {error.verify_message}; see that TLS(authorities=…) "
            "names who signed it, and that name and dates are right",
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        reason = error.reason or str(error)
        if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason or "BAD_CERT" in reason:
            return AuthenticationError(
                where,
                f"it does not accept this side's certificate ({reason}); see TLS(certificate=…)",
            )
        return RemoteProtocolError(where, f"TLS fails ({reason}); see that both sides use TLS 1.3")
    if isinstance(error, ssl.SSLEOFError):
        return BrokenError(where, NO_GOODBYE)
    return BrokenError(where, error.strerror or str(error) or type(error).__name__)
