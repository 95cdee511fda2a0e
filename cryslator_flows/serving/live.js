"use strict";

/* Follows the state of the page, and loads the page again when the state has changed. */
const PAUSE = 5000; // milliseconds
const root = document.documentElement;
const kept = `cryslator ${location.pathname}`;
const progress = document.getElementById("progress");
const FIELDS = ["#candidates_wrapper [type=search]", "#candidate"]; // of the table, and of the structures

function fill(name, text) {
  const field = document.querySelector(name);
  if (!field || !text) return;
  field.value = text;
  for (const kind of ["input", "change"]) field.dispatchEvent(new Event(kind, {bubbles: true}));
}

/* The row of a candidate to which a link leads, or what was seen before. */
function restore() {
  const before = JSON.parse(sessionStorage.getItem(kept) ?? "null");
  sessionStorage.removeItem(kept);
  const wanted = new URLSearchParams(location.hash.slice(1)).get("candidate");
  if (before) {
    FIELDS.forEach((name, index) => fill(name, before.texts[index]));
    scrollTo(0, before.scroll);
  } else if (wanted) {
    fill(FIELDS[0], wanted);
    document.getElementById("candidates")?.scrollIntoView();
  }
}

function reload() {
  const texts = FIELDS.map(name => document.querySelector(name)?.value);
  sessionStorage.setItem(kept, JSON.stringify({scroll: scrollY, texts}));
  location.reload();
}

/* What a reader selects or fills in stays until the reader wants the new results. */
function offer() {
  if (document.getElementById("refresh")) return;
  const button = document.createElement("button");
  Object.assign(button, {id: "refresh", textContent: "Show new results", onclick: reload});
  progress.after(button);
}

async function follow() {
  if (!document.hidden) {
    try {
      const now = await (await fetch(`state${location.search}`)).json();
      progress.textContent = now.progress;
      const busy = !getSelection().isCollapsed || document.activeElement?.matches("input, select");
      if (now.state && now.state !== root.dataset.state) busy ? offer() : reload();
    } catch {
      progress.textContent = "The server does not answer.";
    }
  }
  if (root.dataset.final !== "yes") setTimeout(follow, PAUSE);
}

function begin() {
  restore();
  follow();
}

if (root.dataset.ready === "yes" || !document.getElementById("candidates")) begin();
else new MutationObserver((_, observer) => {
  if (root.dataset.ready !== "yes") return;
  observer.disconnect();
  begin();
}).observe(root, {attributes: true});
