"""A run directory behind a URL, and its mirror in this machine's cache: stages of one run on different machines.

    URL/<recipe>/<stage>-<fingerprint>/...          the artefact's files, as in a folder; record.json goes last
    URL/<recipe>/.files/<stage>-<fingerprint>.json  sizes and digests of them; what has such a list is finished
    URL/<recipe>/.locks/<stage>-<fingerprint>.json  who works on it (lease.py)
    URL/<recipe>/.parts/                            checkpoints of what is not finished (parts.py)

Planning fetches lists and records, a stage that runs fetches its inputs whole, a finished artefact is pushed. Artefacts
do not change, so that a size tells whether a file has arrived; digests are compared on arrival. What a killed push
carried over stays, the next run of any stage by this mirror carries the rest. What the store has counts: a local copy
that another machine was faster with is thrown away. Links to other artefacts stay links, other links become files.

Left out on purpose: deleting artefacts; several machines that train one stage together (they write one checkpoint,
which needs a shared folder); base models by URL in a recipe.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from posttrain import bundled, parallel
from posttrain.errors import UserError
from posttrain.files import digest_of_file
from posttrain.pipeline import AFTER, Record, Step, locked
from posttrain.progress import Progress
from posttrain.remote import lease, parts
from posttrain.remote.bucket import Bucket, bucket, is_url, told
from posttrain.remote.listing import Files, arrive, listed

LISTS, LOCKS = ".files", ".locks"


@dataclass
class Place:
    """Where a run lives: a folder (no url), or a URL with its mirror `root` here."""

    root: Path
    url: str = ""
    progress: Progress = field(default_factory=lambda: Progress("silent"))
    lists: dict[str, Files] = field(default_factory=dict)
    held: lease.Lease = field(init=False)  # of the stage that runs now, and what pushes its checkpoints
    keeper: parts.Keeper | None = None

    # ---- for the command line ----------------------------------------------------------------------------------------

    def known(self) -> None:
        """Bring what the store holds into the mirror: lists and records, nothing else."""
        if not self.url:
            return
        with told(self.url):
            names = [n for n in self.bucket.sizes(LISTS) if n.endswith(".json")]
            found = self.bucket.read_all([f"{LISTS}/{n}" for n in names])
            for n in names:
                self._adopt(n.removesuffix(".json"), found[f"{LISTS}/{n}"])
            for mark in (self.root / LISTS).glob("*.json"):
                if mark.name not in names:
                    self._forget(mark)

    def settle(self) -> None:
        """Push what is finished here and was not pushed, because a network or a process went away."""
        for folder in sorted(p.parent for p in self.root.glob("*-??????????/record.json")) if self.url else ():
            if folder.name in self.lists:
                continue
            with ExitStack() as stack:
                try:
                    stack.enter_context(locked(self.root, shared=True))
                    stack.enter_context(locked(self.root, f".lock-{folder.name[:-11]}"))
                    held = stack.enter_context(self._leased(folder.name))
                except UserError as error:
                    self.progress.say(f"{folder.name}: not pushed now; {error.what}")
                    continue
                if folder.name not in self.lists:
                    self._push(folder, held)

    def light(self, names: list[str] | None = None) -> None:
        """Everything but weights, of these artefacts or of all: what a report reads."""
        for name in ([*self.lists] if names is None else names) if self.url else ():
            if name in self.lists:
                self._pull(name, light=True)

    def whole(self, name: str) -> Path:
        """The folder of an artefact with everything in it, and in what it links to."""
        if name in self.lists:
            self._pull(name)
        return self.root / name

    def publish(self, *paths: Path) -> None:
        """Push files that stand beside the artefacts: the report, the recipe."""
        for path in paths if self.url else ():
            with told(self.shown(path), f"{path} was written, but could not be pushed"):
                self.bucket.put(path, path.relative_to(self.root).as_posix(), lambda n: None)

    def shown(self, path: Path) -> str:
        """How people call a path of the run."""
        inner = path.relative_to(self.root).parts if self.url else ()
        return "/".join((self.url, *inner)) if self.url else str(path)

    # ---- for the pipeline --------------------------------------------------------------------------------------------

    @contextmanager
    def around(self, step: Step, folders: Mapping[str, Path]) -> Iterator[None]:
        """What happens before and after a stage's work: lease, inputs; push. A stage that is done costs nothing."""
        with ExitStack() as stack:
            held = parallel.led(lambda: self._before(step, folders, stack)) if self.url else False
            try:
                yield
            except KeyboardInterrupt:
                if held and self.keeper:  # rank 0
                    self.keeper.stopped()
                raise
            if held:
                parallel.led(lambda: self._after(step.folder))

    def _before(self, step: Step, folders: Mapping[str, Path], stack: ExitStack) -> bool:
        """Whether the stage is to be pushed."""
        name = step.folder.name
        if name in self.lists:
            return False
        self.held, self.keeper = stack.enter_context(self._leased(name)), None
        if name in self.lists:  # another machine has finished it by now
            return False
        edges = step.stage.edges().items()
        inputs = [folders[source].name for edge, sources in edges if edge != AFTER for source in sources]
        for key in inputs:
            self.whole(key)
        if step.stage.looks_back:
            self.light(_past(inputs, self.root))
        if step.stage.resumes:
            with told(self.url):
                parts.resume(self.bucket, self.root, name, self.progress.say)
            self.keeper = parts.Keeper(self.bucket, self.root, name, self.held, self.progress.say)
            stack.callback(self.keeper.end)
        return True

    def _after(self, folder: Path) -> None:
        if self.keeper:
            self.keeper.end()
        self._push(folder, self.held)

    @contextmanager
    def _leased(self, name: str) -> Iterator[lease.Lease]:
        with told(f"{self.url}/{LOCKS}"):
            held = lease.take(self.bucket, f"{LOCKS}/{name}.json", self.mirror, self.progress.say)
        try:
            with told(self.url):
                if data := self.bucket.read(f"{LISTS}/{name}.json"):
                    self._adopt(name, data)
            yield held
        finally:
            held.end()

    # ---- out ---------------------------------------------------------------------------------------------------------

    def _push(self, folder: Path, held: lease.Lease) -> None:
        where, doing = f"{self.url}/{folder.name}", f"finished in {folder}, but not pushed"
        with told(where, doing):
            mark, files = f"{LISTS}/{folder.name}.json", listed(folder, self.root)
            text = files.model_dump_json().encode()
            if self.bucket.read(mark + ".part") != text:  # nothing of a push of ours is there to go on from
                self.bucket.write(mark + ".part", text)
                there = {}
            else:
                there = self.bucket.sizes(folder.name)
            todo = {n: size for n, (size, _) in files.files.items() if there.get(n) != size}
            for name, moved in self._moving(f"push {folder.name}", todo):
                held.check()
                self.bucket.put(folder / name, f"{folder.name}/{name}", moved)
            there = self.bucket.sizes(folder.name)
            if wrong := [n for n, (size, _) in files.files.items() if there.get(n) != size]:
                raise OSError(f"{wrong[0]} arrived with {there.get(wrong[0], 0)} bytes")
            held.check()
            self.bucket.write(mark, text)
            self.bucket.remove(mark + ".part")
            self._mark(folder.name, text, files)
            parts.forget(self.bucket, self.root, folder.name)

    def _moving(self, title: str, todo: Mapping[str, int]) -> Iterator[tuple[str, Callable[[float], None]]]:
        """Files one by one, with what to tell of their bytes; record.json is the last."""
        with self.progress.task(title, total=sum(todo.values()) / 1e6) as tick:
            for name in sorted(todo, key=lambda n: (n == "record.json", n)):
                seen = [0.0]

                def moved(n: float, seen: list[float] = seen, most: int = todo[name]) -> None:
                    n = min(n, most - seen[0])  # a file that is carried twice counts once
                    seen[0] += n
                    tick(n / 1e6)

                yield name, moved
                moved(todo[name])

    # ---- in ----------------------------------------------------------------------------------------------------------

    def _adopt(self, name: str, data: bytes) -> None:
        """Take over what the store says about an artefact; a list that is half written says nothing."""
        try:
            files = Files.model_validate_json(data)
        except ValidationError:
            return
        folder, mark = self.root / name, self.root / LISTS / f"{name}.json"
        self.lists[name] = files
        record = folder / "record.json"
        if record.exists() and mark.is_file() and mark.read_bytes() == data:
            return
        if record.exists() and digest_of_file(record) != files.files["record.json"][1]:
            shutil.rmtree(folder)
        self._pull(name, only={"record.json"})
        self._mark(name, data, files)

    def _mark(self, name: str, data: bytes, files: Files) -> None:
        path = self.root / LISTS / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        new.write_bytes(data)
        new.rename(path)
        self.lists[name] = files

    def _forget(self, mark: Path) -> None:
        """The store has lost an artefact: what is whole here will be pushed again, what is not counts no more."""
        folder = self.root / mark.stem
        if lacks(folder):
            shutil.rmtree(folder, ignore_errors=True)
        mark.unlink()

    def _pull(self, name: str, *, light: bool = False, only: set[str] | None = None) -> None:
        files, folder = self.lists[name], self.root / name
        wanted = only or (files.light() if light else set(files.files))
        todo = {n: size for n, size in files.lacking(folder).items() if n in wanted}
        with told(f"{self.url}/{name}", "could not be fetched"):
            for file, moved in self._moving(f"fetch {name}", todo):
                self._fetch(name, file, moved)
        for link, target in files.links.items() if only is None else ():
            if not (folder / link).is_symlink():
                (folder / link).parent.mkdir(parents=True, exist_ok=True)
                (folder / link).symlink_to(os.path.relpath(self.root / target, (folder / link).parent))
            if not light:
                self.whole(target.split("/")[0])

    def _fetch(self, name: str, file: str, moved: Callable[[float], None]) -> None:
        what = self.lists[name].files[file]
        try:
            arrive(self.bucket, f"{name}/{file}", self.root / name / file, what, self.root / parts.SCRATCH, moved)
        except UserError as error:
            remedy = f"delete {self.url}/{LISTS}/{name}.json and run its stage again"
            raise UserError(error.what, where=error.where, remedy=remedy) from None

    @cached_property
    def bucket(self) -> Bucket:
        return bucket(self.url)

    @cached_property
    def mirror(self) -> str:
        """The name of this mirror, drawn once. Two that draw at the same time refuse each other, which is safe."""
        path = self.root / ".mirror"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".mirror-{uuid.uuid4().hex}")
            draft.write_text(uuid.uuid4().hex)
            draft.replace(path)
        return path.read_text()


def place(runs: str, name: str, progress: Progress | None = None) -> Place:
    """The place of run `name` below a folder or a URL. UserError when several machines would share a mirror."""
    if not is_url(runs):
        return Place(Path(runs) / name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > int(os.environ.get("LOCAL_WORLD_SIZE", world)):
        raise UserError(
            "machines that train a stage together write one checkpoint, which needs a folder that all of them see",
            where=runs, remedy="--runs with a shared folder, or one machine for this stage",
        )  # fmt: skip
    url = f"{runs.rstrip('/')}/{name}" if name else runs.rstrip("/")
    mirror = f"{url.rpartition('/')[2]}-{sha256(url.encode()).hexdigest()[:16]}"
    return Place(bundled.cache() / "runs" / mirror, url, progress or Progress("silent"))


def found(url: str, progress: Progress | None = None) -> tuple[Place, str]:
    """The run behind a URL and '', or the run around a stage's URL and the stage's folder name."""
    above, _, last = url.rstrip("/").rpartition("/")
    for run, stage in ((url, ""), (above, last)):
        here = place(run, "", progress)
        here.known()
        if here.lists and (not stage or stage in here.lists):
            return here, stage
    raise UserError(
        "there is no finished stage here", where=url,
        remedy="give what was given to --runs with the recipe's name behind it, s3://bucket/runs/assistant",
    )  # fmt: skip


def local(what: str | Path, *, light: bool = True, progress: Progress | None = None) -> Path:
    """A path as it is; a run's or a stage's URL as its mirror, with all that was made before it but without weights.

    light False: records only.
    """
    if not is_url(what):
        return Path(what).expanduser()
    here, stage = found(str(what), progress)
    if light:
        here.light(_past([stage], here.root) if stage else None)
    return here.root / stage


def lacks(folder: Path) -> bool:
    """Whether this is an artefact of a mirror whose weights were not fetched."""
    mark = folder.parent / LISTS / f"{folder.name}.json"
    return mark.is_file() and bool(Files.at(mark).lacking(folder))


def _past(names: list[str], root: Path) -> list[str]:
    """These artefacts and everything they were made of, as far as it is known here."""
    seen: list[str] = []
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in seen and (root / name / "record.json").exists():
            seen.append(name)
            record = Record.read(root / name)
            todo += [f"{s}-{p}" for e, prints in record.inputs.items() for s, p in zip(record.edges[e], prints)]
    return seen
