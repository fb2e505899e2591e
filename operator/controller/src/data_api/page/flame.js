
(() => {
  'use strict';
  const byId = id => document.getElementById(id);
  const d = JSON.parse(byId('data').textContent);
  const n = d.depth.length, base = d.base, ROW = 18;

  // Totals: each row is added to its parent, from the last one on.
  const parent = new Int32Array(n).fill(-1), way = [];
  let deepest = 0;
  for (let i = 0; i < n; i++) {
    const depth = d.depth[i];
    if (depth) parent[i] = way[depth - 1];
    way[depth] = i;
    deepest = Math.max(deepest, depth);
  }
  const totals = side => {
    const sums = Float64Array.from(side.self, (value, i) => value + side.pruned[i]);
    for (let i = n - 1; i > 0; i--) sums[parent[i]] += sums[i];
    return sums;
  };
  const after = totals(d), before = base && totals(base);

  // A comparison is drawn on its basis; each box is as wide as both sides together, so that nothing that went
  // away is lost.
  const scale = side => d.basis === 'perPodSecond' ? 1 / side.podSeconds
    : d.basis === 'share' ? 100 / (side.total || 1) : 1;
  const a = i => after[i] * scale(d), b = i => before[i] * scale(base);
  const wide = (one, other) => base ? one * scale(d) + other * scale(base) : one;
  const width = Float64Array.from(after, (value, i) => wide(value, base && before[i]));
  const left = new Float64Array(n), next = new Float64Array(n);
  for (let i = 1; i < n; i++) {
    left[i] = next[i] = next[parent[i]];
    next[parent[i]] += width[i];
  }
  const prunedWidth = i => wide(d.pruned[i], base && base.pruned[i]);

  const nameOf = i => d.names[d.name[i]];
  const control = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
  const clean = text => text.replace(control, '\ufffd');
  const hash = text => {
    let sum = 7;
    for (let i = 0; i < text.length; i++) sum = (sum * 31 + text.charCodeAt(i)) >>> 0;
    return sum;
  };
  const warm = d.names.map(name => {
    const sum = hash(name);
    return `hsl(${20 + sum % 35} ${70 + sum % 20}% ${62 + (sum >>> 8) % 14}%)`;
  });
  const colour = i => {
    if (!base) return warm[d.name[i]];
    if (d.noise && d.noise[i]) return 'hsl(0 0% 78%)';
    const change = (a(i) - b(i)) / (a(i) + b(i) || 1), light = 92 - 34 * Math.sqrt(Math.abs(change));
    return change > 0 ? `hsl(28 85% ${light}%)` : `hsl(212 75% ${light}%)`;
  };

  const units = {
    nanoseconds: [[3.6e12, 'h'], [6e10, 'min'], [1e9, 's'], [1e6, 'ms'], [1e3, 'us'], [1, 'ns']],
    bytes: [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [1024, 'KiB'], [1, 'B']],
  };
  const shown = value => {
    const [size, unit] = (units[d.unit] || []).find(([size]) => Math.abs(value) >= size) || [1, ''];
    return (value / size).toFixed(size === 1 ? 0 : 2) + unit;
  };
  const onBasis = value => d.basis === 'share' ? value.toFixed(2) + ' %'
    : shown(value) + (d.basis === 'perPodSecond' ? ' per pod-second' : '');
  const percent = i => (100 * after[i] / (d.total || 1)).toFixed(2) + ' %';
  const describe = i => {
    const name = clean(nameOf(i)), file = clean(d.files[d.name[i]]);
    const first = file ? `${name}  (${file})` : name;
    if (base) {
      const sign = a(i) > b(i) ? '+' : '', noise = d.noise && d.noise[i] ? ', may be chance' : '';
      const change = sign + onBasis(a(i) - b(i)) + noise;
      return `${first}\n${onBasis(b(i))} before, ${onBasis(a(i))} after: ${change}`;
    }
    const pruned = d.pruned[i] ? `, pruned ${shown(d.pruned[i])}` : '';
    return `${first}\n${shown(after[i])}, ${percent(i)} of all; self ${shown(d.self[i])}${pruned}`;
  };

  const canvas = byId('canvas'), graph = byId('graph'), info = byId('info'), search = byId('search');
  const context = canvas.getContext('2d');
  let root = 0, at = 0, found = null, waiting = false;

  const box = (x, y, w, fill, text) => {
    context.fillStyle = fill;
    context.fillRect(x, y, Math.max(w - 0.5, 0.5), ROW - 1);
    if (w < 30) return;
    const most = Math.floor((w - 6) / 6.2);
    context.fillStyle = '#1b1b1f';
    context.fillText(text.length > most ? text.slice(0, most - 1) + '\u2026' : text, x + 3, y + 13);
  };
  const paint = () => {
    waiting = false;
    const dots = window.devicePixelRatio || 1, w = graph.clientWidth, h = window.innerHeight;
    canvas.width = w * dots;
    canvas.height = h * dots;
    canvas.style.height = h + 'px';
    graph.style.height = Math.max((deepest + 2) * ROW, h) + 'px';
    context.scale(dots, dots);
    context.font = '12px system-ui, sans-serif';
    const top = canvas.getBoundingClientRect().top - graph.getBoundingClientRect().top;
    const zoom = w / (width[root] || 1), from = left[root], to = from + width[root];
    for (let i = 0; i < n; i++) {
      const y = d.depth[i] * ROW - top;
      if (left[i] + width[i] <= from || left[i] >= to || y < -2 * ROW || y > h) continue;
      const x = Math.max(left[i] - from, 0) * zoom;
      const end = Math.min(left[i] + width[i] - from, to - from) * zoom;
      if (end - x < 0.4) continue;
      box(x, y, end - x, found && found[d.name[i]] ? 'hsl(300 70% 72%)' : colour(i), clean(nameOf(i)));
      const gone = prunedWidth(i) * zoom, start = (next[i] - from) * zoom;
      if (gone >= 0.4 && start >= 0) box(start, y + ROW, gone, 'hsl(0 0% 60%)', '[pruned]');
      if (i === at && document.activeElement === canvas) {
        context.strokeStyle = '#36c';
        context.lineWidth = 2;
        context.strokeRect(x + 1, y + 1, Math.max(end - x - 2, 1), ROW - 3);
      }
    }
  };
  const later = () => {
    if (!waiting) requestAnimationFrame(paint);
    waiting = true;
  };
  const tell = i => { info.textContent = describe(i); };
  const go = i => { root = at = i; tell(i); later(); };

  const hit = event => {
    const place = canvas.getBoundingClientRect(), graphTop = graph.getBoundingClientRect().top;
    const depth = Math.floor((event.clientY - graphTop) / ROW);
    const x = left[root] + (event.clientX - place.left) / place.width * width[root];
    for (let i = 0; i < n; i++) if (d.depth[i] === depth && left[i] <= x && x < left[i] + width[i]) return i;
    return -1;
  };
  canvas.addEventListener('mousemove', event => { const i = hit(event); tell(i < 0 ? root : i); });
  canvas.addEventListener('click', event => { const i = hit(event); if (i >= 0) go(i); });

  const sibling = (i, step) => {
    for (let j = i + step; j > parent[i] && j < n && d.depth[j] >= d.depth[i]; j += step)
      if (d.depth[j] === d.depth[i]) return j;
    return i;
  };
  const moves = {
    ArrowUp: i => Math.max(parent[i], 0),
    ArrowDown: i => parent[i + 1] === i ? i + 1 : i,
    ArrowLeft: i => sibling(i, -1),
    ArrowRight: i => sibling(i, 1),
  };
  canvas.addEventListener('keydown', event => {
    if (event.key === 'Escape') go(0);
    else if (event.key === 'Enter') go(at);
    else if (moves[event.key]) { at = moves[event.key](at); tell(at); later(); }
    else return;
    event.preventDefault();
  });

  search.addEventListener('input', () => {
    const text = search.value.toLowerCase();
    let pattern;
    try { pattern = new RegExp(search.value, 'i'); } catch { pattern = null; }
    const matches = name => pattern ? pattern.test(name) : name.toLowerCase().includes(text);
    found = text ? d.names.map(matches) : null;
    let sum = 0, skip = -1;
    for (let i = 0; found && i < n; i++) {
      if (skip >= 0 && d.depth[i] > skip) continue;
      skip = found[d.name[i]] ? d.depth[i] : -1;
      if (skip >= 0) sum += width[i];
    }
    const share = (100 * sum / (width[0] || 1)).toFixed(2);
    info.textContent = found ? `${share} % in functions that match` : describe(root);
    later();
  });

  const meta = d.metadata || {};
  byId('title').textContent = document.title =
    `${meta.namespace}/${meta.name}: ${d.sampleType}` +
    (base ? ` compared with ${meta.base} (${d.basis})` : '');
  ['scroll', 'resize'].forEach(event => window.addEventListener(event, later));
  ['focus', 'blur'].forEach(event => canvas.addEventListener(event, later));
  go(0);
})();
