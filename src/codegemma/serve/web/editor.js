// A field for code: what is typed is coloured by the same scanner as answers; Tab indents, Enter keeps the column.

import { make } from "./dom.js";
import { highlight } from "./highlight.js";

export class CodeField {
  /** `submit()` is called by Ctrl+Enter. */
  constructor(label, submit) {
    this.shown = make("code");
    this.pre = make("pre", { "aria-hidden": "true" }, this.shown);
    this.field = make("textarea", {
      "aria-label": label, spellcheck: false, autocapitalize: "off", autocomplete: "off", wrap: "off",
      on: { input: () => this.#draw(), keydown: (event) => this.#key(event, submit), scroll: () => this.#follow() },
    });
    this.element = make("div", { className: "editor" }, this.pre, this.field);
  }

  get value() {
    return this.field.value;
  }

  set value(text) {
    this.field.value = text;
    this.#draw();
  }

  /** The line of the cursor, from 1. */
  get line() {
    return this.field.value.slice(0, this.field.selectionStart).split("\n").length;
  }

  #draw() {
    highlight(this.shown, `${this.field.value}\n`, "python");
    this.#follow();
  }

  #follow() {
    this.shown.style.display = "block";
    this.shown.style.transform = `translate(${-this.field.scrollLeft}px, ${-this.field.scrollTop}px)`;
  }

  #key(event, submit) {
    const { selectionStart: start, value } = this.field;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    } else if (event.key === "Tab" && !event.shiftKey && !event.altKey && !this.leaves) {
      event.preventDefault();
      this.#insert("    ");
    } else if (event.key === "Enter") {
      const line = value.slice(value.lastIndexOf("\n", start - 1) + 1, start);
      event.preventDefault();
      this.#insert(`\n${/^\s*/.exec(line)[0]}${line.trimEnd().endsWith(":") ? "    " : ""}`);
    }
    this.leaves = event.key === "Escape"; // after Escape, Tab leaves the field, for who has no mouse
  }

  #insert(text) {
    this.field.setRangeText(text, this.field.selectionStart, this.field.selectionEnd, "end");
    this.#draw();
  }
}
