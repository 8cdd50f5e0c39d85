"""Folders and files of this user that no other may write to. Imports nothing of the package.

What is not ours is refused by name, and a refusal changes nothing. No link is followed, whoever made it; of a folder's
path only the folders above it may be links, as the system's own often are.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_REACH = stat.S_IXGRP | stat.S_IXOTH


class NotPrivate(Exception):
    """A folder or a file is not ours alone. The text names it, and says what to do."""


def open_folder(path: str | Path, *, make: bool = False, within: int | None = None, shown: str | Path = "") -> int:
    """Open a folder and give its descriptor; with `make` it is made where it is missing, for its owner alone.

    `within` is an opened folder, in which it lies; `shown` its whole path then.

    Raises:
        NotPrivate: it is a link or no folder, belongs to somebody else, or others may write to it.
        OSError: it is not there, or cannot be opened.
    """
    if make:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    shown = shown or path
    _check(os.stat(path, dir_fd=within, follow_symlinks=False), shown, stat.S_ISDIR, "folder")
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
    try:
        status = os.fstat(folder)
        _check(status, shown, stat.S_ISDIR, "folder")  # once more: it may be another one by now
        if status.st_mode & _OTHERS_WRITE and (within is None or _is_reached(within)):
            raise NotPrivate(f"Other users may write to the folder {shown}. `chmod go-w` keeps them out.")
    except NotPrivate:
        os.close(folder)
        raise
    return folder


def _is_reached(folder: int) -> bool:
    """Return whether others get into an opened folder at all; if not, the modes of what it holds do not matter."""
    return bool(os.fstat(folder).st_mode & _OTHERS_REACH)


def check_files(folder: int, names: Iterable[str], shown: str | Path) -> None:
    """Look at files of an opened folder, whose path is `shown`, before any of them is opened. Some may be missing.

    Raises:
        NotPrivate: one is a link or no plain file, belongs to somebody else, or others may write to it.
    """
    reached = _is_reached(folder)
    for name in names:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        _check(status, Path(shown, name), stat.S_ISREG, "plain file")
        if reached and status.st_mode & _OTHERS_WRITE:
            raise NotPrivate(f"Other users may write to {Path(shown, name)}. Look at it, then `chmod go-w` it.")


def open_file(folder: int, name: str, flags: int) -> int:
    """Open a file of a folder that was opened, made for its owner alone if `flags` say so, and give its descriptor.

    Raises:
        NotPrivate: it is a link or no plain file, or belongs to somebody else; `check_files` looks before.
        OSError: it cannot be opened.
    """
    # Without O_NONBLOCK a pipe that took the file's place meanwhile would hold us up.
    number = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        _check(os.fstat(number), name, stat.S_ISREG, "plain file")
    except NotPrivate:
        os.close(number)
        raise
    return number


def replace_file(folder: int, name: str, text: str) -> None:
    """Have a file of an opened folder hold `text`, whole or not at all, and for its owner alone."""
    new = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    with open(open_file(folder, new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)


def close_to_others(folder: int, names: Iterable[str]) -> None:
    """Take from other users what they may do with files, which another umask has left them."""
    for name in names:
        with contextlib.suppress(FileNotFoundError), open(open_file(folder, name, os.O_RDONLY), "rb") as file:
            os.fchmod(file.fileno(), 0o600)


def _check(status: os.stat_result, path: str | Path, is_kind: Callable[[int], bool], kind: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise NotPrivate(f"{path} is a link, and none is followed here. Name the {kind} itself, or remove the link.")
    if not is_kind(status.st_mode):
        raise NotPrivate(f"{path} is no {kind}.")
    if status.st_uid != os.geteuid():
        raise NotPrivate(f"{path} belongs to another user (uid {status.st_uid}). Name one of your own.")
