"""Who owns a file, and who could read it: commands run as root serve a service's user.

What root writes gets the owner of the folder that it is written into. What a process may not read
or write is one message with the command that mends it, and exit code 78.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from protos.domain.errors import ConfigInvalid, InvalidRequest

#: Entries looked at in a state folder; models have few files, tables at most three.
_MAX_CHECKED = 20_000


def adopt(target: int | Path, folder: Path) -> None:
    """Give a file (its descriptor) or a folder, made by root, the owner of ``folder``."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    if isinstance(target, int):
        os.fchown(target, owner.st_uid, owner.st_gid)
    else:
        os.chown(target, owner.st_uid, owner.st_gid, follow_symlinks=False)


def adopt_all(folder: Path) -> None:
    """Give everything below ``folder``, made by root, the owner of ``folder``.

    By descriptors of the folders, so that nobody can put a link in the place of one meanwhile.
    """
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for _, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            _give(name, owner.st_uid, owner.st_gid, descriptor)


def _give(name: str, uid: int, gid: int, descriptor: int) -> None:
    """Give an entry of an open folder to a user, unless it has other names.

    A file's other name may be that of anybody's, put here by who may write in this folder.
    """
    found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
        os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)


@contextlib.contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """Let root be the user to whom ``folder`` is, or will be made for, and no more than that.

    What that user has put there, a link to a file of root's among it, then leads to nothing that
    the user could not do alone. Files made meanwhile are the user's. Raises: ConfigInvalid for a
    file that the user may not use, or when this root may not become another user.
    """
    uid, gid = _holder_of(folder)
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    before = os.getgroups(), os.getegid()
    try:
        os.setgroups(os.getgrouplist(user_name(uid), gid) if _is_named(uid) else [gid])
        os.setegid(gid)
        os.seteuid(uid)
    except PermissionError as error:
        problem = f"{folder} belongs to {user_name(uid)}, and this root may not act as that user"
        raise ConfigInvalid([problem], f"run this as {user_name(uid)}") from error
    try:
        yield
    except PermissionError as error:
        if not isinstance(error.filename, str | bytes):
            raise
        raise not_allowed(Path(os.fsdecode(error.filename)), below=folder) from error
    finally:
        os.seteuid(0)
        os.setegid(before[1])
        os.setgroups(before[0])


def _holder_of(folder: Path) -> tuple[int, int]:
    """Return the user, and its group, who decides what ``folder`` is.

    That is its owner, and before it the owner of the first folder, or link, above it that is not
    root's: who may replace that, may replace all below it.
    """
    holder = (0, 0)
    for path in reversed((folder.absolute(), *folder.absolute().parents)):
        try:
            found = path.lstat()
        except OSError:
            break
        holder = found.st_uid, found.st_gid
        if found.st_uid != 0:
            break
    return holder


def _is_named(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def give_folder(folder: Path, user: str) -> None:
    """Give ``folder``, made if it is missing, and everything below it to ``user``.

    Raises: InvalidRequest for an unknown user, or when this process is not root.
    """
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise InvalidRequest(
            f"--user: there is no user {user[:64]!r} on this host", "make it first: useradd"
        ) from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise InvalidRequest(
            f"--user {user}: only root may give files to another user",
            f"run this as root, or as {user} without --user",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        adopt_all(folder)


def keep_owner(folder: Path, user: str) -> None:
    """Before a command writes into a service's folder: give it to ``user`` if one is named.

    Raises: InvalidRequest, as ``give_folder``.
    """
    if user:
        give_folder(folder, user)


def belongs_to_root(folder: Path) -> bool:
    """Whether root, who runs this, owns what it has written: no service of another user can."""
    return os.geteuid() == 0 and folder.stat().st_uid == 0


def user_name(uid: int) -> str:
    """Return the name of a user, its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of a group, its number if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def not_allowed(path: Path, *, below: Path | None = None) -> ConfigInvalid:
    """Return the error for a file that this process may not use, with the command that mends it.

    ``below`` is the state folder that it belongs to, which is then given to the running user as a
    whole; without it the file stays its owner's and becomes readable to the running group.
    """
    user, group = user_name(os.geteuid()), group_name(os.getegid())
    blamed = _blamed(path)
    problem = f"{path} cannot be used by the user {user}: {_described(blamed)}"
    if _is_anothers_home(blamed):
        owner = user_name(blamed.stat().st_uid)
        return ConfigInvalid([problem], f"name a place that {user} may use, or run it as {owner}")
    if below is not None and blamed not in below.absolute().parents:
        return ConfigInvalid([problem], f"as root: chown -R {user}:{group} {below}")
    mode = "g+rx" if blamed.is_dir() else "g+r"
    return ConfigInvalid([problem], f"as root: chgrp {group} {blamed} && chmod {mode} {blamed}")


def _is_anothers_home(folder: Path) -> bool:
    """Whether it is a user's home, or a folder of the system: no place to open for a service."""
    homes = {entry.pw_dir for entry in pwd.getpwall()}
    return len(folder.absolute().parts) <= 2 or str(folder) in homes


def require_usable(folder: Path, *, leave_out: str = "") -> None:
    """Check that this process may read its state folder, and write what others own in it.

    ``leave_out`` names an entry of it that others may own. Raises: ConfigInvalid naming the first
    file that it may not use, its owner and the mending.
    """
    if not os.path.lexists(folder):
        return
    for path in (folder, *_below(folder)):
        if leave_out and path.is_relative_to(folder / leave_out):
            continue
        if stat.S_ISSOCK(path.lstat().st_mode) or path.is_symlink():
            continue
        wanted = os.R_OK | (os.X_OK if path.is_dir() else 0)
        if path.lstat().st_uid != os.geteuid():  # one's own may be read-only on purpose
            wanted |= os.W_OK
        if not os.access(path, wanted, effective_ids=True):
            raise not_allowed(path, below=folder)


def _below(folder: Path) -> Iterator[Path]:
    """Yield what is below ``folder``, links not followed; what cannot be listed is left out."""
    seen = 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            seen += 1
            if seen > _MAX_CHECKED:
                return
            yield Path(parent, name)


def _blamed(path: Path) -> Path:
    """Return ``path``, or the first of the folders above it that this process may not enter."""
    deepest = Path("/")
    for parent in reversed(path.absolute().parents):
        if not parent.is_dir():
            break
        if not os.access(parent, os.X_OK, effective_ids=True):
            return parent
        deepest = parent
    return path if os.path.lexists(path) else deepest


def _described(path: Path) -> str:
    try:
        found = path.lstat()
    except OSError as error:
        return f"{path}: {error.strerror}"
    owner = f"{user_name(found.st_uid)}:{group_name(found.st_gid)}"
    return f"{path} belongs to {owner}, mode {stat.S_IMODE(found.st_mode):04o}"
