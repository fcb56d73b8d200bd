// The tutor: an exercise with its ladder of hints, a field for the attempt, what came of it, and a place for questions.

import { showCode, showRan } from "./code.js";
import { Composer, spellMessage } from "./composer.js";
import { button, icon, make, tell } from "./dom.js";
import { CodeField } from "./editor.js";
import { renderInline, renderMarkdown } from "./markdown.js";
import { Progress } from "./progress.js";
import { server } from "./server.js";
import { keep, load } from "./store.js";

const RUNGS = ["nudge", "concept", "pseudo-code", "code"];
const NAMES = { write: "Write a function", repair: "Repair a function", predict: "Predict the result" };
const WISH = "codegemma.exercise";

export class Tutor {
  constructor() {
    this.progress = new Progress();
    this.about = { levels: [], kinds: [], topics: [], tasks: [], runnable: [], highest_hint: "code", level: "beginner" };
    this.wish = load(WISH, {});
    this.code = new CodeField("Your attempt", () => this.#check());
    this.told = make("div", { "aria-live": "polite" });
    this.hints = make("div");
    this.ladder = make("ol", { className: "ladder" });
    this.thread = make("div", { className: "thread", role: "log", "aria-label": "Questions to the tutor" });
    this.composer = new Composer((text, files) => this.#ask(text, files), () => this.gone?.abort(), "Ask the tutor …");
    this.messages = [];
  }

  learn(about) {
    this.about = about;
    this.wish = { kind: "write", topic: "", level: about.level, ...this.wish };
    if (!about.levels.includes(this.wish.level)) this.wish.level = about.level;
  }

  /** Shows what is chosen in the side: level, kind, topic; the teacher's tasks; progress. */
  showSide() {
    const { levels, kinds, topics, tasks } = this.about;
    const choose = (label, name, options) => {
      const select = make("select", { on: { change: () => { this.wish[name] = select.value; keep(WISH, this.wish); } } }, options.map(([value, text]) => make("option", { value, selected: value === this.wish[name] }, text)));
      return make("label", {}, label, select);
    };
    const plain = (values) => values.map((value) => [value, value]);
    const picker = make("input", { type: "file", accept: ".json", hidden: true, on: { change: () => this.progress.import(picker.files[0], () => this.#refreshProgress()) } });
    this.progressPlace = make("div", {}, this.progress.show());
    return make(
      "section",
      {},
      make("h2", {}, "Practice"),
      make("div", { className: "fields" }, choose("Level", "level", plain(levels)), choose("Kind", "kind", kinds.map((kind) => [kind, NAMES[kind]])), choose("About", "topic", [["", "anything"], ...plain(topics)])),
      button("plus", "New exercise", () => this.#start(), { shows: true, kind: "primary wide" }),
      tasks.length ? make("h2", {}, "Your teacher’s tasks") : "",
      tasks.map((task) => button("book", task.exercise.slice(5), () => this.#open({ ...task, kind: "task", starter: "", examples: [] }), { shows: true, kind: "quiet" })),
      make("h2", {}, "Progress"),
      this.progressPlace,
      make("div", { className: "choices" }, button("save", "Export", () => this.progress.export(), { shows: true, kind: "quiet" }), button("clip", "Import", () => picker.click(), { shows: true, kind: "quiet" }), picker),
    );
  }

  /** Shows an exercise: the one that the address names, the last one, or a new one. */
  show(place, menu, name) {
    place.className = "tutor";
    this.view = make("div", { className: "tutor-view" });
    place.replaceChildren(make("header", { className: "bar" }, menu, make("h1", {}, "Tutor")), make("div", { className: "scroller" }, this.view));
    if (!this.about.kinds.length) return;
    if (name && name !== this.exercise?.exercise) void this.#start({ exercise: name });
    else if (this.exercise) this.#draw();
    else void this.#start();
  }

  async #start(wanted) {
    try {
      const { level, kind, topic } = this.wish;
      this.#open(await server.post("/v1/tutor/exercise", wanted ?? { level, kind, ...(topic ? { topic } : {}) }));
    } catch (error) {
      tell(error.message);
    }
  }

  #open(exercise) {
    this.exercise = exercise;
    if (exercise.kind !== "task") history.replaceState(null, "", `#tutor/${exercise.exercise}`);
    this.rung = 0;
    this.messages = [];
    for (const part of [this.told, this.hints, this.thread]) part.replaceChildren();
    this.code.value = exercise.kind === "predict" ? "" : exercise.starter;
    this.#draw();
  }

  #draw() {
    const { exercise } = this;
    const isPrediction = exercise.kind === "predict";
    const known = this.progress.find(exercise.exercise);
    const badges = [exercise.level, exercise.topic].filter(Boolean).map((text) => make("span", { className: "badge" }, text));
    if (known?.solved) badges.push(make("span", { className: "badge done" }, "solved"));
    const examples = exercise.examples.length ? make("div", { className: "examples" }, make("h3", {}, "For example"), showCode(exercise.examples.map((one) => `${one.call} == ${one.expected}`).join("\n"), "python", false)) : "";
    const task = make(
      "section",
      { className: "panel" },
      make("div", { className: "badges" }, badges),
      make("h2", {}, NAMES[exercise.kind] ?? exercise.exercise.slice(5)),
      make("p", { className: "statement" }, renderInline(exercise.statement)),
      isPrediction ? showCode(exercise.starter, "python", false) : "",
      examples,
    );
    const help = exercise.kind === "task" ? "" : make("section", { className: "panel" }, make("h3", {}, icon("bulb"), "Hints"), this.ladder, this.hints, button("bulb", "Give me a hint", () => this.#hint(), { shows: true, kind: "hint-button" }));
    const tools = isPrediction ? [] : [
      this.about.runnable.includes("python") ? button("run", "Run", () => this.#run(), { shows: true }) : "",
      button("edit", "Explain this line", () => this.#explain(), { shows: true }),
    ];
    const work = make(
      "section",
      { className: "panel" },
      make("h3", {}, isPrediction ? "What does it give?" : "Your attempt"),
      this.code.element,
      make("div", { className: "choices" }, button("check", "Check", () => this.#check(), { shows: true, kind: "primary" }), tools),
      this.told,
    );
    const talk = make("section", { className: "panel tutor-talk" }, make("h3", {}, icon("chat"), "Ask about it"), make("p", { className: "note" }, "What can be computed is said first; then the model, as far as your teacher’s policy lets it."), this.thread, this.composer.element);
    this.view.replaceChildren(make("div", {}, task, help), make("div", {}, work, talk));
    this.#drawLadder();
  }

  #drawLadder() {
    const highest = RUNGS.indexOf(this.about.highest_hint);
    this.ladder.replaceChildren(...RUNGS.map((name, i) => make("li", { className: i < this.rung ? "shown" : i > highest ? "closed" : "" }, name)));
  }

  #refreshProgress() {
    this.progressPlace?.replaceChildren(this.progress.show());
  }

  async #hint() {
    try {
      const hint = await server.post("/v1/tutor/hint", { exercise: this.exercise.exercise });
      if (!hint.rung) {
        tell(hint.text);
        this.hints.append(make("p", { className: "note" }, hint.text));
        return;
      }
      this.rung = Math.max(this.rung, RUNGS.indexOf(hint.rung) + 1);
      this.progress.note(this.exercise.exercise, { rung: this.rung });
      const shown = make("div", { className: "hint" }, make("strong", {}, hint.rung), make("p", {}, hint.text));
      if (hint.code) shown.append(hint.rung === "code" ? showCode(hint.code, "python", false) : make("pre", {}, hint.code));
      this.hints.append(shown);
      this.#drawLadder();
    } catch (error) {
      tell(error.message);
    }
  }

  async #check() {
    this.#tell("", "Checking …", []);
    try {
      const judged = await server.post("/v1/tutor/attempt", { exercise: this.exercise.exercise, code: this.code.value });
      this.progress.note(this.exercise.exercise, { attempt: true, solved: judged.passed });
      this.#showJudged(judged);
      this.#refreshProgress();
    } catch (error) {
      this.#tell("bad", error.message, []);
    }
  }

  #showJudged(judged) {
    const parts = [];
    const names = { call: "called", expected: "right is", gave: "yours gives", raised: "yours raises" };
    if (judged.case.call) parts.push(make("dl", {}, Object.entries(judged.case).flatMap(([name, value]) => [make("dt", {}, names[name] ?? name), make("dd", {}, value)])));
    if (judged.mistakes.length) parts.push(this.#showMistakes(judged.mistakes));
    if (judged.facts.length) parts.push(make("ul", { className: "facts" }, judged.facts.map((fact) => make("li", {}, renderInline(fact)))));
    if (judged.passed) parts.push(make("div", { className: "choices" }, button("plus", "Next exercise", () => this.#start(), { shows: true, kind: "primary" })));
    this.#tell(judged.passed ? "good" : "bad", judged.passed ? `Right: ${judged.said}.` : `Not yet: ${judged.said}.`, parts);
  }

  #showMistakes(mistakes) {
    return make("ul", { className: "facts" }, mistakes.map((m) => make("li", {}, renderInline(`Line ${m.line}: ${m.reason}`), m.repair?.trim() ? [" → ", make("code", {}, m.repair.trim())] : "")));
  }

  #tell(kind, text, parts) {
    this.told.replaceChildren(make("div", { className: `feedback ${kind}` }, make("p", {}, make("strong", {}, text)), parts));
  }

  async #run() {
    const output = make("div", { className: "ran" });
    this.told.replaceChildren(output);
    const [example] = this.exercise.examples;
    const call = example && !/print/.test(this.code.value) ? `\nprint(${example.call})\n` : "\n";
    try {
      const ran = await server.post("/v1/run", { language: "python", code: this.code.value + call });
      showRan(output, ran);
      if (ran.stderr) {
        const { facts } = await server.post("/v1/tutor/explain", { error: ran.stderr, code: this.code.value });
        output.append(make("ul", { className: "facts" }, facts.map((fact) => make("li", {}, renderInline(fact)))));
      }
    } catch (error) {
      this.#tell("bad", error.message, []);
    }
  }

  async #explain() {
    const { line, value: code } = this.code;
    try {
      const { facts } = await server.post("/v1/tutor/explain", { code, line });
      this.#tell("", `Line ${line}`, [make("ul", { className: "facts" }, facts.map((fact) => make("li", {}, renderInline(fact))))]);
    } catch (error) {
      const { mistakes } = await server.post("/v1/tutor/correct", { code }).catch(() => ({ mistakes: [] }));
      if (mistakes.length) this.#tell("bad", "Python cannot read this yet", [this.#showMistakes(mistakes)]);
      else this.#tell("bad", error.message, []);
    }
  }

  #ask(text, files) {
    for (const offer of this.thread.querySelectorAll(".retry")) offer.remove();
    this.messages.push({ role: "user", content: spellMessage(text, files) });
    this.thread.append(make("article", { className: "message user" }, make("div", { className: "words" }, make("div", { className: "said" }, text))));
    return this.#answer();
  }

  /** Has the last question answered; one that fails stays, and is asked again by its button or with the next. */
  async #answer() {
    const words = make("div", { className: "words" });
    const facts = make("ul", { className: "facts" });
    const shown = make("article", { className: "message assistant" }, facts, words);
    this.thread.append(shown);
    const note = (text, kind = "") => shown.append(make("p", { className: `note ${kind}` }, text));
    const gone = (this.gone = new AbortController());
    this.composer.setBusy(true);
    let answer = "";
    const question = this.messages.at(-1);
    const askAgain = () => {
      shown.remove();
      if (!this.messages.includes(question)) this.messages.push(question);
      void this.#answer();
    };
    try {
      const body = { messages: this.messages, exercise: this.exercise.exercise, code: this.exercise.kind === "predict" ? "" : this.code.value };
      for await (const event of server.stream("/v1/tutor/ask", body, gone.signal)) {
        for (const fact of event.facts ?? []) facts.append(make("li", {}, renderInline(fact)));
        answer += event.choices[0]?.delta.content ?? "";
        renderMarkdown(words, answer, false);
        for (const left of event.why?.dropped ?? []) note(`Left out to fit the model's window: ${left}`);
        if (event.is_empty) note("The model has nothing to add; the hints and the check are computed and always there.");
        this.thread.scrollTop = this.thread.scrollHeight;
      }
      renderMarkdown(words, answer);
    } catch (error) {
      const isStopped = error.name === "AbortError";
      note(isStopped ? "Stopped" : error.message, isStopped ? "" : "bad");
      if (!isStopped) answer = "";
      if (error.isRefusal) this.messages = this.messages.filter((message) => message !== question); // it would be refused with the next one too
      if (!answer) shown.append(button("again", "Ask again", askAgain, { shows: true, kind: "small retry" }));
    }
    if (answer) this.messages.push({ role: "assistant", content: answer });
    this.composer.setBusy(false);
  }
}
