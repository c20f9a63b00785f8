"""The labelling pages in a real headless Chromium: a whole journey by keyboard, then what a page owes everybody.

Kinds: a journey (sign in, invite, label, undo, rank, rewrite, agreement, export), properties of every page in both
colour schemes and at phone width (names, focus order, contrast, no sideways scrolling). Skipped without Chromium.
"""

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from made_project import KINDS, PASSWORD, Browser, item, open_store, person, vote

from posttrain.rows import Demo, Pair
from posttrain.store import SYSTEM, ProjectSettings, Store
from posttrain.web import create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
EXPECT_MS = 20_000


@contextmanager
def served(store: Store) -> Iterator[str]:
    """The application on a free port in a thread; its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(store), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page that notes everything that goes wrong in it: console errors, exceptions, requests to elsewhere."""

    def __init__(self, chromium: Any, base: str, session: str = "", **how: Any):
        self.context, self.scripts = chromium.new_context(**how), how.get("java_script_enabled", True)
        if session:
            self.context.add_cookies([{"name": "session", "value": session, "url": base}])
        self.context.set_default_timeout(EXPECT_MS)
        self.page, self.base, self.wrong = self.context.new_page(), base, []
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.wrong.append(m.text))
        self.page.on("pageerror", lambda e: self.wrong.append(str(e)))
        self.page.on("request", lambda r: r.url.startswith((base, "data:")) or self.wrong.append(f"asks {r.url}"))

    def go(self, path: str) -> None:
        self.page.goto(self.base + path)
        if self.page.locator("form.task").count() and self.scripts:
            self.page.wait_for_selector("#stage[data-ready]")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def task(self) -> str:
        return self.page.locator("#task").get_attribute("data-task")

    def answers(self) -> list[str]:
        return self.page.locator("#task [data-text]").all_inner_texts()

    def submit(self) -> None:
        """Enter; waits until another task, or none, is shown."""
        before = self.task()
        self.press("Enter")
        self.moved(before)

    def moved(self, before: str) -> None:
        """Waits by selector: the page's policy forbids the eval that waiting for a function needs."""
        self.page.wait_for_selector(f'#task:not([data-task="{before}"])')

    def saved(self) -> None:
        self.page.wait_for_selector("#saved:text-is('Saved')")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path}/feedback.db") as store:
        yield store


def test_the_whole_journey_by_keyboard(chromium, empty, tmp_path):
    """Administrator by link, a project made and filled, an annotator invited: twenty pairs, undo, agreement, export."""
    with served(empty) as base:
        ada = Tab(chromium, base, accept_downloads=True)
        ada.go(f"/join/{empty.first_admin_link()}")
        enter(ada, "Ada")
        new_project(ada, "helpful", "Helpful answers", "pair")
        lines = [
            {"prompt": f"Question {n}?", "answers": [f"good answer {n}", f"bad answer {n}"], "id": f"q{n}"}
            for n in range(24)
        ]
        import_items(ada, tmp_path, lines)
        link = invitation(ada)

        bea = Tab(chromium, base)
        bea.page.goto(link)
        enter(bea, "Bea")
        bea.page.click("text=Label")
        bea.page.wait_for_selector("#task[data-kind=pair]")
        bea.page.wait_for_selector("#stage[data-ready]")
        expected = [label_pair(bea, n) for n in range(20)]
        bea.saved()
        votes = empty.votes("helpful")
        assert [(v.choice, v.strength) for v in votes] == expected
        assert all(0 < v.seconds < 60 for v in votes)

        shown = bea.task()
        bea.press("u")
        bea.moved(shown)
        assert len(empty.votes("helpful")) == 19 and bea.answers()[0].split()[-1] == votes[-1].item[1:]
        bea.press("t")
        bea.submit()
        bea.saved()
        assert empty.votes("helpful")[-1].choice == "tie" and bea.task() == shown

        cem = empty.accept(empty.invite(SYSTEM, project="helpful", role="annotator"), "Cem", PASSWORD)
        empty.change_settings(
            SYSTEM, "helpful", ProjectSettings(kind="pair", title="Helpful answers", labels_per_item=2)
        )
        for _ in range(6):
            task = empty.next_task(cem, "helpful")
            place = next(i for i, text in enumerate(task.answers) if text.startswith("good"))
            empty.submit(cem, task.id, answer("ab"[place]))
        ada.go("/p/helpful/quality")
        assert ada.page.locator("svg.plot").count() >= 3
        assert "Raw agreement" in ada.page.inner_text("main") and "Bea" in ada.page.inner_text("main")
        rows = download(ada, "helpful", "pairs.jsonl")
        pairs = [Pair.model_validate_json(row) for row in rows]
        assert len(pairs) >= 19 and all(p.chosen.content.startswith("good") for p in pairs)
        assert ada.wrong == [] and bea.wrong == []


def answer(choice: str) -> Any:
    from posttrain.store import Answer

    return Answer(choice=choice, strength=2)  # type: ignore[arg-type]


def enter(tab: Tab, name: str) -> None:
    """The form of an invitation, by keyboard: the name has the focus already."""
    tab.page.keyboard.type(name)
    tab.press("Tab")
    tab.page.keyboard.type(PASSWORD)
    tab.press("Enter")
    tab.page.wait_for_selector("h1:has-text('Projects')")


def new_project(tab: Tab, slug: str, title: str, kind: str) -> None:
    tab.go("/admin")
    tab.page.get_by_label("Title").fill(title)
    tab.page.get_by_label("Short name").fill(slug)
    tab.page.locator("select[name=kind]").select_option(kind)
    tab.page.get_by_role("button", name="Make the project").click()
    tab.page.wait_for_url(f"**/p/{slug}/manage")


def import_items(tab: Tab, folder: Path, lines: list[dict[str, Any]]) -> None:
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tab.page.get_by_label("A JSON Lines file").set_input_files(path)
    tab.page.get_by_role("button", name="Import").click()
    tab.page.wait_for_selector(f"text={len(lines)} items imported")


def invitation(tab: Tab) -> str:
    tab.page.get_by_role("button", name="Make an invitation link").click()
    link: str = tab.page.get_by_label("Invitation link").input_value()
    return link


def label_pair(tab: Tab, n: int) -> tuple[str, int]:
    """Prefer the good answer with strength 1 to 4 in turn: digits for A, Shift and digits for B."""
    strength = n % 4 + 1
    side = next(i for i, text in enumerate(tab.answers()) if text.startswith("good"))
    tab.press(f"Shift+Digit{strength}" if side else f"Digit{strength}")
    assert tab.page.locator("#task input[name=vote]:checked").get_attribute("value") == f"{'ab'[side]}{strength}"
    tab.submit()
    return "first", strength


def download(tab: Tab, slug: str, file: str) -> list[str]:
    tab.go(f"/p/{slug}/manage")
    with tab.page.expect_download() as found:
        tab.page.get_by_role("link", name=file, exact=True).first.click()
    return Path(found.value.path()).read_text().splitlines()


@pytest.fixture(scope="module")
def site(tmp_path_factory: Any) -> Iterator[tuple[str, Store]]:
    """A site with every kind of project and a few votes that differ."""
    with open_store(tmp_path_factory.mktemp("site")) as store:
        for _ in range(5):
            vote(store, "bea")
            vote(store, "cem", right=False)
        with served(store) as base:
            yield base, store


def signed_in(chromium: Any, base: str, store: Store, name: str, **how: Any) -> Tab:
    return Tab(chromium, base, Browser(store, name).http.cookies["session"], **how)


def test_five_answers_are_ranked_by_digits_with_a_tie(chromium, site):
    base, store = site
    tab = signed_in(chromium, base, store, "bea")
    tab.go("/p/ranking")
    tab.press("3", "1", "2", "2")
    assert "1 to go" in tab.page.inner_text("[data-said]")
    tab.press("Enter")  # not complete: refused here, nothing is sent
    assert "no mark yet" in tab.page.inner_text("[data-said]")
    tab.press("5", "ArrowLeft", "4")  # the fourth is changed to rank 4: the tie is gone
    tab.press("k", "k", "2")  # and the second is tied with the third
    tab.submit()
    tab.saved()
    kept = store.votes("ranking")[-1]
    assert [kept.ranks[i] for i in kept.presented] == [1, 0, 0, 2, 3]
    assert tab.wrong == []


def test_an_answer_is_rewritten(chromium, site):
    """In a rewriting task, and as part of a comparison; keys write inside the box, Ctrl+Enter leaves it."""
    base, store = site
    tab = signed_in(chromium, base, store, "bea")
    tab.go("/p/rewrite")
    tab.press("Enter")
    assert "Change the text" in tab.page.inner_text("[data-said]")
    tab.page.keyboard.type(", but better, says u and t")
    before = tab.task()
    tab.press("Control+Enter")
    tab.moved(before)
    tab.saved()
    assert store.votes("rewrite")[-1].text.endswith(", but better, says u and t")
    tab.go("/p/pair")
    second = tab.answers()[1]
    tab.press("Shift+Digit2", "e", "Control+End")
    tab.page.keyboard.type(" (mended)")
    tab.press("Escape")
    tab.submit()
    tab.saved()
    kept = store.votes("pair")[-1]
    assert kept.text == f"{second} (mended)" and kept.which == kept.choice
    row = Demo.model_validate_json(Browser(store, "lea").get("/api/v1/projects/rewrite/exports/demos.jsonl").text)
    assert row.messages[-1].content.endswith("says u and t")
    assert tab.wrong == []


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [("rating", ("6", "h", "o"), "Rated 6 of 7: makes things up, states an opinion"), ("thumb", ("2",), "Not good"),
     ("safety", ("1", "3"), "Safe, unsafe"), ("pair", ("b",), "Both are bad")],
)  # fmt: skip
def test_keys_of_the_other_kinds(chromium, site, kind, keys, said):
    base, store = site
    tab = signed_in(chromium, base, store, "cem")
    tab.go(f"/p/{kind}")
    tab.press(*keys)
    tab.submit()
    tab.saved()
    assert Browser(store, "cem").get(f"/api/v1/projects/{kind}/history").json()[0]["said"] == said
    assert tab.wrong == []


def test_skip_reason_and_help(chromium, site):
    base, store = site
    tab = signed_in(chromium, base, store, "cem")
    tab.go("/p/thumb")
    tab.press("?")
    assert "submit and go on" in tab.page.inner_text("dialog[open]")
    tab.press("Escape", "r")
    tab.page.keyboard.type("too short")
    tab.press("Escape", "1")
    tab.submit()
    before = tab.task()
    tab.press("s", "2")
    tab.moved(before)
    tab.saved()
    vote, skip = store.events("thumb")[-2:]
    assert vote.body["reason"] == "too short" and (skip.kind, skip.body["reason"]) == ("skip", "Not my language")
    assert tab.wrong == []


def test_the_next_task_is_there_at_once_and_answers_survive_a_dead_line(chromium, site):
    """With the network cut, Enter still shows the preloaded task; the answer is kept and sent when the line is back."""
    base, store = site
    tab = signed_in(chromium, base, store, "bea")
    tab.go("/p/thumb")
    before, votes = tab.task(), len(store.votes("thumb"))
    tab.context.set_offline(True)
    tab.press("1")
    tab.submit()
    assert tab.task() not in ("", before)
    tab.page.wait_for_selector("#saved:text('not saved yet')")
    assert len(store.votes("thumb")) == votes
    tab.context.set_offline(False)
    tab.saved()
    assert len(store.votes("thumb")) == votes + 1


# ---- what a page owes everybody --------------------------------------------------------------------------------------

PAGES = {
    "lea": [
        *(f"/p/{kind}" for kind in KINDS),
        *(f"/p/pair/{page}" for page in ("history", "review", "quality", "manage")),
    ],
    "ada": ["/", "/admin", "/account", "/api"],
    "": ["/sign-in", "/p/nowhere"],
}

# Every text with its colour over what lies behind it, opacities multiplied: WCAG's ratio, those below 4.5.
CONTRAST = """() => {
  const parse = (text) => {
    const n = text.match(/[\\d.]+/g).map(Number), scale = text.startsWith("color(srgb") ? 255 : 1;
    return [n[0] * scale, n[1] * scale, n[2] * scale, n[3] ?? 1];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const low = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest(".vh, svg, script, option")) continue;
    const style = getComputedStyle(element), colour = parse(style.color);
    for (let e = element; e; e = e.parentElement) colour[3] *= Number(getComputedStyle(e).opacity);
    const back = ground(element), a = light(over(colour, back)), b = light(back);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} "${text.slice(0, 40)}"`);
  }
  for (const text of document.querySelectorAll("svg text")) {
    const a = light(parse(getComputedStyle(text).fill)), b = light(ground(text.closest("svg")));
    if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) low.push(`plot "${text.textContent}"`);
  }
  return low;
}"""


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_readable_and_fits(chromium, site, scheme, width, name):
    """Contrast of all text at least 4.5, nothing to scroll sideways, and nothing wrong in the console."""
    base, store = site
    how: dict[str, Any] = {
        "color_scheme": scheme,
        "viewport": {"width": width, "height": 844},
        "reduced_motion": "reduce",
    }
    tab = signed_in(chromium, base, store, name, **how) if name else Tab(chromium, base, **how)
    for path in PAGES[name]:
        tab.go(path)
        if tab.page.locator("#task[data-kind=pair]").count():
            tab.press("3")
        assert tab.page.evaluate(CONTRAST) == [], path
        assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} scrolls sideways"
    assert [w for w in tab.wrong if "404" not in w] == []


@pytest.mark.parametrize("name", PAGES)
def test_every_control_has_a_name(chromium, site, name):
    """By the browser's own accessibility tree; every page has a main landmark, a title and a first heading."""
    base, store = site
    tab = signed_in(chromium, base, store, name) if name else Tab(chromium, base)
    controls = {
        "button",
        "link",
        "textbox",
        "radio",
        "checkbox",
        "combobox",
        "spinbutton",
        "searchbox",
        "image",
        "progressbar",
    }
    for path in PAGES[name]:
        tab.go(path)
        tree = tab.context.new_cdp_session(tab.page).send("Accessibility.getFullAXTree")["nodes"]
        shown = [n for n in tree if not n.get("ignored")]
        roles = [n["role"]["value"] for n in shown]
        nameless = [
            n["role"]["value"] for n in shown if n["role"]["value"] in controls and not n.get("name", {}).get("value")
        ]
        assert nameless == [], path
        assert roles.count("main") == 1 and "heading" in roles and tab.page.title(), path


@pytest.mark.parametrize("kind", ["pair", "ranking", "rating"])
def test_focus_goes_through_the_page_in_reading_order(chromium, site, kind):
    """Tab visits every control from top to bottom of the document, each visible and with a mark of focus."""
    base, store = site
    tab = signed_in(chromium, base, store, "lea")
    tab.go(f"/p/{kind}")
    tab.page.evaluate("document.activeElement.blur()")
    seen = tab.page.evaluate_handle("[]")
    look = """seen => { const e = document.activeElement; if (!e || e === document.body) return "";
      const marked = [e, e.parentElement].some((x) => getComputedStyle(x).outlineStyle !== "none");
      const box = e.getBoundingClientRect();
      const after = seen.length ? Boolean(seen.at(-1).compareDocumentPosition(e) & 4) : true;
      seen.push(e); return [e.tagName, after, marked, box.width > 0 && box.height > 0]; }"""
    stops = []
    for _ in range(60):
        tab.press("Tab")
        stop = tab.page.evaluate(look, seen)
        if not stop:
            break
        stops.append(stop)
    assert len(stops) > 12 and all(after and marked and visible for _, after, marked, visible in stops), stops
    assert stops[0][0] == "A"  # the link that skips to the content


def test_a_form_works_without_scripts(chromium, site):
    base, store = site
    tab = signed_in(chromium, base, store, "lea", java_script_enabled=False)
    tab.go("/p/thumb")
    before, votes = tab.task(), len(store.votes("thumb"))
    tab.page.get_by_role("radio", name="Good", exact=True).check(force=True)
    tab.page.get_by_role("button", name=re.compile("Submit")).click()
    assert tab.task() != before and len(store.votes("thumb")) == votes + 1


def test_the_bar_stays_in_view_with_long_answers(chromium, site):
    base, store = site
    long = item("pair", 99)
    long = long.model_copy(
        update={"answers": tuple(a.model_copy(update={"text": a.text + " word" * 3000}) for a in long.answers)}
    )
    store.create_project(SYSTEM, "long", ProjectSettings(kind="pair", title="Long"))
    store.add_items(SYSTEM, "long", [long])
    store.set_role(SYSTEM, "long", person(store, "bea").id, "annotator")
    for height, width in ((844, 390), (800, 1280)):
        # a new task slides in by 5 pixels, during which the bar is not yet where it stays
        how = {"viewport": {"width": width, "height": height}, "reduced_motion": "reduce"}
        tab = signed_in(chromium, base, store, "bea", **how)
        tab.go("/p/long")
        for y in (0, 1500):
            tab.page.evaluate(f"window.scrollTo(0, {y})")
            box = tab.page.locator(".bar").bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= height + 1
            assert box["height"] < 0.3 * height
