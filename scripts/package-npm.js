#!/usr/bin/env node
// Runs the program of this system's package, which npm has installed beside this one.
'use strict';
const { spawn } = require('child_process');
const os = require('os');

const system = `lockkeeper-${process.platform}-${process.arch}`;
let program;
try {
  program = require.resolve(`${system}/lockkeeper`);
} catch {
  console.error(`lockkeeper: the package ${system} is not installed. Install without --omit=optional, or build from source.`);
  process.exit(2);
}
const child = spawn(program, process.argv.slice(2), { stdio: 'inherit' });
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
// A terminal sends Ctrl-C to both.
for (const signal of signals) process.on(signal, () => { if (signal !== 'SIGINT') child.kill(signal); });
child.on('error', (error) => { console.error(`lockkeeper: ${error.message}`); process.exit(2); });
child.on('exit', (code, signal) => process.exit(signal ? 128 + os.constants.signals[signal] : code));
