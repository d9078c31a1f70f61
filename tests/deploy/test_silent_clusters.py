"""What listens and says nothing, or not what Ray says: one sentence, in bounded time."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import ray
from ray._common.tls_utils import generate_self_signed_tls_certs
from small_runs import counting_config, new_run

from deploy import address, cluster
from repertory.errors import ClusterFailure

TLS = ("RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TLS:
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def grpc_server(certificate: str = "", key: str = "") -> Iterator[str]:
    """A server of Ray's own protocol, mutual TLS included, that has no services."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    if certificate:
        mine = certificate.encode()
        credentials = grpc.ssl_server_credentials(
            [(key.encode(), mine)], root_certificates=mine, require_client_auth=True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(30)


@contextlib.contextmanager
def mute() -> Iterator[str]:
    """Accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def use_tls(patch: pytest.MonkeyPatch, folder: Path, certificate: str, key: str) -> None:
    for name, value in zip(TLS[1:], (certificate, key, certificate), strict=True):
        file = folder / name
        file.write_text(value)
        patch.setenv(name, str(file))
    patch.setenv("RAY_USE_TLS", "1")


def test_a_server_of_rays_protocol_is_let_through_with_and_without_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with grpc_server() as where:
        address.greet(where)
    certificate, key = generate_self_signed_tls_certs()
    use_tls(monkeypatch, tmp_path, certificate, key)
    with grpc_server(certificate, key) as where:
        address.greet(where)


def test_a_cluster_with_tls_says_so_to_a_driver_without() -> None:
    with (
        grpc_server(*generate_self_signed_tls_certs()) as where,
        pytest.raises(ClusterFailure, match="it wants TLS, and RAY_USE_TLS is not set here: set "),
    ):
        address.greet(where)


@pytest.mark.parametrize("encrypts", [False, True])
def test_a_driver_with_tls_is_told_of_a_cluster_without_or_with_another_ca(
    encrypts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tls(monkeypatch, tmp_path, *generate_self_signed_tls_certs())
    theirs = generate_self_signed_tls_certs() if encrypts else ("", "")
    said = "RAY_USE_TLS is set here: it may have no TLS, or certificates of another CA"
    with grpc_server(*theirs) as where, pytest.raises(ClusterFailure, match=said):
        address.greet(where)


def test_joining_what_is_silent_ends_with_a_sentence_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "GREETING_S", 1.0)
    with mute() as where:
        config = counting_config(runtime="cluster", address=where)
        run = new_run(tmp_path, config)
        began = time.monotonic()
        host, port = where.split(":")
        said = f"host {host}, port {port} does not greet as a Ray cluster .it says nothing: another"
        with pytest.raises(ClusterFailure, match=said):
            cluster.train(config, run, False)
        # One second, and three to find out whether it wants TLS.
        assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.0 400 Bad Request\r\n\r\n",
            "it speaks HTTP, as the dashboard does: give the head",
        ),
        (b"-ERR unknown command\r\n", "it speaks another protocol"),
        (b"", "it hangs up"),
    ],
)
def test_another_service_is_told_from_a_head(answer: bytes, said: str) -> None:
    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(64)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(ClusterFailure, match=said):
                address.greet(f"127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()


def test_a_start_of_ray_that_takes_too_long_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        # As ray/_private/node.py raises it, after 30 s.
        raise Exception(
            "The current node timed out during startup. This could happen because of it"
        )

    monkeypatch.setattr(ray, "init", init)
    config = counting_config(runtime="cluster")
    with pytest.raises(ClusterFailure, match=r"Ray did not start on this machine \(The current"):
        cluster.train(config, new_run(tmp_path, config), False)
