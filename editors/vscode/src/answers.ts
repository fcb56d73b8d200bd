// Answers in words, one below the other, rendered beside the code while they are written.
//
// In: pieces of answers. Out: a panel, in the colours of the editor, which renders as the server's own page does.
// Not: HTML of a model's: text becomes elements (media/answers.js), and the panel may load nothing but its own files.

import * as vscode from "vscode";

export interface Answer {
  title: string;
  text: string;
  notes: string[];
  isDone: boolean;
}

export class Answers {
  private panel: vscode.WebviewPanel | undefined;
  private readonly all: Answer[] = [];
  private isListening = false;

  constructor(private readonly place: vscode.Uri) {}

  /** Begins an answer, and shows the panel without taking the cursor from the code. */
  begin(title: string): Answer {
    const answer = { title, text: "", notes: [], isDone: false };
    this.all.push(answer);
    this.reveal();
    this.show(answer);
    return answer;
  }

  show(answer: Answer): void {
    // An answer that is still written when its panel is closed belongs to no other.
    const at = this.all.indexOf(answer);
    // Before the panel listens nothing is sent: then it asks for all.
    if (this.isListening && at >= 0) void this.panel?.webview.postMessage({ at, answer });
  }

  private reveal(): void {
    if (this.panel) return this.panel.reveal(undefined, true);
    const where = { viewColumn: vscode.ViewColumn.Beside, preserveFocus: true };
    const how = { enableScripts: true, retainContextWhenHidden: true, localResourceRoots: [this.place] };
    const panel = (this.panel = vscode.window.createWebviewPanel("codegemma.answers", "codegemma", where, how));
    panel.webview.onDidReceiveMessage(() => {
      this.isListening = true;
      for (const answer of this.all) this.show(answer);
    });
    panel.onDidDispose(() => {
      this.panel = undefined;
      this.isListening = false;
      this.all.length = 0;
    });
    panel.webview.html = this.spell(panel.webview);
  }

  private spell(webview: vscode.Webview): string {
    const find = (...parts: string[]) => webview.asWebviewUri(vscode.Uri.joinPath(this.place, ...parts)).toString();
    const policy = `default-src 'none'; style-src ${webview.cspSource}; script-src ${webview.cspSource}`;
    return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>codegemma</title>
<meta http-equiv="Content-Security-Policy" content="${policy}">
<link rel="stylesheet" href="${find("media", "answers.css")}"></head>
<body><main role="log" aria-label="Answers"></main><div id="told" role="status"></div>
<script type="module" src="${find("media", "answers.js")}"></script></body></html>`;
  }
}
