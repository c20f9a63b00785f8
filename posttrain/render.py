"""Messages <-> token ids and loss mask: the only place where text meets token ids.

Three kinds of template: the model's own (whatever Jinja text its tokenizer carries), ChatML (for base models that
have <|im_start|> and <|im_end|>), and "plain" (User: / Assistant: in ordinary text, for tokenizers without such
tokens). Everything else is found by rendering a probe conversation: which token ends a turn, what the template puts
around an answer.

Two rules make training and sampling see the same ids. A conversation is cut where the assistant starts to speak and
each piece is tokenized alone, as in sampling, where the prompt's ids are fixed before the answer exists. And what
people write never becomes a control token: "<|im_end|>" inside a message is spelled out in ordinary tokens.

Left out on purpose: tool schemas, images, adding tokens to a vocabulary, truncation (preflight.py).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from posttrain.errors import UserError
from posttrain.pipeline import write_text
from posttrain.rows import Message, Termination

TrainOn = Literal["assistant", "last", "all"]
TemplateName = Literal["auto", "chatml", "model", "plain"]

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token + '\n' }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% else %}{{ message['role'] | capitalize + ': ' + message['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
CUT = "\U0010fffe"  # a Unicode noncharacter, so no text holds it: marks where a control token's name must be broken up
TODAY = "26 Jul 2024"  # for templates that print the date: the same rows must give the same ids tomorrow
ASK, ANSWER = "probe question", "probe answer"


class TemplateUnstable(UserError):
    """A later message changes how the template renders earlier ones, so there is no fixed prompt to train behind."""


@dataclass(frozen=True)
class Chat:
    """A tokenizer with one chat template. Made by `load_chat`.

    stop_ids: ids that end an assistant turn, the template's own first.  lead, tail: what the template puts between
    the prompt and an answer, and between an answer and its stop token (' ' and '' for plain).
    """

    tokenizer: Any
    template: str
    stop_ids: tuple[int, ...]
    pad_id: int
    lead: str = ""
    tail: str = ""
    name: str = "model"
    _anchor: str = field(default="", repr=False)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation up to the place where the assistant starts to speak."""
        if messages and messages[-1].role == "assistant":
            raise ValueError("a prompt ends before the assistant speaks, this one ends with an answer")
        return [i for new, _ in self._cut(messages, self._text(messages, ask=True), trained=()) for i in new]

    def example(self, messages: Sequence[Message], train_on: TrainOn = "assistant") -> tuple[list[int], list[bool]]:
        """(ids, mask) of a whole conversation that ends with an answer; mask[i]: token i is a target.

        The stop token of each trained turn is a target. "last": only the last turn's answer; "all": every token but
        the first, which nothing predicts. Raises UserError when the template cannot be cut at the trained turns.
        """
        if not messages or messages[-1].role != "assistant":
            raise ValueError("an example ends with an assistant message")
        turns = [n for n, m in enumerate(messages) if m.role == "assistant"]
        trained = turns[-1:] if train_on == "last" else turns if train_on == "assistant" else ()
        pieces = self._cut(messages, self._text(messages, ask=False), trained)
        if trained:  # what the template puts after the last stop token teaches nothing
            pieces = pieces[: max(n for n, (_, target) in enumerate(pieces) if target) + 1]
        ids = [i for new, _ in pieces for i in new]
        mask = [target or train_on == "all" for new, target in pieces for _ in new]
        if train_on == "all":
            mask[0] = False
        return ids, mask

    def continuation(self, messages: Sequence[Message], answer: Message) -> tuple[list[int], list[int]]:
        """(prompt ids, answer ids with the stop token); the prompt ids are those of `prompt(messages)`."""
        ids, mask = self.example((*messages, answer), "last")
        start = mask.index(True)
        return ids[:start], ids[start:]

    def between(self, ids: Sequence[int], observation: Message) -> list[int]:
        """What stands between a sampled answer (its ids) and the next: the observation in the template's words, up to
        where the assistant speaks again. An answer that a stop string ended gets its stop token first.

        Taken from a probe conversation, so that templates that rewrite earlier turns change nothing: ids travel.
        """
        probe = (Message(role="user", content=ASK), Message(role="assistant", content=ANSWER), observation)
        text = self._text(probe, ask=True)
        stop = self._stop.search(text, text.find(ANSWER))
        if not stop or self._defuse(observation.content).strip() not in text[stop.end() :]:
            raise TemplateUnstable(
                f"the chat template does not show a {observation.role} message behind an answer",
                remedy="another role for observations, or template: chatml",
            )
        ended = bool(ids) and ids[-1] in self.stop_ids
        return self._encode(text[stop.end() if ended else stop.start() - len(self.tail) :], first=False)

    def parse(self, ids: Sequence[int]) -> tuple[Message, Termination]:
        """What the assistant said. "length": no stop token came; "malformed": a control token stands in the text."""
        stops = set(self.stop_ids)
        end = next((n for n, i in enumerate(ids) if i in stops), len(ids))
        said = list(ids[:end])
        ended: Termination = "stop" if end < len(ids) else "length"
        if any(i in self._special_ids for i in said):
            ended = "malformed"
        text = self.decode([i for i in said if i not in self._special_ids])
        lead, tail = self.lead, self.tail
        text = text[len(lead) :] if text.startswith(lead) else text
        text = text[: len(text) - len(tail)] if tail and text.endswith(tail) else text
        return Message(role="assistant", content=text), ended

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens included, blanks as they are."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    def save(self, folder: Path) -> None:
        """Write the tokenizer with its template, and the stop ids into generation_config.json (after the weights)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.chat_template = self.template
        self.tokenizer.save_pretrained(folder)
        path = folder / "generation_config.json"
        config = json.loads(path.read_text()) if path.exists() else {}
        config |= {"eos_token_id": list(self.stop_ids), "pad_token_id": self.pad_id}
        write_text(path, json.dumps(config, indent=2) + "\n")

    def _text(self, messages: Sequence[Message], *, ask: bool) -> str:
        """The template's text; control tokens that people wrote into a message are broken up by CUT."""
        rows = [{"role": m.role, "content": self._defuse(m.content)} for m in messages]
        return render(self.tokenizer, self.template, rows, ask=ask)

    def _defuse(self, content: str) -> str:
        return self._control.sub(lambda m: m[0][0] + CUT + m[0][1:], content)

    def _cut(self, messages: Sequence[Message], text: str, trained: Sequence[int]) -> list[tuple[list[int], bool]]:
        """(ids, is it a target) of each piece of rendered text, cut around the answers; joined, they are the text.

        Turns that are context only are cut too, so that a prompt's ids do not depend on what is trained.
        """
        pieces: list[tuple[str, bool]] = []
        at = 0
        for n in (n for n, m in enumerate(messages) if m.role == "assistant"):
            try:
                start, end = self._turn(messages, n, text, at)
            except TemplateUnstable:
                if n in trained:
                    raise
                continue  # context that the template rewrites stays inside the next piece
            pieces += [(text[at:start], False), (text[start:end], n in trained)]
            at = end
        pieces.append((text[at:], False))
        return [(self._encode(piece, first=n == 0), target) for n, (piece, target) in enumerate(pieces) if piece]

    def _turn(self, messages: Sequence[Message], n: int, text: str, at: int) -> tuple[int, int]:
        """Where answer n starts and ends (stop token included) in the text. Raises TemplateUnstable."""
        before = self._text(messages[:n], ask=True)
        stop = self._stop.search(text, len(before))
        content = self._defuse(messages[n].content).strip()
        if not text.startswith(before) or len(before) < at or not stop or content not in text[len(before) : stop.end()]:
            raise TemplateUnstable(
                f"the chat template changes earlier turns when a later one is added (seen at message {n + 1})",
                remedy="train_on: last, or template: chatml",
            )
        return len(before), stop.end()

    def _encode(self, text: str, *, first: bool) -> list[int]:
        parts = [part for part in text.split(CUT) if part]
        anchors = ["" if first and n == 0 else self._anchor for n in range(len(parts))]
        return [i for part, anchor in zip(parts, anchors) for i in isolated(self.tokenizer, part, anchor)]

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(control_tokens(self.tokenizer).values()) | frozenset(self.stop_ids)

    @cached_property
    def _control(self) -> re.Pattern[str]:
        names = {*control_tokens(self.tokenizer), *self.tokenizer.convert_ids_to_tokens(list(self.stop_ids))}
        return either(n for n in names if len(n) > 1)

    @cached_property
    def _stop(self) -> re.Pattern[str]:
        return either(self.tokenizer.convert_ids_to_tokens(list(self.stop_ids)))


def load_chat(folder: Path | str, template: TemplateName = "auto") -> Chat:
    """The tokenizer in `folder` (or on the hub) with a chat template.

    auto: the model's own template if it has one, else ChatML if its tokens exist, else a UserError that names the
    choices. chatml, model, plain: that one or a UserError. Raises UserError for a template that doubles the
    beginning-of-text token or ends no turn with a stop token.
    """
    tokenizer = load_tokenizer(folder)
    name, text = choose_template(tokenizer, template, str(folder))
    rows = [{"role": "user", "content": ASK}, {"role": "assistant", "content": ANSWER}]
    asked = render(tokenizer, text, rows[:1], ask=True)
    whole = render(tokenizer, text, rows, ask=False)
    if not whole.startswith(asked) or ANSWER not in whole[len(asked) :]:
        raise TemplateUnstable(
            "the chat template's prompt is not the beginning of the answered conversation",
            where=str(folder), remedy="template: chatml, or template: plain",
        )  # fmt: skip
    lead, _, rest = whole[len(asked) :].partition(ANSWER)
    ids = isolated(tokenizer, whole, "")
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise UserError("the chat template writes the beginning-of-text token twice", where=str(folder))
    stop, tail = stop_token(tokenizer, rest, str(folder))
    pad = tokenizer.pad_token_id
    return Chat(
        tokenizer=tokenizer, template=text, stop_ids=tuple(dict.fromkeys([stop, *declared_stops(tokenizer, folder)])),
        pad_id=pad if pad is not None else stop, lead=lead, tail=tail, name=name, _anchor=anchor_of(tokenizer),
    )  # fmt: skip


def load_tokenizer(folder: Path | str) -> Any:
    """AutoTokenizer with one clear message when there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"no tokenizer can be loaded: {first.strip().removesuffix(' from one of:')}", where=str(folder),
            remedy="a folder with tokenizer.json and tokenizer_config.json, or a model id of the Hugging Face hub",
        ) from None  # fmt: skip


def choose_template(tokenizer: Any, wanted: TemplateName, where: str) -> tuple[str, str]:
    """(name, Jinja text). Our own templates begin with the beginning-of-text token where the tokenizer adds one."""
    own = tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    fits = all(name in control_tokens(tokenizer) for name in ("<|im_start|>", "<|im_end|>"))
    starts = tokenizer.bos_token_id is not None and tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]
    begin = "{{ bos_token }}" if starts else ""
    if wanted in ("auto", "model") and own:
        return "model", str(own)
    if wanted in ("auto", "chatml") and fits:
        return "chatml", begin + CHATML
    if wanted == "plain" and tokenizer.eos_token:
        return "plain", begin + PLAIN
    lacks = {
        "auto": "the tokenizer has neither a chat template nor the tokens <|im_start|> and <|im_end|>",
        "model": "the tokenizer carries no chat template",
        "chatml": "the tokenizer lacks the tokens <|im_start|> and <|im_end|>",
        "plain": "the tokenizer has no end-of-text token to end an answer with",
    }
    remedy = {
        "auto": "template: plain ('User: ... Assistant: ...' in ordinary text), or add the two tokens to the model",
        "model": "template: chatml" if fits else "template: plain",
        "chatml": "template: plain, or template: model"
        if own
        else "template: plain, or add the two tokens to the model",
        "plain": "set eos_token in tokenizer_config.json",
    }
    raise UserError(lacks[wanted], where=where, remedy=remedy[wanted])


def render(tokenizer: Any, template: str, rows: list[dict[str, str]], *, ask: bool) -> str:
    """The template's text. Raises UserError with the template's own complaint (no system role, wrong order)."""
    from jinja2 import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                rows, chat_template=template, tokenize=False, add_generation_prompt=ask, date_string=TODAY
            )
        )
    except TemplateError as error:
        roles = ", ".join(r["role"] for r in rows)
        raise UserError(
            f"the chat template refuses a conversation of {roles}: {error}",
            remedy="template: chatml, or change the rows",
        ) from None


def stop_token(tokenizer: Any, rest: str, where: str) -> tuple[int, str]:
    """(id of the first control token after an answer, text between the answer and it)."""
    found = either(control_tokens(tokenizer)).search(rest)
    if not found:
        raise UserError(
            f"the chat template ends an answer with {rest!r}, which holds no stop token: the model would never stop",
            where=where, remedy="template: chatml, or template: plain",
        )  # fmt: skip
    return int(tokenizer.convert_tokens_to_ids(found[0])), rest[: found.start()]


def declared_stops(tokenizer: Any, folder: Path | str) -> list[int]:
    """The end-of-text id and the ids that generation_config.json declares."""
    path = Path(folder) / "generation_config.json"
    declared = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
    ids = declared if isinstance(declared, list) else [declared]
    return [int(i) for i in (tokenizer.eos_token_id, *ids) if i is not None]


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Special tokens by name: text that the tokenizer turns into one id which people must not be able to write."""
    found = {str(t.content): int(i) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    return found | {str(t): int(tokenizer.convert_tokens_to_ids(t)) for t in tokenizer.all_special_tokens}


def either(names: Any) -> re.Pattern[str]:
    """Matches any of the names, the longest first; nothing when there are none."""
    ordered = sorted((re.escape(n) for n in names), key=len, reverse=True)
    return re.compile("|".join(ordered) or r"(?!)")


def isolated(tokenizer: Any, text: str, anchor: str) -> list[int]:
    """Ids of text as if it stood inside a longer one: no special tokens, no blank put in front.

    Tokenizers that put a blank before the first word (SentencePiece) are given an anchor whose ids are cut off again.
    """
    if not anchor:
        return _ids(tokenizer, text)
    head, ids = _ids(tokenizer, anchor), _ids(tokenizer, anchor + text)
    return ids[len(head) :] if ids[: len(head)] == head else isolated(tokenizer, text, "")


def _ids(tokenizer: Any, text: str) -> list[int]:
    """tokenizer(text) without special tokens. The Rust tokenizer is asked itself where there is one: what transformers
    puts around it (padding, truncation, types, a mask) takes twice as long as the ids."""
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if rust is None or rust.truncation or rust.padding or rust.encode_special_tokens:
        return list(tokenizer(text, add_special_tokens=False).input_ids)
    return list(rust.encode(text, add_special_tokens=False).ids)


def anchor_of(tokenizer: Any) -> str:
    """'' when a word alone has the ids it has inside a text, else the newline that has to stand before it."""
    return "" if isolated(tokenizer, "probe", "\n") == isolated(tokenizer, "probe", "") else "\n"
