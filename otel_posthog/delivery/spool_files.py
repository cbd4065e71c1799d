"""The few file operations that the spool needs, in one place, so that a test can let each of them fail or crash."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Protocol


class Files(Protocol):
    """File operations; every one raises OSError where it fails. Handles are small integers."""

    def make_folder(self, path: str) -> None:
        """Makes a folder that only its owner may enter, with its parents; fine where it exists."""
        ...

    def names(self, path: str) -> list[str]:
        """Names in a folder; empty where there is no folder."""
        ...

    def create(self, path: str) -> int:
        """Opens a new file for appending; fails where it exists."""
        ...

    def append(self, handle: int, data: bytes) -> None:
        """Appends all of `data`."""
        ...

    def cut(self, handle: int, size: int) -> None:
        """Cuts an appended file back to `size`."""
        ...

    def sync(self, handle: int) -> None:
        """Makes the content of a file durable."""
        ...

    def sync_folder(self, path: str) -> None:
        """Makes the names in a folder durable."""
        ...

    def same(self, handle: int, path: str) -> bool:
        """Whether `path` still names the open file; False where there is none."""
        ...

    def close(self, handle: int) -> None:
        """Closes a handle; never raises."""
        ...

    def size(self, path: str) -> int:
        """Bytes in a file."""
        ...

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        ...

    def write_small(self, path: str, data: bytes) -> None:
        """Overwrites the start of a small file in place, not durably."""
        ...

    def remove(self, path: str) -> None:
        """Removes a file; fine where there is none."""
        ...

    def remove_folder(self, path: str) -> None:
        """Removes an empty folder; fine where there is none."""
        ...

    def lock(self, path: str) -> int | None:
        """Locks a file, made if need be, until `close` or the end of the process; `None` where another one has it."""
        ...


class OsFiles:
    """The operating system's files. Nothing survives into programs that are executed (`O_CLOEXEC`)."""

    def make_folder(self, path: str) -> None:
        """See `Files`."""
        try:
            self._make(path)
        except FileExistsError:
            if not os.path.isdir(path):  # noqa: PTH112 - paths are text throughout this layer
                raise
        except FileNotFoundError:
            # One by one: makedirs would give parents the ordinary mode.
            parent = os.path.dirname(path)  # noqa: PTH120
            if not os.path.isdir(parent):  # noqa: PTH112
                if not parent:
                    raise  # the working directory is gone
                self.make_folder(parent)
            # Once more and no oftener: some file systems (/proc) answer so for ever.
            try:
                self._make(path)
            except FileExistsError:  # another process was faster
                if not os.path.isdir(path):  # noqa: PTH112
                    raise

    def _make(self, path: str) -> None:
        os.mkdir(path, 0o700)  # noqa: PTH102
        # What is in it is only as durable as its own name; a parent that may not be read is somebody else's.
        with contextlib.suppress(OSError):
            self.sync_folder(os.path.dirname(path) or ".")  # noqa: PTH120

    def names(self, path: str) -> list[str]:
        """See `Files`."""
        try:
            return sorted(os.listdir(path))  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return []

    def create(self, path: str) -> int:
        """See `Files`."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def append(self, handle: int, data: bytes) -> None:
        """See `Files`."""
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]

    def cut(self, handle: int, size: int) -> None:
        """See `Files`."""
        os.ftruncate(handle, size)

    def sync(self, handle: int) -> None:
        """See `Files`; without the file's times where the system can leave them out."""
        getattr(os, "fdatasync", os.fsync)(handle)

    def sync_folder(self, path: str) -> None:
        """See `Files`."""
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def same(self, handle: int, path: str) -> bool:
        """See `Files`."""
        try:
            return os.path.samestat(os.fstat(handle), os.stat(path))  # noqa: PTH116
        except FileNotFoundError:
            return False

    def close(self, handle: int) -> None:
        """See `Files`."""
        with contextlib.suppress(OSError):
            os.close(handle)

    def size(self, path: str) -> int:
        """See `Files`."""
        return os.stat(path).st_size  # noqa: PTH116

    def read(self, path: str, offset: int, size: int) -> bytes:
        """See `Files`."""
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(handle, size, offset)
        finally:
            os.close(handle)

    def write_small(self, path: str, data: bytes) -> None:
        """See `Files`."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, data, 0)
        finally:
            os.close(handle)

    def remove(self, path: str) -> None:
        """See `Files`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108

    def remove_folder(self, path: str) -> None:
        """See `Files`."""
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path)  # noqa: PTH106

    def lock(self, path: str) -> int | None:
        """See `Files`; `flock`, which the kernel drops when the process dies, however it dies."""
        try:
            import fcntl
        except ImportError:  # Windows
            raise OSError(errno.ENOTSUP, "no flock on this system") from None

        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last owner may have removed the folder between our open and our lock: then we hold a ghost.
            if self.same(handle, path):
                return handle
        except OSError:
            pass
        os.close(handle)
        return None
