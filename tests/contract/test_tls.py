"""`rediss://`: TLS to the server, verified. A small server in front of Redis ends the TLS."""

from __future__ import annotations

import gc
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import trustme

from redisq import InvalidSettings, RedisQError, Unavailable, embedded
from redisq.link.server import known
from tests.conftest import settings_for


class Tls(socketserver.ThreadingTCPServer):
    """Speaks TLS on a port of 127.0.0.1 and plain RESP to a server behind it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Pipe)
        self.context = context
        self.target = urlsplit(target)

    def connect(self) -> socket.socket:
        if self.target.scheme == "unix":
            inner = socket.socket(socket.AF_UNIX)
            inner.connect(unquote(self.target.path))
            return inner
        return socket.create_connection((self.target.hostname or "", self.target.port or 0))


class Pipe(socketserver.BaseRequestHandler):
    """Copies both ways until either side ends."""

    server: Tls

    def handle(self) -> None:
        try:
            context = self.server.context
            outer = context.wrap_socket(self.request, server_side=True) if context else self.request
        except (ssl.SSLError, OSError):
            return  # the client did not like our certificate
        with outer, self.server.connect() as inner:
            back = threading.Thread(target=self.copy, args=(inner, outer), daemon=True)
            back.start()
            self.copy(outer, inner)
            back.join()

    @staticmethod
    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def port(real_server: embedded.EmbeddedServer, authority: trustme.CA) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    with Tls(context, real_server.url) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_calls_go_through_verified_tls(
    make_client: Any, port: int, authority: trustme.CA, tmp_path: Path, namespace: str, protocol: str
) -> None:
    roots = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(roots)
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={roots}&protocol={protocol}"
    mq = make_client(settings_for(url, namespace))
    id = mq.queue_message("orders", {"over": "TLS"})
    assert mq.get_message("orders", id).request == {"over": "TLS"}
    mq.delete_message("orders", id)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_unknown_authority_is_refused(make_client: Any, port: int, namespace: str) -> None:
    mq = make_client(settings_for(f"rediss://127.0.0.1:{port}/0", namespace, retry_deadline=0))
    with pytest.raises(Unavailable, match="certificate"):
        mq.queue_message("orders", {})
    # asyncio leaves its own transport unclosed when a handshake fails; let it be warned of here, not in a later test.
    for _ in range(3):
        gc.collect()


# --- What is no outage: refused at once, whatever the deadline, and for no other call the gate is shut ---------------

NEVER = 3600.0  # seconds; a test that waits for it hangs


@pytest.fixture
def refused(make_client: Any, namespace: str) -> Any:
    """Call a server by its URL until it refuses for good, and give the error."""

    def call(url: str) -> RedisQError:
        mq = make_client(settings_for(url, namespace, retry_deadline=NEVER, connect_timeout=1))
        with pytest.raises(RedisQError) as caught:
            mq.queue_message("orders", {})
        server = known(url, "")
        assert server.circuit.enter(0.0, probe=False) is not None
        for _ in range(3):
            gc.collect()  # asyncio leaves its own transport unclosed when a handshake fails
        return caught.value

    return call


@contextmanager
def speaking(context: ssl.SSLContext | None, real_server: embedded.EmbeddedServer) -> Iterator[int]:
    """A port that speaks TLS, or plain text without a context, before a real server."""
    with Tls(context, real_server.url) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.full(keep=2)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", ["authority", "name", "expired", "client", "client, TLS 1.2"])
def test_certificate_faults_are_no_outage(
    refused: Any, real_server: embedded.EmbeddedServer, authority: trustme.CA, tmp_path: Path, fault: str
) -> None:
    names = ["elsewhere.example"] if fault == "name" else ["127.0.0.1"]
    ends = datetime(2020, 1, 1) if fault == "expired" else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, not_after=ends).configure_cert(context)
    if fault.startswith("client"):
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    if fault.endswith("1.2"):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    roots = tmp_path / "ca.pem"
    (trustme.CA() if fault == "authority" else authority).cert_pem.write_to_path(roots)
    with speaking(context, real_server) as port:
        error = refused(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={roots}")
    assert type(error) is Unavailable
    said = {"authority": "issuer", "name": "mismatch", "expired": "has expired"}.get(fault, "ssl_certfile")
    for word in (said, "certificate", "ssl_ca_certs", "REDISQ_URL"):
        assert word in str(error)


@pytest.mark.full
def test_files_that_cannot_be_used_are_named(refused: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for option, path, said in (
        ("ssl_ca_certs", tmp_path / "missing.pem", "No such file"),
        ("ssl_ca_certs", tmp_path, "Is a directory"),
        ("ssl_ca_certs", empty, "can be used"),
        ("ssl_certfile", empty, "can be used"),
        ("ssl_keyfile", tmp_path / "missing.pem", "No such file"),
        ("ssl_ca_path", empty, "no folder"),
    ):
        error = refused(f"rediss://127.0.0.1:1/0?{option}={path}")
        assert type(error) is InvalidSettings
        assert option in str(error)
        assert "REDISQ_URL" in str(error)
        assert said in str(error)


def test_a_file_that_goes_while_the_process_runs_is_named(
    make_client: Any, port: int, authority: trustme.CA, tmp_path: Path, namespace: str
) -> None:
    roots = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(roots)
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={roots}"
    mq = make_client(settings_for(url, namespace, retry_deadline=NEVER))
    mq.queue_message("orders", {})
    if (closing := mq.client.close()) is not None:
        mq.runner.run(closing)
    roots.unlink()
    with pytest.raises(Unavailable, match="ssl_ca_certs a file that cannot be read"):
        mq.queue_message("orders", {})


@pytest.mark.full(keep=1)
def test_plain_text_to_a_tls_port_is_refused(refused: Any, port: int) -> None:
    error = refused(f"redis://127.0.0.1:{port}/0")
    assert type(error) is Unavailable
    assert "it speaks TLS. REDISQ_URL takes rediss://" in str(error)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_to_a_plain_port_is_refused(refused: Any, real_server: embedded.EmbeddedServer) -> None:
    with speaking(None, real_server) as port:
        error = refused(f"rediss://127.0.0.1:{port}/0")
    assert type(error) is Unavailable
    assert "REDISQ_URL takes redis://" in str(error)
