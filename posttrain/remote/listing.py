"""What a folder holds, with digests, and how a file arrives: whole and right, or not at all.

Left out on purpose: modes, owners, times, empty folders.
"""

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from posttrain.errors import UserError
from posttrain.files import digest_of_file
from posttrain.remote.bucket import Bucket

WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf", ".npy", ".npz")  # what a report or a plan never reads


class Files(BaseModel):
    """What an artefact consists of. files: name -> (bytes, SHA-256); links: name -> place in the run directory."""

    files: dict[str, tuple[int, str]]
    links: dict[str, str] = {}

    def light(self) -> set[str]:
        return {name for name in self.files if not name.endswith(WEIGHTS)}

    def lacking(self, folder: Path) -> dict[str, int]:
        """Bytes of the files that are not in the folder."""
        return {name: size for name, (size, _) in self.files.items() if not there(folder / name, size)}

    @classmethod
    def at(cls, path: Path) -> "Files":
        return cls.model_validate_json(path.read_bytes())


def listed(folder: Path, root: Path) -> Files:
    """A folder's files. Links to artefacts of the run at `root` stay links, others are followed."""
    files, links, top = {}, {}, root.resolve()

    def visit(path: Path) -> None:
        for p in sorted(path.iterdir()):
            name = p.relative_to(folder).as_posix()
            target = p.resolve()
            if p.is_symlink() and any(
                (a / "record.json").exists() for a in (target, *target.parents) if a.parent == top
            ):
                links[name] = target.relative_to(top).as_posix()
            elif p.is_dir():
                visit(p)
            else:
                files[name] = (p.stat().st_size, digest_of_file(p))

    visit(folder)
    return Files(files=files, links=links)


def arrive(
    bucket: Bucket, source: str, target: Path, what: tuple[int, str], scratch: Path, moved: Callable[[float], None]
) -> None:  # fmt: skip
    """Fetch a file, which appears when its bytes are those of `what`. UserError when they are not, twice."""
    size, digest = what
    part = scratch / f"{digest[:20]}-{os.getpid()}"
    for _ in range(2):
        bucket.get(source, part, moved)
        if there(part, size) and digest_of_file(part) == digest:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            return
    part.unlink()
    raise UserError("this file is not the one that was pushed (its digest differs)", where=f"{bucket.url}/{source}")


def there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
