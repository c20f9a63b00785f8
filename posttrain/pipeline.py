"""Run a recipe: an ordered set of named stages, each turning input artefacts into one output artefact.

A run is a directory. runs/<recipe>/<stage>-<fingerprint>/ holds the stage's output and record.json. A stage whose
record exists is done; changing a knob, an input or the data changes the fingerprint, hence the directory. While a
stage works its directory is called <stage>-<fingerprint>.part, which is where a killed stage finds its checkpoint.

Left out on purpose: schedulers, parallel stages, deletion of old artefacts, run directories behind URLs (remote.py goes
around a stage through the hook `around`). Nothing else orchestrates.
"""

import fcntl
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError

from posttrain import parallel
from posttrain.edges import ARTICLE as ARTICLE
from posttrain.edges import check, in_stage
from posttrain.errors import UserError, nearest
from posttrain.progress import Progress, clock, number
from posttrain.rows import digest
from posttrain.spec import flat

Kind = Literal[
    "prompts", "demos", "pairs", "rankings", "ratings", "thumbs", "policy", "reward", "report", "decision", "release",
    "judge",
]  # fmt: skip
Metrics = dict[str, float]
AFTER = "after"  # the edge that says whether a stage may run, and nothing of what it makes: no part of its identity
Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Ref:
    """Marks a stage field as an edge: the name of an earlier stage whose artefact has one of these kinds."""

    kind: Kind


@dataclass(frozen=True)
class Runtime:
    """How and where a run happens; never part of an artefact's identity."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    sampler: Literal["local"] = "local"
    rows: Literal["auto", "memory", "mapped"] = "auto"  # where rows are held: auto maps large files
    # activations are computed again instead of kept: less memory, a third more time; offload: and what is kept, the
    # input of each layer, waits in the machine's memory instead of the GPU's
    checkpointing: bool | Literal["offload"] = False
    moments: Literal["fp32", "int8"] = "fp32"  # AdamW's two numbers a weight: 8 bytes, or 2 by bitsandbytes
    deterministic: bool = False  # only kernels that give the same bits every time; on a CPU it is so anyway
    not_finite: Literal["stop", "skip"] = "stop"  # what becomes of a step with a loss or gradient that is not finite
    price_per_hour: float = 0.0
    progress: Progress = field(default_factory=lambda: Progress("silent"))


@dataclass(frozen=True)
class Inputs:
    """The directories of a stage's input artefacts, by edge."""

    paths: Mapping[str, tuple[Path, ...]]

    def one(self, edge: str) -> Path:
        return self.paths[edge][0]

    def many(self, edge: str) -> tuple[Path, ...]:
        return self.paths.get(edge, ())


class Stage(BaseModel):
    """A box of the pipeline is its own config: fields are the knobs and the edges, `run` is the work.

    An edge is a field annotated `Annotated[str, Ref("policy")]`, or `str | None`, or `tuple[str, ...]` of them.
    after: a gate that must have passed for this stage to run, where no input says so already.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    makes: ClassVar[Kind]
    version: ClassVar[int] = 1  # raise by hand when the meaning of the output changes
    resumes: ClassVar[bool] = False  # True: a killed stage finds its own files again in `out`
    looks_back: ClassVar[bool] = False  # True: it reads records and logs of what its inputs were made of
    together: ClassVar[bool] = False  # True: all processes of a run work on it (parallel.py); else the first one alone
    places: ClassVar[frozenset[str]] = frozenset()  # knobs that say where something is; identity() says what it is

    after: Annotated[str | None, Ref("decision")] = None

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        """Write the artefact into `out`, return numbers to keep. seconds, tokens and flops have fixed meanings."""
        raise NotImplementedError

    def identity(self) -> dict[str, str]:
        """Digests of things outside the recipe that the output depends on: files read, weights named."""
        return {}

    def fits(self, sources: Mapping[str, "tuple[Stage, ...]"]) -> None:
        """UserError when the stages it is made from cannot, as they are set, give what it needs. Before any work."""

    def verdict(self, out: Path) -> Verdict:
        """Whether stages that depend on this one may run. Only gates say anything but pass."""
        return "pass"

    @classmethod
    def edge_kinds(cls) -> dict[str, Kind]:
        return _edge_kinds(cls)

    def edges(self) -> dict[str, tuple[str, ...]]:
        """Edge field -> names of the stages it points at (empty when optional and unset)."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.edge_kinds():
            value = getattr(self, name)
            if name == AFTER and value is None:  # every stage has it and few use it
                continue
            found[name] = () if value is None else (value,) if isinstance(value, str) else tuple(value)
        return found

    def knobs(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude=set(self.edge_kinds()))


@cache
def _edge_kinds(cls: type[Stage]) -> dict[str, Kind]:
    hints = get_type_hints(cls, include_extras=True)
    refs = ((name, arg) for name, hint in hints.items() for arg in _metadata(hint) if isinstance(arg, Ref))
    return {name: arg.kind for name, arg in refs}


def _metadata(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is not None and hasattr(hint, "__metadata__") else ()


class Record(BaseModel):
    """What made a directory: enough to rebuild it, to audit it and to refuse a stale copy."""

    stage: str
    type: str
    makes: Kind
    fingerprint: str
    knobs: dict[str, Any]
    edges: dict[str, tuple[str, ...]]  # edge -> stage names
    inputs: dict[str, tuple[str, ...]]  # edge -> fingerprints
    identity: dict[str, str]
    metrics: Metrics
    seconds: float
    peak_gib: float
    started: float  # Unix time, seconds
    versions: dict[str, str]
    verdict: Verdict = "pass"

    @classmethod
    def read(cls, folder: Path) -> "Record":
        path = folder / "record.json"
        try:
            return cls.model_validate_json(path.read_text())
        except FileNotFoundError:
            raise UserError("this is not a finished artefact (no record.json)", where=str(folder)) from None
        except ValidationError as error:
            raise UserError(f"unreadable record: {error.errors()[0]['msg']}", where=str(path)) from None


@dataclass(frozen=True)
class Step:
    """One line of a plan: what would happen to a stage, and why."""

    name: str
    stage: Stage
    fingerprint: str
    folder: Path
    state: Literal["done", "run", "resume"]
    why: str


Around = Callable[[Step, Mapping[str, Path]], AbstractContextManager[None]]  # a step, the folders made before it


def fingerprint(stage: Stage, inputs: Mapping[str, tuple[str, ...]], identity: Mapping[str, str]) -> str:
    """10 hex digits over the stage's type, version, knobs, input fingerprints and outside digests."""
    inputs = {edge: prints for edge, prints in inputs.items() if prints}
    knobs = {k: v for k, v in stage.knobs().items() if k not in stage.places}
    return digest([type(stage).__name__, stage.version, knobs, inputs, dict(identity)])[:10]


def plan(stages: Mapping[str, Stage], root: Path) -> list[Step]:
    """What `run` would do, and why. Reads records and data files, touches neither weights nor network."""
    check(stages)
    prints: dict[str, str] = {}
    steps: list[Step] = []
    for name, stage in stages.items():
        with in_stage(name):
            inputs, identity = _inputs(stage, prints), stage.identity()
        prints[name] = fingerprint(stage, inputs, identity)
        folder = root / f"{name}-{prints[name]}"
        state, why = _state(stage, name, folder, root, inputs, identity)
        steps.append(Step(name, stage, prints[name], folder, state, why))
    return steps


def _inputs(stage: Stage, prints: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What the stage is made of: every edge but the one that only says when it may run."""
    return {edge: tuple(prints[s] for s in sources) for edge, sources in stage.edges().items() if edge != AFTER}


def _state(
    stage: Stage,
    name: str,
    folder: Path,
    root: Path,
    inputs: Mapping[str, tuple[str, ...]],
    identity: Mapping[str, str],
) -> tuple[Literal["done", "run", "resume"], str]:
    if (folder / "record.json").exists():
        return "done", ""
    if stage.resumes and _part(folder).exists():
        return "resume", "was interrupted"
    last = _latest(root, name)
    if last is None:
        return "run", "never ran"
    return "run", "; ".join(_changes(last, stage, inputs, identity)) or "its code changed"


def _latest(root: Path, name: str) -> Record | None:
    records = [Record.read(p.parent) for p in root.glob(f"{name}-??????????/record.json")]
    return max(records, key=lambda r: r.started, default=None)


def _changes(
    last: Record, stage: Stage, inputs: Mapping[str, tuple[str, ...]], identity: Mapping[str, str]
) -> Iterator[str]:
    """Differences between the last finished record of this name and what is asked for now."""
    old, new = flat(last.knobs), flat(stage.knobs())
    for knob in sorted(old.keys() | new.keys()):
        if knob not in new:
            yield f"{knob} is gone"
        elif knob not in old:
            yield f"{knob} is new, {new[knob]!r}"
        elif old[knob] != new[knob]:
            yield f"{knob}: {old[knob]!r} -> {new[knob]!r}"
    for edge, prints in inputs.items():
        if tuple(last.inputs.get(edge, ())) != prints:
            yield f"input {edge} ({', '.join(stage.edges()[edge])}) is rebuilt"
    for what in sorted(last.identity.keys() | identity.keys()):
        if last.identity.get(what) != identity.get(what):
            yield f"{what} changed on disk"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: every finished stage's directory, and the gates that did not pass."""

    folders: dict[str, Path]
    stopped: dict[str, Verdict]  # gate name -> its verdict, only those that are not pass
    skipped: dict[str, str]  # stage -> the gate that blocked it


def run(
    stages: Mapping[str, Stage],
    root: Path,
    runtime: Runtime,
    *,
    steps: list[Step] | None = None,
    after: Callable[[str, Path], None] | None = None,
    around: Around | None = None,
) -> Outcome:
    """Run what is not done yet, in order. A stage behind a gate that did not pass is skipped, the others still run."""
    steps = steps if steps is not None else plan(stages, root)
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        folders: dict[str, Path] = {}
        blocked: dict[str, str] = {}
        stopped: dict[str, Verdict] = {}
        for step in steps:
            gates = {blocked[s] for sources in step.stage.edges().values() for s in sources if s in blocked}
            if gates:
                blocked[step.name] = min(gates)
                runtime.progress.say(f"{step.name}: not run, gate {min(gates)!r} did not pass")
                continue
            with in_stage(step.name), around(step, folders) if around else nullcontext():
                record = _do(step, folders, runtime)
            folders[step.name] = step.folder
            if record.verdict != "pass":
                blocked[step.name], stopped[step.name] = step.name, record.verdict
            if after:
                after(step.name, step.folder)
        return Outcome(folders, stopped, {s: g for s, g in blocked.items() if s not in stopped})


def run_one(
    stages: Mapping[str, Stage], root: Path, runtime: Runtime, name: str, *, around: Around | None = None
) -> Outcome:
    """Run one stage against a run directory that others fill, for schedulers: its inputs must be finished there.

    Several stages may run at the same time, each by a process (or a machine with a shared file system) of its own.
    """
    steps = {s.name: s for s in plan(stages, root)}
    if name not in steps:
        raise UserError(f"there is no stage {name!r} in this recipe", where="--only", remedy=nearest(name, steps))
    folders: dict[str, Path] = {}
    for source in {s for sources in steps[name].stage.edges().values() for s in sources}:
        folder = steps[source].folder
        if not (folder / "record.json").exists():
            raise UserError(
                f"{name!r} needs {source!r}, which is not finished in {root}", where="--only",
                remedy=f"run it first: --only {source}",
            )  # fmt: skip
        if (verdict := Record.read(folder).verdict) != "pass":
            runtime.progress.say(f"{name}: not run, gate {source!r} did not pass")
            return Outcome({}, {source: verdict}, {name: source})
        folders[source] = folder
    root.mkdir(parents=True, exist_ok=True)
    outer = around(steps[name], folders) if around else nullcontext()
    with locked(root, shared=True), locked(root, f".lock-{name}"), in_stage(name), outer:
        record = _do(steps[name], folders, runtime)
    stopped: dict[str, Verdict] = {} if record.verdict == "pass" else {name: record.verdict}
    return Outcome({name: steps[name].folder}, stopped, {})


def _part(folder: Path) -> Path:
    return folder.with_name(folder.name + ".part")


def _do(step: Step, folders: Mapping[str, Path], runtime: Runtime) -> Record:
    if parallel.agreed((step.folder / "record.json").exists()):
        runtime.progress.say(f"{step.name}: done before")
        return parallel.led(lambda: Record.read(step.folder))
    if not step.stage.together:
        return parallel.led(lambda: _make(step, folders, runtime))
    return _make(step, folders, runtime)


def _make(step: Step, folders: Mapping[str, Path], runtime: Runtime) -> Record:
    part, stage = _part(step.folder), step.stage
    if not stage.resumes:
        shutil.rmtree(part, ignore_errors=True)
    parallel.led(lambda: part.mkdir(parents=True, exist_ok=True))
    inputs = Inputs({edge: tuple(folders[s] for s in sources) for edge, sources in stage.edges().items()})
    runtime.progress.say(f"{step.name} ({_type(stage)}) ...")
    wall, start = time.time(), time.perf_counter()
    with parallel.workplace(part) as out:
        metrics = stage.run(inputs, out, runtime)
    seconds = metrics.pop("seconds", 0.0) or time.perf_counter() - start  # a resumed stage counts its earlier parts
    record = Record(
        stage=step.name, type=_type(stage), makes=stage.makes, fingerprint=step.fingerprint, knobs=stage.knobs(),
        edges=stage.edges(), inputs={e: tuple(p.name[-10:] for p in ps) for e, ps in inputs.paths.items()},
        identity=stage.identity(), metrics=metrics, seconds=seconds, peak_gib=peak_gib(), started=wall,
        versions=versions(), verdict=stage.verdict(part),
    )  # fmt: skip
    record = parallel.led(lambda: _finished(record, part, step.folder))
    runtime.progress.say(f"{step.name}: {clock(seconds)}{_headline(metrics)}")
    return record


def _finished(record: Record, part: Path, folder: Path) -> Record:
    write_text(part / "record.json", record.model_dump_json(indent=2))
    part.rename(folder)  # the record and the output appear together or not at all
    return record


def _headline(metrics: Metrics) -> str:
    shown = [f"{k} {number(v)}" for k, v in metrics.items() if "." not in k and k not in ("tokens", "flops")][:4]
    return " · " + " · ".join(shown) if shown else ""


def _type(stage: Stage) -> str:
    return str(getattr(stage, "type", type(stage).__name__.lower()))


def write_text(path: Path, text: str) -> None:
    """Write, sync, rename: the file is whole or absent, also after a power cut."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    part.rename(path)


@contextmanager
def locked(root: Path, name: str = ".lock", *, shared: bool = False) -> Iterator[None]:
    """Hold the run directory (or one stage of it) alone; a second run is told who has it. The lock dies with its
    process. shared: several may hold it so at one time, but nobody beside them alone."""
    if parallel.rank():  # the first process holds it for all
        yield
        return
    path = root / name
    with path.open("a+") as f:
        try:
            fcntl.flock(f, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            f.seek(0)
            raise UserError(
                f"another run (process {f.read().strip() or 'unknown'}) is working in this directory",
                where=str(root), remedy="wait for it, or give this run its own directory with --runs",
            ) from None  # fmt: skip
        if not shared:
            f.truncate(0)
            f.write(str(os.getpid()))
            f.flush()
        yield


def peak_gib() -> float:
    """Peak resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@cache
def versions() -> dict[str, str]:
    """Versions of what computed the artefact."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("posttrain", "torch", "transformers", "tokenizers", "peft", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
