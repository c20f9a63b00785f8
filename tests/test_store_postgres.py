"""The tests of test_store.py on a real PostgreSQL, started here from the system's packages and stopped at the end."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psycopg
import pytest
import test_store
from feedback_store import person, project, recount, survives_a_kill, vote

from posttrain.store import Store, Unavailable, chain, schema

globals().update({name: test for name, test in vars(test_store).items() if name.startswith("test_")})
cheap_passwords, clock, store = test_store.cheap_passwords, test_store.clock, test_store.store
BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)
TRIGGERS = "SELECT 1 FROM pg_trigger WHERE tgname = 'events_append_only'"


def _as_postgres(*command):
    """Runs it as a user who is not root, which PostgreSQL insists on."""
    return ["runuser", "-u", "postgres", "--", *map(str, command)] if os.geteuid() == 0 else [*map(str, command)]


class Server:
    def __init__(self, folder: Path):
        self.folder, self.name = folder, "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self._do("initdb", "-D", folder / "data", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C", "-U", self.name)

    def _do(self, program, *arguments):
        command = _as_postgres(BIN.with_name(program), *arguments)
        with (self.folder / "commands.log").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, timeout=120, cwd=self.folder)

    def start(self):
        # the log writer sleeps, so that a server that is stopped at once has lost all that nobody waited for
        rest = "-c listen_addresses= -c max_connections=100 -c wal_writer_delay=10000"
        options = f"-F -p {self.port} -k {self.folder} {rest}"
        self._do("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-w", "-o", options, "start")

    def stop(self):
        self._do("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")

    def sql(self, *statements, database="postgres"):
        with psycopg.connect(self.url(database, self.name), autocommit=True) as conn:
            return [conn.execute(s).statusmessage for s in statements]

    def url(self, database, user="labels"):
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def fresh(self):
        """An empty store: emptied, or where a test has meddled with the triggers, copied anew."""
        blank = ["DROP DATABASE IF EXISTS test", "CREATE DATABASE test TEMPLATE blank OWNER labels"]
        tables = ", ".join(t.name for t in schema.meta.sorted_tables)
        head = f"INSERT INTO heads (project, number, hash, at) VALUES ('', 0, '{chain.ZERO}', 0)"
        empty = ["SET session_replication_role = replica", f"TRUNCATE {tables} RESTART IDENTITY", head]
        try:
            if self.sql(TRIGGERS, database="test") != ["SELECT 1"]:
                raise psycopg.Error("the triggers are gone")
            self.sql(*empty, database="test")
        except psycopg.Error:
            self.sql(*blank)
        return self.url("test")


@pytest.fixture(scope="module")
def server():
    if BIN is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    try:
        running = Server(folder)
        running.start()
        running.sql("CREATE ROLE labels LOGIN", "CREATE DATABASE blank OWNER labels")  # an ordinary user
        Store.open(running.url("blank")).close()  # made once by the migrations, copied where need be
        yield running
        running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(server):
    return server.fresh()


def test_a_server_that_goes_away_is_said_and_comes_back_with_every_vote(store, server):
    project(store, 5)
    who = person(store)
    kept = vote(store, who)
    server.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        store.votes("p")
    server.start()
    assert [v.id for v in store.votes("p")] == [kept.hash]
    assert vote(store, who) is not None and store.verify().ok
    recount(store)


def test_a_server_that_is_not_there(server):
    with pytest.raises(Unavailable, match="does not answer") as error:
        Store.open(f"postgresql://me:geheim@/x?host={server.folder}&port=1")
    assert "geheim" not in str(error.value)


def test_a_killed_process_loses_no_acknowledged_vote(server):
    url = server.fresh()
    with Store.open(url) as store:
        survives_a_kill(store, url)


def test_a_worker_that_is_killed_loses_no_vote_and_is_replaced(server, cheap_passwords):
    """Two processes, one chain: six people answer over HTTP through both, one is shot, every receipt is there."""
    url, receipts = server.fresh(), []
    with Store.open(url) as store:
        project(store, 60, labels_per_item=2, max_labels=3)
        tokens = [store.api_token(person(store), "test") for _ in range(6)]
        command = ["posttrain", "label", "--project", "p", "--db", url, "--port", "0", "--workers", "2"]
        command = [sys.executable, "-um", *command]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=_in_the_background) as process:
            base = next(m[0] for line in process.stdout if (m := re.search(r"http://[\d.:]+(?=/p/p )", line)))
            while len(before := _workers(process.pid)) < 2:  # the second may come a moment after the first line
                time.sleep(0.05)
            people = [threading.Thread(target=_answers, args=(base, token, receipts)) for token in tokens]
            for one in people:
                one.start()
            while len(receipts) < 30 and all(one.is_alive() for one in people):
                time.sleep(0.01)
            os.kill(before[0], signal.SIGKILL)
            for one in people:
                one.join()
            while len(after := _workers(process.pid)) < 2:
                time.sleep(0.05)
            process.terminate()
        assert before[1] in after and before[0] not in after
        assert not [pid for pid in after if Path(f"/proc/{pid}").exists()], "the workers ended with their parent"
        votes = store.votes("p")
        assert set(receipts) <= {v.id for v in votes} and store.verify("p").ok
        assert max(Counter((v.item, v.person) for v in votes).values()) == 1
        recount(store)


def _in_the_background():
    """As a script's shell starts what it does not wait for: SIGINT is ignored, SIGTERM must do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _workers(parent):
    """The processes that serve, which the parent has started in two goes: at the beginning and after a death."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        for pid in map(int, (task / "children").read_text().split()):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return sorted(found)


def _answers(base, token, receipts):
    """One person answers until nothing is left; what fails is asked again, on a new connection."""
    while True:
        try:
            with httpx.Client(base_url=f"{base}/api/v1", headers={"authorization": f"Bearer {token}"}) as http:
                while task := http.get("/projects/p/tasks/next").json():
                    answer = http.post(f"/tasks/{task['id']}/answer", json={"choice": "a"})
                    receipts.append(answer.json()["hash"])
                return
        except httpx.TransportError:
            time.sleep(0.05)
