// Follows the completion that is shown: how much of it is accepted, and how much of that stands half a minute later.
//
// In: what is shown where; changes of documents.
// Out: what the server is told. The same rules as in the server's serve/shown.py, for the editor alone sees the document.
// Not: telling one completion from another: the editor shows one at a time.
//
// The editor tells an extension of whole completions only. Of one that is accepted by word or by line it inserts the next
// characters, several at once; who types them one by one has not accepted them.

import * as vscode from "vscode";
import { Server } from "./server";

const RETAINED_AFTER_MS = 30_000;

interface Shown {
  id: string;
  document: vscode.TextDocument;
  start: number;
  text: string;
  line: string; // what stands on its line before it
  passed: number; // characters of it that stand there by now
  accepted: number;
}

export class Shows {
  private shown: Shown | undefined;
  private readonly timers = new Set<NodeJS.Timeout>();

  constructor(private readonly server: Server) {}

  show(id: string, document: vscode.TextDocument, position: vscode.Position, text: string): void {
    const line = document.lineAt(position.line).text.slice(0, position.character);
    this.shown = { id, document, start: document.offsetAt(position), text, line, passed: 0, accepted: 0 };
    this.server.tell("view", id);
  }

  /** The editor says that it accepted a whole completion. */
  accept(id: string): void {
    const shown = this.shown;
    this.server.tell("select", id);
    if (shown?.id !== id) return;
    this.shown = undefined;
    this.note(shown, shown.text.length);
  }

  /** A document changed: that may accept a part. */
  follow(event: vscode.TextDocumentChangeEvent): void {
    const shown = this.shown;
    const [change, ...others] = event.contentChanges;
    if (!shown || !change || event.document !== shown.document) return;
    const goesOn = change.rangeOffset === shown.start + shown.passed && !change.rangeLength && !others.length;
    if (!goesOn || !change.text || !shown.text.startsWith(change.text, shown.passed)) {
      this.shown = undefined;
      return;
    }
    shown.passed += change.text.length;
    if (change.text.length < 2) return;
    this.server.tell("select", shown.id, shown.passed);
    this.note(shown, shown.passed);
  }

  dispose(): void {
    this.timers.forEach(clearTimeout);
  }

  private note(shown: Shown, accepted: number): void {
    const isFirst = !shown.accepted;
    shown.accepted = accepted;
    if (!isFirst) return;
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      if (shown.document.isClosed) return;
      const standing = countStanding(shown.text.slice(0, shown.accepted), shown.line, shown.document.getText());
      this.server.tell("retained", shown.id, standing);
    }, RETAINED_AFTER_MS);
    this.timers.add(timer);
  }
}

/** Counts the characters of those lines of a text that stand in a document, in their order, however indented. */
export function countStanding(text: string, line: string, document: string): number {
  let at = 0;
  let standing = 0;
  let stands = false;
  for (const [number, piece] of (text.match(/.*(?:\r?\n|$)/g) ?? []).entries()) {
    const words = piece.trim();
    if (words) {
      const wanted = number === 0 ? [(line + piece).trim(), words] : [words];
      const found = wanted.find((part) => document.indexOf(part, at) >= 0);
      stands = found !== undefined;
      if (found !== undefined) at = document.indexOf(found, at) + found.length;
    }
    if (stands) standing += piece.length;
  }
  return standing;
}
