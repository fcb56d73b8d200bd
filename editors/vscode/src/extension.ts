// Ghost text: waits until nobody types, asks the server, shows, tells it what was accepted.
//
// In: what is typed, and the documents that were open last.
// Out: inline completions; the editor itself accepts them by Tab, by word and by line.
// Not: how the server is found (server.ts), what the status bar says (status.ts), what became of a completion (shown.ts).

import * as vscode from "vscode";
import { Ask, Server, setting } from "./server";
import { Shows } from "./shown";
import { Status } from "./status";
import { register } from "./talk";

const MAX_OTHERS = 8;
const MAX_OTHER_CHARS = 40_000;

let server: Server | undefined;
const recent: vscode.TextDocument[] = []; // the newest first

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const log = vscode.window.createOutputChannel("codegemma");
  const status = new Status();
  const found = (server = new Server(log));
  const shows = new Shows(found);
  const { registerCommand } = vscode.commands;
  context.subscriptions.push(
    log,
    status,
    shows,
    vscode.languages.registerInlineCompletionItemProvider({ pattern: "**" }, new Completer(found, status, shows, log)),
    vscode.workspace.onDidChangeTextDocument((event) => shows.follow(event)),
    vscode.window.onDidChangeActiveTextEditor((editor) => editor && remember(editor.document)),
    vscode.workspace.onDidCloseTextDocument((document) => forget(document)),
    ...register(found, log, context.extensionUri),
    registerCommand("codegemma.accepted", (id: string) => shows.accept(id)),
    registerCommand("codegemma.why", () => status.tell(log)),
    registerCommand("codegemma.toggle", () => {
      const settings = vscode.workspace.getConfiguration("codegemma");
      return settings.update("enabled", !settings.get("enabled"), vscode.ConfigurationTarget.Global);
    }),
    registerCommand("codegemma.restart", async () => {
      found.stop();
      await found.start();
    }),
  );
  if (vscode.window.activeTextEditor) remember(vscode.window.activeTextEditor.document);
  await found.start();
  const wrong = await found.check();
  if (wrong) status.nothing(wrong);
}

export function deactivate(): void {
  server?.stop();
}

class Completer implements vscode.InlineCompletionItemProvider {
  constructor(
    private readonly server: Server,
    private readonly status: Status,
    private readonly shows: Shows,
    private readonly log: vscode.OutputChannel,
  ) {}

  async provideInlineCompletionItems(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
  ): Promise<vscode.InlineCompletionItem[]> {
    const refusal = refuse(document);
    if (refusal) {
      this.status.nothing(refusal);
      return [];
    }
    const isTyped = context.triggerKind === vscode.InlineCompletionTriggerKind.Automatic;
    if (isTyped && !(await wait(setting<number>("delay"), token))) return [];
    const chosen = context.selectedCompletionInfo;
    const range = chosen?.range ?? new vscode.Range(position, position);
    const given = chosen?.text ?? "";
    const answered = await this.ask(makeAsk(document, range, given), token);
    if (!answered?.text || token.isCancellationRequested) return [];
    const item = new vscode.InlineCompletionItem(given + answered.text, range);
    item.command = { title: "Accepted", command: "codegemma.accepted", arguments: [answered.id] };
    this.shows.show(answered.id, document, position, chosen ? "" : answered.text);
    return [item];
  }

  private async ask(ask: Ask, token: vscode.CancellationToken): Promise<{ text: string; id: string } | undefined> {
    const gone = new AbortController();
    const listening = token.onCancellationRequested(() => gone.abort());
    this.status.working();
    try {
      const answer = await this.server.complete(ask, gone.signal);
      const text = answer.choices[0]?.text ?? "";
      this.status.answered(text.length, answer.why);
      return { text, id: answer.id };
    } catch (error) {
      if (gone.signal.aborted) return undefined;
      const wrong = (await this.server.check()) || (error as Error).message;
      this.status.nothing(wrong);
      this.log.appendLine(wrong);
      return undefined;
    } finally {
      listening.dispose();
    }
  }
}

function refuse(document: vscode.TextDocument): string {
  if (!setting<boolean>("enabled")) return "completion is switched off";
  if (setting<string[]>("off").includes(document.languageId)) return `it is off for ${document.languageId}`;
  return "";
}

/** Waits; false when the editor does not want the answer any more. */
function wait(ms: number, token: vscode.CancellationToken): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(!token.isCancellationRequested), ms);
    token.onCancellationRequested(() => {
      clearTimeout(timer);
      resolve(false);
    });
  });
}

function makeAsk(document: vscode.TextDocument, range: vscode.Range, given: string): Ask {
  const text = document.getText();
  const others = recent.filter((other) => other !== document && other.uri.scheme === "file").slice(0, MAX_OTHERS);
  return {
    language: document.languageId,
    max_tokens: setting<number>("longest"),
    segments: {
      prefix: text.slice(0, document.offsetAt(range.start)) + given,
      suffix: text.slice(document.offsetAt(range.end)),
      filepath: findPath(document),
      relevant_snippets_from_recently_opened_files: others.map((other) => ({
        filepath: findPath(other),
        body: other.getText().slice(0, MAX_OTHER_CHARS),
        score: 1,
      })),
    },
  };
}

/** The path in its folder, as training spelled it; the server resolves it in its workspace. */
function findPath(document: vscode.TextDocument): string {
  return vscode.workspace.asRelativePath(document.uri, false);
}

function remember(document: vscode.TextDocument): void {
  forget(document);
  recent.unshift(document);
}

function forget(document: vscode.TextDocument): void {
  const at = recent.indexOf(document);
  if (at >= 0) recent.splice(at, 1);
}
