"""Load and loss: simulated annotators label over HTTP, the server is killed in the middle, every receipt is checked.

    python benchmarks/label_load.py --db sqlite:///load.db --annotators 200 --rate 50 --seconds 60
    python benchmarks/label_load.py --db postgresql://user@host/name --rate 200

Starts `posttrain label` as a process of its own. Each annotator has a session and a connection, opens the labelling
page, lets it fetch the task after the first, and then answers as the page's script does: one POST an answer, which
returns the receipt (number and hash of the event) and the next task, whose text is looked into. A share of them
(`--plain`) has no script: the form is posted, the redirect followed, the next page read. Answers begin at the target
rate, whether or not earlier ones have come back. In the middle the server gets SIGKILL and is started again; annotators
send again what was not acknowledged. At the end: every receipt stands in the chain, no person judged an item twice, the
chain verifies. Requests that met the dead server are counted apart, not in the times. Client, server and database share
the machine's cores; the processor time of each is told by vote. The client speaks plain HTTP/1.1 over sockets, since
httpx costs more than what it measures. Left out on purpose: thinking time by its real distribution.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

import argon2

from posttrain.rows import Message
from posttrain.store import SYSTEM, Candidate, Missing, ProjectSettings, Store, TaskItem
from posttrain.store import people as store_people

SLUG, PASSWORD = "load", "correct horse battery"
WORDS = ("the", "model", "answers", "questions", "about", "rivers", "bread", "taxes", "stars", "with", "some", "care")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", default="")
    parser.add_argument("--annotators", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50.0, help="votes a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--plain", type=float, default=0.05, help="share of annotators without the page's script")
    parser.add_argument("--server", default="", help="further options of posttrain label, as one text")
    parser.add_argument("--no-kill", action="store_true")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        db = given.db or f"sqlite:///{folder}/load.db"
        world = World(db, given.server.split(), given.rate, given.seconds, not given.no_kill)
        report = measure(world, given.annotators, given.plain)
    print(json.dumps(report, indent=2))
    sys.exit(0 if report["lost"] == 0 and report["chain_ok"] and report["judged_twice"] == 0 else 1)


def measure(world: "World", people: int, plain: float) -> dict[str, Any]:
    started = time.monotonic()
    sessions = prepare(world.db, people, items=int(2 * world.rate * world.seconds) + 100)
    print(f"prepared {people} annotators in {time.monotonic() - started:.0f} s", file=sys.stderr)
    try:
        world.postmaster = postmaster(world.db)
        world.start()
        asyncio.run(world.run(sessions, plain))
    finally:
        world.stop()
    return world.report() | check(world.db, world.receipts)


def prepare(db: str, people: int, items: int) -> list[str]:
    """A project with items and annotators who are signed in; their session tokens."""
    quick = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)  # signing in is not what is measured
    store_people._hasher = lambda: quick
    with Store.open(db) as store:
        try:
            store.project(SLUG)
        except Missing:
            settings = ProjectSettings(kind="pair", title="Load", labels_per_item=2, max_labels=3)
            store.create_project(SYSTEM, SLUG, settings)
        have = len(store.items(SLUG))
        store.add_items(SYSTEM, SLUG, (item(i) for i in range(have, have + items)))
        mark = f"{time.time():.0f}"
        sessions = []
        for i in range(people):
            store.accept(store.invite(SYSTEM, project=SLUG, role="annotator"), f"annotator {mark} {i}", PASSWORD)
            sessions.append(store.sign_in(f"annotator {mark} {i}", PASSWORD))
    return sessions


def item(number: int) -> TaskItem:
    draw = random.Random(number)
    texts = [f"{i}: " + " ".join(draw.choices(WORDS, k=draw.randint(30, 160))) for i in range(2)]
    answers = tuple(Candidate(text=t, model=m) for t, m in zip(texts, ("one", "two")))
    return TaskItem(id=f"item-{number}", prompt=(Message(role="user", content=f"Question {number}?"),), answers=answers)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class World:
    """The server process, its annotators, and what was measured."""

    def __init__(self, db: str, options: list[str], rate: float, seconds: float, kill: bool):
        self.db, self.options, self.port = db, options, free_port()
        self.rate, self.seconds, self.kill = rate, seconds, kill
        self.times: dict[str, list[float]] = defaultdict(list)
        self.before_kill: list[float] = []  # of all requests: after it, times hold the queue that gathered meanwhile
        self.killed = False
        self.receipts: list[tuple[int, str]] = []
        self.unread = 0  # acknowledged to somebody without the script, who is told no receipt
        self.refused: Counter[str] = Counter()
        self.server: subprocess.Popen[bytes] | None = None
        self.postmaster = 0
        self.begun = self.ended = self.dead_for = 0.0
        self.late = 0
        self.spent: dict[str, float] = {}

    def start(self) -> None:
        command = [sys.executable, "-m", "posttrain", "label", "--project", SLUG, "--db", self.db]
        command += ["--port", str(self.port), *self.options]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                with urlopen(f"http://127.0.0.1:{self.port}/sign-in", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the server did not start within a minute")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.server:
            for pid in descendants(self.server.pid) if how == signal.SIGKILL else [self.server.pid]:
                os.kill(pid, how)  # a kill hits the workers too
            self.server.wait()

    def processor(self) -> dict[str, float]:
        """Seconds that each side has used so far."""
        server = seconds_of(descendants(self.server.pid)) if self.server else 0.0
        database = seconds_of(descendants(self.postmaster)) if self.postmaster else 0.0
        return {"client": time.process_time(), "server": server, "database": database}

    async def run(self, sessions: list[str], plain: float) -> None:
        people = [Annotator(self, s, n < plain * len(sessions)) for n, s in enumerate(sessions)]
        random.Random(0).shuffle(people)
        for i in range(0, len(people), 10):  # they do not all arrive in the same second
            await asyncio.gather(*(p.open() for p in people[i : i + 10]))
        self.times.clear()
        self.before_kill.clear()
        before, self.begun = self.processor(), time.monotonic()
        killer = asyncio.create_task(self.murder(before)) if self.kill else None
        await self.pace(people)
        if killer:
            await killer
        else:
            self.account(before)
        self.ended = time.monotonic()

    def account(self, before: dict[str, float]) -> None:
        """Processor milliseconds a vote, of each side, since `before`."""
        votes, now = max(1, len(self.receipts) + self.unread), self.processor()
        self.spent = {side: round(1000 * (now[side] - before[side]) / votes, 2) for side in now}

    async def pace(self, people: list["Annotator"]) -> None:
        """Answers begin at the target rate, each by whoever has been free longest."""
        free: asyncio.Queue[Annotator] = asyncio.Queue()
        for person in people:
            free.put_nowait(person)
        running: set[asyncio.Task[None]] = set()
        for n in range(int(self.rate * self.seconds)):
            delay = self.begun + n / self.rate - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            self.late += free.empty()
            person = await free.get()
            task = asyncio.create_task(person.work(n, free))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def murder(self, before: dict[str, float]) -> None:
        await asyncio.sleep(self.seconds / 2)
        self.account(before)
        self.killed, died = True, time.monotonic()
        await asyncio.to_thread(self.stop, signal.SIGKILL)
        await asyncio.to_thread(self.start)
        self.dead_for = time.monotonic() - died

    def report(self) -> dict[str, Any]:
        took, votes = self.ended - self.begun, len(self.receipts) + self.unread
        return {
            "database": self.db.split(":")[0], "seconds": round(took, 1),
            "server_down_seconds": round(self.dead_for, 2),
            "votes_acknowledged": votes, "votes_per_second": round(votes / took, 1), "processor_ms_a_vote": self.spent,
            "target_rate": self.rate, "begun_late": self.late, "refused": dict(self.refused),
            **{name: quantiles(values) for name, values in sorted(self.times.items())},
            "all_before_the_kill": quantiles(self.before_kill),
            "all": quantiles([t for values in self.times.values() for t in values]),
        }  # fmt: skip


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    cut = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else [0.0] * 99
    return {"n": len(seconds), **{f"p{q}_ms": round(1000 * cut[q - 1], 1) for q in (50, 95, 99)}}


class Reply(NamedTuple):
    status: int
    place: str  # where a redirect leads
    text: str


class Browser:
    """One connection to the server, kept alive, opened again after it broke: HTTP/1.1, bodies of a told length."""

    def __init__(self, port: int, session: str):
        self.port, self.cookie = port, f"host: 127.0.0.1\r\ncookie: session={session}\r\n"
        self.pipe: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, headers: str = "", fields: dict[str, str] | None = None) -> Reply:
        body = urlencode(fields or {})
        if fields is not None:
            headers += f"content-type: application/x-www-form-urlencoded\r\ncontent-length: {len(body)}\r\n"
        try:
            if self.pipe is None:
                self.pipe = await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = self.pipe
            writer.write(f"{method} {path} HTTP/1.1\r\n{self.cookie}{headers}\r\n{body}".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            text = await reader.readexactly(int(found(r"(?i)content-length: (\d+)", head)))
        except (OSError, EOFError):
            if self.pipe is not None:
                self.pipe[1].close()
            self.pipe = None
            raise
        place = re.search(r"(?i)location: (\S+)", head)
        return Reply(int(head[9:12]), place[1] if place else "", text.decode())


class Annotator:
    """One person: opens the page, then answers the task it shows, as label.js does or, `plain`, as its form does."""

    def __init__(self, world: World, session: str, plain: bool):
        self.world, self.plain, self.browser = world, plain, Browser(world.port, session)
        self.csrf, self.tasks = "", [""]

    async def call(self, name: str, method: str, path: str, fields: dict[str, str] | None = None) -> Reply:
        """One request, sent again while the server is dead; only the attempt that was answered is timed."""
        script = not self.plain and name != "page"
        headers = f"x-csrf-token: {self.csrf}\r\nx-fragment: 1\r\n" if script else ""
        while True:
            begun = time.monotonic()
            try:
                answer = await self.browser.ask(method, path, headers, fields)
                self.world.times[name].append(time.monotonic() - begun)
                if not self.world.killed:
                    self.world.before_kill.append(self.world.times[name][-1])
                return answer
            except (OSError, EOFError) as error:
                self.world.refused[type(error).__name__] += 1
                await asyncio.sleep(0.2)

    async def open(self, path: str = f"/p/{SLUG}") -> None:
        text = (await self.call("page", "GET", path)).text
        self.csrf = found(r'name="csrf" content="(\w+)"', text)
        self.tasks = [found(r'name="task" value="([^"]+)"', text)]
        if not self.plain:
            self.read(await self.call("next", "GET", f"/p/{SLUG}/next?shown={self.tasks[0]}"))

    def read(self, answer: Reply) -> dict[str, Any]:
        """What the script is told: the tasks come into the queue, each with its text."""
        told: dict[str, Any] = json.loads(answer.text)
        for task in told["tasks"]:
            assert task["task"] in task["html"] and "Question" in task["html"], task["html"]
            self.tasks.append(task["task"])
        return told

    async def work(self, number: int, free: "asyncio.Queue[Annotator]") -> None:
        if number % 20 == 0:
            await self.open()
        elif number % 20 == 10:
            await self.call("history", "GET", f"/p/{SLUG}/history")
        fields = {"task": self.tasks[0], "seconds": "4.2"}
        fields["vote"] = random.Random(self.tasks[0]).choice(["a1", "a3", "b2", "b4", "tie", "both_bad"])
        await (self.post_form if self.plain else self.post_script)(fields)
        free.put_nowait(self)

    async def post_form(self, fields: dict[str, str]) -> None:
        answer = await self.call("form", "POST", f"/p/{SLUG}/vote", fields | {"csrf": self.csrf})
        if answer.status == 303:
            self.world.unread += 1
        else:
            self.world.refused[str(answer.status)] += 1
        await self.open(answer.place or f"/p/{SLUG}")

    async def post_script(self, fields: dict[str, str]) -> None:
        self.tasks.pop(0)
        fields["shown"] = self.tasks[0] if self.tasks else ""
        answer = await self.call("vote", "POST", f"/p/{SLUG}/vote", fields)
        if answer.status == 200:
            told = self.read(answer)["receipt"]
            self.world.receipts.append((told["event"], told["hash"]))
        else:
            self.world.refused[str(answer.status)] += 1
            await self.open()


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"the page holds no {pattern}: {text[:300]}")
    return match.group(1)


def processes() -> dict[int, tuple[str, int]]:
    """Every process's name and parent."""
    known = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        known[int(folder.name)] = name, int(rest.split()[1])
    return known


def descendants(root: int) -> list[int]:
    parents = {pid: parent for pid, (_, parent) in processes().items()}
    family = [root]
    for pid in family:
        family += [child for child, parent in parents.items() if parent == pid]
    return family


def postmaster(db: str) -> int:
    """The process of a PostgreSQL server on this machine, 0 for none: other servers' time is not this one's."""
    if not db.startswith("postgres"):
        return 0
    with Store.open(db) as store:
        own = store.db.read(lambda conn: conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        return processes().get(own, ("", 0))[1]


def seconds_of(pids: list[int]) -> float:
    """Processor time of processes and of the children that they have outlived."""
    ticks = 0
    for pid in pids:
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def check(db: str, receipts: list[tuple[int, str]]) -> dict[str, Any]:
    """Every receipt against the chain, after everything."""
    with Store.open(db) as store:
        hashes, after = {}, 0
        while batch := store.events(SLUG, after=after, limit=10_000):
            hashes |= {e.number: e.hash for e in batch}
            after = batch[-1].number
        votes = store.votes(SLUG)
        twice = Counter((v.person, v.item) for v in votes)
        chain = store.verify(SLUG)
    lost = [n for n, digest in receipts if hashes.get(n) != digest]
    return {
        "lost": len(lost), "events": len(hashes), "votes_in_store": len(votes), "chain_ok": chain.ok,
        "judged_twice": sum(n > 1 for n in twice.values()),
    }  # fmt: skip


if __name__ == "__main__":
    main()
