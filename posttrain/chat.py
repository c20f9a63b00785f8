"""Talk with one model, or two side by side, in the terminal: streaming, several turns.

/new starts over, /system TEXT sets the system message, /quit (or Ctrl-D) ends. Left out on purpose: colours in pipes,
saving conversations; the server will do that.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from posttrain.errors import UserError
from posttrain.locate import model_folder
from posttrain.rows import Message

HELP = "type a message; /new starts over, /system TEXT sets the system message, /quit ends"


class Speaker:
    """A model with its conversation so far."""

    def __init__(self, name: str, sampler: Any, chat: Any, how: Any):
        self.name, self.sampler, self.chat, self.how = name, sampler, chat, how
        self.messages: list[Message] = []

    def start(self, system: str) -> None:
        self.messages = [Message(role="system", content=system)] if system else []

    def answer(self, text: str) -> Iterator[str]:
        """Pieces of the answer to `text`; the finished answer is remembered."""
        self.messages.append(Message(role="user", content=text))
        said = []
        for piece in self.sampler.stream(self.chat.prompt(self.messages), self.how):
            said.append(piece)
            yield piece
        self.messages.append(Message(role="assistant", content="".join(said)))


def load(name: str, *, temperature: float, max_new: int) -> Speaker:
    from posttrain.loading import load_model
    from posttrain.pipeline import Runtime
    from posttrain.render import load_chat
    from posttrain.sampler import Sampling
    from posttrain.sampler.local import Local

    folder = model_folder(name)
    chat = load_chat(folder)
    model = load_model(folder, Runtime(), train=False)
    how = Sampling(max_new=max_new, temperature=temperature)
    return Speaker(Path(name).name or name, Local(model, chat, batch=1), chat, how)


def converse(
    models: Sequence[str], *, temperature: float, max_new: int, system: str = "",
    stdin: TextIO | None = None, out: TextIO | None = None,
) -> None:  # fmt: skip
    """Read lines, print answers, until the end of input. Raises UserError when a model cannot be loaded."""
    stdin, out = stdin or sys.stdin, out or sys.stdout
    for name in models:
        model_folder(name)  # a wrong name is told before torch is imported, which takes seconds
    speakers = [load(m, temperature=temperature, max_new=max_new) for m in models]
    if len({s.name for s in speakers}) < len(speakers):
        for speaker, name in zip(speakers, models):  # the last part of both paths is the same
            speaker.name = name
    for speaker in speakers:
        speaker.start(system)
    if stdin.isatty():
        print(HELP, file=out)
    for line in _lines(stdin, out):
        if line.startswith("/"):
            if not _command(line, speakers, system, out):
                return
            continue
        for speaker in speakers:
            _say(speaker, line, named=len(speakers) > 1, out=out)


def _lines(stdin: TextIO, out: TextIO) -> Iterator[str]:
    while True:
        if stdin.isatty():
            print("> ", end="", file=out, flush=True)
        line = stdin.readline()
        if not line:
            return
        line = line.encode("utf-8", "replace").decode("utf-8")  # bytes that are no text come in as lone surrogates
        if line.strip():
            yield line.strip()


def _command(line: str, speakers: Sequence[Speaker], system: str, out: TextIO) -> bool:
    """Carry out a /command; False ends the conversation."""
    word, _, rest = line.partition(" ")
    if word in ("/quit", "/exit"):
        return False
    if word in ("/new", "/system"):
        for speaker in speakers:
            speaker.start(rest if word == "/system" else system)
        print("new conversation", file=out)
    else:
        print(HELP, file=out)
    return True


def _say(speaker: Speaker, line: str, *, named: bool, out: TextIO) -> None:
    if named:
        print(f"[{speaker.name}] ", end="", file=out)
    try:
        for piece in speaker.answer(line):
            print(piece, end="", file=out, flush=True)
    except UserError as error:  # a line that is too long must not cost the conversation
        speaker.messages.pop()
        print("\n".join([error.what, "  try: a shorter message, or /new to start over"]), end="", file=out)
    print(file=out, flush=True)
