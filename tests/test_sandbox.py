"""Programs that nobody has read: what they may not do, each tried for real."""

import subprocess
import time
from pathlib import Path

import pytest

from posttrain.judge.base import Answered
from posttrain.rl import sandbox
from posttrain.rl.rewards import code
from posttrain.rl.sandbox import Bounds, run, source_of

held = pytest.mark.skipif(bool(sandbox.why_not()), reason=f"no namespaces here: {sandbox.why_not()}")
QUICK = Bounds(seconds=1.5)


@held
@pytest.mark.parametrize(
    ("program", "how", "says"),
    [
        ("print(1 + 1)", "passed", "2"),
        ("assert 1 == 2", "failed", "AssertionError"),
        ("raise SystemExit(3)", "failed", ""),
        ("print('so far', end=''); raise SystemExit(0)", "failed", "so far"),
        ("import os; os._exit(0)", "failed", ""),
        ("print('no line', end='')", "passed", "no line"),
        ("import time; time.sleep(60)", "timeout", ""),
        ("while True: pass", "timeout", ""),
        ("x = 'x' * 10**10", "memory", "MemoryError"),
        ("while True: print('y' * 1000)", "output", "yyy"),
        ("import socket; socket.create_connection(('1.1.1.1', 53), 1)", "failed", "unreachable"),
        ("open('big', 'w').write('x' * 10**8)", "failed", "too large"),
        ("for i in range(10**6): open(f'f{i}', 'w').write('x' * 10**6)", "failed", "No space left"),
        ("open('/etc/new', 'w')", "failed", "Read-only"),
    ],
)
def test_held(program, how, says):
    found = run(program, QUICK)
    assert found.how == how and says in found.output
    assert len(found.output) <= QUICK.output << 10


@held
def test_a_fork_bomb_ends_and_leaves_nothing_behind():
    start = time.monotonic()
    assert run("import os\nwhile True:\n    os.fork()", QUICK).how in ("timeout", "failed")
    assert time.monotonic() - start < 20


@held
def test_a_child_that_hides_dies_too():
    run("import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(31.25)", QUICK)
    alive = subprocess.run(["ps", "axo", "args"], capture_output=True, text=True, check=True).stdout
    assert "31.25" not in alive


@held
def test_it_sees_no_process_and_no_secret_of_the_outside(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    found = run("import os; print(sorted(os.environ)); print(len([d for d in os.listdir('/proc') if d.isdigit()]))")
    assert "SECRET_TOKEN" not in found.output and int(found.output.splitlines()[1]) <= 4
    assert "held" in run("import os; print('held', os.listdir('.'))").output


@held
async def _score(answer, tests):
    return (await code(seconds=2).score([Answered(answer=answer, truth={"tests": tests})]))[0].score


@held
def test_code_reward_is_the_share_of_tests_that_pass():
    import asyncio

    answer = "Here:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."
    tests = ["assert double(2) == 4", "assert double(3) == 7"]
    assert asyncio.run(_score(answer, tests)) == 0.5
    assert asyncio.run(_score("no code at all", tests)) == 0
    assert asyncio.run(_score("def double(x):\n    return 0\nexit(0)", tests)) == 0  # tests that never ran
    assert asyncio.run(_score("import os\nos._exit(0)", tests)) == 0


def test_without_namespaces_it_refuses(monkeypatch):
    from posttrain.errors import UserError

    monkeypatch.setattr(sandbox, "why_not", lambda: "namespaces are refused")
    with pytest.raises(UserError, match="cannot be run safely"):
        run("print('must not run'); open('/tmp/it-ran', 'w')")
    assert not Path("/tmp/it-ran").exists()


def test_source_of():
    assert source_of("x = 1") == "x = 1"
    assert source_of("a\n```python\nx = 1\n```\nb\n```\ny = 2\n```") == "y = 2\n"
    assert source_of("```py\nx = 1") == "x = 1"  # cut off before the fence was closed
