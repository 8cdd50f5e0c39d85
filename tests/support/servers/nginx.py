"""nginx as the distribution packages it, run by whoever runs the tests: own folder, own ports, no rights."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0  # seconds for it to listen
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def program() -> str | None:
    """Where nginx is; None where it is not."""
    return shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")


def free_port() -> int:
    """A port that nobody listened on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def configuration(folder: Path, servers: str) -> Path:
    """Write all that nginx wants around blocks of servers, and give the file."""
    user = "user root;" if os.geteuid() == 0 else ""  # others may not read a test's folder
    temporary = "".join(f"{kind}_temp_path {folder / kind};" for kind in KINDS)
    file = folder / "nginx.conf"
    file.write_text(
        f"{user} daemon off; worker_processes 1; pid {folder / 'pid'}; error_log stderr; events {{}}\n"
        f"http {{ {temporary} access_log off;\n{servers}\n}}"
    )
    return file


@contextmanager
def running(folder: Path, servers: str, *ports: int) -> Iterator[None]:
    """Run nginx with blocks of servers, from when it listens on these ports to the end of the block."""
    nginx = program()
    assert nginx
    file = configuration(folder, servers)
    with (folder / "errors").open("wb") as errors:
        command = [nginx, "-e", "stderr", "-p", folder, "-c", file]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
    try:
        end = time.monotonic() + PATIENCE
        for port in ports:
            while not _listens(port):
                assert process.poll() is None, (folder / "errors").read_text()
                assert time.monotonic() < end, "nginx does not listen"
                time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
