// A Node.js target that does the same work in each step and says after each how far its clocks are.
// Prints `MONOTONIC_NS CPU_NS` a step (about 5 ms). The work is done below 12 callers. SIGUSR2 starts V8's own
// profiler at 99 Hz, as --cpu-prof does at the start of a process; the next one ends it and writes the profile
// to the file of the argument.
import fs from 'node:fs';
import inspector from 'node:inspector';

const cells = new Uint32Array(65536);
let sink = 1;

// Arithmetic and memory in an order that the processor does not foresee.
function blend(seed) {
  for (let i = 0; i < 1000000; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) | 0;
    cells[(seed >>> 8) & 65535] += seed ^ (seed >>> 13);
  }
  return seed;
}

function page(depth, seed) {
  const done = depth ? page(depth - 1, seed + 1) : blend(seed);
  sink = done;
  return done ^ depth;
}

let session;
process.on('SIGUSR2', () => {
  if (session) {
    session.post('Profiler.stop', (error, { profile }) => fs.writeFileSync(process.argv[2], JSON.stringify(profile)));
    session.disconnect();
    session = undefined;
    return;
  }
  session = new inspector.Session();
  session.connect();
  session.post('Profiler.enable');
  session.post('Profiler.setSamplingInterval', { interval: 10101 });
  session.post('Profiler.start');
});

function step() {
  page(12, sink);
  const { user, system } = process.cpuUsage();
  fs.writeSync(1, `${process.hrtime.bigint()} ${(user + system) * 1000}\n`);
  setImmediate(step);
}
step();
