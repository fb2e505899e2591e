// A server by its behaviour: computes in `guilty`, keeps memory in `hoard`, drops some in `churn`.
// The argument says how: `spin` in turns; `sync` without ever coming back; `late` without coming back for six
// seconds, then it prints `back`; `workers` in two threads; `cluster` in two processes; `deaf` handles SIGUSR1
// itself and prints a line for each; `steps` does a fixed amount of work after a line on its input, and prints the
// CPU time that it took, in microseconds.
'use strict';
const cluster = require('node:cluster');
const { Worker, isMainThread } = require('node:worker_threads');
const mode = process.argv[2] || 'spin';
const kept = [];

// Called often, so that V8 optimizes it as a whole, and too long to be inlined: time in code that V8 had
// inlined, or replaced while it ran, before it was profiled counts toward the caller.
function guilty(sum) {
  for (let i = 0; i < 2000; i++) sum += Math.sqrt(i) * Math.sin(sum); // the guilty line
  if (sum === Infinity) {
    sum +=
      Math.sin(1) + Math.sin(2) + Math.sin(3) + Math.sin(4) + Math.sin(5) + Math.sin(6) +
      Math.sin(7) + Math.sin(8) + Math.sin(9) + Math.sin(10) + Math.sin(11) + Math.sin(12) +
      Math.sin(13) + Math.sin(14) + Math.sin(15) + Math.sin(16) + Math.sin(17) + Math.sin(18) +
      Math.sin(19) + Math.sin(20) + Math.sin(21) + Math.sin(22) + Math.sin(23) + Math.sin(24) +
      Math.sin(25) + Math.sin(26) + Math.sin(27) + Math.sin(28) + Math.sin(29) + Math.sin(30) +
      Math.sin(31) + Math.sin(32) + Math.sin(33) + Math.sin(34) + Math.sin(35) + Math.sin(36) +
      Math.sin(37) + Math.sin(38) + Math.sin(39) + Math.sin(40) + Math.sin(41) + Math.sin(42) +
      Math.sin(43) + Math.sin(44) + Math.sin(45) + Math.sin(46) + Math.sin(47) + Math.sin(48) +
      Math.sin(49) + Math.sin(50) + Math.sin(51) + Math.sin(52) + Math.sin(53) + Math.sin(54) +
      Math.sin(55) + Math.sin(56) + Math.sin(57) + Math.sin(58) + Math.sin(59) + Math.sin(60);
  }
  return sum;
}

function work() {
  const end = Date.now() + 60;
  let sum = 0;
  while (Date.now() < end) sum = guilty(sum);
  return sum;
}

function hoard() {
  for (let i = 0; i < 200; i++) kept.push({ order: i, text: `order ${i} of ${kept.length}` });
  if (kept.length > 400000) kept.splice(0, 200000);
}

function churn() {
  let length = 0;
  for (let i = 0; i < 3000; i++) length += JSON.stringify({ i, text: 'aaaaaaaaaaaaaaaaaaaa' }).length;
  return length;
}

const jobs = [work, hoard, churn];

function turns() {
  for (const job of jobs) job();
  setTimeout(turns, 5);
}

// Calls, objects and numbers, as a server has them, without a look at the clock.
function steps(left) {
  let sum = 0;
  for (let i = 0; i < 40000; i++) sum += Math.sqrt(i) * Math.sin(sum);
  for (let i = 0; i < 400; i++) {
    sum += JSON.parse(JSON.stringify({ i, list: [i, i + 1], text: 'a'.repeat(20) })).i;
  }
  if (left > 0) setImmediate(steps, left - 1);
  else {
    const { user, system } = process.cpuUsage(started);
    console.log(user + system);
    process.stdin.unref();
  }
  return sum;
}

let started;
if (!isMainThread) turns();
else if (mode === 'workers') {
  for (let i = 0; i < 2; i++) new Worker(__filename, { argv: ['spin'] });
  setInterval(() => {}, 1000);
} else if (mode === 'cluster' && cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork();
} else if (mode === 'steps') {
  process.stdin.once('data', () => {
    started = process.cpuUsage();
    steps(3000);
  });
} else if (mode === 'sync') {
  for (let turn = 0; ; turn++) jobs[turn % jobs.length]();
} else if (mode === 'late') {
  const end = Date.now() + 6000;
  for (let turn = 0; Date.now() < end; turn++) jobs[turn % jobs.length]();
  console.log('back');
  turns();
} else {
  if (mode === 'deaf') process.on('SIGUSR1', () => console.log('SIGUSR1'));
  turns();
}
