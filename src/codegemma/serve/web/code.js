// A block of code: its language, copying, and running it on the server's bench.

import { button, copy, icon, make } from "./dom.js";
import { highlight } from "./highlight.js";
import { server } from "./server.js";

const NAMES = { py: "python", python3: "python", js: "javascript", mjs: "javascript", sh: "shell", bash: "shell", "c++": "cpp" };
let runnable = new Set(["python", "javascript"]);

/** Learns which languages the server runs. */
export function setRunnable(names) {
  runnable = new Set(names);
}

/** Shows a block; one that is still being written has no buttons yet. */
export function showCode(code, language, isDone = true) {
  const text = make("code", {});
  highlight(text, code, language);
  const name = NAMES[language] ?? language;
  const tools = make("span", { className: "tools" });
  const output = make("div", { className: "ran", hidden: true });
  if (isDone) {
    if (runnable.has(name)) tools.append(button("run", "Run", () => run(name, code, output), { shows: true, kind: "small run" }));
    tools.append(button("copy", "Copy", () => copy(code), { kind: "small" }));
  }
  const head = make("figcaption", {}, make("span", {}, language || "text"), tools);
  return make("figure", { className: "code" }, head, make("pre", { tabIndex: 0 }, text), output);
}

async function run(language, code, output) {
  output.hidden = false;
  output.className = "ran waiting";
  output.replaceChildren(make("span", { className: "note" }, "running in the sandbox …"));
  try {
    showRan(output, await server.post("/v1/run", { language, code }));
  } catch (error) {
    output.className = "ran bad";
    output.replaceChildren(make("span", { className: "note" }, error.message));
  }
}

/** Shows what a program wrote and how it ended. */
export function showRan(output, ran) {
  const isGood = ran.exit_code === 0;
  output.hidden = false;
  output.className = `ran ${isGood ? "good" : "bad"}`;
  const note = make("span", { className: "note" }, icon(isGood ? "check" : "close"), ran.ending || `done in ${ran.seconds.toFixed(2)} s`);
  output.replaceChildren(note);
  if (ran.stdout) output.append(make("pre", {}, ran.stdout));
  if (ran.stderr) output.append(make("pre", { className: "errors" }, ran.stderr));
  if (!ran.stdout && !ran.stderr) output.append(make("span", { className: "note" }, "it wrote nothing"));
}
