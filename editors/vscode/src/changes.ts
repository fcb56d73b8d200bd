// A change that a model proposes: shown as a difference, made only when somebody takes it.
//
// In: a document, a range of whole lines, a block of code. Out: the difference, with "Take it" and "Leave it" in its
// title; the document as proposed, or as it was. Not: writing to disk, which the person does.

import * as vscode from "vscode";

interface Proposal {
  document: vscode.TextDocument;
  range: vscode.Range;
  version: number;
  block: string;
  whole: string;
}

export class Changes implements vscode.TextDocumentContentProvider {
  static readonly scheme = "codegemma-change";
  private readonly proposals = new Map<string, Proposal>();
  private number = 0;

  register(): vscode.Disposable[] {
    return [
      vscode.workspace.registerTextDocumentContentProvider(Changes.scheme, this),
      vscode.commands.registerCommand("codegemma.take", () => this.decide(true)),
      vscode.commands.registerCommand("codegemma.leave", () => this.decide(false)),
      vscode.workspace.onDidCloseTextDocument((document) => this.proposals.delete(document.uri.toString())),
    ];
  }

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.proposals.get(uri.toString())?.whole ?? "";
  }

  /** Shows the difference. `version` is that of the document when it was asked about. */
  async offer(title: string, document: vscode.TextDocument, range: vscode.Range, version: number, proposed: string): Promise<void> {
    const block = fitBlock(proposed, document.getText(range));
    if (document.version !== version) return tellChanged();
    const text = document.getText();
    const whole = text.slice(0, document.offsetAt(range.start)) + block + text.slice(document.offsetAt(range.end));
    const name = document.fileName.split(/[\\/]/).pop();
    const uri = vscode.Uri.from({ scheme: Changes.scheme, path: `/${++this.number}/${name}` });
    this.proposals.set(uri.toString(), { document, range, version, block, whole });
    await vscode.commands.executeCommand("vscode.diff", document.uri, uri, `${title}: ${name}`, { preview: false });
  }

  private async decide(isTaken: boolean): Promise<void> {
    const uri = vscode.window.activeTextEditor?.document.uri.toString() ?? "";
    const input = vscode.window.tabGroups.activeTabGroup.activeTab?.input;
    const key = input instanceof vscode.TabInputTextDiff ? input.modified.toString() : uri;
    const proposal = this.proposals.get(key);
    if (!proposal) return void vscode.window.showInformationMessage("codegemma: no change is proposed here");
    await vscode.commands.executeCommand("workbench.action.closeActiveEditor");
    this.proposals.delete(key);
    if (!isTaken) return;
    const { document, range, version, block } = proposal;
    if (document.version !== version) return tellChanged();
    const edit = new vscode.WorkspaceEdit();
    edit.replace(document.uri, range, block);
    await vscode.window.showTextDocument(document);
    await vscode.workspace.applyEdit(edit);
  }
}

function tellChanged(): void {
  void vscode.window.showWarningMessage("codegemma: the file was changed meanwhile; ask again");
}

/** Sets a block where some code stood: as deep as it was, and ending as it ended. */
export function fitBlock(block: string, code: string): string {
  const [wanted, found] = [findIndent(code), findIndent(block)];
  const lines = block.trimEnd().split("\n");
  const fitted = wanted === found ? lines : lines.map((line) => (line.trim() ? wanted + line.slice(line.startsWith(found) ? found.length : 0) : ""));
  return fitted.join("\n") + (/\s*$/.exec(code)?.[0] ?? "");
}

/** The blanks that every line with something in it begins with. */
function findIndent(code: string): string {
  const starts = code.split("\n").filter((line) => line.trim()).map((line) => /^[ \t]*/.exec(line)?.[0] ?? "");
  return starts.reduce((least, start) => (start.length < least.length ? start : least), starts[0] ?? "");
}
