"""The command line: run, plan, show, diff, chat, serve, label, export, schema, doctor.

Commands import what they need when they run, so that --help answers at once. A UserError ends with its message and
exit code 2; a gate that did not pass with 1 (fail) or 3 (inconclusive); Ctrl-C with 130, and the run resumes.
Left out on purpose: logic. Everything here calls something that can be called from Python.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from posttrain.errors import UserError, nearest

app = typer.Typer(
    name="posttrain", no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    help="From a base language model to a released assistant, one recipe at a time.",
)  # fmt: skip

STOPPED = "stopped; run the same command again to go on from here"
USAGE: Any = typer.BadParameter.__mro__[2]  # click's ClickException, which newer typer carries inside itself

RunsOption = Annotated[str, typer.Option("--runs", help="Folder that holds the runs, or a URL: s3://bucket/runs.")]
OverridesArgument = Annotated[list[str] | None, typer.Argument(help="stage.key=value, for example dpo.loss.beta=0.2")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"posttrain {version('posttrain')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which one.")
    ] = False,
) -> None:
    """What all commands share."""


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: OverridesArgument = None,
    runs: RunsOption = "runs",
    bad_rows: Annotated[str, typer.Option(help="error: stop at a row that cannot be read; skip: list it.")] = "error",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the end.")] = False,
    only: Annotated[str, typer.Option(help="One stage, whose inputs are finished; for schedulers. No report.")] = "",
) -> None:
    """Run what is not done yet, then write the report."""
    from posttrain import parallel, pipeline, remote
    from posttrain import recipe as recipes
    from posttrain.gates import TOO_FEW
    from posttrain.progress import Progress

    with parallel.started():  # one process, or all those that torchrun started
        loaded = recipes.load(recipe, [*(overrides or []), *_bad_rows(recipe, bad_rows)])
        progress = Progress("silent" if quiet or parallel.rank() else "auto")
        place = remote.place(runs, loaded.name, progress)
        parallel.led(place.known)
        parallel.led(place.settle)
        if only:
            outcome = pipeline.run_one(loaded.stages, place.root, loaded.start(progress), only, around=place.around)
        else:
            steps = pipeline.plan(loaded.stages, place.root)
            for line in _foreseen(loaded.stages, steps):
                if line.endswith(TOO_FEW):  # `posttrain plan` says of every rule what it can find
                    progress.say(line)
            outcome = pipeline.run(loaded.stages, place.root, loaded.start(progress), steps=steps, around=place.around)
        if parallel.rank():
            return
    if only:
        end_one(only, place, outcome)
        return
    pipeline.write_text(place.root / "recipe.yaml", _resolved(loaded))
    finish(loaded, place, outcome)


def _bad_rows(recipe: str, choice: str) -> list[str]:
    """--bad-rows skip as overrides of every stage that reads files."""
    from posttrain import recipe as recipes

    if choice not in ("error", "skip"):
        raise UserError(f"--bad-rows takes error or skip, not {choice!r}", remedy=nearest(choice, ("error", "skip")))
    if choice == "error":
        return []
    stages = recipes.load(recipe).stages
    return [f"{name}.bad_rows=skip" for name, s in stages.items() if "bad_rows" in type(s).model_fields]


def _resolved(loaded: Any) -> str:
    """The recipe as it ran: the file's text, and the overrides as comments above it."""
    lines = [f"# override: {o}\n" for o in loaded.overrides]
    return "".join(lines) + str(loaded.text)


def end_one(name: str, place: Any, outcome: Any) -> None:
    """Where the one stage's artefact is; a gate's exit code."""
    if name in outcome.folders:
        typer.echo(f"{name}: {place.shown(outcome.folders[name])}")
    _exit_code(outcome)


def _exit_code(outcome: Any) -> None:
    if "fail" in outcome.stopped.values():
        raise typer.Exit(1)
    if outcome.stopped:
        raise typer.Exit(3)


def finish(loaded: Any, place: Any, outcome: Any) -> None:
    """Write the report, print where it is, and end with the gate's exit code."""
    from posttrain import report

    root = place.root
    place.light([folder.name for folder in outcome.folders.values()])
    page = report.write(root, loaded.name, _resolved(loaded), outcome.folders, outcome, loaded.runtime.price_per_hour)
    for line in report.examples(outcome.folders):
        typer.echo(line)
    for name, folder in outcome.folders.items():
        if loaded.stages[name].makes == "release":
            typer.echo(f"released model: {place.shown(folder / 'model')}")
    place.publish(root / "recipe.yaml", page)
    typer.echo(f"report: {page}" + (f", {place.shown(page)}" if place.url else ""))
    for gate, verdict in outcome.stopped.items():
        typer.echo(f"gate {gate!r}: {verdict}; not run because of it: {', '.join(outcome.skipped) or 'nothing'}")
    _exit_code(outcome)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: OverridesArgument = None,
    runs: RunsOption = "runs",
) -> None:
    """Say what would run, and why.

    Touches no weights, and no network but the records of a URL.
    """
    from posttrain import pipeline, remote
    from posttrain import recipe as recipes

    loaded = recipes.load(recipe, overrides or [])
    place = remote.place(runs, loaded.name)
    place.known()
    steps = pipeline.plan(loaded.stages, place.root)
    width = max(len(s.name) for s in steps)
    for step in steps:
        state = {"done": "done  ", "run": "run   ", "resume": "resume"}[step.state]
        kind = getattr(step.stage, "type", "")
        typer.echo(f"{state}  {step.name:<{width}}  {kind:<12} {step.fingerprint}  {step.why}".rstrip())
    for line in _foreseen(loaded.stages, steps):
        typer.echo(line)
    todo = sum(s.state != "done" for s in steps)
    typer.echo(f"{todo} of {len(steps)} stages to run in {place.shown(place.root)}")


def _foreseen(stages: Any, steps: Any) -> list[str]:
    """What the gates that are still to decide can find at all, said before anything runs."""
    from posttrain.stages.gate import Gate

    gates = {s.name: stages[s.name] for s in steps if s.state != "done" and isinstance(stages[s.name], Gate)}
    return [f"{n} can tell: {line}" for n, gate in gates.items() for line in gate.forecast(stages[gate.baseline])]


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="A data file, a bundled name, a stage folder or a run folder.")],
    model: Annotated[str, typer.Option(help="Whose tokenizer and template to show rows with.")] = "bundled",
    rows: Annotated[int, typer.Option(min=0, help="How many rows.")] = 5,
    train_on: Annotated[str, typer.Option(help="assistant, last or all.")] = "assistant",
    vote: Annotated[str, typer.Option(help="Of a run: what became of this vote (event number or hash).")] = "",
    row: Annotated[str, typer.Option(help="Of a run: the votes behind this row, and the weights it reached.")] = "",
) -> None:
    """Print rows as trained, or what a run is made of.

    Rows of data with the trained tokens coloured; of a run or a stage what is known of it, from weights to votes.
    """
    from posttrain import show as shows

    if vote or row:
        shows.told(what, vote=vote, row=row)
        return
    shows.show(what, model=model, rows=rows, train_on=train_on)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="A run folder or URL, or a stage folder in it.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
) -> None:
    """Print what differs between two runs.

    Knobs, inputs and metrics, of two runs or of two stage folders.
    """
    from posttrain.report.diff import diff as difference

    typer.echo(difference(a, b))


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A run, a model folder, a Hugging Face id, or 'bundled'.")],
    against: Annotated[str | None, typer.Argument(help="A second model, answering side by side.")] = None,
    temperature: Annotated[float, typer.Option(min=0, max=100, help="0 takes the likeliest token.")] = 0.0,
    max_new: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 200,
    system: Annotated[str, typer.Option(help="System message.")] = "",
) -> None:
    """Talk with a model, or with two side by side.

    Several turns, streaming; questions may also come line by line from a pipe.
    """
    from posttrain.chat import converse

    if temperature != temperature:  # a range has nothing against NaN
        raise typer.BadParameter("nan is not a number", param_hint="--temperature")
    try:
        converse([m for m in (model, against) if m], temperature=temperature, max_new=max_new, system=system)
    except KeyboardInterrupt:  # the usual way out; there is nothing to go on from
        typer.echo()


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="A run, a model folder, a Hugging Face id, or 'bundled'.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[str, typer.Option(envvar="POSTTRAIN_API_KEY", help="Ask clients for this key.")] = "",
    name: Annotated[str, typer.Option(help="What clients call the model; the folder's name if not given.")] = "",
    slots: Annotated[int, typer.Option(min=1, help="Answers drawn at once.")] = 16,
    queue: Annotated[
        int, typer.Option(min=1, help="Answers that may wait before clients are told to come again.")
    ] = 1024,
    feedback: Annotated[
        Path | None, typer.Option(help="Folder for POST /v1/feedback; kept nowhere if not given.")
    ] = None,
    reload: Annotated[bool, typer.Option(help="Read the weights anew at POST /v1/reload, for training.")] = False,
) -> None:
    """Serve a model over the OpenAI protocol.

    Chat, completions, log-probabilities, and feedback that becomes rows.
    """
    from posttrain.serve import start

    start(model, host=host, port=port, key=api_key, name=name, slots=slots, queue=queue, log=feedback, reload=reload)


@app.command()
def label(
    project: Annotated[str, typer.Option(help="Short name of the project; made if there is none.")],
    kind: Annotated[str | None, typer.Option(help="pair, ranking, rating, thumb, rewrite, demo or safety.")] = None,
    items: Annotated[str | None, typer.Option(help="A file of items to import: JSON Lines, JSON, CSV.")] = None,
    models: Annotated[tuple[str, str] | None, typer.Option(help="Two models whose answers are compared.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model whose answers are shown, once for each: one, or more than two.")
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="With --models or --model: the prompts they answer.")] = None,
    labels: Annotated[int, typer.Option(min=1, help="Answers wanted for each item of a new project.")] = 1,
    title: Annotated[str, typer.Option(help="Title of a new project.")] = "",
    db: Annotated[
        str, typer.Option(help="Where votes are kept: a SQLite file or a postgresql:// URL.")
    ] = "feedback.db",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that serve; several need PostgreSQL.")] = 1,
) -> None:
    """Serve the labelling pages.

    People compare, rank, rate and rewrite answers in the browser.
    """
    from posttrain import label as labelling

    labelling.label(
        project, kind=labelling.known_kind(kind), title=title, labels=labels, items=items,
        models=(*(models or ()), *(model or ())), prompts=prompts, db=db, host=host, port=port, workers=workers,
        say=typer.echo,
    )  # fmt: skip


@app.command()
def feedback_rows(
    log: Annotated[Path, typer.Argument(help="The folder given to serve --feedback.")],
    out: Annotated[Path, typer.Argument(help="Folder to write train/ and holdout/ into.")],
) -> None:
    """Make rows of what users said.

    What people said of served answers becomes training rows; a tenth stays held out.
    """
    from posttrain.serve.feedback import write_rows

    for name, count in write_rows(log, out).items():
        typer.echo(f"{count:>6}  {out / name}.jsonl")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A run, a stage folder or a model folder.")],
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
) -> None:
    """Copy a model as a Hugging Face folder."""
    from posttrain.export import export as copy

    typer.echo(copy(model, target))


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    import json

    from posttrain import recipe as recipes

    typer.echo(json.dumps(recipes.schema(), indent=2))


@app.command()
def doctor() -> None:
    """Say what this machine has and what is missing.

    What will be used, and how to get what is missing.
    """
    from posttrain.doctor import lines

    for line in lines():
        typer.echo(line)


def main(argv: list[str] | None = None) -> None:
    """Entry point: errors a person can mend become one message, everything else keeps its traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers and containers say Ctrl-C that way
    sys.exit(guarded(lambda: app(args=argv, standalone_mode=False)))


def guarded(work: Callable[[], Any]) -> int:
    """Run `work`; returns the exit code, the message printed."""
    try:
        code = work() or 0  # outside standalone mode an Exit comes back as its code
        return _complain(STOPPED, code) if code == 130 else code  # newer typer makes Ctrl-C an Exit
    except UserError as error:
        return _complain("\n".join(error.lines()), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _complain(STOPPED, 130)
    except USAGE as error:  # a wrong option or argument
        error.show()
        return 2
    except OSError as error:
        return _disk(error)
    except Exception as error:
        return _resources(error)


def _disk(error: OSError) -> int:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f" at {error.filename}" if error.filename else ""
        return _complain(f"the disk is full{where}\n  try: free some space and run again; finished stages are kept", 2)
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return _complain(
            f"{error.filename}: not allowed ({error.strerror})\n  try: another folder, or mend its rights", 2
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG) and error.filename:
        remedy = "check the paths that were given: a file may stand where a folder is needed, or the other way round"
        return _complain(f"{error.filename}: {str(error.strerror).lower()}\n  try: {remedy}", 2)
    if isinstance(error, BrokenPipeError):  # `posttrain show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    raise error


def _resources(error: Exception) -> int:
    """Memory and disk that ran out inside libraries, which raise exceptions of their own; operators without a
    deterministic kernel; anything else is a bug."""
    text = str(error)
    if "No space left on device" in text or "File too large" in text:
        return _complain(
            f"the disk is full ({text})\n  try: free some space and run again; finished stages are kept", 2
        )
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return _complain(
            "out of memory\n  try: lower micro_tokens of the training stage (same result, less at once), "
            "or train with lora; checkpoints are kept", 2,
        )  # fmt: skip
    if "does not have a deterministic implementation" in text or "not deterministic because it uses CuBLAS" in text:
        name = text.split(" does not", 1)[0] if " does not" in text else "cuBLAS"
        return _complain(
            f"{name} gives other bits every time on this device, and runtime.deterministic does not allow that\n"
            "  try: runtime.deterministic=false, or runtime.device=cpu; checkpoints are kept", 2,
        )  # fmt: skip
    raise error


def _complain(text: str, code: int) -> int:
    from posttrain import parallel

    if parallel.speaks():
        typer.echo(f"posttrain: {text}", err=True)
    return code


if __name__ == "__main__":
    main()
