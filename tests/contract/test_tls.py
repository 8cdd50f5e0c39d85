"""`rediss://`: TLS to the server, verified. A small server in front of Redis ends the TLS."""

from __future__ import annotations

import gc
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import trustme

from redisq import Unavailable, embedded
from tests.conftest import settings_for


class Tls(socketserver.ThreadingTCPServer):
    """Speaks TLS on a port of 127.0.0.1 and plain RESP to a server behind it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext, target: str) -> None:
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
            outer = self.server.context.wrap_socket(self.request, server_side=True)
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


def test_plain_text_to_a_tls_port_is_refused(make_client: Any, port: int, namespace: str) -> None:
    mq = make_client(settings_for(f"redis://127.0.0.1:{port}/0", namespace, retry_deadline=0))
    with pytest.raises(Unavailable):
        mq.queue_message("orders", {})
