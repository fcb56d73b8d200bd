// Explain, document, test, fix, ask: what is done with a selection, by the server's chat.
//
// In: the selection, its file's path and language, and what the editor complains about there.
// Out: an answer beside the code, as it is written; or a change that is shown as a difference and applied if wanted.
// Not: a chat with a history: the server's own page is one, and opens by its command.

import * as vscode from "vscode";
import { Server, setting } from "./server";

interface Deed {
  title: string;
  ask: string;
  /** What becomes of the answer: read beside the code, put in the selection's place, or opened as a file of its own. */
  becomes: "words" | "change" | "file";
}

const DEEDS: Record<string, Deed> = {
  explain: { title: "Explain", becomes: "words", ask: "Explain this code: first what it is for, then how it does it." },
  document: {
    title: "Document",
    becomes: "change",
    ask: "Add documentation comments in the language's own style. Change nothing else. Answer with the whole code in one block.",
  },
  test: { title: "Write tests", becomes: "file", ask: "Write unit tests for this code, edge cases included. Answer with one block of code." },
  fix: {
    title: "Fix",
    becomes: "change",
    ask: "Find what is wrong with this code and repair it, changing as little as possible. Answer with the whole code in one block, then say what was wrong.",
  },
};
const MAX_CHARS = 24_000;

export function register(server: Server, log: vscode.OutputChannel): vscode.Disposable[] {
  const answers = new Answers();
  const deeds = Object.entries(DEEDS).map(([name, deed]) =>
    vscode.commands.registerCommand(`codegemma.${name}`, () => run(server, log, answers, deed)),
  );
  const ask = vscode.commands.registerCommand("codegemma.ask", async (given?: string) => {
    const question = given ?? (await vscode.window.showInputBox({ prompt: "What do you want to know about the selection?" }));
    if (question) await run(server, log, answers, { title: question.slice(0, 60), becomes: "words", ask: question });
  });
  const open = vscode.commands.registerCommand("codegemma.chat", () => vscode.env.openExternal(vscode.Uri.parse(setting<string>("server"))));
  return [...deeds, ask, open, vscode.workspace.registerTextDocumentContentProvider(Answers.scheme, answers)];
}

async function run(server: Server, log: vscode.OutputChannel, answers: Answers, deed: Deed): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  if (!editor) return void vscode.window.showInformationMessage("codegemma: open a file and select some code first");
  const range = chooseRange(editor);
  const code = editor.document.getText(range);
  if (code.length > MAX_CHARS) {
    return void vscode.window.showWarningMessage(`codegemma: ${code.length} characters are selected; take at most ${MAX_CHARS}`);
  }
  const message = spell(editor.document, range, code, deed);
  const version = editor.document.version;
  const how = { location: vscode.ProgressLocation.Notification, title: `codegemma: ${deed.title}`, cancellable: true };
  try {
    await vscode.window.withProgress(how, async (_, token) => {
      const gone = new AbortController();
      token.onCancellationRequested(() => gone.abort());
      const page = deed.becomes === "words" ? await answers.open(deed.title, editor.viewColumn) : undefined;
      let text = "";
      for await (const piece of server.talk([{ role: "user", content: message }], gone.signal)) {
        text += piece;
        if (page) answers.show(page, text);
      }
      if (token.isCancellationRequested) return;
      if (!text.trim()) return void vscode.window.showInformationMessage("codegemma: the model says nothing");
      if (deed.becomes === "file") await openFile(text, editor);
      if (deed.becomes === "change") await offerChange(answers, editor, range, version, text, deed.title);
    });
  } catch (error) {
    if ((error as Error).name === "AbortError") return;
    log.appendLine((error as Error).message);
    void vscode.window.showErrorMessage(`codegemma: ${(error as Error).message}`);
  }
}

/** The selection, or the whole file where nothing is selected; whole lines, so that a change fits. */
function chooseRange(editor: vscode.TextEditor): vscode.Range {
  const { document, selection } = editor;
  if (selection.isEmpty) return new vscode.Range(0, 0, document.lineCount, 0);
  return new vscode.Range(selection.start.line, 0, selection.end.line, document.lineAt(selection.end.line).text.length);
}

function spell(document: vscode.TextDocument, range: vscode.Range, code: string, deed: Deed): string {
  const path = vscode.workspace.asRelativePath(document.uri, false);
  const wrong = vscode.languages
    .getDiagnostics(document.uri)
    .filter((found) => found.severity <= vscode.DiagnosticSeverity.Warning && range.intersection(found.range))
    .map((found) => `- line ${found.range.start.line - range.start.line + 1}: ${found.message}`);
  const runs = [...code.matchAll(/`{3,}/g)].map((run) => run[0].length);
  const fence = "`".repeat(Math.max(2, ...runs) + 1);
  const complaints = wrong.length ? `\n\nThe editor says:\n${wrong.join("\n")}` : "";
  return `${deed.ask}\n\n\`${path}\`:\n${fence}${document.languageId}\n${code}\n${fence}${complaints}`;
}

/** The first block of an answer that holds code, or nothing. */
export function findBlock(text: string): string | undefined {
  const found = /^(`{3,}|~{3,})[^\n]*\n([^]*?)\n\1\s*$/m.exec(text);
  return found?.[2];
}

async function openFile(text: string, editor: vscode.TextEditor): Promise<void> {
  const content = findBlock(text) ?? text;
  const language = findBlock(text) === undefined ? "markdown" : editor.document.languageId;
  await vscode.window.showTextDocument(await vscode.workspace.openTextDocument({ language, content }), vscode.ViewColumn.Beside);
}

/** Shows the change as a difference; it is made only when somebody says so and nothing was typed meanwhile. */
async function offerChange(answers: Answers, editor: vscode.TextEditor, range: vscode.Range, version: number, text: string, title: string): Promise<void> {
  const block = findBlock(text);
  if (block === undefined) return void answers.show(await answers.open(title, editor.viewColumn), text);
  const { document } = editor;
  const whole = document.getText();
  const changed = whole.slice(0, document.offsetAt(range.start)) + block + whole.slice(document.offsetAt(range.end));
  const page = answers.keep(`${document.fileName.split("/").pop()}`, changed);
  await vscode.commands.executeCommand("vscode.diff", document.uri, page, `${title}: as it is, as proposed`);
  const chosen = await vscode.window.showInformationMessage(`codegemma: ${title}. Take this change?`, "Take it", "Leave it");
  await vscode.commands.executeCommand("workbench.action.closeActiveEditor");
  if (chosen !== "Take it") return;
  if (document.version !== version) return void vscode.window.showWarningMessage("codegemma: the file was changed meanwhile; ask again");
  const edit = new vscode.WorkspaceEdit();
  edit.replace(document.uri, range, block);
  await vscode.workspace.applyEdit(edit);
}

/** Documents that exist in the editor alone, and are written while they are shown. */
class Answers implements vscode.TextDocumentContentProvider {
  static readonly scheme = "codegemma-answer";
  private readonly texts = new Map<string, string>();
  private readonly changed = new vscode.EventEmitter<vscode.Uri>();
  readonly onDidChange = this.changed.event;
  private number = 0;

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.texts.get(uri.toString()) ?? "";
  }

  keep(name: string, text: string): vscode.Uri {
    const uri = vscode.Uri.from({ scheme: Answers.scheme, path: `/${++this.number}/${name}` });
    this.texts.set(uri.toString(), text);
    return uri;
  }

  async open(title: string, beside?: vscode.ViewColumn): Promise<vscode.Uri> {
    const uri = this.keep(`${title.replace(/[^\w -]/g, "")}.md`, "…");
    const document = await vscode.workspace.openTextDocument(uri);
    await vscode.window.showTextDocument(document, { viewColumn: beside === undefined ? vscode.ViewColumn.Beside : beside + 1, preserveFocus: true, preview: false });
    return uri;
  }

  show(uri: vscode.Uri, text: string): void {
    this.texts.set(uri.toString(), text);
    this.changed.fire(uri);
  }
}
