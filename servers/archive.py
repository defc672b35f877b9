"""A model in SageMaker's layout: ``model.tar.gz`` or a folder, read without trusting it.

Weights lie at the top, the program in ``code/``. Nothing of the model is executed here.
"""

import errno
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from bench.errors import ConfigError
from servers.program import check_program, program_name

MAX_MEMBERS = 10_000
MAX_UNPACKED_BYTES = 20 * 10**9
MAX_PROGRAM_BYTES = 10 * 10**6
MAX_HEADER_BYTES = 1_000_000
"""Most bytes between two files of an archive: a "long name" must not fill the memory."""

_CHUNK_BYTES = 1 << 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_model(path: Path, program: str | None = None) -> None:
    """Return if ``path`` is a whole, safe model with a usable program; else ConfigError."""
    program = program or program_name()
    if path.is_dir():
        source = _program_in(path, program)
    else:
        found = read_member(path, f"code/{program}", MAX_PROGRAM_BYTES, to_end=True)
        if found is None:
            raise _no_program(path, program)
        source = found
    check_program(source, f"{path}: code/{program}")


def unpack_model(path: Path, into: Path, program: str | None = None) -> Path:
    """Make ``into`` a checked model folder: an archive is unpacked, a folder is linked.

    ``into`` must not exist yet. It appears whole or not at all.
    """
    program = program or program_name()
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise ConfigError(f"{into} is in the way: name a folder that does not exist yet.")
    with _explained(path):
        into.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        check_model(path, program)
        into.symlink_to(path.resolve(), target_is_directory=True)
        return into
    draft = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
    try:
        _unpack(path, draft)
        check_program(_program_in(draft, program, path), f"{path}: code/{program}")
        draft.chmod(0o755)
        draft.rename(into)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return into


def pack_model(folder: Path, archive: Path) -> None:
    """Write ``folder`` as an archive: the same files always give the same bytes."""
    with _explained(archive):
        archive.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=f".{archive.name}.", dir=archive.parent)
        try:
            with os.fdopen(descriptor, "wb") as raw:
                _pack(folder, [p for p in model_files(folder) if p != archive], raw)
            os.chmod(draft, 0o644)
            os.replace(draft, archive)
        finally:
            Path(draft).unlink(missing_ok=True)


def fingerprint(path: Path) -> str:
    """SHA-256 of an archive, or of a folder's file names and contents, in hexadecimal."""
    with _explained(path):
        if not path.is_dir():
            return _sha256(path)
        total = hashlib.sha256()
        for file in model_files(path):
            total.update(f"{_sha256(file)} {file.relative_to(path).as_posix()}\n".encode())
        return total.hexdigest()


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder in a fixed order, without what Python caches there."""
    files = (
        path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    )
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def read_member(path: Path, name: str, limit: int, *, to_end: bool = False) -> bytes | None:
    """One file of an archive, of ``limit`` bytes at most; None when there is none.

    With ``to_end`` the whole archive is read and found safe and complete, too.
    """
    found: bytes | None = None
    for member, chunks in _members(path):
        if member != name or chunks is None:
            continue
        found = _joined(chunks, limit, f"{path}: {name}")
        if not to_end:
            break
    return found


def _unpack(archive: Path, folder: Path) -> None:
    for name, chunks in _members(archive):
        target = folder / name
        with _explained(archive):
            if chunks is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as file:
                file.writelines(chunks)


def _pack(folder: Path, files: list[Path], raw: IO[bytes]) -> None:
    # A file name or a time in the gzip header would make equal models differ.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in files:
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size = path.stat().st_size
            with open(path, "rb") as file:
                tar.addfile(member, file)


class _Budget:
    """A stream that stops when more was read than the caller has allowed."""

    def __init__(self, stream: gzip.GzipFile, refuse: Callable[[], ConfigError]) -> None:
        self._stream = stream
        self._refuse = refuse
        self.left_bytes = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.left_bytes -= len(data)
        if self.left_bytes < 0:
            raise self._refuse()
        return data


def _members(archive: Path) -> Iterator[tuple[str, Iterator[bytes] | None]]:
    """Name and contents of each file, in order; contents are None for a folder.

    What was declared is not believed: bytes are counted as they come out of the stream.
    """
    if not archive.exists():
        raise ConfigError(f"{archive} does not exist. Name a model.tar.gz or a model folder.")

    def oversized() -> ConfigError:
        return ConfigError(
            f"{archive}: a member's header is over {MAX_HEADER_BYTES:,} bytes. {_REPACK}"
        )

    with _explained(archive), gzip.open(archive, "rb") as stream:
        budget = _Budget(stream, oversized)
        budget.left_bytes = MAX_HEADER_BYTES
        with tarfile.open(fileobj=budget, mode="r|") as tar:  # type: ignore[call-overload]
            total, count = 0, 0
            while (member := tar.next()) is not None:
                count += 1
                if count > MAX_MEMBERS:
                    raise ConfigError(f"{archive} holds over {MAX_MEMBERS:,} members. {_REPACK}")
                name = _safe_name(archive, member)
                budget.left_bytes = MAX_UNPACKED_BYTES
                contents = _Contents(archive, member.name, total)
                file = None if member.isdir() else tar.extractfile(member)
                if name:
                    yield name, None if file is None else contents.chunks(file)
                if file is not None:
                    for _ in contents.chunks(file):  # what the caller did not want to see
                        pass
                total = contents.total_bytes
                budget.left_bytes = MAX_HEADER_BYTES
                tar.members = []  # a stream never goes back
        while stream.read(_CHUNK_BYTES):  # to the end, where the checksum is
            pass


class _Contents:
    """Reads one member in pieces and counts them into the archive's total."""

    def __init__(self, archive: Path, name: str, total_bytes: int) -> None:
        self._archive = archive
        self._name = name
        self.total_bytes = total_bytes

    def chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        while chunk := self._read(file):
            self.total_bytes += len(chunk)
            if self.total_bytes > MAX_UNPACKED_BYTES:
                raise ConfigError(
                    f"{self._archive}: {self._name!r} takes the archive over "
                    f"{MAX_UNPACKED_BYTES / 1e9:g} GB unpacked. Use a smaller model, or name its "
                    "folder instead of the archive."
                )
            yield chunk

    def _read(self, file: IO[bytes]) -> bytes:
        with _explained(self._archive):
            return file.read(_CHUNK_BYTES)


_REPACK = "Pack it again with only regular files: tar -czf model.tar.gz -C FOLDER ."


def _safe_name(archive: Path, member: tarfile.TarInfo) -> str:
    """The member's name inside the model folder; ConfigError for anything that could leave it."""
    where = f"{archive}: {member.name!r}"
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\0" in member.name:
        raise ConfigError(f"{where} points out of the model folder. {_REPACK}")
    plain = member.isdir() or (member.type in (tarfile.REGTYPE, tarfile.AREGTYPE))
    if not plain or member.issparse():
        raise ConfigError(f"{where} is a link, a device or a sparse file. {_REPACK}")
    return "" if str(name) == "." else str(name)


def _program_in(folder: Path, program: str, named: Path | None = None) -> bytes:
    path = folder / "code" / program
    with _explained(named or folder):
        if not path.is_file():
            raise _no_program(named or folder, program)
        with open(path, "rb") as file:
            return _joined(iter([file.read(MAX_PROGRAM_BYTES + 1)]), MAX_PROGRAM_BYTES, str(path))


def _no_program(path: Path, program: str) -> ConfigError:
    return ConfigError(
        f"{path} holds no code/{program}. Put the program with model_fn and predict_fn there, "
        "or name it in SAGEMAKER_PROGRAM."
    )


def _joined(chunks: Iterator[bytes], limit: int, where: str) -> bytes:
    data = b""
    for chunk in chunks:
        data += chunk
        if len(data) > limit:
            raise ConfigError(f"{where} is over {limit:,} bytes. Make it smaller.")
    return data


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What goes wrong with files and archives, as a sentence with its remedy."""
    try:
        yield
    except gzip.BadGzipFile as error:
        raise ConfigError(f"{path} is not a gzip archive ({error}). {_REPACK}") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} is damaged or cut short ({error}). {_REPACK}") from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise ConfigError(
                f"No room on disk for {path} ({error.strerror}). Free some space, or work in a "
                "folder on a larger disk."
            ) from error
        raise ConfigError(
            f"{path} cannot be used: {error}. Check the path and its rights."
        ) from error
