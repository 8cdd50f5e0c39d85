"""The demo's files, and what is in them by direct computation."""

from __future__ import annotations

import hashlib
import os
import stat
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from redisq.cli.demo.worker import Counts, count
from redisq.cli.output import CommandError

_LARGEST = 1024 * 1024  # bytes
_BROKEN = (b"caf\xe9\n", b"\xff\xfe\x00", b"half \xe2\x82", b"\xc0\xaf overlong\n", b"\xed\xa0\x80 surrogate\n")


@dataclass(frozen=True)
class Totals:
    """What many files hold together. `digest` is one SHA-256 over the sorted SHA-256 of all."""

    files: int
    lines: int
    words: int
    digest: str

    @classmethod
    def of(cls, counted: Iterable[Counts]) -> Totals:
        """Add up."""
        counts = list(counted)
        digest = hashlib.sha256("\n".join(sorted(each["sha256"] for each in counts)).encode())
        lines, words = (sum(each[name] for each in counts) for name in ("lines", "words"))
        return cls(len(counts), lines, words, digest.hexdigest())

    def __str__(self) -> str:
        return f"{self.files:,} files, {self.lines:,} lines, {self.words:,} words, digest {self.digest[:16]}"

    def to_dict(self) -> dict[str, int | str]:
        """Return the fields."""
        return asdict(self)


def standard_library(limit: int) -> list[Path]:
    """List the first modules of the running Python's standard library, by path."""
    return list(islice(_modules(Path(sysconfig.get_path("stdlib"))), limit))


def below(path: Path, limit: int) -> list[Path]:
    """List the first files in a folder and its subfolders, by path, or the one file that `path` is.

    Raises:
        CommandError: there is no such folder, or nothing to read in it.
    """
    if not path.exists():
        raise CommandError(f"There is no file or folder {path}.")
    files = [path.resolve()] if path.is_file() else list(islice(filter(_readable, _walk(path.resolve())), limit))
    if not files or not os.access(files[0], os.R_OK):
        raise CommandError(f"There is no file to read in {path}; hidden ones, links and those over 1 MiB do not count.")
    return files


def broken(folder: Path) -> list[Path]:
    """Write a few files that are not UTF-8 into a new folder, and list them."""
    folder.mkdir()
    files = [folder / f"broken-{number}.txt" for number in range(1, len(_BROKEN) + 1)]
    for file, data in zip(files, _BROKEN, strict=True):
        file.write_bytes(data)
    return files


def count_directly(files: Sequence[Path]) -> dict[Path, Counts | None]:
    """Count each file here and now; None is one that is not UTF-8."""
    return {file: _count(file) for file in files}


def _count(file: Path) -> Counts | None:
    try:
        return count(file.read_bytes())
    except UnicodeDecodeError:
        return None


def _modules(root: Path) -> Iterator[Path]:
    return (file for file in _walk(root) if file.suffix == ".py" and _readable(file))


def _walk(root: Path) -> Iterator[Path]:
    """Walk a folder in order, reading no further than asked; hidden folders and installed packages are left out."""
    for folder, folders, names in os.walk(root):
        skipped = ("site-packages", "dist-packages", "__pycache__")
        folders[:] = sorted(name for name in folders if name not in skipped and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _readable(file: Path) -> bool:
    try:
        str(file).encode()  # a name that is no text cannot be in a message
        status = file.lstat()
    except (OSError, UnicodeEncodeError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST and os.access(file, os.R_OK)
