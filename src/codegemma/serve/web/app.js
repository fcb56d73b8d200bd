// Puts the page together: the side with its conversations, and one view at a time, chat or tutor.

import { Chat } from "./chat.js";
import { setRunnable } from "./code.js";
import { button, download, icon, make, tell } from "./dom.js";
import { server } from "./server.js";
import { Conversations, keep, load } from "./store.js";
import { Tutor } from "./tutor.js";

const THEME = "codegemma.theme";
const side = document.getElementById("side");
const main = document.getElementById("main");
const veil = document.getElementById("veil");
const conversations = new Conversations();
const chat = new Chat(conversations, showSide);
const tutor = new Tutor();
let facts = { model: "", tutor: null };

function showSide() {
  const isTutor = location.hash.startsWith("#tutor");
  const tab = (name, label, address, isHere) =>
    make("a", { href: address, className: isHere ? "tab here" : "tab", "aria-current": isHere ? "page" : null }, icon(name), label);
  side.replaceChildren(
    make("header", {}, make("img", { src: "/web/icon.svg", alt: "" }), make("strong", {}, "codegemma"), button("close", "Close the menu", closeSide, { kind: "only-small" })),
    make("nav", { "aria-label": "Views" }, facts.tutor?.free_chat === false ? "" : tab("chat", "Chat", "#chat", !isTutor), tab("book", "Tutor", "#tutor", isTutor)),
    isTutor ? tutor.showSide() : listConversations(),
    make("footer", {}, make("span", { className: "model", title: facts.model }, facts.model), button(isDark() ? "sun" : "moon", "Light or dark", switchTheme)),
  );
}

function listConversations() {
  const rows = conversations.all.filter((one) => one.messages.length).map((one) => {
    const isHere = one.id === chat.conversation.id;
    const open = make("a", { href: `#chat/${one.id}`, className: "name", "aria-current": isHere ? "true" : null }, one.title || "Untitled");
    const remove = button("bin", `Delete “${one.title}”`, () => removeConversation(one), { kind: "small" });
    return make("li", { className: isHere ? "here" : "" }, open, remove);
  });
  return make(
    "section",
    {},
    button("plus", "New conversation", () => { location.hash = "#chat/new"; }, { shows: true, kind: "wide" }),
    make("ul", { className: "conversations" }, rows),
    rows.length ? button("save", "Export all", () => download("codegemma-conversations.json", JSON.stringify(conversations.all, null, 1)), { shows: true, kind: "quiet" }) : "",
  );
}

function removeConversation(one) {
  conversations.remove(one.id);
  if (one.id === chat.conversation.id) location.hash = "#chat/new";
  showSide();
  tell("Deleted");
}

/** Shows the view that the address names. */
function route() {
  const [view, id] = location.hash.slice(1).split("/");
  closeSide();
  const menu = button("menu", "Menu", openSide, { kind: "only-small menu" });
  if (view === "tutor" || facts.tutor?.free_chat === false) {
    tutor.show(main, menu, view === "tutor" ? id : "");
  } else {
    if (id === "new") {
      chat.open(conversations.start());
      history.replaceState(null, "", "#chat");
    } else if (id && conversations.find(id)) chat.open(conversations.find(id));
    chat.show(main, menu);
  }
  showSide();
}

const openSide = () => document.body.classList.add("side-open");
const closeSide = () => document.body.classList.remove("side-open");
veil.addEventListener("click", closeSide);

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  keep(THEME, theme);
  showSide();
}

/** Keys that work everywhere: Ctrl+Shift+O a new conversation, / to the message, Escape stops or closes. */
document.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
  if ((event.ctrlKey || event.metaKey) && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    location.hash = "#chat/new";
  } else if (event.key === "/" && !isTyping) {
    event.preventDefault();
    main.querySelector("textarea")?.focus();
  } else if (event.key === "Escape") {
    closeSide();
    chat.stop();
  }
});

async function learn() {
  for (;;) {
    try {
      const models = await server.get("/v1/models");
      const about = await server.get("/v1/tutor");
      facts = { model: models.data[0].id, tutor: about };
      setRunnable(about.runnable);
      tutor.learn(about);
      return route();
    } catch (error) {
      facts.model = error.message;
      showSide();
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
  }
}

const theme = load(THEME, null);
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
window.addEventListener("hashchange", route);
route();
void learn();
