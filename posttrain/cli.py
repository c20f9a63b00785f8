"""The command line: run, plan, show, diff, chat, export, schema, doctor.

Commands import what they need when they run, so that --help answers at once. A UserError ends with its message and
exit code 2; a gate that did not pass with 1 (fail) or 3 (inconclusive); Ctrl-C with 130, and the run resumes.
Left out on purpose: logic. Everything here calls something that can be called from Python.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from posttrain.errors import UserError

app = typer.Typer(
    name="posttrain", no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    pretty_exceptions_enable=False, help="From a base language model to a released assistant, one recipe at a time.",
)  # fmt: skip

STOPPED = "stopped; run the same command again to go on from here"
USAGE: Any = typer.BadParameter.__mro__[2]  # click's ClickException, which newer typer carries inside itself

RunsOption = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]
OverridesArgument = Annotated[list[str] | None, typer.Argument(help="stage.key=value, for example dpo.loss.beta=0.2")]


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    bad_rows: Annotated[str, typer.Option(help="error: stop at a row that cannot be read; skip: list it.")] = "error",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the end.")] = False,
) -> None:
    """Run what is not done yet, then write the report."""
    from posttrain import pipeline
    from posttrain import recipe as recipes
    from posttrain.progress import Progress

    loaded = recipes.load(recipe, [*(overrides or []), *_bad_rows(recipe, bad_rows)])
    progress = Progress("silent" if quiet else "auto")
    root = runs / loaded.name
    outcome = pipeline.run(loaded.stages, root, loaded.start(progress))
    pipeline.write_text(root / "recipe.yaml", _resolved(loaded))
    finish(loaded, root, outcome)


def _bad_rows(recipe: str, choice: str) -> list[str]:
    """--bad-rows skip as overrides of every stage that reads files."""
    from posttrain import recipe as recipes

    if choice not in ("error", "skip"):
        raise UserError(f"--bad-rows takes error or skip, not {choice!r}")
    if choice == "error":
        return []
    stages = recipes.load(recipe).stages
    return [f"{name}.bad_rows=skip" for name, s in stages.items() if "bad_rows" in type(s).model_fields]


def _resolved(loaded: Any) -> str:
    """The recipe as it ran: the file's text, and the overrides as comments above it."""
    lines = [f"# override: {o}\n" for o in loaded.overrides]
    return "".join(lines) + str(loaded.text)


def finish(loaded: Any, root: Path, outcome: Any) -> None:
    """Write the report, print where it is, and end with the gate's exit code."""
    from posttrain import report

    page = report.write(root, loaded.name, _resolved(loaded), outcome.folders, outcome, loaded.runtime.price_per_hour)
    for line in report.examples(outcome.folders):
        typer.echo(line)
    for name, folder in outcome.folders.items():
        if loaded.stages[name].makes == "release":
            typer.echo(f"released model: {folder / 'model'}")
    typer.echo(f"report: {page}")
    for gate, verdict in outcome.stopped.items():
        typer.echo(f"gate {gate!r}: {verdict}; not run because of it: {', '.join(outcome.skipped) or 'nothing'}")
    if "fail" in outcome.stopped.values():
        raise typer.Exit(1)
    if outcome.stopped:
        raise typer.Exit(3)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
) -> None:
    """Say what would run and why; touches neither weights nor network."""
    from posttrain import pipeline
    from posttrain import recipe as recipes

    loaded = recipes.load(recipe, overrides or [])
    steps = pipeline.plan(loaded.stages, runs / loaded.name)
    width = max(len(s.name) for s in steps)
    for step in steps:
        state = {"done": "done  ", "run": "run   ", "resume": "resume"}[step.state]
        kind = getattr(step.stage, "type", "")
        typer.echo(f"{state}  {step.name:<{width}}  {kind:<12} {step.fingerprint}  {step.why}".rstrip())
    todo = sum(s.state != "done" for s in steps)
    typer.echo(f"{todo} of {len(steps)} stages to run in {runs / loaded.name}")


@app.command()
def show(
    what: Annotated[str, typer.Argument(help="A data file, a bundled name, a stage folder or a run folder.")],
    model: Annotated[str, typer.Option(help="Whose tokenizer and template to show rows with.")] = "bundled",
    rows: Annotated[int, typer.Option(help="How many rows.")] = 5,
    train_on: Annotated[str, typer.Option(help="assistant, last or all.")] = "assistant",
) -> None:
    """Print rows with the trained tokens coloured, or what is known of an artefact."""
    from posttrain import show as shows

    shows.show(what, model=model, rows=rows, train_on=train_on)


@app.command()
def diff(a: Path, b: Path) -> None:
    """Knobs, inputs and metrics that differ between two runs, or two stage folders."""
    from posttrain.report.diff import diff as difference

    typer.echo(difference(a, b))


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A run, a model folder, a Hugging Face id, or 'bundled'.")],
    against: Annotated[str | None, typer.Argument(help="A second model, answering side by side.")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    max_new: Annotated[int, typer.Option(help="Longest answer in tokens.")] = 200,
    system: Annotated[str, typer.Option(help="System message.")] = "",
) -> None:
    """Talk with a model, several turns, streaming; or with two side by side."""
    from posttrain.chat import converse

    converse([m for m in (model, against) if m], temperature=temperature, max_new=max_new, system=system)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A run, a stage folder or a model folder.")],
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
) -> None:
    """Copy a model out of a run as a plain Hugging Face folder."""
    from posttrain.export import export as copy

    typer.echo(copy(model, target))


@app.command()
def schema() -> None:
    """JSON Schema of recipes, for editors."""
    import json

    from posttrain import recipe as recipes

    typer.echo(json.dumps(recipes.schema(), indent=2))


@app.command()
def doctor() -> None:
    """What this machine has, what will be used, what is missing and how to get it."""
    from posttrain.doctor import lines

    for line in lines():
        typer.echo(line)


def main(argv: list[str] | None = None) -> None:
    """Entry point: errors a person can mend become one message, everything else keeps its traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
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
    if error.errno in (errno.EACCES, errno.EROFS):
        return _complain(
            f"{error.filename}: cannot write here ({error.strerror})\n  try: --runs with another folder", 2
        )
    raise error


def _resources(error: Exception) -> int:
    """Memory and disk that ran out inside libraries, which raise exceptions of their own; anything else is a bug."""
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
    raise error


def _complain(text: str, code: int) -> int:
    typer.echo(f"posttrain: {text}", err=True)
    return code


if __name__ == "__main__":
    main()
