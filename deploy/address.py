"""The address of a Ray cluster: its form, and whether anything answers there within seconds."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from repertory.errors import BadInput, ClusterFailure

PROBE_S = 3.0
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
