// Speaks with the server that this page came from, and with nobody else.
// In: a path and a body. Out: JSON, or the events of a stream. A missing key is asked for once and kept in this browser.

import { make } from "./dom.js";

const KEY = "codegemma.key";

class Server {
  async get(path) {
    return (await this.#send(path)).json();
  }

  async post(path, body, signal) {
    return (await this.#send(path, body, signal)).json();
  }

  /** Yields the events of a streamed answer; aborting the signal cancels it on the server too. */
  async *stream(path, body, signal) {
    const reply = await this.#send(path, { ...body, stream: true }, signal);
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
      }
    }
  }

  async #send(path, body, signal) {
    const headers = { "Content-Type": "application/json" };
    const key = localStorage.getItem(KEY);
    if (key) headers.Authorization = `Bearer ${key}`;
    let reply;
    try {
      reply = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body), signal } : { headers, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("the server does not answer; is it running?");
    }
    if (reply.status === 401 && (await askForKey())) return this.#send(path, body, signal);
    if (!reply.ok) throw Object.assign(new Error(await readError(reply)), { isRefusal: reply.status === 400 });
    return reply;
  }
}

async function readError(reply) {
  try {
    const { error } = await reply.json();
    return error.message ?? String(error);
  } catch {
    return `the server answers ${reply.status}`;
  }
}

/** Asks the person for a key; false when they would rather not. */
function askForKey() {
  return new Promise((resolve) => {
    const field = make("input", { type: "password", required: true, autocomplete: "off", placeholder: "cg-…" });
    const use = () => {
      if (!field.value.trim()) return;
      localStorage.setItem(KEY, field.value.trim());
      dialog.close("used");
    };
    field.addEventListener("keydown", (event) => event.key === "Enter" && use());
    const dialog = make(
      "dialog",
      { on: { close: () => { dialog.remove(); resolve(dialog.returnValue === "used"); } } },
      make("h2", {}, "This server asks for a key"),
      make("p", {}, "Whoever runs it makes one with codegemma serve --new-key. It stays in this browser."),
      field,
      make("button", { type: "button", className: "button primary", on: { click: use } }, "Use it"),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

export const server = new Server();
