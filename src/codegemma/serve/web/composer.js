// The field in which a person writes: it grows, takes files by button, drop and paste, and sends by Enter.

import { button, make, tell } from "./dom.js";
import { hasSecretName } from "./secrets.js";

const MAX_FILE_BYTES = 200_000;
const LONG_PASTE_LINES = 30;

export class Composer {
  /** `send(text, files)` is called with what is to be sent, `stop()` while an answer is written. */
  constructor(send, stop, placeholder) {
    this.files = [];
    this.isBusy = false;
    this.field = make("textarea", { rows: 1, placeholder, "aria-label": placeholder, on: { keydown: (e) => this.#key(e), input: () => this.#grow(), paste: (e) => this.#paste(e) } });
    this.shelf = make("div", { className: "shelf" });
    this.picker = make("input", { type: "file", multiple: true, hidden: true, on: { change: () => this.#take(this.picker.files) } });
    this.go = make("button", { type: "button", className: "button primary round", on: { click: () => (this.isBusy ? stop() : this.submit()) } });
    this.sendText = send;
    this.element = make(
      "div",
      { className: "composer", on: { dragover: (e) => e.preventDefault(), drop: (e) => this.#drop(e) } },
      this.shelf,
      make("div", { className: "row" }, button("clip", "Attach files", () => this.picker.click()), this.field, this.go, this.picker),
    );
    this.setBusy(false);
  }

  setBusy(isBusy) {
    this.isBusy = isBusy;
    const [name, label] = isBusy ? ["stop", "Stop (Escape)"] : ["send", "Send (Enter)"];
    const shown = button(name, label, () => undefined);
    this.go.replaceChildren(...shown.childNodes);
    this.go.title = label;
    this.go.setAttribute("aria-label", label);
  }

  submit() {
    const text = this.field.value.trim();
    if (this.isBusy || (!text && !this.files.length)) return;
    const files = this.files;
    this.files = [];
    this.field.value = "";
    this.#grow();
    this.#showFiles();
    this.sendText(text, files);
  }

  attach(name, text) {
    this.files.push({ name, text });
    this.#showFiles();
    this.field.focus();
  }

  #key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.submit();
    }
  }

  #grow() {
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight, innerHeight * 0.4)}px`;
  }

  #drop(event) {
    event.preventDefault();
    this.#take(event.dataTransfer.files);
  }

  /** What is pasted at length is attached, so that the question stays in sight. */
  #paste(event) {
    const { files } = event.clipboardData;
    const text = event.clipboardData.getData("text/plain");
    if (files.length) this.#take(files);
    else if (text.split("\n").length > LONG_PASTE_LINES) this.attach(`pasted text, ${text.split("\n").length} lines`, text);
    else return;
    event.preventDefault();
  }

  async #take(files) {
    for (const file of files) {
      const text = file.size <= MAX_FILE_BYTES ? await file.text() : null;
      if (await hasSecretName(file.name)) tell(`${file.name} looks like a file of secrets by its name; no model is shown it`);
      else if (text === null) tell(`${file.name} is too long: at most ${MAX_FILE_BYTES / 1000} kB are attached`);
      else if (text.includes("\0")) tell(`${file.name} is not text`);
      else this.attach(file.name, text);
    }
    this.picker.value = "";
  }

  #showFiles() {
    this.shelf.replaceChildren(
      ...this.files.map((file) =>
        make("span", { className: "chip" }, file.name, button("close", `Leave out ${file.name}`, () => { this.files = this.files.filter((f) => f !== file); this.#showFiles(); }, { kind: "small" })),
      ),
    );
  }
}

/** Spells a message with its files as the model reads it: each file fenced, under its name. */
export function spellMessage(text, files) {
  const quoted = files.map(({ name, text: content }) => {
    const longest = Math.max(2, ...[...content.matchAll(/`{3,}/g)].map((run) => run[0].length));
    const fence = "`".repeat(longest + 1);
    const ending = /\.(\w+)$/.exec(name)?.[1] ?? "";
    return `\`${name}\`:\n${fence}${ending}\n${content.trimEnd()}\n${fence}`;
  });
  return [...quoted, text].filter(Boolean).join("\n\n");
}
