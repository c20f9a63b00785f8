"""Text from OpenAI-compatible servers: `Endpoint` asks a judge's or critic's questions, `Server` is a Sampler.

A server's log-probabilities are either the model's own or those of the distribution sampled from. Training needs the
latter; this project's server gives them when asked, of another one it has to be said (`processed`), and settings under
which the two differ are refused otherwise.
New weights go into a server through a folder that both see.
Left out on purpose: weights over a network (what a server has for that is its own), and HTTP itself (http.py).
"""

import asyncio
from collections.abc import Sequence
from math import exp, inf, log
from pathlib import Path
from typing import Any

from posttrain.errors import UserError
from posttrain.judge.asking import Asking, Reply
from posttrain.rows import Messages, Sample, Termination, digest
from posttrain.sampler.base import Sampling
from posttrain.sampler.http import Client, Passing, Unanswered

TOP = 20  # alternatives that servers give at most
SEEDS = 2**31


class Endpoint:
    """A chat endpoint as an Asker, and as the `say` and `options` of a critic.

    log_probs False: the server gives none, or they are not to be trusted.  used: (prompt tokens, drawn tokens) of what
    has been said so far, as the server counts them.
    """

    def __init__(self, client: Client, model: str, *, log_probs: bool = True, how: Sampling | None = None):
        self.client, self.model, self.log_probs, self.how = client, model, log_probs, how or Sampling()
        self.name = f"{model} at {client.urls[0]}"
        self.used = (0, 0)

    async def ask(self, questions: Sequence[Messages], how: Asking) -> list[Reply]:
        """One reply each; a question that got no answer after every try is a reply with a problem."""
        async with self.client.session() as call:
            return list(await asyncio.gather(*(self._ask(call, q, how) for q in questions)))

    async def _ask(self, call: Any, question: Messages, how: Asking) -> Reply:
        body = self._body(question) | {"max_tokens": how.max_new, "temperature": how.temperature, "seed": how.seed}
        if how.options and self.log_probs:
            body |= {"logprobs": True, "top_logprobs": TOP}
        try:
            answer = await call("/chat/completions", body)
            return reply_of(answer, how.options if self.log_probs else ())
        except (Unanswered, Passing) as error:
            return Reply(text="", problem="unanswered", why=str(error))

    def _body(self, question: Messages) -> dict[str, Any]:
        return {"model": self.model, "messages": [m.model_dump() for m in question]}

    async def say(self, conversations: Sequence[Messages], n: int) -> list[list[Sample]]:
        """n sampled answers each, without ids: text for people and critics, not for training on log-probabilities."""
        how = self.how
        settings = {"max_tokens": how.max_new, "temperature": how.temperature, "top_p": how.top_p, "n": n,
                    "stop": list(how.stop) or None}  # fmt: skip
        async with self.client.session() as call:
            bodies = [self._body(c) | settings | {"seed": seed_of(how.seed, i)} for i, c in enumerate(conversations)]
            answers = await asyncio.gather(*(call("/chat/completions", body) for body in bodies))
        counts = [_mapping(answer.get("usage")) for answer in answers]
        self.used = (
            self.used[0] + sum(_whole(c.get("prompt_tokens")) for c in counts),
            self.used[1] + sum(_whole(c.get("completion_tokens")) for c in counts),
        )
        try:
            return [[_spoken(choice) for choice in choices_of(answer, n)] for answer in answers]
        except Passing as error:
            raise Unanswered(str(error), where=self.name) from None

    async def options(self, conversations: Sequence[Messages], options: Sequence[str]) -> list[list[float]]:
        """Log-probability of each option as the answer, nats. Raises Unanswered, and UserError without log-probs."""
        replies = await self.ask(conversations, Asking(options=tuple(options), max_new=4))
        for reply in replies:
            if reply.problem or reply.options is None:
                raise Unanswered(reply.why or "the server gives no log-probabilities", where=self.name)
        return [list(reply.options or ()) for reply in replies]


def choices_of(answer: dict[str, Any], n: int) -> list[dict[str, Any]]:
    """The n choices of an answer in their order. Raises Passing when the answer has another shape."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != n or not all(isinstance(c, dict) for c in choices):
        raise Passing(f"an answer without {n} choices: {str(answer)[:80]}")
    return sorted(choices, key=lambda c: _whole(c.get("index")))


def reply_of(answer: dict[str, Any], options: Sequence[str]) -> Reply:
    """A chat answer as a Reply. Raises Passing for another shape."""
    choice = choices_of(answer, 1)[0]
    text, usage = _said(choice), _mapping(answer.get("usage"))
    found = option_scores(_mapping(choice.get("logprobs")).get("content"), options) if options else None
    read, drawn = _whole(usage.get("prompt_tokens")), _whole(usage.get("completion_tokens"))
    return Reply(text=text, options=found, prompt_tokens=read, drawn=drawn)


def _said(choice: dict[str, Any]) -> str:
    """The text of a chat choice; some servers give null for an empty one. Raises Passing where there is no message."""
    message = choice.get("message")
    if not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
        raise Passing(f"a choice without a message in words: {str(choice)[:80]}")
    return message.get("content") or ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int:
    """A count; 0 for what is none."""
    return value if isinstance(value, int) else 0


def option_scores(content: Any, options: Sequence[str]) -> tuple[float, ...] | None:
    """Log-probability of each option from a chat answer's alternatives; None when the server gave none.

    A place's alternatives whose text without blanks is the option count together. Options that begin alike ("1" and
    "10") are told apart at the second token when the first one was drawn so; else they share what there is.
    """
    try:
        places = [{str(t["token"]): float(t["logprob"]) for t in place["top_logprobs"]} for place in content[:2]]
        drawn = str(content[0]["token"]).strip() if content else ""
    except (KeyError, TypeError, ValueError):
        return None
    if not places or not places[0]:
        return None
    chance = dict.fromkeys(options, 0.0)
    for token, logp in places[0].items():
        text = token.strip()
        heirs = [o for o in options if o == text or (text and text != o and o.startswith(text) and text in options)]
        for option in heirs:
            share = 1.0 / len(heirs)
            if len(heirs) > 1 and text == drawn and len(places) > 1:
                share = _second(option[len(text) :], heirs, text, places[1])
            chance[option] += share * (exp(logp) if logp < 700 else inf)
    return tuple(log(p) if p > 0 else -inf for p in chance.values())


def _second(rest: str, heirs: Sequence[str], text: str, place: dict[str, float]) -> float:
    """Chance that what follows `text` makes it this option: `rest` is the next token, or for '' none of the others."""
    others = [h[len(text) :] for h in heirs if h != text]
    chance = {o: sum(exp(v) for t, v in place.items() if t.strip() and o.startswith(t.strip())) for o in others}
    return max(0.0, 1.0 - sum(chance.values())) if not rest else chance[rest]


def _spoken(choice: dict[str, Any]) -> Sample:
    ended: Termination = "length" if choice.get("finish_reason") == "length" else "stop"
    return Sample(text=_said(choice), ids=(), logps=(), ended=ended)


def seed_of(seed: int, place: int) -> int:
    """A seed of its own for every prompt: servers draw equal prompts with equal seeds alike."""
    return int(digest([seed, place]), 16) % SEEDS


class Server:
    """Sampler over /v1/completions of servers that take token ids and give ids back (vLLM, this project's own).

    chat: of the model served; it turns ids into the text.  processed: whether log-probabilities are those of the
    distribution sampled from; None asks the server whether it is one of ours. folder, reload: where the server finds
    new weights, and the POST (path from the host on, body) that makes it read them.
    """

    def __init__(
        self, client: Client, model: str, chat: Any, *, processed: bool | None = None, folder: Path | None = None,
        reload: tuple[str, dict[str, Any]] = ("/v1/reload", {}),
    ):  # fmt: skip
        self.client, self.model, self.chat, self.version = client, model, chat, 0
        self.folder, self.reload = folder, reload
        self.processed, self._ours = processed, None if processed is None else False

    async def load(self, weights: Any, version: int) -> None:
        """New weights, and the version that later samples carry. weights: a Model, written into the server's folder,
        which every server then reads; None where they are put there by other means."""
        if weights is not None:
            if self.folder is None:
                raise UserError(
                    "weights cannot be put into a server from here", where=self.client.urls[0],
                    remedy="the folder that the server reads its weights from",
                )  # fmt: skip
            weights.save(self.folder)
            self.chat.save(self.folder)
            path, body = self.reload
            for url in self.client.urls:
                async with self.client.at(url.removesuffix("/v1")).session() as call:
                    await call(path, body)
        self.version = version

    async def sample(self, prompts: Sequence[Sequence[int]], n: int, how: Sampling) -> list[list[Sample]]:
        """n samples of each prompt. Raises Unanswered, and UserError for settings that cannot be scored again."""
        async with self.client.session() as call:
            ours = await self._is_ours(call)
            self._check(how, ours)
            bodies = [self._body(list(p), n, how, i, ours) for i, p in enumerate(prompts)]
            answers = await asyncio.gather(*(call("/completions", body) for body in bodies))
        try:
            return [[self._sample(c, how) for c in choices_of(answer, n)] for answer in answers]
        except Passing as error:
            raise Unanswered(str(error), where=self.client.urls[0]) from None

    async def _is_ours(self, call: Any) -> bool:
        if self._ours is None:
            models = (await call("/models", None)).get("data")
            known = models if isinstance(models, list) else []
            self._ours = any(isinstance(m, dict) and m.get("owned_by") == "posttrain" for m in known)
        return self._ours

    def _check(self, how: Sampling, ours: bool) -> None:
        plain = how.temperature in (0.0, 1.0) and not how.truncates and not how.penalises
        if not plain and not ours and not self.processed:
            raise UserError(
                "the server's log-probabilities are the model's own, not those of what it samples from",
                where=self.client.urls[0],
                remedy="temperature 1 without top_p, top_k, min_p and penalties; or start vLLM with --logprobs-mode "
                "processed_logprobs and say processed: true",
            )  # fmt: skip

    def _body(self, prompt: list[int], n: int, how: Sampling, place: int, ours: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model, "prompt": prompt, "n": n, "max_tokens": how.max_new, "temperature": how.temperature,
            "top_p": how.top_p, "top_k": how.top_k or -1, "min_p": how.min_p, "stop": list(how.stop) or None,
            "repetition_penalty": how.repetition_penalty,
            "logprobs": 0, "return_token_ids": True, "seed": seed_of(how.seed, place),
        }  # fmt: skip
        return body | {"seed": how.seed, "place": place, "logprobs_of": "sampled"} if ours else body

    def _sample(self, choice: dict[str, Any], how: Sampling) -> Sample:
        ids, told = choice.get("token_ids"), _mapping(choice.get("logprobs")).get("token_logprobs")
        if not isinstance(ids, list) or not isinstance(told, list) or len(ids) != len(told):
            raise Passing("the server gives no ids and log-probabilities of what it drew (return_token_ids)")
        if not all(isinstance(i, int) for i in ids):
            raise Passing("token ids that are no numbers")
        if not all(isinstance(x, int | float) and x <= 1e-6 for x in told):
            raise Passing("log-probabilities that cannot be any")
        said, parsed = self.chat.parse(ids)
        text, ended = said.content, parsed
        if choice.get("finish_reason") == "stop":
            text = text[: min((text.index(s) for s in how.stop if s in text), default=len(text))]
            ended = "malformed" if parsed == "malformed" else "stop"
        logps = (0.0,) * len(ids) if how.temperature == 0 else tuple(min(0.0, float(x)) for x in told)
        return Sample(text=text, ids=tuple(ids), logps=logps, ended=ended, version=self.version)
