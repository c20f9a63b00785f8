"""The shapes of the OpenAI protocol: what is asked, what is answered, what is refused.

Fields that would change an answer and are not served (tools, presence_penalty, response_format, ...) are refused by
name; unknown ones are ignored, as OpenAI's own server does. Extensions: top_k, min_p, repetition_penalty;
`logprobs_of: sampled` gives log-probabilities after temperature and truncation instead of the model's own; `place` is
the first prompt's place in the random stream; `return_token_ids` and `return_tokens_as_token_ids` (vLLM's names) give
ids. Log-probabilities cover the stop token too.
Left out on purpose: HTTP (app.py), tokens of messages (render.py).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, field_validator, model_validator

from posttrain.rows import Message
from posttrain.sampler.base import Sampling
from posttrain.serve.engine import Token

Ids = list[StrictInt]
HARMLESS = {  # field -> values that change nothing
    "tools": (None, []), "functions": (None, []), "tool_choice": (None, "none", "auto"), "function_call": (None,),
    "response_format": (None, {"type": "text"}), "logit_bias": (None, {}), "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0), "suffix": (None, ""), "modalities": (None, ["text"]), "audio": (None,),
    "prompt_logprobs": (None,), "structured_outputs": (None,), "guided_json": (None,),
}  # fmt: skip


NOT_NULL = ("model", "n", "logprobs_of", "place", "return_token_ids", "return_tokens_as_token_ids")


class Refusal(Exception):
    """An answer in OpenAI's error shape."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        self.status, self.message, self.param, self.code = status, message, param, code
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, "invalid_request_error")
        kind = "server_error" if self.status >= 500 else kind
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class StreamOptions(BaseModel):
    include_usage: bool = False


class Common(BaseModel):
    """What chat and plain completions share."""

    model_config = ConfigDict(extra="allow")

    model: StrictStr = ""
    n: int = Field(default=1, ge=1, le=128)
    temperature: float | None = Field(default=1.0, ge=0, le=2)
    top_p: float | None = Field(default=1.0, gt=0, le=1)
    top_k: int | None = Field(default=0, ge=-1)
    min_p: float | None = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float | None = Field(default=1.0, gt=0, le=10)
    seed: int | None = None
    stop: StrictStr | list[StrictStr] | None = None
    stream: StrictBool | None = False
    stream_options: StreamOptions | None = None
    logprobs_of: Literal["model", "sampled"] = "model"
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False

    @model_validator(mode="before")
    @classmethod
    def _nulls(cls, asked: Any) -> Any:
        """null is what was not said, as for OpenAI's own server."""
        if not isinstance(asked, dict):
            return asked
        return {k: v for k, v in asked.items() if v is not None or k not in NOT_NULL}

    @field_validator("stop")
    @classmethod
    def _some_text(cls, stop: str | list[str] | None) -> str | list[str] | None:
        texts = [stop] if isinstance(stop, str) else stop or []
        if "" in texts:
            raise ValueError("an empty stop string would end every answer before it begins")
        if len(texts) > 32:
            raise ValueError("at most 32 stop strings")
        return stop

    @model_validator(mode="after")
    def _served(self) -> "Common":
        for name, value in (self.model_extra or {}).items():
            if name in HARMLESS and value not in HARMLESS[name]:
                raise ValueError(f"{name!r} is not served here")
        return self

    def sampling(self, max_new: int, seed: int) -> Sampling:
        """seed: for requests that name none. Negative seeds are folded into the allowed range."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_new=max_new, temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0, top_k=max(0, self.top_k or 0), min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty or 1.0,
            seed=(seed if self.seed is None else self.seed) % 2**64, stop=stops,
        )  # fmt: skip


class Completion(Common):
    prompt: StrictStr | Ids | list[StrictStr] | list[Ids]
    max_tokens: int | None = Field(default=16, ge=0)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = False
    best_of: int | None = Field(default=None, ge=1)
    place: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _check(self) -> "Completion":
        if self.best_of not in (None, self.n):
            raise ValueError("best_of other than n is not served here")
        if not self.max_tokens and not self.echo:
            raise ValueError("max_tokens 0 asks for nothing unless echo is set")
        return self

    def prompts(self) -> Sequence[str | Ids]:
        if isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int)):
            return [self.prompt]
        return self.prompt  # type: ignore[return-value]

    @property
    def top(self) -> int | None:
        return self.logprobs


class Part(BaseModel):
    type: Literal["text"]
    text: StrictStr


class Said(BaseModel):
    """A message as people send it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: StrictStr | list[Part]

    def message(self) -> Message:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class Chat(Common):
    messages: list[Said] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _check(self) -> "Chat":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @property
    def top(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


Kind = Literal["thumb", "rating", "preferred_over", "rewrite", "safety_flag"]


class Feedback(BaseModel):
    """What somebody says of an answer. choice: which of a completion's n answers; over_choice: of the other one's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    completion_id: StrictStr = Field(min_length=1)
    kind: Kind
    value: StrictBool | StrictInt | StrictStr
    reason: StrictStr = ""
    choice: int = Field(default=0, ge=0)
    over_choice: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "Feedback":
        v, fits = self.value, {
            "thumb": isinstance(self.value, bool),
            "rating": type(self.value) is int and 1 <= self.value <= 7,
            "preferred_over": isinstance(self.value, str) and bool(self.value),
            "rewrite": isinstance(self.value, str) and bool(self.value.strip()),
            "safety_flag": isinstance(self.value, bool | str) and self.value != "",
        }  # fmt: skip
        wants = {
            "thumb": "true (up) or false (down)", "rating": "a whole number from 1 to 7", "rewrite": "a better answer",
            "preferred_over": "the id of the completion that is worse", "safety_flag": "true, false or a category",
        }  # fmt: skip
        if not fits[self.kind]:
            raise ValueError(f"value of a {self.kind} is {wants[self.kind]}, got {v!r}")
        return self


FIELDS = {name for model in (Completion, Chat, Feedback, Said, Part, StreamOptions) for name in model.model_fields}


class Speller:
    """Tokens as the protocol writes them. as_ids: 'token_id:7' instead of text."""

    def __init__(self, decode: Callable[[Sequence[int]], str], as_ids: bool):
        self.decode, self.as_ids = decode, as_ids

    def name(self, id: int) -> str:
        return f"token_id:{id}" if self.as_ids else self.decode([id])

    def completion(self, tokens: Sequence[Token], start: int = 0) -> dict[str, Any]:
        """Log-probabilities of a plain completion. start: characters before the first token."""
        offsets, at = [], start
        for token in tokens:
            offsets.append(at)
            at += len(self.decode([token.id]))
        return {
            "tokens": [self.name(t.id) for t in tokens],
            "token_logprobs": [t.logp for t in tokens],
            "top_logprobs": [None if t.logp is None else self.top(t) for t in tokens],
            "text_offset": offsets,
        }

    def top(self, token: Token) -> dict[str, float]:
        """Name -> log-probability, the token itself included; of tokens with the same text the likeliest counts."""
        found = {self.name(token.id): float(token.logp or 0.0)}
        for id, logp in reversed(token.top):
            found[self.name(id)] = logp
        return found

    def chat(self, tokens: Sequence[Token]) -> dict[str, Any]:
        def one(id: int, logp: float | None) -> dict[str, Any]:
            text = self.decode([id])
            known = None if "\ufffd" in text else list(text.encode())
            return {"token": self.name(id), "logprob": logp, "bytes": known}

        content = [one(t.id, t.logp) | {"top_logprobs": [one(id, v) for id, v in t.top]} for t in tokens]
        return {"content": content, "refusal": None}


def usage(prompt: int, drawn: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}


def envelope(kind: str, id: str, model: str, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"id": id, "object": kind, "created": int(time.time()), "model": model, "choices": list(choices)}
