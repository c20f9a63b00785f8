"""Load and loss: simulated annotators label over HTTP, the server is killed in the middle, every receipt is checked.

    python benchmarks/label_load.py --db sqlite:///load.db --annotators 200 --rate 50 --seconds 60
    python benchmarks/label_load.py --db postgresql://user@host/name --rate 200

Starts `posttrain label` as a process of its own. Each annotator signs in, opens the labelling page and then answers as
the page's script does: one POST an answer, which returns the receipt (number and hash of the event) and the next task.
Answers begin at the target rate, whether or not earlier ones have come back. In the middle the server gets SIGKILL and
is started again; annotators send again what was not acknowledged. At the end: every receipt stands in the chain, no
person judged an item twice, the chain verifies. Requests that met the dead server are counted apart, not in the times.
The client shares the machine's cores with the server. Left out on purpose: thinking time by its real distribution.
"""

import argparse
import asyncio
import json
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
from typing import Any

import argon2
import httpx

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
    parser.add_argument("--no-kill", action="store_true")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        db = given.db or f"sqlite:///{folder}/load.db"
        report = measure(db, given.annotators, given.rate, given.seconds, kill=not given.no_kill)
    print(json.dumps(report, indent=2))
    sys.exit(0 if report["lost"] == 0 and report["chain_ok"] and report["judged_twice"] == 0 else 1)


def measure(db: str, people: int, rate: float, seconds: float, *, kill: bool) -> dict[str, Any]:
    started = time.monotonic()
    sessions = prepare(db, people, items=int(2 * rate * seconds) + 100)
    print(f"prepared {people} annotators in {time.monotonic() - started:.0f} s", file=sys.stderr)
    port = free_port()
    world = World(db, port, rate, seconds, kill)
    try:
        world.start()
        asyncio.run(world.run(sessions))
    finally:
        world.stop()
    return world.report() | check(db, world.receipts)


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

    def __init__(self, db: str, port: int, rate: float, seconds: float, kill: bool):
        self.db, self.port, self.rate, self.seconds, self.kill = db, port, rate, seconds, kill
        self.times: dict[str, list[float]] = defaultdict(list)
        self.before_kill: list[float] = []  # of all requests: after it, times hold the queue that gathered meanwhile
        self.killed = False
        self.receipts: list[tuple[int, str]] = []
        self.refused: Counter[str] = Counter()
        self.server: subprocess.Popen[bytes] | None = None
        self.begun = self.ended = self.dead_for = 0.0
        self.late = 0

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "posttrain",
            "label",
            "--project",
            SLUG,
            "--db",
            self.db,
            "--port",
            str(self.port),
        ]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/sign-in", timeout=2)
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise SystemExit("the server did not start within a minute")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.server:
            self.server.send_signal(how)
            self.server.wait()

    async def run(self, sessions: list[str]) -> None:
        limits = httpx.Limits(max_connections=len(sessions), max_keepalive_connections=len(sessions))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", limits=limits, timeout=30) as client:
            people = [Annotator(self, client, s) for s in sessions]
            for i in range(0, len(people), 10):  # they do not all arrive in the same second
                await asyncio.gather(*(p.open() for p in people[i : i + 10]))
            self.times.clear()
            self.before_kill.clear()
            self.begun = time.monotonic()
            killer = asyncio.create_task(self.murder()) if self.kill else None
            await self.pace(people)
            if killer:
                await killer
            self.ended = time.monotonic()

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

    async def murder(self) -> None:
        await asyncio.sleep(self.seconds / 2)
        self.killed, died = True, time.monotonic()
        await asyncio.to_thread(self.stop, signal.SIGKILL)
        await asyncio.to_thread(self.start)
        self.dead_for = time.monotonic() - died

    def report(self) -> dict[str, Any]:
        took = self.ended - self.begun
        return {
            "database": self.db.split(":")[0], "seconds": round(took, 1),
            "server_down_seconds": round(self.dead_for, 2),
            "votes_acknowledged": len(self.receipts), "votes_per_second": round(len(self.receipts) / took, 1),
            "target_rate": self.rate, "begun_late": self.late, "refused": dict(self.refused),
            **{name: quantiles(values) for name, values in sorted(self.times.items())},
            "all_before_the_kill": quantiles(self.before_kill),
            "all": quantiles([t for values in self.times.values() for t in values]),
        }  # fmt: skip


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    cut = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else [0.0] * 99
    return {"n": len(seconds), **{f"p{q}_ms": round(1000 * cut[q - 1], 1) for q in (50, 95, 99)}}


class Annotator:
    """One browser: opens the page, then answers the task it shows, as label.js does."""

    def __init__(self, world: World, client: httpx.AsyncClient, session: str):
        self.world, self.client = world, client
        self.headers = {"cookie": f"session={session}"}
        self.csrf, self.tasks = "", []

    async def call(self, name: str, method: str, path: str, **how: Any) -> httpx.Response:
        """One request, sent again while the server is dead; only the attempt that was answered is timed."""
        while True:
            begun = time.monotonic()
            try:
                answer = await self.client.request(method, path, headers=self.headers | how.pop("headers", {}), **how)
                self.world.times[name].append(time.monotonic() - begun)
                if not self.world.killed:
                    self.world.before_kill.append(self.world.times[name][-1])
                return answer
            except httpx.TransportError as error:
                how["headers"] = {"x-csrf-token": self.csrf, "x-fragment": "1"} if method == "POST" else {}
                self.world.refused[type(error).__name__] += 1
                await asyncio.sleep(0.2)

    async def open(self) -> None:
        answer = await self.call("page", "GET", f"/p/{SLUG}")
        self.csrf = found(r'name="csrf" content="(\w+)"', answer.text)
        self.tasks = [found(r'name="task" value="([^"]+)"', answer.text)]

    async def work(self, number: int, free: "asyncio.Queue[Annotator]") -> None:
        if number % 20 == 0:
            await self.open()
        elif number % 20 == 10:
            await self.call("history", "GET", f"/p/{SLUG}/history")
        task, after = self.tasks[0], self.tasks[1] if len(self.tasks) > 1 else ""
        draw = random.Random(task)
        data = {
            "task": task,
            "vote": draw.choice(["a1", "a3", "b2", "b4", "tie", "both_bad"]),
            "seconds": "4.2",
            "shown": after,
        }
        headers = {"x-csrf-token": self.csrf, "x-fragment": "1"}
        answer = await self.call("vote", "POST", f"/p/{SLUG}/vote", data=data, headers=headers)
        if answer.status_code == 200:
            told = answer.json()
            self.world.receipts.append((told["receipt"]["event"], told["receipt"]["hash"]))
            self.tasks = ([after] if after else []) + [t["task"] for t in told["tasks"]]
        else:
            self.world.refused[str(answer.status_code)] += 1
            await self.open()
        free.put_nowait(self)


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"the page holds no {pattern}: {text[:300]}")
    return match.group(1)


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
