"""Evaluate a policy on suites: what it answers, what that scores, with n and intervals.

The raw base model is asked through the same chat template as its successors, so the numbers compare. Answers are kept
in samples.jsonl and can be scored again without sampling (evals/runner.py).
Left out on purpose: external harnesses (they run against the server). Importing this file does not import torch.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from posttrain.errors import UserError
from posttrain.evals import runner, task
from posttrain.pipeline import Inputs, Kind, Metrics, Ref, Runtime, Stage, write_text

if TYPE_CHECKING:
    from posttrain.model import Model
    from posttrain.render import Chat
    from posttrain.rows import Messages, Sample

PACK_TOKENS = 2048  # tokens whose likelihood is computed at once


class Evaluate(Stage):
    """suites: bundled names or paths of JSONL files. limit: items per suite, all if not set. max_new: tokens per
    answer. temperature 0 is greedy; above it, seed makes the draw repeatable. cases: red teams whose pinned cases are
    asked too, as the suite `pinned`."""

    makes: ClassVar[Kind] = "report"

    type: Literal["evaluate"] = "evaluate"
    policy: Annotated[str, Ref("policy")]
    cases: Annotated[tuple[str, ...], Ref("demos")] = ()
    suites: tuple[str, ...] = Field(default=task.GENERAL, min_length=1)
    limit: int | None = Field(default=None, ge=1)
    max_new: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _once(self) -> "Evaluate":
        """Metrics are called by their suite, so two suites of one name would overwrite each other."""
        names = [task.called(name) for name in self.suites]
        if doubled := next((n for n in names if names.count(n) > 1), ""):
            raise ValueError(f"two suites are called {doubled!r}; give one of the files another name")
        if taken := next((n for n in names if n in task.TAKEN), ""):
            raise ValueError(f"a suite cannot be called {taken!r}, which names metrics of its own; rename the file")
        return self

    def fits(self, sources: "Mapping[str, tuple[Stage, ...]]") -> None:
        """A user's own suites must be in order; what ships is."""
        for name in self.suites:
            if name not in task.SUITES:
                task.load(name, self.limit)

    def identity(self) -> dict[str, str]:
        suites = {f"suite {name}": task.file_digest(task.find(name)) for name in self.suites}
        return suites | {"the scoring": runner.judge_identity()}

    def run(self, inputs: Inputs, out: Path, runtime: Runtime) -> Metrics:
        from posttrain.loading import load_model
        from posttrain.render import load_chat

        tasks = [task.load(name, self.limit) for name in self.suites]
        tasks += pinned(inputs.many("cases"), out)
        folder = inputs.one("policy")
        chat, model = load_chat(folder), load_model(folder, runtime, train=False)
        roomy(tasks, model, chat)
        answer, likelihood = sampled(model, chat, self), Likelihood(model, chat)
        done = asyncio.run(runner.ask(tasks, answer, likelihood, runtime.progress, likelihood.certain))
        how = {"max_new": self.max_new, "temperature": self.temperature, "seed": self.seed, "template": chat.name}
        summary = runner.write(out, tasks, done, {"sampling": how})
        tokens = float(sum(d.tokens for d in done) + likelihood.tokens)
        values = {name: float(metric["value"]) for name, metric in summary["metrics"].items()}
        return values | {"items": float(len(done)), "tokens": tokens, "flops": tokens * model.flops_per_token / 3}


def pinned(folders: Sequence[Path], out: Path) -> list[task.Task]:
    """The pinned cases of red teams as one suite; none when nothing was broken."""
    lines = [line for folder in folders for line in cases(folder).read_text(encoding="utf-8").splitlines()]
    if not lines:
        return []
    write_text(out / "pinned.jsonl", "".join(line + "\n" for line in lines))
    return [task.read(out / "pinned.jsonl", "pinned")]


def cases(folder: Path) -> Path:
    path = folder / "pinned.jsonl"
    if not path.exists():
        raise UserError(
            "this stage pinned no cases", where=str(folder), remedy="`cases` names stages of the type red_team"
        )
    return path


def roomy(tasks: Sequence[task.Task], model: "Model", chat: "Chat") -> None:
    """UserError with the item's name for one that the template refuses or that leaves no room for an answer."""
    from posttrain.sampler.cache import context

    room = context(model.base)
    for one, item in ((t, i) for t in tasks if t.scoring.GENERATES for i in t.items):
        where = f"{one.name}/{item.id}"
        try:
            length = len(chat.prompt(item.messages))
        except (UserError, ValueError) as error:
            raise UserError(f"the chat template refuses this item: {error}", where=where) from None
        if room and length >= room:
            raise UserError(
                f"a prompt of {length:,} tokens leaves no room for an answer: the model holds {room:,}", where=where,
                remedy="shorten the item or take it out of the suite",
            )  # fmt: skip


def sampled(model: "Model", chat: "Chat", how: Evaluate) -> runner.Answer:
    """Conversations -> one sample each, with the local sampler."""
    from posttrain.sampler import Sampling
    from posttrain.sampler.local import Local

    sampling = Sampling(max_new=how.max_new, temperature=how.temperature, seed=how.seed)
    sampler = Local(model, chat)

    async def answer(conversations: "Sequence[Messages]", on_step: runner.OnStep) -> "list[Sample]":
        prompts = [chat.prompt(messages) for messages in conversations]
        return [samples[0] for samples in await sampler.sample(prompts, 1, sampling, on_step=on_step)]

    return answer


class Likelihood:
    """Log-likelihoods of continuations of plain text: no chat template, so the base and its successors compare.

    Each context begins with the tokenizer's beginning-of-text (or end-of-text) token, as documents did in
    pre-training, and is read once for all its continuations. tokens: read so far.
    """

    def __init__(self, model: "Model", chat: "Chat"):
        self.model, self.chat, self.tokens = model, chat, 0
        first = chat.tokenizer.bos_token_id
        self.first: int = chat.stop_ids[-1] if first is None else first

    def __call__(self, questions: Sequence[runner.Question], on_step: runner.OnStep) -> list[list[list[float]]]:
        return self._read([self.doc(*question) for question in questions], on_step)

    def certain(self, answers: "Sequence[tuple[Messages, str]]") -> list[tuple[float, int]]:
        """(nats, tokens) of each answer as the assistant's next turn, its end included; through the chat template."""
        from posttrain import packing
        from posttrain.rows import Message

        pairs = [self.chat.continuation(asked, Message(role="assistant", content=text)) for asked, text in answers]
        docs = [packing.Doc(prefix, [packing.Branch(ids, [True] * len(ids))]) for prefix, ids in pairs]
        return [(sum(one[0]), len(one[0])) for one in self._read(docs, lambda done, tokens: None)]

    def _read(self, docs: Sequence[Any], on_step: runner.OnStep) -> list[list[list[float]]]:
        import torch

        from posttrain import packing

        found: list[list[list[float]]] = [[] for _ in docs]
        for chosen in packing.plan([packing.size(doc) for doc in docs], self._budget(docs), seed=None):
            pack = packing.build([docs[i] for i in chosen], pad_id=self.chat.pad_id)
            with torch.no_grad():
                logps = self.model.token_logps(pack).tolist()
            at = 0
            for i in chosen:
                for branch in docs[i].branches:
                    found[i].append(logps[at : at + len(branch.ids)])
                    at += len(branch.ids)
            self.tokens += pack.tokens
            on_step(len(chosen), pack.tokens)
        return found

    def doc(self, context: str, continuations: Sequence[str]) -> Any:
        from posttrain import packing

        prefix = [self.first, *self._encode(context)]
        branches = [self._encode(text) for text in continuations]
        return packing.Doc(prefix, [packing.Branch(ids, [True] * len(ids)) for ids in branches])

    def _budget(self, docs: Sequence[Any]) -> int:
        from posttrain import packing

        return max(PACK_TOKENS, *(packing.size(doc) for doc in docs))

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.chat.tokenizer(text, add_special_tokens=False).input_ids
        return ids
