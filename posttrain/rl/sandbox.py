"""Run a program nobody has read: a process of its own, without network, with bounds on time, memory, disk and output.

Linux namespaces hold it: no network interface but a dead loopback, no process of the outside to be seen or signalled,
every process it starts dies with it, the places it could write to are one small memory file system. Inside, resource
limits. Where a machine gives no namespaces, `run` refuses rather than run it unheld.
Left out on purpose: languages other than Python, reading files of this machine (they stay readable to the user that
runs this), protection against faults of the kernel itself: for hostile programs use a virtual machine.
"""

import functools
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, Literal

from posttrain.errors import UserError

HELD = ("unshare", "--user", "--map-root-user", "--net", "--ipc", "--pid", "--mount", "--fork", "--kill-child")
# $1 bytes of disk, the rest the command. Everything becomes read-only but /tmp, which is a disk of that size in memory.
INSIDE = """
mount --make-rprivate / || exit 125
awk '{print $2}' /proc/self/mounts | while read -r m; do
  mount -o remount,bind,ro "$m" 2>/dev/null || case "$m" in /proc*|/sys*) ;; *) [ ! -w "$m" ] || exit 125 ;; esac
done || exit 125
mount -t tmpfs -o size="$1",nr_inodes=4096,mode=0777 none /tmp || exit 125
for d in /var/tmp /dev/shm /run; do [ ! -d "$d" ] || mount -t tmpfs -o size=64k,nr_inodes=64 none "$d" || exit 125; done
mount -t proc none /proc 2>/dev/null
cd /tmp && shift && exec "$@"
"""
# Run first inside: limits that the program cannot raise again, then the program itself, read from stdin behind a line
# that is written back when the program has come to its end: `exit(0)` before the tests is no way to pass them.
LIMITED = """
import os, resource, sys
cpu, memory, processes, file = map(int, sys.argv[1:5])
for what, most in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, file),
                   (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, processes)):
    resource.setrlimit(what, (most, most))
sys.argv = ["program"]
def run(write=os.write, end=sys.stdin.readline().encode()):
    exec(compile(sys.stdin.read(), "program", "exec"), {"__name__": "__main__"})
    sys.stdout.flush()
    write(1, end)
run()
"""
How = Literal["passed", "failed", "timeout", "output", "memory"]


@dataclass(frozen=True)
class Ran:
    """How a program ended. passed: it came to its last line, exit status 0. output: of stdout and stderr together, cut
    at the limit."""

    how: How
    output: str
    status: int


@dataclass(frozen=True)
class Bounds:
    """seconds of wall clock (and of processor time); MiB of memory for each process and of disk; KiB of output."""

    seconds: float = 5.0
    memory: int = 512
    disk: int = 16
    output: int = 64
    processes: int = 16


@functools.cache
def why_not() -> str:
    """Why programs cannot be held on this machine; "" when they can."""
    if not sys.platform.startswith("linux") or not shutil.which("unshare"):
        return "it needs Linux and the program `unshare` (util-linux)"
    trial = subprocess.run([*HELD, "sh", "-c", INSIDE, "sh", "1m", "true"], capture_output=True, text=True, timeout=20)
    return "" if trial.returncode == 0 else f"namespaces are refused: {trial.stderr.strip()[:200]}"


def run(program: str, bounds: Bounds | None = None) -> Ran:
    """Run Python source held by `bounds`. Raises UserError where this machine cannot hold it."""
    if why := why_not():
        raise UserError(
            f"programs cannot be run safely on this machine: {why}",
            remedy="run in a container or user that may create namespaces, or judge the answers in another way",
        )
    bounds = bounds or Bounds()
    with tempfile.TemporaryFile() as said:
        python = os.path.realpath(sys.executable)  # not the one of an environment that may lie in /tmp, hidden inside
        inner = [python, "-I", "-S", "-c", LIMITED]
        limits = [int(bounds.seconds) + 1, bounds.memory << 20, bounds.processes, bounds.disk << 20]
        command = [*HELD, "sh", "-c", INSIDE, "sh", f"{bounds.disk}m", *inner, *map(str, limits)]
        end = secrets.token_hex(16) + "\n"
        status, late = _wait(command, end + program, said, bounds)
        said.seek(0)
        output = said.read((bounds.output << 10) + 1 + len(end))
    ended = end.encode() in output
    output = output.replace(end.encode(), b"")
    text = output[: bounds.output << 10].decode(errors="replace")
    return Ran(_how(status, late, len(output) > bounds.output << 10, text, ended), text, status)


def _wait(command: list[str], program: str, said: IO[bytes], bounds: Bounds) -> tuple[int, bool]:
    """(exit status, whether it was killed for being late). Its output file cannot grow beyond its limit."""
    environment = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT, env=environment,
        start_new_session=True, cwd="/",
    )  # fmt: skip
    try:
        process.communicate(program.encode(), timeout=bounds.seconds)
        late = False
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)  # unshare dies, and --kill-child takes everything inside along
        process.wait()
    return process.returncode, late


def _how(status: int, late: bool, long: bool, text: str, ended: bool) -> How:
    if late or status in (128 + signal.SIGXCPU, -signal.SIGXCPU, 128 + signal.SIGKILL):
        return "timeout"
    if long or status == 128 + signal.SIGXFSZ:
        return "output"
    if status == 0:
        return "passed" if ended else "failed"
    return "memory" if "MemoryError" in text[-400:] else "failed"


def source_of(answer: str) -> str:
    """The Python code of an answer: its last fenced block, or all of it when there is none."""
    blocks = re.findall(r"```[^\n`]*\n(.*?)(?:```|\Z)", answer, re.S)
    return str(blocks[-1]) if blocks else answer
