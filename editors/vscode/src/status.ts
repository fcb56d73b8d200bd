// The item in the status bar: what was answered last, and why nothing is shown.

import * as vscode from "vscode";

const REASONS: Record<string, string> = {
  control_token: "the model would write nothing here",
  suffix_repeated: "the model would write what follows the cursor",
  line_end: "the model would end the line here",
  block_end: "the model would end the block here",
  scope_end: "the model would end the function here",
  new_budget: "there was no time for an answer",
  prompt_budget: "there was no time to read the file",
};

export class Status {
  private readonly item = vscode.window.createStatusBarItem("codegemma", vscode.StatusBarAlignment.Right, 100);
  private said = "";

  constructor() {
    this.item.name = "codegemma";
    this.item.command = "codegemma.why";
    this.show("sparkle", "nothing was asked yet");
    this.item.show();
  }

  working(): void {
    this.show("loading~spin", "a completion is being written");
  }

  answered(chars: number, why: { stop_reason: string; place: string; source: string }): void {
    if (chars) this.show("sparkle", `${chars} characters, from the ${why.source === "typed" ? "last answer" : "model"}`);
    else this.nothing(why.place.includes("secret") ? why.place : (REASONS[why.stop_reason] ?? why.stop_reason));
  }

  nothing(reason: string): void {
    this.show("circle-slash", `nothing is shown: ${reason}`);
  }

  tell(log: vscode.OutputChannel): void {
    void vscode.window.showInformationMessage(`codegemma: ${this.said}`, "Log", "Settings").then((chosen) => {
      if (chosen === "Log") log.show();
      if (chosen === "Settings") void vscode.commands.executeCommand("workbench.action.openSettings", "codegemma");
    });
  }

  dispose(): void {
    this.item.dispose();
  }

  private show(icon: string, said: string): void {
    this.said = said;
    this.item.text = `$(${icon}) codegemma`;
    this.item.tooltip = said;
  }
}
