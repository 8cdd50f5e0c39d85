"""Where and with what something was measured. No names of machines or users."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import redisq
from tests.benchmarks.peers import versions
from tests.benchmarks.programs import ROOT, Candidate
from tests.benchmarks.server import Server


def machine() -> dict[str, Any]:
    """Describe the machine, and how busy it is."""
    return {
        "cpu": _first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mib": int(_first(r"^MemTotal:\s*(\d+) kB", "/proc/meminfo") or 0) // 1024,
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def software(server: Server, candidates: list[Candidate]) -> dict[str, Any]:
    """List versions: of what redisq runs with, of the server, and of each peer with its client."""
    ours = versions(candidates[0].programs, ("redis", "hiredis", "msgpack", "uvloop"))
    return {
        "python": platform.python_version(),
        "server": f"{server.name}, nothing on disk",
        "redisq": redisq.__version__,
        "commit": commit(),
        **ours,
        "peers": {
            candidate.adapter.name: versions(candidate.programs, candidate.adapter.packages)
            for candidate in candidates
            if candidate.adapter.is_peer
        },
    }


def commit() -> str:
    """Give the commit that is checked out, with a `+` when files differ from it; "" outside a repository."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True)
    except OSError:
        return ""
    return head.stdout.strip() + "+" * (changed.returncode == 1)


def _first(pattern: str, path: str) -> str | None:
    try:
        found = re.search(pattern, Path(path).read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return found[1].strip() if found else None
