"""A folder behind an fsspec URL (s3://bucket/prefix, gs://, sftp://, file://, memory://): read, write, list, carry.

Every mistake of people or of the store becomes one UserError; what may pass by itself is tried again. fsspec is
imported when a URL is opened. Left out on purpose: renames (object stores have none), listings that are remembered.
"""

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from posttrain.errors import UserError, nearest

T = TypeVar("T")
WAITS = (1.0, 4.0, 15.0)  # seconds before each further try
DRIVERS = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs",
    "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol", "oss": "ossfs", "oci": "ocifs",
}  # fmt: skip
FLAT = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "tos", "obs", "memory")  # no folders to make
FINAL = (UserError, PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError)  # another try is the same
KEYS = ("NoCredentials", "PartialCredentials", "Unauthorized", "Authentication", "DefaultCredentials", "RefreshError")


def is_url(text: str | Path) -> bool:
    return "://" in str(text)


@dataclass(frozen=True)
class Bucket:
    """Paths are relative to the URL."""

    url: str
    fs: Any
    base: str

    def read(self, path: str) -> bytes | None:
        """A file's bytes, None when there is none."""
        try:
            return bytes(tried(lambda: self.fs.cat_file(self._at(path))))
        except FileNotFoundError:
            return None

    def read_all(self, paths: list[str]) -> dict[str, bytes]:
        found = tried(lambda: self.fs.cat([self._at(p) for p in paths])) if paths else {}
        return {p: bytes(found[self._at(p)]) for p in paths}

    def write(self, path: str, data: bytes) -> None:
        self._folder(path)
        tried(lambda: self.fs.pipe_file(self._at(path), data))

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that must not be there; False when it is. At once on local disks, S3, Google, memory."""
        self._folder(path)
        try:
            if "file" in _protocols(self.fs):
                with self.fs.open(self._at(path), "xb") as f:
                    f.write(data)
            else:
                self.fs.pipe_file(self._at(path), data, mode="create")
        except FileExistsError:
            return False
        except (TypeError, NotImplementedError):  # a driver that knows no exclusive writing
            if self.read(path) is not None:
                return False
            self.write(path, data)
        except OSError:
            if self.read(path) is None:
                raise
            return False
        return True

    def remove(self, path: str) -> None:
        try:
            tried(lambda: self.fs.rm_file(self._at(path)))
        except FileNotFoundError:
            return

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file below a folder, named relative to it."""
        self.fs.invalidate_cache()
        try:
            found = tried(lambda: self.fs.find(self._at(folder), detail=True))
        except FileNotFoundError:
            if "s3" in _protocols(self.fs):  # it finds nothing in a folder that is not there: the bucket is missing
                raise
            return {}
        start = len(self._at(folder)) + 1
        return {path[start:]: int(info["size"]) for path, info in found.items() if len(path) > start}

    def put(self, local: Path, path: str, moved: Callable[[float], None]) -> None:
        self._folder(path)
        tried(lambda: self.fs.put_file(str(local), self._at(path), callback=_callback(moved)))

    def get(self, path: str, local: Path, moved: Callable[[float], None]) -> None:
        local.parent.mkdir(parents=True, exist_ok=True)
        tried(lambda: self.fs.get_file(self._at(path), str(local), callback=_callback(moved)))

    def _at(self, path: str) -> str:
        return f"{self.base}/{path}"

    def _folder(self, path: str) -> None:
        if not set(_protocols(self.fs)) & set(FLAT):
            self.fs.makedirs(self._at(path).rpartition("/")[0], exist_ok=True)


def bucket(url: str) -> Bucket:
    """UserError when the protocol is unknown or its package is missing."""
    try:
        import fsspec
    except ImportError:
        raise UserError("URLs need fsspec", where=url, remedy="pip install fsspec") from None
    protocol = url.partition("://")[0]
    try:
        fs, base = fsspec.url_to_fs(url.rstrip("/"))
    except ImportError as error:
        package = DRIVERS.get(protocol)
        remedy = f"pip install {package}" if package else str(error).splitlines()[0]
        raise UserError(f"{protocol}:// needs a package that is not installed", where=url, remedy=remedy) from None
    except ValueError as error:
        if protocol in fsspec.available_protocols():
            raise UserError(f"not a URL that {protocol}:// takes: {error}", where=url) from None
        remedy = nearest(protocol, ("s3", "gs", "az", "sftp", "file"))
        raise UserError(f"unknown protocol {protocol!r}", where=url, remedy=remedy) from None
    return Bucket(url.rstrip("/"), fs, base.rstrip("/"))


@contextmanager
def told(url: str, doing: str = "") -> Iterator[None]:
    """Whatever the store's driver raises inside becomes one message; a full disk and bugs of ours stay."""
    try:
        yield
    except (UserError, TypeError, AttributeError, KeyError, AssertionError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        what, remedy = _reason(error)
        raise UserError(f"{doing}: {what}" if doing else what, where=url, remedy=remedy) from None


def _reason(error: Exception) -> tuple[str, str]:
    name, text = type(error).__name__, (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, PermissionError) or any(key in name for key in KEYS):
        return (
            f"no permission ({text})",
            "check the credentials of this machine, and that they may read and write there",
        )
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket or folder", "check its name, or make it"
    if "Connect" in name or isinstance(error, TimeoutError):
        return f"the store cannot be reached ({text:.160})", "check the address and the network; then run it again"
    return (
        f"the store cannot be used ({name}: {text:.160})",
        "run the same command again; what was carried over is kept",
    )


def tried(work: Callable[[], T]) -> T:
    """The result of work, which is tried again a few times when it fails for reasons that may pass."""
    for wait in (*WAITS, None):
        try:
            return work()
        except Exception as error:
            if wait is None or isinstance(error, FINAL) or any(key in type(error).__name__ for key in KEYS):
                raise
            time.sleep(wait)
    raise AssertionError("not reached")


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _callback(moved: Callable[[float], None]) -> Any:
    """fsspec's callback out of ours, which is told how many bytes came on top."""
    from fsspec.callbacks import Callback

    class Moved(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            moved(inc)

    return Moved()
