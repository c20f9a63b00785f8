"""The end of a run: a folder that can be given away, with its card and the evidence of how it came to be.

    model/         a Hugging Face folder: weights, tokenizer with chat template, generation config, README.md (the card)
    evidence.json  every record this model came from, and the SHA-256 of every released file
    recipe.yaml    the stages that made it, written from the records
    SHA256SUMS     digests of all of the above; `sha256sum -c SHA256SUMS` or verify() checks them

Left out on purpose: uploading, signing, other weight formats (llama.cpp's converter reads model/ as it is). Importing
this file does not import torch.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_origin

import yaml

from posttrain.errors import UserError
from posttrain.files import digest_of_file
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime, Stage, write_text
from posttrain.report.lineage import Node, ancestry

if TYPE_CHECKING:
    from posttrain.report.card import About

# What a model folder needs to be loaded; the rest of a policy's folder (logs, ledgers, another model's card) stays.
RELEASED = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "*.model",
    "chat_template.jinja", "LICENSE*", "NOTICE*",
)  # fmt: skip
SUMS = "SHA256SUMS"


class Release(Stage):
    """name: how the model is called in its card. base_licence: the licence of the weights it started from."""

    makes: ClassVar[Kind] = "release"
    looks_back: ClassVar[bool] = True

    type: Literal["release"] = "release"
    policy: Annotated[str, Ref("policy")]
    gate: Annotated[str | None, Ref("decision")] = None
    reports: Annotated[tuple[str, ...], Ref("report")] = ()
    name: str = "assistant"
    licence: str = "apache-2.0"
    base_licence: str = ""
    language: str = "en"
    intended_use: str = "Showing and testing post-training; answering short everyday questions."
    limits: str = ""

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain.report.card import card

        policy = inputs.one("policy")
        gate = next(iter(inputs.many("gate")), None)
        nodes = ancestry([policy, *inputs.many("reports"), *inputs.many("gate")])
        files = copy_model(policy, out / "model")
        recipe = recipe_of(nodes, self.name)
        write_text(out / "recipe.yaml", recipe)
        weights = {name: sum256 for name, sum256 in files.items() if name.endswith(".safetensors")}
        text = card(self.about(), nodes, policy, gate, weights, recipe, runtime.price_per_hour)
        write_text(out / "model" / "README.md", text)
        write_text(out / "evidence.json", evidence(nodes, self.name, out))
        listed = [p.relative_to(out).as_posix() for p in sorted(out.rglob("*")) if p.is_file()]
        write_text(out / SUMS, "".join(f"{digest_of_file(out / name)}  {name}\n" for name in listed))
        size = sum((out / name).stat().st_size for name in listed)
        return {"files": float(len(listed)), "megabytes": size / 1e6, "stages_behind_it": float(len(nodes))}

    def about(self) -> "About":
        from posttrain.report.card import About

        return About(**self.model_dump(include={f.name for f in fields(About)}))


def copy_model(policy: Path, target: Path) -> dict[str, str]:
    """Copy what a model loader reads, links followed; returns name -> SHA-256. UserError when weights are missing."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in sorted(policy.iterdir()):
        if file.is_file() and any(fnmatch(file.name, pattern) for pattern in RELEASED):
            shutil.copyfile(file, target / file.name)  # follows links: the release stands alone
    needed = ("config.json", "tokenizer_config.json", "*.safetensors")
    missing = [pattern for pattern in needed if not list(target.glob(pattern))]
    if missing:
        raise UserError(
            f"this policy cannot be released, it has no {' and no '.join(missing)}", where=str(policy),
            remedy="the base model must be a Hugging Face folder with safetensors weights and a tokenizer",
        )  # fmt: skip
    return {p.name: digest_of_file(p) for p in sorted(target.iterdir())}


def evidence(nodes: Sequence[Node], name: str, out: Path) -> str:
    """JSON: all records behind the release with the digests of their small files, and of every released file."""
    released = {p.relative_to(out).as_posix(): digest_of_file(p) for p in sorted(out.rglob("*")) if p.is_file()}
    upstream = {
        n.key: {
            "record": n.record.model_dump(mode="json"),
            "files": {p.name: digest_of_file(p) for p in _small(n.folder)},
        }
        for n in nodes
    }
    return json.dumps({"name": name, "released": released, "stages": upstream}, indent=2, ensure_ascii=False) + "\n"


def _small(folder: Path) -> Iterable[Path]:
    """A stage's own files but weights: rows, ledgers, answers, decisions. Links (a base model's files) are not."""
    return (p for p in sorted(folder.iterdir()) if p.is_file() and not p.is_symlink() and p.suffix != ".safetensors")


def recipe_of(nodes: Sequence[Node], name: str) -> str:
    """A recipe that makes the same again: same knobs and edges, hence the same fingerprints on the same data."""
    stages: dict[str, Any] = {}
    for node in nodes:
        many = many_edges(node.record.type)
        edges = {e: list(s) if e in many or len(s) > 1 else s[0] for e, s in node.record.edges.items() if s}
        stages[node.name] = {"type": node.record.type, **edges, **node.record.knobs}
    text = yaml.safe_dump({"name": name, "stages": stages}, sort_keys=False, allow_unicode=True, width=110)
    return f"# Written from the records of the run that made this model.\n{text}"


def many_edges(kind: str) -> set[str]:
    """Edges of a stage type that take a list and nothing else."""
    from posttrain.recipe import stage_types  # imports every stage, so not before it is needed

    fields = stage_types()[kind].model_fields if kind in stage_types() else {}
    return {name for name, field in fields.items() if get_origin(field.annotation) is tuple}


def verify(folder: Path) -> list[str]:
    """Files of a release that are not what they were, as 'path: changed | missing | not in the list'.

    Empty when all is as released. The folder is the release's or a copy of it. Raises UserError when it has no list.
    """
    path = folder / SUMS
    if not path.is_file():
        raise UserError(f"this is not a release (no {SUMS})", where=str(folder))
    wanted = {name: sum256 for sum256, _, name in (line.partition("  ") for line in path.read_text().splitlines())}
    problems = []
    for name, sum256 in wanted.items():
        if not (folder / name).is_file():
            problems.append(f"{name}: missing")
        elif digest_of_file(folder / name) != sum256:
            problems.append(f"{name}: changed")
    present = (p.relative_to(folder).as_posix() for p in sorted((folder / "model").rglob("*")) if p.is_file())
    return problems + [f"{name}: not in the list" for name in present if name not in wanted]
