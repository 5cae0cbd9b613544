"""Zip and tar files, unpacked by our own hands: regular files only, inside the target only, within limits."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lib.errors import DarkroomError

MOST_FILES = 2_000_000
MOST_BYTES = 400_000_000_000
GREATEST_RATIO = 200
"""Unpacked over packed size above which a file counts as a bomb; pictures hardly shrink in an archive."""

FREE_OF_RATIO = 50_000_000
"""Bytes that an archive may hold whatever the ratio: a few blank pages do shrink a thousandfold."""

_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]' if os.name == "nt" else r"[\x00-\x1f]")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    handle: zipfile.ZipInfo | tarfile.TarInfo


def unpacked_bytes(archive: Path) -> int:
    """Returns the size that the archive says its regular files have. Raises DarkroomError when it is beyond the limits."""
    with _opened(archive) as (members, _):
        return _within_limits(archive, members)


def extract(archive: Path, target: Path) -> int:
    """Unpacks the regular files of `archive` into the folder `target` and returns how many there were.

    Links and devices are left out. No more bytes are written for a file than the archive declared.
    Raises DarkroomError for a name that leads out of the target, for two members of one name, and beyond the limits.
    """
    with _opened(archive) as (members, read):
        _within_limits(archive, members)
        seen: set[str] = set()
        for member in members:
            parts = _parts(archive, member.name)
            path = target.joinpath(*parts)
            if str(path).casefold() in seen:
                raise DarkroomError(f"The archive {archive} holds {member.name!r} twice; pack it anew.")
            seen.add(str(path).casefold())
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with read(member) as source, path.open("xb") as file:
                    _copy(source, file, member, archive)
            except DarkroomError:
                raise
            except Exception as error:  # damage may raise anything, and a name may be none that this disk can hold
                told = f"{member.name!r} is damaged, locked or has no name for a file ({error})"
                raise DarkroomError(f"The archive {archive} cannot be unpacked: {told}.") from error
        return len(members)


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[list[_Member], object]]:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                files = [item for item in opened.infolist() if not item.is_dir() and _regular(item)]
                yield [_Member(item.filename, item.file_size, item) for item in files], lambda one: opened.open(one.handle)
        else:
            with tarfile.open(archive) as opened:
                files = [item for item in opened.getmembers() if item.isreg()]
                yield [_Member(item.name, item.size, item) for item in files], lambda one: opened.extractfile(one.handle)
    except DarkroomError:
        raise
    except Exception as error:  # parsers fed with broken bytes may raise anything: all of it means that they are broken
        told = str(error).partition("\n")[0].rstrip(":")
        raise DarkroomError(f"{archive} is not an archive that can be read ({told}); fetch it again.") from error


def _regular(item: zipfile.ZipInfo) -> bool:
    kind = item.external_attr >> 16 & 0o170000  # 0 where it was not packed on Unix
    return kind in (0, 0o100000)


def _within_limits(archive: Path, members: list[_Member]) -> int:
    total, packed = sum(member.size for member in members), max(1, archive.stat().st_size)
    if len(members) > MOST_FILES:
        raise DarkroomError(f"The archive {archive} holds {len(members):,} files; the limit is {MOST_FILES:,}.")
    if total > MOST_BYTES:
        raise DarkroomError(f"The archive {archive} unpacks to {total / 1e9:,.0f} GB; the limit is {MOST_BYTES / 1e9:,.0f} GB.")
    if total > FREE_OF_RATIO and total / packed > GREATEST_RATIO:
        raise DarkroomError(
            f"The archive {archive} unpacks to {total / packed:,.0f} times its size, as bombs do; the limit is "
            f"{GREATEST_RATIO} times. Unpack it yourself if you trust it and give the folder."
        )
    return total


def _parts(archive: Path, name: str) -> list[str]:
    plain = name.replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    climbs = any(not part.strip(". ") for part in parts)  # Windows takes ".. " for ".."
    if plain.startswith("/") or climbs or not parts or _FORBIDDEN.search(plain):
        raise DarkroomError(f"The archive {archive} holds the name {name!r}, which leads out of it or is no file name.")
    return parts


def _copy(source: IO[bytes], file: IO[bytes], member: _Member, archive: Path) -> None:
    left = member.size
    while block := source.read(min(_BLOCK, left + 1)):
        left -= len(block)
        if left < 0:
            raise DarkroomError(f"The archive {archive} lies about the size of {member.name!r}; it was not unpacked.")
        file.write(block)
