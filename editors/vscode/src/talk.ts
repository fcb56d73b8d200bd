// Explain, document, test, fix, ask: what is done with a selection, by the server's chat.
//
// In: the selection, its file's path and language, and what the editor complains about there.
// Out: an answer beside the code, as it is written; or a change that is shown as a difference and made if wanted.
// Not: a chat with a history: the server's own page is one, and opens by its command.

import * as vscode from "vscode";
import { Answer, Answers } from "./answers";
import { Changes } from "./changes";
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

export function register(server: Server, log: vscode.OutputChannel, place: vscode.Uri): vscode.Disposable[] {
  const talk = new Talk(server, log, new Answers(place));
  const deeds = Object.entries(DEEDS).map(([name, deed]) => vscode.commands.registerCommand(`codegemma.${name}`, () => talk.run(deed)));
  const ask = vscode.commands.registerCommand("codegemma.ask", async (given?: string) => {
    const question = typeof given === "string" ? given : await vscode.window.showInputBox({ prompt: "What do you want to know about the selection?" });
    if (question?.trim()) await talk.run({ title: question.trim(), becomes: "words", ask: question.trim() });
  });
  const open = vscode.commands.registerCommand("codegemma.chat", () => vscode.env.openExternal(vscode.Uri.parse(setting<string>("server"))));
  return [...deeds, ask, open, ...talk.changes.register()];
}

class Talk {
  readonly changes = new Changes();

  constructor(
    private readonly server: Server,
    private readonly log: vscode.OutputChannel,
    private readonly answers: Answers,
  ) {}

  async run(deed: Deed): Promise<void> {
    const editor = vscode.window.activeTextEditor;
    if (!editor) return void vscode.window.showInformationMessage("codegemma: open a file and select some code first");
    const { document } = editor;
    const range = chooseRange(editor);
    const [code, version] = [document.getText(range), document.version];
    if (!code.trim()) return void vscode.window.showInformationMessage("codegemma: there is no code here");
    if (code.length > MAX_CHARS) {
      return void vscode.window.showWarningMessage(`codegemma: ${code.length} characters are selected; take at most ${MAX_CHARS}`);
    }
    const answer = await this.ask(deed, spell(document, range, code, deed), range);
    if (!answer) return;
    const block = findBlock(answer.text);
    if (deed.becomes === "file" && block !== undefined) await openFile(block, document.languageId);
    else if (deed.becomes === "change" && block !== undefined) await this.changes.offer(deed.title, document, range, version, block);
    else if (deed.becomes !== "words") {
      const shown = this.answers.begin(deed.title);
      const why = "No whole block of code came, so nothing is proposed";
      this.answers.show(Object.assign(shown, { ...answer, notes: [...answer.notes, why], isDone: true }));
    }
  }

  /** Reads an answer to its end; nothing comes back where there is none to go on with. */
  private async ask(deed: Deed, message: string, range: vscode.Range): Promise<Answer | undefined> {
    const lines = range.isSingleLine ? `line ${range.start.line + 1}` : `lines ${range.start.line + 1} to ${range.end.line + 1}`;
    const name = `${deed.title} (${lines})`;
    const answer: Answer = deed.becomes === "words" ? this.answers.begin(name) : { title: name, text: "", notes: [], isDone: false };
    const show = () => deed.becomes === "words" && this.answers.show(answer);
    const how = { location: vscode.ProgressLocation.Notification, title: `codegemma: ${deed.title}`, cancellable: true };
    const finish = (note?: string) => {
      answer.isDone = true;
      if (note) answer.notes.push(note);
      show();
    };
    return vscode.window.withProgress(how, async (_, token) => {
      const gone = new AbortController();
      token.onCancellationRequested(() => gone.abort());
      try {
        for await (const { text, note } of this.server.talk([{ role: "user", content: message }], gone.signal)) {
          answer.text += text;
          if (note) answer.notes.push(note);
          show();
        }
      } catch (error) {
        const wrong = gone.signal.aborted ? "Stopped" : (await this.server.check()) || (error as Error).message;
        finish(wrong);
        if (gone.signal.aborted) return undefined;
        this.log.appendLine(wrong);
        // Not awaited: the progress would stand beside it until somebody answers.
        void vscode.window.showErrorMessage(`codegemma: ${wrong}`, "Ask again").then((chosen) => chosen && void this.run(deed));
        return undefined;
      }
      finish(answer.text.trim() ? undefined : "The model says nothing");
      if (answer.text.trim()) return answer;
      if (deed.becomes !== "words") void vscode.window.showInformationMessage("codegemma: the model says nothing");
      return undefined;
    });
  }
}

/** The lines of the selection, or the whole file where nothing is selected; whole lines, so that a change fits. */
function chooseRange(editor: vscode.TextEditor): vscode.Range {
  const { document, selection } = editor;
  if (selection.isEmpty) return document.validateRange(new vscode.Range(0, 0, document.lineCount, 0));
  // A selection of lines ends at the next one's start, and that line was not meant.
  const last = selection.end.character === 0 && !selection.isSingleLine ? selection.end.line - 1 : selection.end.line;
  return new vscode.Range(selection.start.line, 0, last, document.lineAt(last).text.length);
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

/** The first whole block of an answer, or nothing. */
function findBlock(text: string): string | undefined {
  return /^(`{3,}|~{3,})[^\n]*\n([^]*?)\n\1\s*$/m.exec(text)?.[2];
}

async function openFile(content: string, language: string): Promise<void> {
  const made = await vscode.workspace.openTextDocument({ language, content: `${content}\n` });
  await vscode.window.showTextDocument(made, vscode.ViewColumn.Beside);
}
