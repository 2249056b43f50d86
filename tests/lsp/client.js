// An editor in a few lines, with the protocol library of Visual Studio Code: carries out the steps on standard input, and writes what came
// of each. Usage: node client.js PROGRAM DIRECTORY
'use strict';
const { spawn } = require('child_process');
const lsp = require('vscode-languageserver-protocol/node');

const [program, directory] = process.argv.slice(2);
const child = spawn(program, ['lsp', '--stdio'], { cwd: directory, stdio: ['pipe', 'pipe', 'inherit'] });
const ended = new Promise((resolve) => child.on('exit', resolve));
const connection = lsp.createProtocolConnection(
  new lsp.StreamMessageReader(child.stdout), new lsp.StreamMessageWriter(child.stdin));

const waiting = [];
const published = [];
connection.onNotification(lsp.PublishDiagnosticsNotification.type, (params) => {
  const next = waiting.shift();
  next ? next(params) : published.push(params);
});
const diagnostics = () => published.length
  ? Promise.resolve(published.shift()) : new Promise((resolve) => waiting.push(resolve));

const versions = new Map();
const version = (uri) => { versions.set(uri, (versions.get(uri) || 0) + 1); return versions.get(uri); };

const steps = {
  async open({ uri, languageId, text }) {
    await connection.sendNotification(lsp.DidOpenTextDocumentNotification.type,
      { textDocument: { uri, languageId, version: version(uri), text } });
    return diagnostics();
  },
  async change({ uri, text }) {
    await connection.sendNotification(lsp.DidChangeTextDocumentNotification.type,
      { textDocument: { uri, version: version(uri) }, contentChanges: [{ text }] });
    return diagnostics();
  },
  async save({ uri }) {
    await connection.sendNotification(lsp.DidSaveTextDocumentNotification.type, { textDocument: { uri } });
    return diagnostics();
  },
  async close({ uri }) {
    await connection.sendNotification(lsp.DidCloseTextDocumentNotification.type, { textDocument: { uri } });
    return diagnostics();
  },
  hover: ({ uri, position }) =>
    connection.sendRequest(lsp.HoverRequest.type, { textDocument: { uri }, position }),
  actions: ({ uri, range, diagnostics }) =>
    connection.sendRequest(lsp.CodeActionRequest.type, { textDocument: { uri }, range, context: { diagnostics } }),
  other: ({ method }) => connection.sendRequest(method, {}).then(() => 'served', (error) => ({ code: error.code })),
};

async function main() {
  let input = '';
  for await (const chunk of process.stdin) input += chunk;
  connection.listen();
  const begun = await connection.sendRequest(lsp.InitializeRequest.type,
    { processId: process.pid, rootUri: null, capabilities: {}, workspaceFolders: null });
  await connection.sendNotification(lsp.InitializedNotification.type, {});
  const results = [begun];
  for (const { step, ...asked } of JSON.parse(input)) results.push(await steps[step](asked) ?? null);
  await connection.sendRequest(lsp.ShutdownRequest.type);
  await connection.sendNotification(lsp.ExitNotification.type);
  results.push({ exit: await ended });
  process.stdout.write(JSON.stringify(results));
}
main().catch((error) => { console.error(error); child.kill(); process.exitCode = 1; });
