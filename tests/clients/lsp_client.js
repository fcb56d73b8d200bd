// Asks a language server through the library named in the arguments, and prints what it was told as one line of JSON.

const { spawn } = require("child_process");
const ask = JSON.parse(process.argv[2]);
const lsp = require(`${ask.module}/node`);

async function main() {
  const server = spawn(ask.server[0], ask.server.slice(1), { stdio: ["pipe", "pipe", "inherit"] });
  const reader = new lsp.StreamMessageReader(server.stdout);
  const connection = lsp.createProtocolConnection(reader, new lsp.StreamMessageWriter(server.stdin), console);
  connection.listen();
  await connection.sendRequest("initialize", { processId: process.pid, rootUri: null, capabilities: {} });
  await connection.sendNotification("initialized", {});
  const run = (command, ...parts) => connection.sendRequest("workspace/executeCommand", { command, arguments: parts });
  while (!(await run("codegemma.status")).ready) await new Promise((resolve) => setTimeout(resolve, 100));

  const uri = "file:///work/a.py";
  const textDocument = { uri, languageId: "python", version: 1, text: ask.after };
  await connection.sendNotification("textDocument/didOpen", { textDocument });
  const start = { line: 0, character: 0 };
  const contentChanges = [{ range: { start, end: start }, text: ask.before }];
  await connection.sendNotification("textDocument/didChange", { textDocument: { uri, version: 2 }, contentChanges });

  const lines = ask.before.split("\n");
  const where = { textDocument: { uri }, position: { line: lines.length - 1, character: lines.at(-1).length } };
  const kinds = [lsp.InlineCompletionTriggerKind.Invoked, lsp.InlineCompletionTriggerKind.Automatic];
  const items = [];
  for (const triggerKind of kinds) {
    const told = await connection.sendRequest("textDocument/inlineCompletion", { ...where, context: { triggerKind } });
    items.push((told.items ?? told)[0]);
  }
  const menu = (await connection.sendRequest("textDocument/completion", where)).items[0].textEdit.newText;
  await run(items[0].command.command, ...items[0].command.arguments);
  const status = await run("codegemma.status");
  const accepted = Number(/event="accepted".*} (\S+)/.exec(status.metrics)[1]);
  console.log(JSON.stringify({ kinds, inline: items.map((item) => item.insertText), menu, accepted }));
  await connection.sendRequest("shutdown");
  await connection.sendNotification("exit");
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
