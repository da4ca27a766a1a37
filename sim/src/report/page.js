'use strict';
// The page of one run. `data` is what report/mod.rs describes; everything is drawn on two canvases,
// with as much detail as there are pixels for.
const data = JSON.parse(document.getElementById('data').textContent);
const $ = (id) => document.getElementById(id);
const view = $('view'), overview = $('overview'), tip = $('tip');
const LISTED = 12;
const GUTTER = 138, RULER = 26, LANE = 50, FAULT = 15, CHART = 62;
const end = Math.max(data.end, 1);
const window_ = { from: 0, to: end };
const layers = { faults: true, messages: true, operations: true, disk: true, charts: true };
let colours = {}, selected = null, filter = '', passing = null, drawn = { lines: [], boxes: [] };

// ---- numbers and words

const clock = (ms) => ms >= 1000 ? (ms / 1000).toFixed(3) + ' s' : ms.toFixed(3) + ' ms';
const bytes = (n) => n >= 1 << 20 ? (n / (1 << 20)).toFixed(1) + ' MiB'
  : n >= 1024 ? (n / 1024).toFixed(1) + ' KiB' : n + ' B';
const name = (machine) => data.machines[machine] ?? 'machine ' + machine;
const element = (tag, text, className) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};

// ---- where things are

const machineRows = data.machines.map((_, machine) => machine);
const faultRows = pack(data.faults);
const brokers = [...new Set(data.disks.filter((row) => row[3] > 0 || row[2] > 0).map((row) => row[1]))];
const spans = {
  messages: longest(data.messages), disk_calls: longest(data.disk_calls),
  operations: longest(data.operations),
};
const events = data.messages.length + data.disk_calls.length + data.operations.length;
const isAnswer = data.labels.map((label_) => label_.includes(' answer'));
data.operations.forEach((row, index) => { row.index = index; });
const operations = [...data.operations].sort((a, b) => a[0] - b[0]);

/** Puts intervals into as few rows as possible, so that none covers another. */
function pack(rows) {
  const ends = [];
  return rows.map(([from, to, kind]) => {
    let row = ends.findIndex((last) => last < from);
    if (row < 0) row = ends.length;
    // Its name needs room beside it even when the whole run is in sight.
    ends[row] = Math.max(to, from) + end * (7 * kind.length + 12) / 850;
    return row;
  });
}
function longest(rows) {
  return rows.reduce((most, [from, to]) => Math.max(most, to - from), 0);
}
/** The first place in rows (sorted by their first column) that is not before `at`. */
function lower(rows, at) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle][0] < at) low = middle + 1; else high = middle;
  }
  return low;
}
const faultsHigh = Math.max(0, ...faultRows.map((row) => row + 1));
const faultCount = () => layers.faults ? faultsHigh : 0;
const lanesTop = () => RULER + faultCount() * FAULT + 6;
const laneY = (machine) => lanesTop() + machine * LANE + LANE / 2;
const chartsTop = () => lanesTop() + machineRows.length * LANE + 14;
const charts = () => layers.charts
  ? [...data.partitions.map((_, index) => ({ partition: index })), ...brokers.map((machine) => ({ disk: machine }))]
  : [];
const height = () => chartsTop() + charts().length * CHART + 16;
const width = () => view.clientWidth;
const x = (at) => GUTTER + (at - window_.from) / (window_.to - window_.from) * (width() - GUTTER - 10);
const time = (px) => window_.from + (px - GUTTER) / (width() - GUTTER - 10) * (window_.to - window_.from);

// ---- drawing

function prepare(canvas, high) {
  const scale = window.devicePixelRatio || 1;
  const wide = canvas.clientWidth;
  if (canvas.width !== Math.round(wide * scale) || canvas.height !== Math.round(high * scale)) {
    canvas.width = Math.round(wide * scale);
    canvas.height = Math.round(high * scale);
  }
  const g = canvas.getContext('2d');
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, wide, high);
  g.font = '11px system-ui, "DejaVu Sans", sans-serif';
  g.textBaseline = 'middle';
  return g;
}

let pending = false;
function redraw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; draw(); });
}

function draw() {
  const begun = performance.now();
  const high = Math.max(height(), $('scroll').clientHeight - 2);
  view.style.height = high + 'px';
  const g = prepare(view, high);
  drawn = { lines: [], boxes: [] };
  g.save();
  g.beginPath();
  g.rect(GUTTER, 0, width() - GUTTER, high);
  g.clip();
  drawGround(g, high);
  if (layers.faults) drawFaults(g, high);
  drawLives(g);
  if (layers.disk) drawDisk(g);
  if (layers.messages) drawMessages(g);
  if (layers.operations) drawOperations(g);
  charts().forEach((chart, place) => drawChart(g, chart, chartsTop() + place * CHART));
  drawBad(g, high);
  drawSelected(g);
  g.restore();
  drawNames(g);
  drawOverview();
  document.body.dataset.drawn = (performance.now() - begun).toFixed(1);
}

function drawGround(g, high) {
  if (data.healed >= 0) {
    const healed = Math.max(x(data.healed), GUTTER);
    g.fillStyle = colours.heal;
    g.fillRect(healed, 0, width() - healed, high);
    g.fillStyle = colours.quiet;
    g.fillText('act two: healed', healed + 6, 8);
  }
  machineRows.forEach((machine) => {
    if (machine % 2) return;
    g.fillStyle = colours.lane;
    g.fillRect(GUTTER, laneY(machine) - LANE / 2, width(), LANE);
  });
  const step = nice((window_.to - window_.from) / Math.max(2, (width() - GUTTER) / 110));
  g.strokeStyle = colours.line;
  g.fillStyle = colours.quiet;
  for (let at = Math.ceil(window_.from / step) * step; at <= window_.to; at += step) {
    const px = Math.round(x(at)) + .5;
    g.beginPath(); g.moveTo(px, RULER - 8); g.lineTo(px, high); g.stroke();
    g.fillText(label(at, step), px + 4, RULER - 7);
  }
}
function nice(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((times) => times * power >= rough);
}
const label = (at, step) => step >= 1000 ? (at / 1000).toFixed(0) + ' s'
  : step >= 1 ? (at / 1000).toFixed(3) + ' s' : at.toFixed(3) + ' ms';

function drawFaults(g, high) {
  data.faults.forEach(([from, to, kind, text, machines, struck], index) => {
    if (to < window_.from || from > window_.to) return;
    const top = RULER + 2 + faultRows[index] * FAULT;
    const left = x(from), wide = Math.max(x(to) - left, 3);
    const dim = passing && !passing.faults[index];
    const room = wide > 8 * kind.length;
    g.globalAlpha = dim ? .15 : 1;
    if (struck) {
      g.fillStyle = colours.faultsoft;
      machines.forEach((machine) => g.fillRect(left, laneY(machine) - LANE / 2 + 2, wide, LANE - 4));
      g.fillStyle = colours.fault;
      g.fillRect(left, top, wide, FAULT - 3);
      g.fillStyle = room ? colours.panel : colours.fault;
    } else {
      // It touched nothing: hollow, and no lane is shaded.
      g.strokeStyle = colours.idle;
      g.setLineDash([3, 2]);
      g.strokeRect(left + .5, top + .5, wide - 1, FAULT - 4);
      g.setLineDash([]);
      g.fillStyle = colours.idle;
    }
    g.fillText(kind, room ? Math.max(left, GUTTER) + 5 : left + wide + 4, top + 6.5);
    g.globalAlpha = 1;
    drawn.boxes.push({ kind: 'fault', index, left, top, right: left + Math.max(wide, 8 * kind.length), bottom: top + FAULT });
  });
}

function drawLives(g) {
  machineRows.forEach((machine) => {
    g.fillStyle = colours.down;
    g.fillRect(GUTTER, laneY(machine) - 1, width(), 2);
  });
  data.lives.forEach(([machine, from, to, how], index) => {
    if (to < window_.from || from > window_.to) return;
    const y = laneY(machine), left = x(from), right = x(to);
    g.fillStyle = colours.life;
    g.fillRect(left, y - 2, Math.max(right - left, 1), 4);
    if (how === 'kill' || how === 'power loss') {
      g.strokeStyle = colours.bad;
      g.lineWidth = 2;
      g.beginPath();
      g.moveTo(right - 5, y - 5); g.lineTo(right + 5, y + 5);
      g.moveTo(right + 5, y - 5); g.lineTo(right - 5, y + 5);
      g.stroke();
      g.lineWidth = 1;
      if (how === 'power loss') { g.strokeRect(right - 7.5, y - 7.5, 15, 15); }
    }
    drawn.boxes.push({ kind: 'life', index, left, top: y - 7, right: right + 7, bottom: y + 7, weak: true });
  });
}

/** Calls `each` with every row that may be visible and its place, by a list sorted by begin. */
function visible(rows, span, each) {
  for (let at = lower(rows, window_.from - span); at < rows.length; at++) {
    const row = rows[at];
    if (row[0] > window_.to) return;
    if (row[1] >= window_.from || row[1] < 0) each(row, at);
  }
}

function drawDisk(g) {
  const last = new Map();
  visible(data.disk_calls, spans.disk_calls, (row, index) => {
    const [from, to, machine, kind, ok] = row;
    if (passing && !passing.disk_calls[index]) return;
    const left = x(from), right = to < 0 ? left + 6 : Math.max(x(to), left + 1);
    const flush = kind === 11 || kind === 7;
    const y = laneY(machine) + (flush ? 15 : 10);
    const key = machine * 4 + (flush ? 2 : 0) + (ok ? 1 : 0);
    // What would cover the same pixels is not drawn again.
    if (right - (last.get(key) ?? -9) < .7) return;
    last.set(key, right);
    g.fillStyle = ok ? (flush ? colours.flush : colours.disk) : colours.error;
    g.fillRect(left, y, right - left, 3.5);
    drawn.boxes.push({ kind: 'disk', index, left: left - 1, top: y - 1, right: right + 1, bottom: y + 5 });
  });
}

function drawMessages(g) {
  const paths = { ask: new Path2D(), answer: new Path2D(), error: new Path2D(), lost: new Path2D() };
  const taken = new Map();
  let count = 0;
  const many = lower(data.messages, window_.to) - lower(data.messages, window_.from);
  const grain = many > 20000 ? 3 : many > 3000 ? 2 : .5;
  visible(data.messages, spans.messages, (row, index) => {
    const [sent, arrived, from, to, what, , errors] = row;
    if (passing && !passing.messages[index]) return;
    const kind = arrived < 0 ? 'lost' : errors.length ? 'error' : isAnswer[what] ? 'answer' : 'ask';
    const left = x(sent), right = arrived < 0 ? left + 14 : x(arrived);
    // One that would lie upon the one before on the same way is not drawn.
    const way = from * 4096 + to * 4 + (kind === 'error' ? 1 : 0), before = taken.get(way);
    if (before && left - before[0] < grain && Math.abs(right - before[1]) < grain) return;
    taken.set(way, [left, right]);
    const top = laneY(from), bottom = arrived < 0 ? top + (laneY(to) - top) * .3 : laneY(to);
    const path = paths[kind];
    path.moveTo(left, top);
    if (from === to) path.quadraticCurveTo((left + right) / 2, top - 18, right, bottom);
    else path.lineTo(right, bottom);
    drawn.lines.push({ kind: 'message', index, left, top, right, bottom });
    count += 1;
  });
  g.globalAlpha = Math.max(.16, Math.min(.85, 220 / Math.max(count, 1)));
  for (const kind of ['ask', 'answer']) { g.strokeStyle = colours[kind]; g.stroke(paths[kind]); }
  g.globalAlpha = Math.max(.3, g.globalAlpha);
  g.setLineDash([3, 3]); g.strokeStyle = colours.lost; g.stroke(paths.lost); g.setLineDash([]);
  g.strokeStyle = colours.error; g.lineWidth = 1.2; g.stroke(paths.error);
  g.lineWidth = 1; g.globalAlpha = 1;
  if (count < 60) nameMessages(g);
}
/** With few of them in sight, messages carry their names. */
function nameMessages(g) {
  g.fillStyle = colours.text;
  const names = [];
  for (const { index, left, top, right, bottom } of drawn.lines) {
    if (right - left < 46) continue;
    const px = (left + right) / 2, py = (top + bottom) / 2;
    if (names.some(([qx, qy]) => Math.abs(px - qx) < 110 && Math.abs(py - qy) < 12)) continue;
    names.push([px, py]);
    g.fillText(data.labels[data.messages[index][4]], px + 5, py - 2);
  }
}

function drawOperations(g) {
  const last = new Map();
  visible(operations, spans.operations, (row) => {
    const [from, to, machine, phase] = row;
    if (passing && !passing.operations[row.index]) return;
    // What is said and not asked waits for nothing.
    const kind = phase || (to < 0 ? 'open' : 'ok');
    const left = x(from), right = Math.max(to < 0 ? left + 3 : x(to), left + 2);
    const poll = row[4].startsWith('poll');
    const y = laneY(machine) - (poll ? 19 : 12);
    const key = kind + machine * 2 + Number(poll);
    if (right - (last.get(key) ?? -9) < .7) return;
    last.set(key, right);
    g.globalAlpha = right - left > 3 ? .55 : 1;
    g.fillStyle = colours[kind];
    g.fillRect(left, y, right - left, 4);
    g.globalAlpha = 1;
    drawn.boxes.push({ kind: 'operation', index: row.index, left: left - 1, top: y - 2, right: right + 1, bottom: y + 6 });
  });
}

function drawChart(g, chart, top) {
  const bottom = top + CHART - 16;
  g.strokeStyle = colours.line;
  g.beginPath(); g.moveTo(GUTTER, bottom + .5); g.lineTo(width(), bottom + .5); g.stroke();
  const series = seriesOf(chart);
  const most = Math.max(1, ...series.map((one) => one.most));
  const y = (value) => bottom - Math.max(0, value) / most * (CHART - 24);
  // A disk's capacity may lie far above what is shown.
  g.save();
  g.beginPath(); g.rect(GUTTER, top, width() - GUTTER, CHART - 14); g.clip();
  for (const one of series) {
    g.strokeStyle = colours[one.colour];
    g.fillStyle = colours.area;
    g.lineWidth = one.wide ?? 1.4;
    g.setLineDash(one.dash ?? []);
    g.beginPath();
    let started = false, lastX = -9, lastY = 0;
    for (let at = Math.max(0, lower(one.points, window_.from) - 1); at < one.points.length; at++) {
      const [when, value] = one.points[at];
      const px = x(when), py = y(value);
      if (started && px - lastX < .5 && when < window_.to && at + 1 < one.points.length) { g.lineTo(lastX, py); lastY = py; continue; }
      if (started) { g.lineTo(px, lastY); g.lineTo(px, py); } else { g.moveTo(px, py); started = true; }
      lastX = px; lastY = py;
      if (when > window_.to) break;
    }
    if (started) g.lineTo(Math.max(lastX, Math.min(x(end), width())), lastY);
    g.stroke();
    g.setLineDash([]);
    g.lineWidth = 1;
  }
  g.restore();
  g.fillStyle = colours.quiet;
  g.textAlign = 'right';
  g.fillText(chart.disk === undefined ? String(most) : bytes(most), width() - 12, top + 4);
  g.textAlign = 'left';
  drawn.boxes.push({ kind: 'chart', chart, left: GUTTER, top, right: width(), bottom, weak: true });
}
const series_ = new Map();
function seriesOf(chart) {
  const key = JSON.stringify(chart);
  if (!series_.has(key)) series_.set(key, chart.disk === undefined ? partition(chart.partition) : disk(chart.disk));
  return series_.get(key);
}
function line(title, colour, points, more) {
  return { title, colour, points, most: points.reduce((most, [, value]) => Math.max(most, value), 0), ...more };
}
function partition(which) {
  const of = (rows, column) => rows.filter((row) => row[1] === which).map((row) => [row[0], row[column]]);
  const starts = of(data.marks, 2).filter(([, value]) => value >= 0);
  return [
    line('start', 'lost', starts),
    line('high watermark', 'high', of(data.marks, 3), { wide: 2.4 }),
    line('end', 'end', of(data.ends, 2)),
    line('read up to', 'read', of(data.reads, 2), { dash: [4, 3] }),
  ];
}
function disk(machine) {
  const rows = data.disks.filter((row) => row[1] === machine);
  const used = line('used', 'end', rows.map((row) => [row[0], row[2]]), { wide: 1.6 });
  const dirty = line('dirty', 'dirty', rows.map((row) => [row[0], row[3]]));
  const capacity = line('capacity', 'fault', rows.map((row) => [row[0], row[4]]), { dash: [2, 3] });
  // A disk with room to spare would press everything else to the ground.
  capacity.most = Math.min(capacity.most, used.most * 1.3);
  return [used, dirty, capacity];
}

function drawBad(g, high) {
  if (!data.bad) return;
  const px = x(data.bad.at);
  if (px < GUTTER - 2 || px > width() + 2) return;
  g.fillStyle = colours.badsoft;
  g.fillRect(px - 9, 0, 18, high);
  g.strokeStyle = colours.bad;
  g.lineWidth = 1.5;
  g.beginPath(); g.moveTo(px, 0); g.lineTo(px, high); g.stroke();
  g.lineWidth = 1;
  g.fillStyle = colours.bad;
  const text = 'first bad event', wide = g.measureText(text).width;
  const left = Math.min(px + 5, width() - wide - 14);
  g.fillRect(left - 3, 1, wide + 8, 15);
  g.fillStyle = colours.panel;
  g.fillText(text, left + 1, 9);
  if (data.bad.machine !== null) {
    g.strokeStyle = colours.bad;
    g.lineWidth = 2.5;
    g.beginPath(); g.arc(px, laneY(data.bad.machine), 11, 0, 7); g.stroke();
    g.lineWidth = 1;
  }
}

function drawSelected(g) {
  if (!selected) return;
  const shape = [...drawn.lines, ...drawn.boxes].find((one) => one.kind === selected.kind && one.index === selected.index);
  if (!shape) return;
  g.strokeStyle = colours.accent;
  g.lineWidth = 2.5;
  if (drawn.lines.includes(shape)) {
    g.beginPath(); g.moveTo(shape.left, shape.top); g.lineTo(shape.right, shape.bottom); g.stroke();
  } else {
    g.strokeRect(shape.left - 2, shape.top - 2, shape.right - shape.left + 4, shape.bottom - shape.top + 4);
  }
  g.lineWidth = 1;
}

function drawNames(g) {
  g.textAlign = 'right';
  g.fillStyle = colours.quiet;
  if (faultCount()) g.fillText('faults', GUTTER - 12, RULER + 8);
  machineRows.forEach((machine) => {
    g.fillStyle = colours.text;
    g.fillText(name(machine), GUTTER - 12, laneY(machine));
  });
  charts().forEach((chart, place) => {
    const top = chartsTop() + place * CHART;
    const title = chart.disk === undefined ? data.partitions[chart.partition] : name(chart.disk) + ' disk';
    g.fillStyle = colours.text;
    g.fillText(title, GUTTER - 12, top + 12);
    let right = GUTTER - 12;
    const legend = seriesOf(chart).filter((one) => one.points.length);
    g.font = '9.5px system-ui, "DejaVu Sans", sans-serif';
    legend.slice().reverse().forEach((one, row) => {
      const short = { 'high watermark': 'high', 'read up to': 'read', capacity: 'room' }[one.title] ?? one.title;
      g.fillStyle = colours[one.colour];
      g.fillText(short, right, top + 28);
      right -= g.measureText(short).width + 6;
    });
    g.font = '11px system-ui, "DejaVu Sans", sans-serif';
  });
  g.textAlign = 'left';
}

let density = null, densest = 1;
function drawOverview() {
  const high = overview.clientHeight, g = prepare(overview, high), wide = overview.clientWidth;
  const at = (ms) => ms / end * wide;
  if (!density || density.length !== wide) {
    density = new Float32Array(wide);
    for (const rows of [data.messages, data.disk_calls, data.operations]) {
      for (const row of rows) density[Math.min(wide - 1, Math.floor(at(row[0])))] += 1;
    }
    densest = density.reduce((a, b) => Math.max(a, b), 1);
  }
  const most = Math.log1p(densest);
  if (data.healed >= 0) {
    g.fillStyle = colours.heal;
    g.fillRect(at(data.healed), 0, wide, high);
  }
  g.fillStyle = colours.faultsoft;
  data.faults.filter((row) => row[5])
    .forEach(([from, to]) => g.fillRect(at(from), 0, Math.max(at(to) - at(from), 1), high));
  g.fillStyle = colours.ask;
  density.forEach((count, px) => {
    const tall = Math.log1p(count) / most * (high - 10);
    g.fillRect(px, high - tall, 1, tall);
  });
  g.fillStyle = colours.bad;
  data.lives.forEach(([, , to, how]) => {
    if (how === 'kill' || how === 'power loss') g.fillRect(at(to) - 1, 0, 2, 7);
  });
  if (data.bad) {
    g.fillRect(at(data.bad.at) - 1.5, 0, 3, high);
  }
  g.strokeStyle = colours.accent;
  g.lineWidth = 2;
  const left = at(window_.from), right = at(window_.to);
  g.strokeRect(left + 1, 1, Math.max(right - left - 2, 3), high - 2);
  g.lineWidth = 1;
}

// ---- moving

function show(from, to) {
  const least = 0.02;
  let span = Math.min(Math.max(to - from, least), end * 1.04);
  from = Math.max(-span * .08, Math.min(from, end - span * .92));
  [window_.from, window_.to] = [from, from + span];
  listEvents();
  redraw();
}
function zoom(factor, around) {
  const at = around ?? (window_.from + window_.to) / 2;
  show(at - (at - window_.from) * factor, at + (window_.to - at) * factor);
}
const pan = (share) => {
  const by = (window_.to - window_.from) * share;
  show(window_.from + by, window_.to + by);
};
const fit = () => show(-end * .01, end * 1.01);
/** Goes to a moment, near enough to see what happens there. */
function goTo(at, span = Math.min(window_.to - window_.from, Math.max(end / 60, 200))) {
  show(at - span / 2, at + span / 2);
}
function goToBad() {
  if (!data.bad) return;
  if (data.bad.operation !== null) select({ kind: 'operation', index: data.bad.operation });
  goTo(data.bad.at, Math.max(end / 40, 300));
  // Its lane into the middle, if not everything fits.
  if (data.bad.machine !== null) $('scroll').scrollTop = laneY(data.bad.machine) - $('scroll').clientHeight / 2;
}

// ---- what one wants to know

function find(px, py) {
  let best = null, near = 6;
  for (const box of drawn.boxes) {
    if (!box.weak && px >= box.left && px <= box.right && py >= box.top && py <= box.bottom) return box;
  }
  for (const one of drawn.lines) {
    const [dx, dy] = [one.right - one.left, one.bottom - one.top];
    const along = Math.max(0, Math.min(1, ((px - one.left) * dx + (py - one.top) * dy) / (dx * dx + dy * dy || 1)));
    const off = Math.hypot(px - one.left - along * dx, py - one.top - along * dy);
    if (off < near) { near = off; best = one; }
  }
  if (best) return best;
  return drawn.boxes.find((box) => box.weak && px >= box.left && px <= box.right && py >= box.top && py <= box.bottom) ?? null;
}

/** What there is to say about something: pairs of name and text, the first one is its title. */
function facts(what, at) {
  const until = (from, to) => to < 0 ? 'never' : clock(to) + '  (' + clock(to - from) + ' later)';
  if (what.kind === 'message') {
    const [sent, arrived, from, to, label, size, errors] = data.messages[what.index];
    return [['message', data.labels[label]], ['from', name(from)], ['to', name(to)], ['sent', clock(sent)],
      ['arrived', until(sent, arrived)], ['size', bytes(size)], ...(errors.length ? [['errors', errors.join(', ')]] : [])];
  }
  if (what.kind === 'operation') {
    const [from, to, machine, phase, text, events] = data.operations[what.index];
    return [['operation', text], ['client', name(machine)], ['asked', clock(from)], ['done', until(from, to)],
      ['came to', { ok: 'ok', fail: 'certainly not done', info: 'nobody knows' }[phase] ?? (to < 0 ? 'no answer' : 'asks for nothing')],
      ['events', events.join(', ')]];
  }
  if (what.kind === 'fault') {
    const [from, to, kind, text, , struck] = data.faults[what.index];
    return [['fault', kind], [struck ? 'at work from' : 'came', clock(from)], [struck ? 'to' : 'waited to', until(from, to)],
      ['touched', struck ? 'something' : 'nothing'], ['in full', text]];
  }
  if (what.kind === 'disk') {
    const [from, to, machine, kind, ok, path] = data.disk_calls[what.index];
    return [['disk call', (data.disk_kinds[kind] ?? kind) + ' ' + path], ['machine', name(machine)], ['made', clock(from)],
      ['took effect', until(from, to)], ['came to', ok ? 'ok' : to < 0 ? 'no end' : 'an error']];
  }
  if (what.kind === 'life') {
    const [machine, from, to, how] = data.lives[what.index];
    return [['process', name(machine)], ['from', clock(from)], ['to', clock(to)], ['ended by', how || 'the end of the run']];
  }
  const rows = seriesOf(what.chart).filter((one) => one.points.length).map((one) => {
    const place = lower(one.points, at + 1e-9) - 1;
    const value = place < 0 ? '-' : one.points[place][1];
    return [one.title, what.chart.disk === undefined || value === '-' ? String(value) : bytes(value)];
  });
  const title = what.chart.disk === undefined ? data.partitions[what.chart.partition] : name(what.chart.disk) + ' disk';
  return [[title, clock(at)], ...rows];
}

function select(what) {
  selected = what && what.kind !== 'chart' ? { kind: what.kind, index: what.index } : null;
  const details = $('details');
  details.replaceChildren();
  if (selected) {
    const list = element('dl');
    facts(selected).forEach(([name_, value]) => list.append(element('dt', name_), element('dd', value)));
    details.append(element('h2', 'Selected'), list);
  }
  listEvents();
  redraw();
}

/** Names of events near the middle of what is seen (or near what is selected), in order. */
function listEvents() {
  const list = $('events');
  const from = window_.from, to = window_.to;
  const middle = selected && selected.kind === 'operation' ? data.operations[selected.index][0] : (from + to) / 2;
  const rows = [];
  const take = (source, kind, span, text) => {
    const place = lower(source, middle);
    for (let at = Math.max(0, place - 30); at < Math.min(source.length, place + 30); at++) {
      const row = source[at], index = kind === 'operation' ? row.index : at;
      if (passing && passing[span] && !passing[span][index]) continue;
      rows.push({ at: row[0], kind, index, text: text(row) });
    }
  };
  if (layers.operations) take(operations, 'operation', 'operations', (row) => name(row[2]) + ': ' + row[4]);
  if (layers.messages) take(data.messages, 'message', 'messages', (row) => data.labels[row[4]] + '  ' + name(row[2]) + ' → ' + name(row[3]));
  if (layers.disk) take(data.disk_calls, 'disk', 'disk_calls', (row) => name(row[2]) + ' disk: ' + data.disk_kinds[row[3]] + ' ' + row[5] + (row[4] ? '' : ' (failed)'));
  take(data.texts, 'text', 'texts', (row) => row[1].split('\n')[0]);
  rows.sort((a, b) => a.at - b.at);
  let centre = rows.findIndex((row) => row.at >= middle);
  if (centre < 0) centre = rows.length;
  const some = rows.slice(Math.max(0, centre - 20), centre + 20);
  list.replaceChildren(...some.map((row) => {
    const line_ = element('li');
    const moment = element('time', clock(row.at));
    const text = element('span', row.text);
    text.title = row.text;
    line_.append(moment, text);
    if (selected && selected.kind === row.kind && selected.index === row.index) line_.className = 'here';
    if (data.bad && row.kind === 'operation' && row.index === data.bad.operation) line_.className = 'isbad';
    line_.onclick = () => { if (row.kind !== 'text') select(row); goTo(row.at); };
    return line_;
  }));
}

// ---- the filter

function applyFilter(text) {
  filter = text.trim().toLowerCase();
  if (!filter) passing = null;
  else {
    const words = filter.split(/\s+/);
    const passes = (text_) => { const low = text_.toLowerCase(); return words.every((word) => low.includes(word)); };
    const labels = data.labels.map((text_) => text_);
    passing = {
      operations: data.operations.map((row) => passes(name(row[2]) + ' ' + row[3] + ' ' + row[4])),
      messages: data.messages.map((row) => passes(labels[row[4]] + ' ' + name(row[2]) + ' ' + name(row[3]) + ' ' + row[6].join(' '))),
      faults: data.faults.map((row) => passes(row[2] + ' ' + row[3] + ' ' + row[4].map(name).join(' '))),
      disk_calls: data.disk_calls.map((row) => passes('disk ' + data.disk_kinds[row[3]] + ' ' + row[5] + ' ' + name(row[2]) + (row[4] ? '' : ' failed error'))),
      texts: data.texts.map((row) => passes(row[1])),
    };
  }
  const many = passing ? ['operations', 'messages', 'faults', 'disk_calls']
    .map((one) => passing[one].filter(Boolean).length + ' ' + one.replace('_', ' ')).join(', ') : '';
  $('count').textContent = many;
  listEvents();
  redraw();
}
/** The next operation that passes the filter, or the previous one. */
function step(by) {
  const now = selected && selected.kind === 'operation' ? data.operations[selected.index] : null;
  let place = now ? operations.indexOf(now) + by : lower(operations, (window_.from + window_.to) / 2);
  while (operations[place] && passing && !passing.operations[operations[place].index]) place += by;
  const row = operations[place];
  if (!row) return;
  select({ kind: 'operation', index: row.index });
  if (row[0] < window_.from || row[0] > window_.to) goTo(row[0], window_.to - window_.from);
}

// ---- the rest of the page

/** All that is wrong, what shows it first in front. */
function wrongs() {
  const link = (text, title, act) => {
    const to = element('a', text + ' ');
    to.title = title;
    to.onclick = act;
    return to;
  };
  const found = data.findings.map(([title, sentence, rows], index) => {
    const links = rows.map((row) => {
      const [at, , , , text] = data.operations[row];
      return link(clock(at), text, () => { select({ kind: 'operation', index: row }); goTo(at); });
    });
    return { title, sentence, links, first: data.bad.finding === index };
  });
  const seen = data.sightings.map(([at, machine, title, sentence]) => {
    const where = machine === null ? '' : 'on ' + name(machine);
    const first = data.bad.finding === null && data.bad.text === title + ': ' + sentence;
    return { title, sentence, links: [link('seen at ' + clock(at), where, () => goTo(at)), where], first };
  });
  return [...found, ...seen].sort((a, b) => b.first - a.first);
}

function fill() {
  document.body.classList.toggle('failed', data.how !== '');
  $('badge').textContent = data.how ? data.how : 'passed';
  $('title').textContent = 'seed ' + data.seed + ' · ' + data.size;
  data.found_by.forEach((one) => $('checkers').append(element('span', one)));
  $('command').textContent = data.command;
  const numbers = [['simulated', clock(data.end)], ...data.tally.map(([one, value]) => [one, value.toLocaleString('en')]),
    ['messages', data.messages.length.toLocaleString('en')], ['disk calls', data.disk_calls.length.toLocaleString('en')],
    ['faults at work', data.faults.filter((row) => row[5]).length + ' of ' + data.faults.length]];
  numbers.forEach(([one, value]) => {
    const cell = element('span', one + ' ');
    cell.append(element('b', value));
    $('tally').append(cell);
  });
  const hash = element('span', data.digest, 'quiet');
  hash.title = 'the hash over every event';
  $('tally').append(hash);
  $('tobad').hidden = !data.bad;
  if (data.bad) {
    const wrong = $('wrong');
    wrong.append(element('h2', 'What went wrong'));
    const link = element('a', 'First bad event, at ' + clock(data.bad.at));
    link.id = 'badlink';
    link.href = '#bad';
    link.onclick = (event) => { event.preventDefault(); goToBad(); };
    wrong.append(link);
    const list = element('ul');
    const all = wrongs();
    all.slice(0, LISTED).forEach(({ title, sentence, links, first }) => {
      const item = element('li', undefined, first ? 'first' : undefined);
      item.append(element('b', title + ' '), sentence + ' ', ...links);
      list.append(item);
    });
    if (all.length > LISTED) list.append(element('li', 'and ' + (all.length - LISTED) + ' more', 'quiet'));
    const full = element('details');
    full.append(element('summary', 'As the run printed it'), element('pre', data.text));
    full.open = !all.length;
    wrong.append(list, full);
  }
  Object.keys(layers).forEach((layer) => {
    const button = element('button', layer);
    button.setAttribute('aria-pressed', 'true');
    button.onclick = () => {
      layers[layer] = !layers[layer];
      button.setAttribute('aria-pressed', String(layers[layer]));
      listEvents();
      redraw();
    };
    $('layers').append(button);
  });
}
function theme(dark) {
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  const style = getComputedStyle(document.documentElement);
  for (const one of ['ground', 'panel', 'line', 'lane', 'text', 'quiet', 'accent', 'ask', 'answer', 'error', 'lost', 'ok',
    'fail', 'info', 'open', 'bad', 'badsoft', 'life', 'down', 'fault', 'faultsoft', 'idle', 'disk', 'flush', 'area', 'heal',
    'high', 'read', 'end', 'dirty']) colours[one] = style.getPropertyValue('--' + one).trim();
  redraw();
}
const isDark = () => document.documentElement.dataset.theme === 'dark';

function listen() {
  let drag = null;
  view.onpointerdown = (event) => { drag = { x: event.clientX, from: window_.from, to: window_.to, moved: false }; view.setPointerCapture(event.pointerId); };
  view.onpointermove = (event) => {
    const box = view.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    if (drag) {
      const by = (drag.x - event.clientX) / (width() - GUTTER - 10) * (drag.to - drag.from);
      if (Math.abs(drag.x - event.clientX) > 3) drag.moved = true;
      if (drag.moved) { view.classList.add('dragging'); show(drag.from + by, drag.to + by); }
      return;
    }
    const what = px > GUTTER ? find(px, py) : null;
    tip.hidden = !what;
    if (what) {
      tip.textContent = facts(what, time(px)).map(([one, value]) => one + ': ' + value).join('\n');
      tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + 'px';
      tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + 'px';
    }
  };
  view.onpointerup = (event) => {
    const box = view.getBoundingClientRect();
    if (drag && !drag.moved) select(find(event.clientX - box.left, event.clientY - box.top));
    drag = null;
    view.classList.remove('dragging');
  };
  view.onpointerleave = () => { tip.hidden = true; };
  view.addEventListener('wheel', (event) => {
    const px = event.clientX - view.getBoundingClientRect().left;
    if (px < GUTTER) return;
    event.preventDefault();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) / 900);
    else zoom(Math.exp(event.deltaY / 500), time(px));
  }, { passive: false });
  let brush = null;
  const moment = (event) => (event.clientX - overview.getBoundingClientRect().left) / overview.clientWidth * end;
  overview.onpointerdown = (event) => { brush = moment(event); overview.setPointerCapture(event.pointerId); };
  overview.onpointermove = (event) => {
    if (brush !== null && Math.abs(moment(event) - brush) > end / 500) show(Math.min(brush, moment(event)), Math.max(brush, moment(event)));
  };
  overview.onpointerup = (event) => {
    if (brush !== null && Math.abs(moment(event) - brush) <= end / 500) goTo(brush, window_.to - window_.from);
    brush = null;
  };
  $('in').onclick = () => zoom(.5);
  $('out').onclick = () => zoom(2);
  $('fit').onclick = fit;
  $('tobad').onclick = goToBad;
  $('theme').onclick = () => theme(!isDark());
  $('help').onclick = () => $('keys').showModal();
  $('copy').onclick = async () => {
    try { await navigator.clipboard.writeText(data.command); $('copy').textContent = 'Copied'; }
    catch { getSelection().selectAllChildren($('command')); $('copy').textContent = 'Selected'; }
    setTimeout(() => { $('copy').textContent = 'Copy'; }, 1500);
  };
  $('filter').oninput = (event) => applyFilter(event.target.value);
  addEventListener('keydown', (event) => {
    if (event.target === $('filter')) {
      if (event.key === 'Escape') event.target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      ArrowLeft: () => pan(-.2), ArrowRight: () => pan(.2), '+': () => zoom(.6), '=': () => zoom(.6), '-': () => zoom(1 / .6),
      0: fit, b: goToBad, n: () => step(1), p: () => step(-1), '/': () => $('filter').focus(), t: () => theme(!isDark()),
      '?': () => $('keys').showModal(), Escape: () => select(null),
    };
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  addEventListener('resize', () => { density = null; redraw(); });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', (event) => theme(event.matches));
}

fill();
listen();
const asked = new URLSearchParams(location.search);
theme(asked.has('theme') ? asked.get('theme') === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches);
fit();
if (location.hash === '#bad') goToBad();
draw();
// For whoever looks at the page with a machine: it is drawn, how much it shows, and where the mark is.
document.body.dataset.events = String(events);
document.body.dataset.ready = 'yes';
if (data.bad) document.body.dataset.bad = String(data.bad.at);
