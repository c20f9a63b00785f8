"""Checkpoints of a stage that is not finished, pushed now and then, so that another machine can go on from them.

    URL/<recipe>/.parts/<stage>-<fingerprint>.json  which files, by digest
    URL/<recipe>/.parts/<stage>-<fingerprint>/...   their bytes, called by their digests: what has not changed stays

A moment is caught when no file changed while they were linked (large ones) or copied (small ones). A thread does this
every EVERY seconds, and never for more than a fifth of the time; a stage that is told to stop pushes once more, as far
as it is let. Left out on purpose: pushing only the changed parts of a file.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from posttrain.errors import UserError
from posttrain.remote.bucket import Bucket, told
from posttrain.remote.lease import Lease
from posttrain.remote.listing import Files, arrive, listed

PARTS, SCRATCH = ".parts", ".fetch"
EVERY = 300.0
LARGE = 64 << 20  # bytes; such files are replaced by their writers, never written into
Say = Callable[[str], None]


class Keeper:
    """Pushes the unfinished stage in `part` until `end`."""

    def __init__(self, bucket: Bucket, root: Path, name: str, held: Lease, say: Say):
        self.bucket, self.root, self.name, self.held, self.say = bucket, root, name, held, say
        self.over, self.last = threading.Event(), _state(root / f"{name}.part")
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        wait = EVERY
        while not self.over.wait(wait):
            start = time.monotonic()
            self._try()
            wait = max(EVERY, 4 * (time.monotonic() - start))

    def _try(self) -> None:
        try:
            with told(self.bucket.url, f"the checkpoint of {self.name} was not pushed"):
                self.push()
        except (UserError, OSError) as error:  # the stage goes on, and so does the next try
            self.say(str(error).splitlines()[0])

    def push(self) -> None:
        """Push what has changed, if anything has and nothing is changing."""
        part, copy = self.root / f"{self.name}.part", self.root / SCRATCH / f"{self.name}.part"
        state = _state(part)
        if not state or state == self.last:
            return
        shutil.rmtree(copy, ignore_errors=True)
        try:
            _copy(part, copy, state)
            if _state(part) != state:
                return  # it is being written; next time
            files = listed(copy, self.root)
            had, has = set(self.bucket.sizes(f"{PARTS}/{self.name}")), {digest for _, digest in files.files.values()}
            for name, (_, digest) in files.files.items():
                if digest not in had and not self.over.is_set():
                    self.bucket.put(copy / name, f"{PARTS}/{self.name}/{digest}", lambda n: None)
            if self.over.is_set():
                return
            self.held.check()
            text = files.model_dump_json()
            self.bucket.write(f"{PARTS}/{self.name}.json", text.encode())
            _mark(self.root, self.name, text)
            self.last = state
            for digest in had - has:
                self.bucket.remove(f"{PARTS}/{self.name}/{digest}")
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def stopped(self) -> None:
        """Ctrl-C, or SIGTERM of a scheduler: what was reached is pushed. A second one ends that."""
        self.end()
        self.over.clear()
        self.say(f"{self.name}: stopped; its checkpoint is pushed, Ctrl-C leaves that out")
        self._try()

    def end(self) -> None:
        self.over.set()
        self.thread.join()


def resume(bucket: Bucket, root: Path, name: str, say: Say) -> None:
    """Fetch the checkpoint of an unfinished stage, if another machine got further than this one."""
    data = bucket.read(f"{PARTS}/{name}.json")
    part, copy = root / f"{name}.part", root / SCRATCH / f"{name}.part"
    if data is None or (part.exists() and _marked(root, name) == data):
        return
    shutil.rmtree(copy, ignore_errors=True)
    try:
        for file, what in Files.model_validate_json(data).files.items():
            arrive(bucket, f"{PARTS}/{name}/{what[1]}", copy / file, what, root / SCRATCH, lambda n: None)
    except (ValueError, UserError, FileNotFoundError):  # half of one: the stage begins anew, as it would without
        say(f"{name}: the checkpoint in {bucket.url} is not whole, it is not used")
        shutil.rmtree(copy, ignore_errors=True)
        return
    shutil.rmtree(part, ignore_errors=True)
    copy.rename(part)
    _mark(root, name, data.decode())
    say(f"{name}: goes on from the checkpoint in {bucket.url}")


def forget(bucket: Bucket, root: Path, name: str) -> None:
    """Remove the checkpoint of a stage that is finished."""
    bucket.remove(f"{PARTS}/{name}.json")
    for digest in bucket.sizes(f"{PARTS}/{name}"):
        bucket.remove(f"{PARTS}/{name}/{digest}")
    (root / PARTS / f"{name}.json").unlink(missing_ok=True)


def _state(part: Path) -> dict[str, tuple[int, int, int]]:
    """Name -> inode, time, bytes of every file; {} as well when files come and go at this moment."""
    try:
        found = {p: p.stat() for p in sorted(part.rglob("*")) if p.is_file()}
    except FileNotFoundError:
        return {}
    return {p.relative_to(part).as_posix(): (s.st_ino, s.st_mtime_ns, s.st_size) for p, s in found.items()}


def _copy(part: Path, copy: Path, state: dict[str, tuple[int, int, int]]) -> None:
    for name, (_, _, size) in state.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            (os.link if size >= LARGE else shutil.copyfile)((part / name).resolve(), copy / name)
        except FileNotFoundError:
            return  # replaced by now, which the comparison of states will tell


def _mark(root: Path, name: str, text: str) -> None:
    """Note which of the store's checkpoints the local one has gone on from."""
    (root / PARTS).mkdir(parents=True, exist_ok=True)
    (root / PARTS / f"{name}.json").write_text(text)


def _marked(root: Path, name: str) -> bytes:
    path = root / PARTS / f"{name}.json"
    return path.read_bytes() if path.exists() else b""
