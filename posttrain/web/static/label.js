// The labelling page. The server renders every task as a form that also works without this file; here are the keys,
// the next task held ready, and a queue that sends answers in the background until the server has acknowledged them.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const stage = $("stage"), slug = stage.dataset.slug, csrf = document.querySelector("meta[name=csrf]").content;
  const queue = [];            // answers given and not yet acknowledged, oldest first
  let spare = null;            // {task, html}: what comes after the task that is shown
  let sending = false, waiting = false, now = 0, since = performance.now(), spent = 0;

  const form = () => stage.querySelector("form.task");
  const shown = () => (stage.querySelector("#task") || { dataset: {} }).dataset.task || "";
  const say = (text) => { $("spoken").textContent = text; };
  const all = (selector) => (form() ? [...form().querySelectorAll(selector)] : []);

  // ---- talking to the server
  async function call(path, body) {
    const answer = await fetch(`/p/${slug}/${path}`, {
      method: body ? "POST" : "GET", body: body && new URLSearchParams(body), credentials: "same-origin", headers: { "X-Fragment": "1", "X-CSRF-Token": csrf },
    });
    const data = await answer.json().catch(() => ({}));
    if (!answer.ok) throw Object.assign(new Error("refused"), { status: answer.status, told: data.error || {} });
    return data;
  }

  function trouble(what, remedy, retry) {
    const box = $("trouble");
    box.replaceChildren();
    if (!what) return;
    const alert = document.createElement("div");
    alert.className = "alert bad";
    for (const line of [what, remedy]) if (line) alert.appendChild(Object.assign(document.createElement("p"), { textContent: line }));
    if (retry) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "small", textContent: "Try again" });
      button.addEventListener("click", () => { trouble(); retry(); });
      alert.appendChild(button);
    }
    box.appendChild(alert);
  }

  function status() {
    const box = $("saved");
    box.classList.toggle("waiting", waiting);
    box.textContent = waiting ? `${queue.length} not saved yet, trying again` : queue.length ? "Saving" : "Saved";
  }

  async function flush() {
    if (sending) return;
    sending = true;
    for (let tries = 0; queue.length; ) {
      status();
      const job = queue[0];
      job.body.set("shown", shown());
      try {
        const data = await call(job.path, job.body);
        queue.shift(); tries = 0; waiting = false;
        trouble();
        take(data);
      } catch (error) {
        if (await refused(error, job, tries++)) break;
      }
    }
    sending = false;
    status();
  }

  // What a failed answer means: the connection is gone (keep, try again), we are signed out (keep, ask), or it is not wanted.
  async function refused(error, job, tries) {
    if (!error.status || error.status >= 500 || error.status === 429) {
      waiting = true; status();
      await new Promise((done) => setTimeout(done, Math.min(15000, 500 * 2 ** tries)));
      return false;
    }
    if (error.status === 401 || error.status === 403) {
      trouble(error.told.what || "You are signed out.", "Sign in again in another tab, then try again here: your answer is kept.", flush);
      return true;
    }
    queue.shift();
    trouble(error.told.what || "The server did not take this answer.", error.told.remedy);
    await look("");
    return false;
  }

  function take(data) {
    $("progress").max = Math.max(1, data.items); $("progress").value = data.done; $("count").textContent = data.count;
    for (const task of data.tasks) {
      if (task.task === shown() || queue.some((job) => job.task === task.task)) continue;
      if (shown()) spare = task; else show(task.html);
    }
    if (!data.tasks.length && !shown() && !queue.length) show(data.nothing);
  }

  async function look(have) {
    try {
      if (!have) stage.replaceChildren();
      take(await call(`next?shown=${encodeURIComponent(have)}`));
    } catch (error) { if (error.status) trouble(error.told.what, error.told.remedy); }
    stage.dataset.ready = "";   // the next task is here: Enter will be instant
  }

  // ---- showing a task
  function show(html) {
    const holder = document.createElement("template");
    holder.innerHTML = html;   // rendered and escaped by the server's template
    stage.replaceChildren(holder.content);
    window.scrollTo(0, 0);
    dress();
    const head = stage.querySelector("h2");
    if (head) head.focus({ preventScroll: true });
  }

  function dress() {
    since = performance.now(); spent = 0; now = 0;
    const task = form();
    if (!task) return;
    task.noValidate = true;
    task.classList.add("fresh");
    if (perAnswer()) point(0);
    const box = task.querySelector("#write textarea"), one = all(".answer [data-text]");
    if (box) box.dataset.was = one.length ? one[0].textContent : "";
  }

  const perAnswer = () => form() && ["ranking", "safety"].includes(form().dataset.kind);
  const seconds = () => (spent + (document.hidden ? 0 : performance.now() - since)) / 1000;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) spent += performance.now() - since; else since = performance.now();
  });

  // ---- answering
  function told(text, ready) {
    const line = stage.querySelector("[data-said]");
    if (line) {
      line.textContent = text;
      line.parentElement.classList.toggle("ready", ready);
      stage.querySelector("[data-go]").hidden = !ready;
    }
    say(ready ? `${text} Enter submits.` : text);
  }

  function changed() {
    const task = form(), picked = task.querySelector("input[data-says]:checked");
    for (const answer of all(".answer")) answer.classList.remove("won");
    if (picked && picked.name === "vote" && /^[ab]\d$/.test(picked.value)) task.querySelector(`.answer.${picked.value[0]}`).classList.add("won");
    if (perAnswer()) return marks();
    const flags = all("input[name=flags]:checked").length;
    if (picked) told(`${picked.dataset.says}${flags ? `, ${flags} marked` : ""}.`, true);
  }

  function marks() {
    let open = 0;
    for (const answer of all(".answer")) {
      const picked = answer.querySelector(".pick input:checked");
      answer.querySelector("[data-chip]").textContent = picked ? picked.dataset.mark : "";
      if (!picked) open += 1;
    }
    told(open ? `${open} to go.` : "All marked.", !open);
  }

  function point(place) {
    const answers = all(".answer");
    now = Math.max(0, Math.min(place, answers.length - 1));
    answers.forEach((answer, i) => answer.classList.toggle("now", i === now && answers.length > 1));
    answers[now].scrollIntoView({ block: "nearest" });
  }

  function choose(selector) {
    const input = form().querySelector(selector);
    if (!input) return false;
    input.checked = input.type === "checkbox" ? !input.checked : true;
    changed();
    return true;
  }

  function chooseHere(number) {
    const answer = all(".answer")[now], input = answer.querySelectorAll(".pick input")[number - 1];
    if (!input) return false;
    input.checked = true;
    const free = all(".answer").findIndex((a) => !a.querySelector(".pick input:checked"));
    if (free >= 0) point(free);
    marks();
    return true;
  }

  function valid() {
    const task = form(), box = task.querySelector("#write textarea");
    const same = box && task.dataset.kind === "rewrite" && box.value.trim() === (box.dataset.was || "").trim();
    if (box && (same || !box.value.trim())) {
      told(same ? "Change the text first, or skip." : "Write an answer first.", false);
      into(box);
      return false;
    }
    if (task.checkValidity()) return true;
    told(perAnswer() ? "Some answers have no mark yet." : "Choose first.", false);
    return false;
  }

  // Hand the form to the queue and show what comes next at once.
  function leave(path, extra) {
    const task = form(), body = new FormData(task);
    body.set("seconds", seconds().toFixed(2));
    const rewritten = task.querySelector("[data-panel=rewrite] textarea");
    if (rewritten && rewritten.value.trim() === (rewritten.dataset.was || "").trim()) { body.delete("text"); body.delete("which"); }
    for (const [key, value] of Object.entries(extra)) body.set(key, value);
    queue.push({ path, body, task: task.dataset.task });
    if (spare) { const html = spare.html; spare = null; show(html); } else stage.replaceChildren();
    flush();
  }

  async function undo() {
    await flush();
    if (queue.length) return;
    const body = new FormData();
    body.set("shown", "");
    try {
      const data = await call("undo", body);
      if (!data.undone) { told("There is nothing to take back.", false); return; }
      spare = null;
      stage.replaceChildren();
      take(data);
      say("The last answer is taken back. Here it is again.");
    } catch (error) { trouble(error.told ? error.told.what : "The server cannot be reached.", "Try again in a moment."); }
  }

  // Into a text box, behind what it holds.
  function into(box) {
    box.focus();
    if (box.setSelectionRange) box.setSelectionRange(box.value.length, box.value.length);
  }

  // ---- panels: rewrite, reason, skip
  function panel(name, open = true) {
    const box = form().querySelector(`[data-panel=${name}]`);
    if (!box) return;
    box.open = open;
    if (!open) return;
    box.scrollIntoView({ block: "nearest" });
    into(box.querySelector("textarea") || box.querySelector(".reasons button"));
  }

  function rewrite(letter) {
    const task = form(), plain = task.querySelector("#write textarea");
    if (plain) { into(plain); return; }
    if (task.dataset.kind !== "pair") return;
    const picked = task.querySelector("input[name=vote]:checked");
    start(letter || (picked && /^b\d/.test(picked.value) ? "b" : "a"));
  }

  // Begin a rewrite from one of two answers: in its panel of a pair, or in the text box of a rewriting task.
  function start(letter) {
    const task = form(), panelled = task.dataset.kind === "pair";
    const box = task.querySelector(panelled ? "[data-panel=rewrite] textarea" : "#write textarea");
    const text = task.querySelector(`.answer.${letter} [data-text]`).textContent;
    task.querySelector(`input[name=which][value=${letter}]`).checked = true;
    if (!box.value || box.value === box.dataset.was) box.value = text;
    box.dataset.was = text;
    if (panelled) panel("rewrite"); else into(box);
  }

  stage.addEventListener("change", (event) => {
    if (event.target.name === "which") start(event.target.value); else if (event.target.type !== "textarea") changed();
  });
  stage.addEventListener("focusin", (event) => {
    const answer = event.target.closest(".pick") && event.target.closest(".answer");
    if (answer && perAnswer()) point(Number(answer.dataset.place));
  });
  stage.addEventListener("click", (event) => {
    const on = (name) => event.target.closest(`[data-${name}]`);
    if (on("edit")) rewrite(on("edit").dataset.edit);
    else if (on("open")) {
      const name = on("open").dataset.open, there = form().querySelector(`[data-panel=${name}]`);
      if (there.open) panel(name, false); else if (name === "rewrite") rewrite(); else panel(name);
    } else if (on("drop")) {
      for (const input of all("[data-panel=rewrite] input, [data-panel=rewrite] textarea")) { input.checked = false; if (input.type === "textarea") input.value = ""; }
      panel("rewrite", false);
    }
  });
  stage.addEventListener("submit", (event) => {
    event.preventDefault();
    const by = event.submitter;
    if ((by && by.matches("[data-undo]")) || !form()) undo();
    else if (by && by.name === "skip") leave("skip", { skip: by.value });
    else if (valid()) leave("vote", {});
  });

  // ---- keys
  const keys = {
    pair: (key, digit, shift) => (digit ? choose(`[name=vote][value=${shift ? "b" : "a"}${digit}]`) : key === "t" ? choose("[value=tie]") : key === "b" && choose("[value=both_bad]")),
    rating: (key, digit) => (digit ? choose(`[name=rating][value="${digit}"]`) : choose(`[data-key="${key}"]`)),
    thumb: (key, digit) => (digit === 1 || key === "+" ? choose("[value=up]") : (digit === 2 || key === "-") && choose("[value=down]")),
    ranking: (key, digit) => (digit ? chooseHere(digit) : move(key)),
    safety: (key, digit) => (digit ? chooseHere(digit) : move(key)),
  };
  function move(key) {
    const step = { arrowright: 1, arrowdown: 1, j: 1, arrowleft: -1, arrowup: -1, k: -1 }[key];
    if (!step) return false;
    point(now + step);
    return true;
  }
  const common = {
    s: () => panel("skip", !form().querySelector("[data-panel=skip]").open), u: undo, r: () => panel("reason"), e: () => rewrite(),
  };

  function pressed(event) {
    const task = form(), key = event.key.toLowerCase();
    const digit = Number((/^(?:Digit|Numpad)(\d)$/.exec(event.code) || [])[1] || (/^\d$/.test(event.key) ? event.key : 0));
    if (event.key === "?") { $("help").showModal(); return true; }
    if (!task) return key === "u" && (undo(), true);
    if (key === "enter") { task.requestSubmit(task.querySelector("[data-submit]")); return true; }
    const skip = task.querySelector("[data-panel=skip]");
    if (skip.open && digit) { const button = skip.querySelectorAll("button")[digit - 1]; if (button) button.click(); return true; }
    if ((keys[task.dataset.kind] || (() => false))(key, digit, event.shiftKey)) return true;
    if (event.shiftKey || !common[key]) return false;
    common[key]();
    return true;
  }

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.metaKey || $("help").open || event.isComposing) return;
    const box = event.target.closest("textarea, input[type=text], select"), task = form();
    if (event.key === "Escape" && task) {
      for (const open of all("details[data-panel][open]")) if (!box || open.contains(box)) open.open = open.dataset.panel === "rewrite" && Boolean(open.querySelector("textarea").value);
      task.querySelector("h2").focus({ preventScroll: true });
      return;
    }
    if (event.key === "Enter" && event.ctrlKey && task) { event.preventDefault(); task.requestSubmit(task.querySelector("[data-submit]")); return; }
    if (box || event.ctrlKey || (event.key === "Enter" && event.target.closest("button, a, summary"))) return;
    if (event.repeat && event.key === "Enter") return;
    if (pressed(event)) event.preventDefault();
  });

  $("help-open").addEventListener("click", () => $("help").showModal());
  window.addEventListener("beforeunload", (event) => { if (queue.length) event.preventDefault(); });
  dress();
  if (form()) look(shown());
})();
