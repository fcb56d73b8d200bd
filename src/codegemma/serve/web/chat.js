// A conversation: messages as they are written, and what can be done with each.

import { Composer, spellMessage } from "./composer.js";
import { button, copy, icon, make } from "./dom.js";
import { renderMarkdown } from "./markdown.js";
import { server } from "./server.js";

const IDEAS = [
  ["Explain", "Explain what a context manager is in Python, with a small example."],
  ["Write", "Write a Python function that merges two sorted lists, and a test for it."],
  ["Repair", "Why does my_list.sort() return None, and what should I write instead?"],
];

export class Chat {
  constructor(conversations, changed) {
    this.conversations = conversations;
    this.changed = changed;
    this.conversation = conversations.all[0] ?? conversations.start();
    this.thread = make("div", { className: "thread", role: "log", "aria-label": "Conversation" });
    this.scroller = make("div", { className: "scroller" }, this.thread);
    this.composer = new Composer((text, files) => this.ask(text, files), () => this.stop(), "Ask about code …");
    this.follows = true;
    this.scroller.addEventListener("scroll", () => {
      this.follows = this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight < 60;
    });
    document.addEventListener("mouseup", () => this.#offerQuote());
  }

  open(conversation) {
    this.stop();
    this.conversation = conversation;
  }

  show(place, menu) {
    const title = make("h1", {}, this.conversation.title || "New conversation");
    place.className = "chat";
    place.replaceChildren(make("header", { className: "bar" }, menu, title), this.scroller, make("div", { className: "dock" }, this.composer.element));
    this.title = title;
    this.#draw();
    if (matchMedia("(hover: hover)").matches) this.composer.field.focus();
  }

  stop() {
    this.gone?.abort();
  }

  ask(text, files) {
    this.conversation.messages.push({ role: "user", content: spellMessage(text, files), text, files: files.map((file) => file.name) });
    this.conversation.title ||= (text || files[0].name).split("\n")[0].slice(0, 60);
    this.follows = true;
    this.conversations.save(); // so that a question outlives a page that is closed before its answer
    void this.#answer();
  }

  async #answer() {
    const conversation = this.conversation;
    // An answer that never came is none: its question goes with the next one.
    // A question that the server refused would be refused again with every later one, unless it is asked anew.
    const question = conversation.messages.at(-1);
    const messages = conversation.messages.filter((message) => message === question || (message.content && !message.isRefused)).map(({ role, content }) => ({ role, content }));
    question.isRefused = false;
    const answer = { role: "assistant", content: "", notes: [] };
    conversation.messages.push(answer);
    this.writing = answer;
    this.#draw();
    const shown = this.thread.lastElementChild;
    const gone = (this.gone = new AbortController());
    this.composer.setBusy(true);
    let isDrawn = false;
    const draw = (isDone) => {
      renderMarkdown(shown.querySelector(".words"), answer.content, isDone);
      if (this.follows) this.scroller.scrollTop = this.scroller.scrollHeight;
    };
    try {
      for await (const event of server.stream("/v1/chat/completions", { messages }, gone.signal)) {
        const [choice] = event.choices ?? [];
        answer.content += choice?.delta?.content ?? "";
        for (const left of event.why?.dropped ?? []) answer.notes.push(`Left out to fit the model's window: ${left}`);
        if (choice?.finish_reason === "length") answer.notes.push("Cut off: the answer met its limit");
        if (!isDrawn) {
          isDrawn = true;
          requestAnimationFrame(() => { isDrawn = false; draw(false); });
        }
      }
      if (!answer.content.trim()) answer.notes.push("The model says nothing");
    } catch (error) {
      answer.notes.push(error.name === "AbortError" ? "Stopped" : error.message);
      answer.failed = error.name !== "AbortError";
      question.isRefused = Boolean(error.isRefusal);
    }
    if (this.gone === gone) this.composer.setBusy(false);
    if (this.writing === answer) this.writing = null;
    conversation.at = Date.now();
    this.conversations.save();
    this.changed();
    if (this.conversation === conversation) requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    const { messages, title } = this.conversation;
    if (this.title) this.title.textContent = title || "New conversation";
    this.thread.replaceChildren(...(messages.length ? messages.map((message, i) => this.#drawMessage(message, i)) : [this.#welcome()]));
    if (this.follows) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #welcome() {
    const ideas = IDEAS.map(([name, text]) =>
      make("button", { type: "button", className: "idea", on: { click: () => { this.composer.field.value = text; this.composer.field.focus(); } } }, make("strong", {}, name), make("span", {}, text)),
    );
    return make("section", { className: "welcome" }, make("img", { src: "/web/icon.svg", alt: "" }), make("h2", {}, "What are you working on?"), make("p", {}, "Answers come from the model on this server. Nothing leaves it."), make("div", { className: "ideas" }, ideas));
  }

  #drawMessage(message, at) {
    const isLast = at === this.conversation.messages.length - 1;
    const words = make("div", { className: "words" });
    const tools = make("div", { className: "tools" });
    if (message.role === "user") {
      if (message.files?.length) words.append(make("div", { className: "shelf" }, message.files.map((name) => make("span", { className: "chip" }, icon("clip"), name))));
      words.append(make("div", { className: "said" }, message.text ?? message.content));
      tools.append(button("edit", "Edit and ask again", () => this.#edit(at, words), { kind: "small" }));
      if (isLast) tools.append(button("again", "Ask again", () => this.#again(), { shows: true, kind: "small" }));
    } else {
      renderMarkdown(words, message.content);
      if (!message.content && isLast && !message.notes?.length) words.append(make("span", { className: "cursor" }));
      if (message.content) tools.append(button("copy", "Copy the answer", () => copy(message.content), { kind: "small" }));
      if (isLast && message.failed) tools.append(button("again", "Ask again", () => this.#again(), { shows: true, kind: "small" }));
      else if (isLast && message !== this.writing) tools.append(button("again", "Answer again", () => this.#again(), { kind: "small" }));
    }
    const notes = (message.notes ?? []).map((note) => make("p", { className: message.failed ? "note bad" : "note" }, note));
    return make("article", { className: `message ${message.role}`, "aria-label": message.role === "user" ? "You" : "Model" }, words, notes, tools);
  }

  #again() {
    this.stop();
    if (this.conversation.messages.at(-1).role !== "user") this.conversation.messages.pop();
    void this.#answer();
  }

  /** What follows an edited message was an answer to something else, and goes. */
  #edit(at, words) {
    const message = this.conversation.messages[at];
    const field = make("textarea", { value: message.text ?? message.content, rows: 4, "aria-label": "Edit the message" });
    const done = () => {
      const head = message.content.slice(0, message.content.length - (message.text ?? message.content).length);
      this.stop();
      this.conversation.messages.splice(at);
      this.conversation.messages.push({ ...message, text: field.value.trim(), content: head + field.value.trim() });
      void this.#answer();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); done(); }
      if (event.key === "Escape") { event.stopPropagation(); this.#draw(); }
    });
    words.replaceChildren(field, make("div", { className: "choices" }, button("send", "Ask", done, { shows: true, kind: "primary" }), button("close", "Leave as it was", () => this.#draw(), { shows: true })));
    field.focus();
  }

  /** Offers to ask about words that were selected in an answer. */
  #offerQuote() {
    document.querySelector(".quote-offer")?.remove();
    const selection = getSelection();
    const text = selection?.toString().trim();
    if (!text || !this.thread.isConnected || !this.thread.contains(selection.anchorNode)) return;
    const box = selection.getRangeAt(0).getBoundingClientRect();
    const offer = button("chat", "Ask about this", () => { this.composer.attach("selection", text); offer.remove(); selection.removeAllRanges(); }, { shows: true, kind: "quote-offer" });
    offer.style.left = `${Math.max(8, box.left)}px`;
    offer.style.top = `${Math.max(8, box.top - 44)}px`;
    offer.addEventListener("mouseup", (event) => event.stopPropagation());
    document.body.append(offer);
  }
}
