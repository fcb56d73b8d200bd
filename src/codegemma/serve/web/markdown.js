// Renders Markdown as elements. In: text, whole or being written. Out: nodes in a place, of which only the changed are
// made anew. Not: HTML, which stays the text that it is; pictures, which would be fetched from somewhere.

import { make } from "./dom.js";
import { showCode } from "./code.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)[^`]*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const MAX_DEPTH = 8;

/** Renders into a place; blocks that have not changed keep their elements, and with them what was run below them. */
export function renderMarkdown(place, text, isDone = true) {
  const blocks = splitBlocks(text.split("\n"));
  const known = place.blocks ?? [];
  let same = 0;
  while (same < blocks.length && same < known.length && blocks[same].source === known[same]) same++;
  while (place.childNodes.length > same) place.lastChild.remove();
  for (const [i, block] of blocks.slice(same).entries()) {
    place.append(renderBlock(block, 0, isDone || same + i + 1 < blocks.length));
  }
  place.blocks = blocks.map((block) => block.source);
}

function splitBlocks(lines) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const start = at;
    const fence = FENCE.exec(lines[at]);
    const block = { kind: "paragraph" };
    if (!lines[at].trim()) {
      at++;
      continue;
    } else if (fence) {
      at++;
      while (at < lines.length && !closes(lines[at], fence[1])) at++;
      Object.assign(block, { kind: "code", language: fence[2].toLowerCase(), code: lines.slice(start + 1, at).join("\n") });
      at++;
    } else if (/^ {0,3}#{1,6}\s/.test(lines[at])) {
      block.kind = "heading";
      at++;
    } else if (RULE.test(lines[at])) {
      block.kind = "rule";
      at++;
    } else if (/^ {0,3}>/.test(lines[at])) {
      block.kind = "quote";
      while (at < lines.length && /^ {0,3}>/.test(lines[at])) at++;
    } else if (ITEM.test(lines[at])) {
      block.kind = "list";
      while (at < lines.length && (ITEM.test(lines[at]) || /^\s{2,}\S/.test(lines[at]) || (!lines[at].trim() && continues(lines[at + 1])))) at++;
    } else if (isTable(lines, at)) {
      block.kind = "table";
      while (at < lines.length && lines[at].includes("|")) at++;
    } else {
      at++;
      while (at < lines.length && lines[at].trim() && !begins(lines, at)) at++;
    }
    block.lines = lines.slice(start, at);
    block.source = block.lines.join("\n") + (block.kind === "code" && at > lines.length ? "\0open" : "");
    blocks.push(block);
  }
  return blocks;
}

const closes = (line, fence) => line.trim().length >= fence.length && [...line.trim()].every((sign) => sign === fence[0]);
const continues = (line) => line !== undefined && (ITEM.test(line) || /^\s{2,}\S/.test(line));
const isTable = (lines, at) => lines[at].includes("|") && /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(lines[at + 1] ?? "") && (lines[at + 1] ?? "").includes("-");
const begins = (lines, at) => FENCE.test(lines[at]) || /^ {0,3}(#{1,6}\s|>)/.test(lines[at]) || RULE.test(lines[at]) || ITEM.test(lines[at]) || isTable(lines, at);

function renderBlock(block, depth, isDone) {
  const [line] = block.lines;
  switch (block.kind) {
    case "code":
      return showCode(block.code, block.language, isDone);
    case "heading": {
      const level = /#+/.exec(line)[0].length;
      return make(`h${Math.min(level + 2, 6)}`, {}, renderInline(line.replace(/^\s*#+\s+|\s+#+\s*$/g, "")));
    }
    case "rule":
      return make("hr");
    case "quote":
      return make("blockquote", {}, renderInside(block.lines.map((l) => l.replace(/^ {0,3}> ?/, "")), depth));
    case "list":
      return renderList(block.lines, depth);
    case "table":
      return renderTable(block.lines);
    default:
      return make("p", {}, renderInline(block.lines.join("\n")));
  }
}

function renderInside(lines, depth) {
  if (depth >= MAX_DEPTH) return [lines.join("\n")];
  return splitBlocks(lines).map((block) => renderBlock(block, depth + 1, true));
}

function renderList(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const items = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length <= first[1].length + 1) items.push([item[3]]);
    else items.at(-1).push(line.replace(/^ {1,4}/, ""));
  }
  const isOrdered = /\d/.test(first[2]);
  const list = make(isOrdered ? "ol" : "ul", isOrdered ? { start: parseInt(first[2], 10) } : {});
  for (const item of items) {
    const isPlain = item.length === 1;
    list.append(make("li", {}, isPlain ? renderInline(item[0]) : renderInside(item, depth)));
  }
  return list;
}

function renderTable(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, tag) => make("tr", {}, cells(line).map((cell) => make(tag, {}, renderInline(cell))));
  const body = lines.slice(2).map((line) => row(line, "td"));
  return make("div", { className: "scroll" }, make("table", {}, make("thead", {}, row(lines[0], "th")), make("tbody", {}, body)));
}

const INLINE =
  /(?<code>`+)(?<text>[^]*?[^`])\k<code>(?!`)|\*\*(?<bold>[^\s*](?:[^]*?[^\s])?)\*\*|(?<![\w*])\*(?<slant>[^\s*](?:[^*]*?[^\s*])?)\*(?!\w)|(?<![\w_])_(?<under>[^\s_](?:[^_]*?[^\s_])?)_(?!\w)|~~(?<struck>[^~]+)~~|(?<image>!?)\[(?<label>[^\]\n]*)\]\((?<address>[^\s)]+)(?:\s+"[^"]*")?\)|\\(?<escaped>[!-/:-@[-`{-~])/g;

/** Renders what stands within a line. */
export function renderInline(text, depth = 0) {
  const parts = [];
  let at = 0;
  const inside = (words) => (depth < MAX_DEPTH ? renderInline(words, depth + 1) : [words]);
  for (const match of text.matchAll(INLINE)) {
    parts.push(text.slice(at, match.index));
    at = match.index + match[0].length;
    const found = match.groups;
    if (found.code) parts.push(make("code", {}, found.text.replace(/^ (.*) $/, "$1")));
    else if (found.bold) parts.push(make("strong", {}, inside(found.bold)));
    else if (found.slant ?? found.under) parts.push(make("em", {}, inside(found.slant ?? found.under)));
    else if (found.struck) parts.push(make("s", {}, inside(found.struck)));
    else if (found.escaped) parts.push(found.escaped);
    else if (!found.image && /^https?:\/\//i.test(found.address)) {
      parts.push(make("a", { href: found.address, target: "_blank", rel: "noopener noreferrer", title: found.address }, inside(found.label)));
    } else parts.push(match[0]);
  }
  parts.push(text.slice(at));
  return parts.filter(Boolean);
}
