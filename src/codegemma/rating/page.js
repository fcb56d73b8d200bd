// The rating page. What a model wrote is set as text, never as markup; nothing is loaded from elsewhere.
"use strict";

const find = (id) => document.getElementById(id);
const key = location.hash.slice(1);
let campaign, rater, current, before, marked = 0, startedAt = 0;

async function ask(path, body) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const options = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  const reply = await fetch(path, options);
  const plain = await reply.json();
  if (!reply.ok) throw new Error(plain.error);
  return plain;
}

function make(name, text, parent, attributes = {}) {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  parent.append(element);
  return element;
}

function showQuestions() {
  find("questions").replaceChildren();
  campaign.questions.forEach((question, number) => {
    const box = make("fieldset", "", find("questions"));
    make("legend", question.text, box);
    question.labels.forEach((label, value) => {
      const line = make("label", "", box);
      make("input", "", line, { type: "radio", name: `question${number}`, value });
      line.append(` ${value + 1} ${label}`);
    });
  });
  mark(0);
}

function mark(number) {
  const boxes = [...find("questions").children];
  marked = Math.max(0, Math.min(number, boxes.length - 1));
  boxes.forEach((box, place) => box.classList.toggle("marked", place === marked));
}

function show(item) {
  current = item;
  find("message").textContent = "";
  find("progress").textContent = `${item.done} of ${item.items} rated`;
  if (item.item === null) {
    find("work").hidden = true;
    find("message").textContent = "All are rated. Thank you.";
    return;
  }
  find("work").hidden = false;
  find("prompt").textContent = item.prompt;
  find("answers").replaceChildren();
  item.answers.forEach((answer, place) => {
    const name = item.answers.length === 1 ? "Answer" : ["Left", "Right"][place];
    const section = make("section", "", find("answers"), { "aria-label": name });
    make("h2", name, section);
    make("pre", answer, section);
  });
  find("comment").value = "";
  showQuestions();
  startedAt = performance.now();
}

async function send() {
  const values = {};
  for (const [number, question] of campaign.questions.entries()) {
    const chosen = document.querySelector(`input[name=question${number}]:checked`);
    if (!chosen) {
      mark(number);
      find("message").textContent = `Choose a label: ${question.text}`;
      return;
    }
    values[question.id] = Number(chosen.value);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  const done = current;
  await ask("/rate", { rater, item: current.item, values, comment: find("comment").value, seconds });
  before = done;
  show(await ask(`/next?rater=${encodeURIComponent(rater)}`));
}

function guard(act) {
  return (event) => Promise.resolve(act(event)).catch((error) => (find("message").textContent = error.message));
}

function press(event) {
  if (find("work").hidden || event.ctrlKey || event.metaKey || event.altKey) return undefined;
  if (event.target === find("comment")) return undefined;
  const boxes = find("questions").children;
  if (/^[1-9]$/.test(event.key)) {
    const choice = boxes[marked].querySelectorAll("input")[Number(event.key) - 1];
    if (choice) {
      choice.checked = true;
      mark(marked + 1);
    }
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    mark(marked + (event.key === "ArrowDown" ? 1 : -1));
  } else if (event.key === "Enter" && event.target.tagName !== "BUTTON") {
    return send();
  } else if (event.key === "Backspace" && before) {
    show({ ...before });
  } else {
    return undefined;
  }
  event.preventDefault();
  return undefined;
}

find("who").addEventListener("submit", guard(async (event) => {
  event.preventDefault();
  rater = find("rater").value.trim();
  const item = await ask(`/next?rater=${encodeURIComponent(rater)}`);
  find("who").hidden = true;
  show(item);
}));
find("send").addEventListener("click", guard(send));
find("back").addEventListener("click", guard(() => before && show({ ...before })));
document.addEventListener("keydown", guard(press));
guard(async () => {
  campaign = await ask("/campaign");
  document.title = campaign.title;
  find("title").textContent = campaign.title;
  find("instructions").textContent = campaign.instructions;
  find("progress").textContent = `${campaign.items} items`;
})();
