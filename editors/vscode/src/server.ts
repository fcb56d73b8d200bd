// Finds the server, or starts it; asks it; says why there is no answer.
//
// In: settings, and requests in Tabby's shape, which has a path, other files and names for answers.
// Out: answers with the reason of each; a child process that ends with the editor.
// Not: templates or tokens: the server knows them.

import { ChildProcess, spawn } from "child_process";
import * as vscode from "vscode";

export interface Ask {
  language: string;
  segments: { prefix: string; suffix: string; filepath: string; relevant_snippets_from_recently_opened_files: object[] };
  max_tokens: number;
}

export interface Answer {
  id: string;
  choices: { text: string }[];
  why: { stop_reason: string; place: string; source: string; dropped: string[] };
}

interface Event {
  choices?: { delta?: { content?: string }; finish_reason?: string | null }[];
  why?: { dropped?: string[] };
}

export function setting<T>(name: string): T {
  return vscode.workspace.getConfiguration("codegemma").get<T>(name) as T;
}

export class Server {
  private child: ChildProcess | undefined;

  constructor(private readonly log: vscode.OutputChannel) {}

  /** Says what is wrong, or nothing when the server is ready. */
  async check(): Promise<string> {
    try {
      const reply = await this.fetch("/health", undefined, AbortSignal.timeout(2000));
      return reply.ok ? "" : reply.status === 503 ? "the model is being loaded" : `the server answers ${reply.status}`;
    } catch {
      if (this.child) return "the server is starting";
      return `no server at ${setting<string>("server")}; run "codegemma serve", or set codegemma.model`;
    }
  }

  /** Starts the server if a model is set, the workspace is trusted and nobody answers. */
  async start(): Promise<void> {
    const model = setting<string>("model");
    if (this.child || !model || !vscode.workspace.isTrusted || (await this.check()) === "") return;
    const url = new URL(setting<string>("server"));
    const folder = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
    const parts = ["serve", model, "--port", url.port || "80", ...(folder ? ["--workspace", folder] : [])];
    const child = spawn(setting<string>("command"), parts, { stdio: ["ignore", "ignore", "pipe"] });
    this.child = child;
    child.stderr?.on("data", (text) => this.log.append(String(text)));
    child.on("error", (error) => this.log.appendLine(`${error.message}: set codegemma.command`));
    child.on("close", () => (this.child = this.child === child ? undefined : this.child));
  }

  async complete(ask: Ask, signal: AbortSignal): Promise<Answer> {
    const reply = await this.fetch("/v1/completions", { ...ask, ...nameAdapter() }, signal);
    if (reply.status === 503) throw new Error("the model is being loaded");
    if (!reply.ok) throw new Error(`the server answers ${reply.status}: ${await readError(reply)}`);
    return (await reply.json()) as Answer;
  }

  /** Streams an answer of the server's chat; a note says what is to be known of it. */
  async *talk(messages: { role: string; content: string }[], signal: AbortSignal): AsyncGenerator<{ text: string; note?: string }> {
    const reply = await this.fetch("/v1/chat/completions", { messages, stream: true, temperature: 0.2, ...nameAdapter() }, signal);
    if (reply.status === 503) throw new Error("the model is being loaded");
    if (!reply.ok || !reply.body) throw new Error(`the server answers ${reply.status}: ${await readError(reply)}`);
    const decoder = new TextDecoder();
    let rest = "";
    for await (const bytes of reply.body as unknown as AsyncIterable<Uint8Array>) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line.startsWith("data: ") && line !== "data: [DONE]") yield* readEvent(JSON.parse(line.slice(6)));
    }
  }

  /** Tells what became of a completion, and of how many characters of it; the server counts and keeps it to itself. */
  tell(type: "view" | "select" | "retained", id: string, characters?: number): void {
    this.fetch("/v1/events", { type, completion_id: id, choice_index: 0, characters }).catch(() => undefined);
  }

  stop(): void {
    this.child?.kill();
    this.child = undefined;
  }

  private fetch(path: string, body?: object, signal?: AbortSignal): Promise<Response> {
    const key = setting<string>("apiKey");
    const headers: Record<string, string> = { "Content-Type": "application/json" };
    if (key) headers["Authorization"] = `Bearer ${key}`;
    const how = body ? { method: "POST", headers, body: JSON.stringify(body), signal } : { headers, signal };
    return fetch(new URL(path, setting<string>("server")), how);
  }
}

function nameAdapter(): { model?: string } {
  const model = setting<string>("adapter");
  return model ? { model } : {};
}

function* readEvent(event: Event): Generator<{ text: string; note?: string }> {
  const choice = event.choices?.[0];
  if (choice?.delta?.content) yield { text: choice.delta.content };
  for (const left of event.why?.dropped ?? []) yield { text: "", note: `Left out to fit the model's window: ${left}` };
  if (choice?.finish_reason === "length") yield { text: "", note: "Cut off: the answer met its limit" };
}

async function readError(reply: Response): Promise<string> {
  const text = await reply.text();
  try {
    return String((JSON.parse(text) as { error: { message: string } }).error.message);
  } catch {
    return text.slice(0, 200);
  }
}
