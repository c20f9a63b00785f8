"""A function of a test, run in a process of its own that is shot at a given moment: what resuming is tested with.

The process writes a checkpoint at every step and says a line before each step of training ("step"), token of sampling
("decode") and micro-batch of a rollout ("update"). Run as a script it is that process.
"""

import pickle
import signal
import subprocess
import sys


def outcome(fn, *args, kill_at=None, **knobs):
    """Exit status of fn(*args, **knobs), a function of a test file; kill_at: (word, how many) before the shot."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pickle.dump((fn, args, knobs), process.stdin)
    process.stdin.close()
    said = 0
    for line in process.stdout:
        said += kill_at is not None and line.decode().strip() == kill_at[0]
        if kill_at and said == kill_at[1]:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    return process.wait()


def loud(owner, name, word):
    real = getattr(owner, name)

    def told(*args, **knobs):
        print(word, flush=True)
        return real(*args, **knobs)

    setattr(owner, name, told)


if __name__ == "__main__":
    from posttrain import train
    from posttrain.rl.learner import Learner
    from posttrain.sampler.local import Local

    train.CHECKPOINT_SECONDS = 0.0
    loud(train, "_step", "step")
    loud(Local, "_step", "decode")
    loud(Learner, "loss", "update")
    wanted, positional, named = pickle.load(sys.stdin.buffer)
    wanted(*positional, **named)
