"""One machine of several that share a store: small stages, a cache of its own, mishaps on demand. Used by test_remote.

    python machine.py URL NAME              runs stage NAME (or `all`) and prints what was said and carried
    MISHAP="kill 2"                         SIGKILL before the second file goes out
    MISHAP="slow 5"                         the stage takes five seconds

Left out on purpose: torch.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

from posttrain import remote
from posttrain.errors import UserError
from posttrain.pipeline import Ref, Runtime, Stage, run, run_one, write_text
from posttrain.progress import Progress
from posttrain.remote import lease, parts
from posttrain.remote.bucket import Bucket

MISHAP = os.environ.get("MISHAP", "").split()


class Words(Stage):
    makes = "demos"
    type: Literal["words"] = "words"
    text: str = "a b"

    def run(self, inputs, out, runtime):
        if MISHAP[:1] == ["slow"]:
            time.sleep(float(MISHAP[1]))
        (out / "deep").mkdir()
        (out / "deep" / "words.txt").write_text(self.text)
        (out / "who.txt").write_text(os.environ.get("POSTTRAIN_CACHE", ""))
        return {}


class Model(Stage):
    makes = "policy"
    type: Literal["model"] = "model"
    data: Annotated[tuple[str, ...], Ref("demos")]
    glue: str = "-"

    def run(self, inputs, out, runtime):
        text = self.glue.join((p / "deep" / "words.txt").read_text() for p in inputs.many("data"))
        (out / "model.safetensors").write_text(text)
        (out / "config.json").write_text("{}")
        return {}


class Judge(Stage):
    """Links to its input, as a judge of a policy does."""

    makes = "judge"
    type: Literal["judge"] = "judge"
    policy: Annotated[str, Ref("policy")]

    def run(self, inputs, out, runtime):
        (out / "model").symlink_to(inputs.one("policy").resolve())
        return {}


class Said(Stage):
    makes = "report"
    type: Literal["said"] = "said"
    judge: Annotated[str, Ref("judge")]

    def run(self, inputs, out, runtime):
        (out / "said.txt").write_text((inputs.one("judge") / "model" / "model.safetensors").read_text())
        return {}


class Steps(Stage):
    """Three steps and a checkpoint after each, as training is."""

    makes = "policy"
    resumes = True
    type: Literal["steps"] = "steps"
    steps: int = 3

    def run(self, inputs, out, runtime):
        kept = out / "checkpoint.txt"
        done = kept.read_text().split() if kept.exists() else []
        while len(done) < self.steps:
            done.append(Path(os.environ.get("POSTTRAIN_CACHE", "here")).name)
            write_text(kept, " ".join(done))
            if MISHAP[:1] == ["slow"]:
                time.sleep(float(MISHAP[1]))
        kept.rename(out / "done.txt")
        return {}


STAGES = {
    "one": Words(),
    "two": Words(text="c" * 1000),
    "model": Model(data=("one", "two")),
    "judge": Judge(policy="model"),
    "said": Said(judge="judge"),
}
LONG = {"steps": Steps()}


def place(url):
    found = remote.place(url, "words", Progress("lines", sys.stdout))
    found.known()
    return found


def work(url, name):
    here = place(url)
    here.settle()
    runtime = Runtime(progress=here.progress)
    if name == "all":
        return run(STAGES, here.root, runtime, around=here.around)
    return run_one(STAGES | LONG, here.root, runtime, name, around=here.around)


def main():
    lease.BEAT, parts.EVERY = float(os.environ.get("BEAT", "1")), 0.1
    carried, put, get = [], Bucket.put, Bucket.get

    def watched_put(self, local, path, moved):
        if MISHAP[:1] == ["kill"] and len(carried) == int(MISHAP[1]) - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        carried.append(f"> {path}")
        put(self, local, path, moved)

    def watched_get(self, path, local, moved):
        carried.append(f"< {path}")
        get(self, path, local, moved)

    Bucket.put, Bucket.get = watched_put, watched_get
    try:
        work(*sys.argv[1:])
    except UserError as error:
        print("\n".join(error.lines()))
        sys.exit(2)
    finally:
        print("carried", json.dumps(carried))


if __name__ == "__main__":
    main()
