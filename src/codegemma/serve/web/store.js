// What this browser keeps: conversations, progress, settings. Nothing of it is sent anywhere but with a question.

const PLACE = "codegemma.conversations";
const MAX_KEPT = 200;

export function load(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Keeps a value; false when the browser has no room. */
export function keep(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export class Conversations {
  constructor() {
    const found = load(PLACE, []);
    this.all = Array.isArray(found) ? found.filter((one) => one && Array.isArray(one.messages)) : [];
  }

  start() {
    const made = { id: `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`, title: "", messages: [], at: Date.now() };
    this.all.unshift(made);
    return made;
  }

  find(id) {
    return this.all.find((one) => one.id === id);
  }

  remove(id) {
    this.all = this.all.filter((one) => one.id !== id);
    return this.save();
  }

  /** Keeps what was said; the oldest go when the browser is full. */
  save() {
    this.all.sort((a, b) => b.at - a.at);
    let kept = this.all.filter((one) => one.messages.length).slice(0, MAX_KEPT);
    while (!keep(PLACE, kept) && kept.length > 1) kept = kept.slice(0, -1);
    return kept;
  }
}
