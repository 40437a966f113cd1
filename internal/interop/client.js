#!/usr/bin/env node
// Runs the npm package node-eventstore-client against a server, scenario by scenario (scenarios.js).
//
//   node client.js --host HOST --port PORT --login LOGIN --password PASSWORD [SCENARIO...]
//
// Standard output has one JSON object a line. First {plan, versions}: the names of the scenarios that will run and what
// runs them. Then for each scenario, as it ends, {name, ok, error, details, ms}. The exit status is 0 when all were ok, 1
// when one was not, and 2 when the arguments are wrong. Each scenario has a time limit, so that the script always ends.
//
// A scenario may ask for something that only the one who started the script can do, such as cutting its connections:
// {ask}. It goes on when a line comes in on standard input: "ok", or else what went wrong.
'use strict';

const assert = require('node:assert/strict');
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const readline = require('node:readline');
const { parseArgs, format } = require('node:util');

const es = require('node-eventstore-client');

const wanted = require('./package.json').dependencies;

const versions = { node: process.versions.node };
for (const name of Object.keys(wanted)) {
  const [folder] = require.resolve(name).match(new RegExp(`^.*[/\\\\]node_modules[/\\\\]${name}(?=[/\\\\])`)); // not all export it
  versions[name] = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version;
  assert.equal(versions[name], wanted[name], `another ${name} is installed than package.json names`);
}

const print = (line) => process.stdout.write(JSON.stringify(line) + '\n');

// Answers of the one who started the script.
const answers = { waiting: null, lines: null };

function ask(what) {
  if (!answers.lines) {
    answers.lines = readline.createInterface({ input: process.stdin });
    answers.lines.on('line', (line) => answers.waiting?.(line));
    answers.lines.on('close', () => answers.waiting?.('standard input has ended'));
  }
  return new Promise((resolve, reject) => {
    answers.waiting = (line) => {
      answers.waiting = null;
      if (line === 'ok') resolve();
      else reject(new Error(`asked for "${what}": ${line}`));
    };
    print({ ask: what });
  });
}

// Received collects what comes from a callback. What fails ends the waiting.
class Received {
  constructor() {
    this.items = [];
    this.waiters = [];
  }

  push(item) {
    this.items.push(item);
    this.waiters = this.waiters.filter((wake) => !wake());
  }

  // waitFor resolves when n items have come, and fails at once when there are more.
  waitFor(n) {
    return new Promise((resolve, reject) => {
      const wake = () => {
        if (this.items.length < n) return false;
        if (this.items.length > n) reject(new Error(`${this.items.length} came, ${n} were expected`));
        else resolve(this.items);
        return true;
      };
      if (!wake()) this.waiters.push(wake);
    });
  }
}

// Log is the logger of a connection: it counts the packages that came, by the name of their command, and keeps what the
// package itself finds wrong.
class Log {
  constructor() {
    this.packages = {};
    this.problems = [];
    this.waiters = [];
  }

  debug(...args) {
    const m = /HandleTcpPackage connId \S+, package (\w+), /.exec(format(...args));
    if (!m) return;
    this.packages[m[1]] = this.count(m[1]) + 1;
    this.waiters = this.waiters.filter((wake) => !wake());
  }

  info() {}

  warn(...args) {
    this.problems.push(format(...args));
  }

  error(...args) {
    this.problems.push(format(...args));
  }

  count(name) {
    return this.packages[name] ?? 0;
  }

  // saw resolves when n packages of a command have come.
  saw(name, n = 1) {
    return new Promise((resolve) => {
      const wake = () => this.count(name) >= n && (resolve(), true);
      if (!wake()) this.waiters.push(wake);
    });
  }
}

// Session is what a scenario gets: the means to talk to the server, gone when the scenario ends.
class Session {
  constructor(server, name) {
    this.es = es;
    this.ask = ask;
    this.name = name;
    this.server = server;
    this.credentials = new es.UserCredentials(server.login, server.password);
    this.connections = [];
    this.details = {};
    this.failed = new Promise((_, reject) => {
      this.fail = reject;
    });
    this.failed.catch(() => {});
  }

  // stream makes up the name of a stream that nobody else has.
  stream(what = 's') {
    return `interop-${this.name.replaceAll(' ', '-')}-${what}-${crypto.randomUUID().slice(0, 8)}`;
  }

  // open starts a connection, which has a log and knows the events that it emitted.
  open(settings = {}) {
    const log = new Log();
    const c = es.createConnection(
      {
        defaultUserCredentials: this.credentials,
        failOnNoServerResponse: true, // a request without an answer fails, and is not sent again until it has one
        operationTimeout: 5000,
        clientConnectionTimeout: 5000,
        verboseLogging: true, // or the log does not see the packages
        ...settings,
        log,
      },
      { host: this.server.host, port: this.server.port }, // a new one: the package changes it
      `interop ${this.name} ${this.connections.length + 1}`,
    );
    c.log = log;
    c.emitted = [];
    for (const name of ['connected', 'disconnected', 'reconnecting', 'closed', 'error', 'authenticationFailed']) {
      c.on(name, () => c.emitted.push(name));
    }
    c.on('error', (err) => this.fail(new Error(`the connection has ended: ${err.message}`)));
    this.connections.push(c);
    return c;
  }

  // connect returns when the connection is up. connect() of the package, as that of the official client, returns before.
  async connect(settings) {
    const c = this.open(settings);
    const up = new Promise((resolve) => {
      c.once('connected', resolve);
    });
    await c.connect();
    await up;
    return c;
  }

  received() {
    return new Received();
  }

  // json makes an event.
  json(n, id = crypto.randomUUID()) {
    return es.createJsonEventData(id, { n }, null, 'counted');
  }

  // many makes n of them.
  many(n, first = 0) {
    return Array.from({ length: n }, (_, i) => this.json(first + i));
  }

  // close ends the connections and returns what the package found wrong on the way.
  close() {
    const problems = [];
    for (const c of this.connections) {
      problems.push(...c.log.problems);
      c.close();
    }
    return problems;
  }
}

async function run(server, { name, seconds, body }) {
  const s = new Session(server, name);
  const start = Date.now();
  let timer;
  let error = '';
  current = s;
  try {
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done within ${seconds} s`)), seconds * 1000);
    });
    await Promise.race([body(s), s.failed, late]);
  } catch (err) {
    error = err?.stack ?? String(err);
  }
  clearTimeout(timer);
  answers.waiting = null;
  const problems = s.close();
  if (problems.length && !error) error = 'the package reports a problem';
  if (problems.length) error += '\nits log:\n' + problems.join('\n');
  print({ name, ok: error === '', error, details: s.details, ms: Date.now() - start });
  return error === '';
}

let current = null; // the session of the scenario that runs
const strayed = (err) => {
  if (current) current.fail(err);
  else throw err;
};
process.on('uncaughtException', strayed);
process.on('unhandledRejection', strayed);
process.stdout.on('error', () => process.exit(2)); // nobody reads: nobody is interested

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      host: { type: 'string', default: '127.0.0.1' },
      port: { type: 'string', default: '1113' },
      login: { type: 'string', default: 'admin' },
      password: { type: 'string', default: 'changeit' },
    },
  });
  const { scenarios, selftests } = require('./scenarios.js');
  let plan = scenarios;
  if (positionals.length) {
    plan = positionals.map((name) => {
      const found = [...scenarios, ...selftests].find((x) => x.name === name);
      if (!found) throw new Error(`no scenario is called ${name}`);
      return found;
    });
  }
  print({ plan: plan.map((x) => x.name), versions });
  let failed = 0;
  for (const scenario of plan) {
    if (!(await run({ ...values, port: Number(values.port) }, scenario))) failed++;
  }
  return failed ? 1 : 0;
}

main().then(
  (status) => process.exit(status),
  (err) => {
    process.stderr.write(`${err.stack}\n`);
    process.exit(2);
  },
);
