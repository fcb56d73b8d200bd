// What a learner did, kept in this browser alone, to be exported and brought to another.

import { download, make, tell } from "./dom.js";
import { keep, load } from "./store.js";

const PLACE = "codegemma.progress";
const MAX_ENTRIES = 5000;

export class Progress {
  constructor() {
    const found = load(PLACE, []);
    this.entries = Array.isArray(found) ? found.filter(isEntry) : [];
  }

  find(exercise) {
    return this.entries.find((entry) => entry.exercise === exercise);
  }

  /** Notes an attempt or a hint. */
  note(exercise, { attempt = false, solved = false, rung = 0 }) {
    let entry = this.find(exercise);
    if (!entry) this.entries.unshift((entry = { exercise, attempts: 0, solved: false, rung: 0, at: "" }));
    entry.attempts += attempt ? 1 : 0;
    entry.solved ||= solved;
    entry.rung = Math.max(entry.rung, rung);
    entry.at = new Date().toISOString();
    this.entries = this.entries.slice(0, MAX_ENTRIES);
    keep(PLACE, this.entries);
  }

  show() {
    const solved = this.entries.filter((entry) => entry.solved);
    const rows = [
      ["Solved", solved.length],
      ["Without a hint", solved.filter((entry) => !entry.rung).length],
      ["At the first attempt", solved.filter((entry) => entry.attempts === 1).length],
    ];
    return make("dl", { className: "progress" }, rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
  }

  export() {
    download("codegemma-progress.json", JSON.stringify({ progress: this.entries }, null, 1));
  }

  /** Takes what another browser exported; what is known already stays. */
  async import(file, changed) {
    try {
      const found = JSON.parse(await file.text()).progress.filter(isEntry);
      this.entries = [...this.entries, ...found.filter((entry) => !this.find(entry.exercise))].slice(0, MAX_ENTRIES);
      keep(PLACE, this.entries);
      tell(`${found.length} exercises taken in`);
      changed();
    } catch {
      tell("That file holds no progress exported here");
    }
  }
}

const isEntry = (entry) => entry && typeof entry.exercise === "string" && Number.isInteger(entry.attempts);
