"""The address of a Ray cluster: its form, and whether a cluster answers there within seconds."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from pathlib import Path

from repertory.errors import BadInput, ClusterFailure

PROBE_S = 3.0
GREETING_S = 15.0
"""A head on a machine whose cores are all taken greets within a fraction of a second."""
_OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What a client of gRPC says first: the preface of HTTP/2, and a frame of no settings."""
_SETTINGS = 4
"""The type of the frame that a server of HTTP/2 says first: the fourth byte of nine."""
_START = (
    "start one there with `ray start --head --port {port}`, or leave address empty for one on this "
    "machine"
)


def host_and_port(address: str) -> tuple[str, int]:
    """Split HOST:PORT (IPv6 hosts in brackets); BadInput for any other form."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise BadInput(
            f"address '{address}' is not HOST:PORT (the head's port, 6379 unless changed) or auto"
        )
    return host.strip("[]"), int(port)


def probe(address: str, what: str = "Ray cluster", cure: str = "") -> None:
    """Raise ClusterFailure when nothing listens there: Ray alone would try for minutes."""
    if address == "auto":
        return
    host, port = host_and_port(address)
    try:
        with socket.create_connection((host, port), timeout=PROBE_S):
            return
    except OSError as error:
        reason = error.strerror or str(error)
        raise ClusterFailure(
            f"no {what} answers at host {host}, port {port} within {PROBE_S:.0f} s "
            f"({reason}; RAY_AUTH_MODE is {auth_mode()}): " + (cure or _START.format(port=port))
        ) from error


def greet(address: str) -> None:
    """Raise ClusterFailure unless what listens there greets as a Ray head does, before any token is
    asked for: Ray alone waits without end for one that is silent, or that wants TLS.
    """
    if address == "auto":
        return
    probe(address)
    host, port = host_and_port(address)
    try:
        said = _first_words(host, port)
        trouble = "" if len(said) >= 9 and said[3] == _SETTINGS else _other_service(said)
    except TimeoutError:
        trouble = "it says nothing: another service, or a head that hangs"
    except OSError as error:
        trouble = error.strerror or str(error)
    if not trouble:
        return
    if uses_tls():
        trouble += "; RAY_USE_TLS is set here: it may have no TLS, or certificates of another CA"
    elif _wants_tls(host, port):
        trouble = (
            "it wants TLS, and RAY_USE_TLS is not set here: set RAY_USE_TLS=1 and "
            "RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT to this machine's files"
        )
    raise ClusterFailure(
        f"what listens at host {host}, port {port} does not greet as a Ray cluster ({trouble})"
    )


def uses_tls() -> bool:
    """Return whether Ray is told to use TLS, as Ray reads it."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _first_words(host: str, port: int) -> bytes:
    """Open as a client of gRPC does, and return the first bytes of the answer, none where it hangs
    up.
    """
    with contextlib.ExitStack() as stack:
        found: socket.socket = stack.enter_context(
            socket.create_connection((host, port), timeout=GREETING_S)
        )
        if uses_tls():
            # Whether the name in the certificate is right, Ray asks for itself.
            context = ssl.create_default_context(cafile=os.environ.get("RAY_TLS_CA_CERT"))
            context.check_hostname = False
            with contextlib.suppress(KeyError):
                certificate = os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"]
                context.load_cert_chain(*certificate)
            context.set_alpn_protocols(["h2"])
            found = stack.enter_context(context.wrap_socket(found))
        found.sendall(_OPENING)
        said = b""
        while len(said) < 9 and (more := found.recv(64)):
            said += more
        return said


def _other_service(said: bytes) -> str:
    if said.startswith(b"HTTP/"):
        return "it speaks HTTP, as the dashboard does: give the head's port, 6379 unless changed"
    return "it hangs up" if not said else "it speaks another protocol"


def _wants_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    # Nothing is said to it: whom it is does not matter.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=PROBE_S) as found,
            context.wrap_socket(found),
        ):
            return True
    except ssl.SSLError as error:
        # It may want a certificate of ours first.
        return "CERTIFICATE" in (error.reason or "")
    except OSError:
        return False


def auth_mode() -> str:
    """Return how Ray is told to authenticate, in words."""
    return os.environ.get("RAY_AUTH_MODE") or "not set"


def token_hint() -> str:
    """Return what to look at when a cluster answers and lets nobody in: which token is given."""
    if auth_mode() != "token":
        return (
            f"it may require a token, and RAY_AUTH_MODE is {auth_mode()}: set RAY_AUTH_MODE=token "
            "and RAY_AUTH_TOKEN_PATH to the file of the cluster's token"
        )
    # As Ray looks for it.
    if os.environ.get("RAY_AUTH_TOKEN"):
        source = "RAY_AUTH_TOKEN"
    else:
        chosen = os.environ.get("RAY_AUTH_TOKEN_PATH")
        source = str(Path(chosen) if chosen else Path.home() / ".ray" / "auth_token")
        if not Path(source).is_file():
            return f"it may require a token, and there is no file {source}"
        try:
            Path(source).read_bytes()
        except OSError as error:
            return (
                f"it may require a token, and the file {source} cannot be read ({error.strerror}): "
                "set RAY_AUTH_TOKEN_PATH to a copy that is yours; make-secrets leaves one in "
                "secrets/mine"
            )
    return (
        f"the token of {source} may not be the cluster's; compare them, or RAY_AUTH_MODE there is "
        "not token"
    )
