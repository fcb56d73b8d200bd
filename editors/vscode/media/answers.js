// Shows answers as they come, by the modules of the server's own page.

import { setRunnable } from "../out/web/code.js";
import { make } from "../out/web/dom.js";
import { renderMarkdown } from "../out/web/markdown.js";

setRunnable([]); // this panel reaches no server
const place = document.querySelector("main");
const shown = [];

window.addEventListener("message", ({ data: { at, answer } }) => {
  const follows = document.documentElement.scrollHeight - innerHeight - scrollY < 60;
  shown[at] ??= begin(answer.title);
  const { words, notes } = shown[at];
  renderMarkdown(words, answer.text, answer.isDone);
  notes.replaceChildren(...(answer.isDone ? answer.notes : ["…"]).map((note) => make("p", { className: "note" }, note)));
  if (follows) scrollTo(0, document.documentElement.scrollHeight);
});

function begin(title) {
  const words = make("div", { className: "words" });
  const notes = make("div");
  place.append(make("article", {}, make("h2", {}, title), words, notes));
  return { words, notes };
}

acquireVsCodeApi().postMessage("listening");
