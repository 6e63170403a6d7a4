// Copyright 2026 the vts_ros authors
// SPDX-License-Identifier: Apache-2.0
// What the server tells is kept for as long as the timeline is, and drawn when it has changed.
'use strict';

const RISKS = ['none', 'low', 'medium', 'high', 'unknown'];
const TITLES = {none: 'NO RISK', low: 'LOW RISK', medium: 'MEDIUM RISK', high: 'HIGH RISK',
  unknown: 'RISK UNKNOWN'};
const HEIGHTS = {none: .18, low: .4, medium: .68, high: 1, unknown: .18};
const MOST_ANSWERS = 20;
const STEP_SEC = 1;
// An answer about a picture of so long ago no longer fits the one that is shown.
const OLD_SEC = 1.2;
const $ = (id) => document.getElementById(id);
const colour = (risk, alpha = 1) =>
  `rgba(${getComputedStyle(document.documentElement).getPropertyValue(`--${risk}`)}, ${alpha})`;
const COLOURS = Object.fromEntries(RISKS.map((risk) => [risk, colour(risk)]));
// Those of a task that has other ones than driving.
function setColours(colours) {
  for (const risk of colours ? RISKS : []) {
    document.documentElement.style.setProperty(`--${risk}`, colours[risk].join(', '));
    COLOURS[risk] = colour(risk);
  }
}

const page = {
  isOpen: false, offset: 0, history: 60, maxAge: 10, maxQuestion: 500, cameras: [], camera: '',
  state: {}, reports: [], writing: null, risk: null, picture: null, past: null, pastPicture: null,
  strip: new Map(), retracted: 0, note: '',
};
let socket = null;
let isDirty = true;

const now = () => performance.now() / 1000 - page.offset;
const send = (what) => {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(what));
};

// ---- What the server tells ----------------------------------------------------------------

function connect() {
  socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`);
  socket.binaryType = 'arraybuffer';
  socket.onmessage = (message) =>
    typeof message.data === 'string' ? take(JSON.parse(message.data)) : takePicture(message.data);
  socket.onclose = () => {
    page.isOpen = false;
    isDirty = true;
    setTimeout(connect, 1000);
  };
}

const TAKE = {
  hello(event) {
    Object.assign(page, {isOpen: true, offset: performance.now() / 1000 - event.now,
      history: event.history_sec, maxAge: event.max_answer_age_sec,
      maxQuestion: event.max_question_chars, reports: event.reports, retracted: event.retracted, risk: null, writing: null});
    $('question').maxLength = page.maxQuestion;
    for (const {report} of event.reports) setColours(report.colours);
    setState(event.state);
    setCameras(event.cameras);
  },
  cameras(event) { setCameras(event.cameras); },
  state(event) { setState(event.state); },
  report(event) {
    // The risk of an answer whose texts are still being written.
    setColours(event.report.colours);
    page.risk = event.report.partial ? event : null;
    if (event.report.partial) return;
    page.writing = null;
    page.reports.push(event);
    const first = now() - page.history;
    while (page.reports.length && page.reports[0].at < first) page.reports.shift();
  },
  // What was said no longer holds; an answer that is unknown follows as a report.
  retract(event) {
    page.retracted = event.at;
    page.risk = page.writing = null;
  },
  writing(event) { page.writing = event; },
  question(event) {
    const item = document.createElement('li');
    item.dataset.id = event.id;
    for (const [name, text] of [['asked', event.question], ['answered', '…']]) {
      const line = document.createElement('div');
      line.className = name;
      line.textContent = text;
      item.append(line);
    }
    $('answers').prepend(item);
    while ($('answers').children.length > MOST_ANSWERS) $('answers').lastChild.remove();
  },
  piece(event) {
    const line = answerLine(event.id);
    if (line) line.textContent = line.dataset.begun ? line.textContent + event.text : event.text;
    if (line) line.dataset.begun = '1';
  },
  answer(event) {
    const line = answerLine(event.id);
    if (!line) return;
    line.textContent = event.error || event.text;
    line.classList.toggle('failed', Boolean(event.error));
    line.dataset.done = '1';
  },
  note(event) { note(event.text); },
};

function take(event) {
  (TAKE[event.kind] || (() => {}))(event);
  isDirty = true;
}

async function takePicture(data) {
  const length = new DataView(data).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  try {
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)]));
    if (head.camera === page.camera) {
      if (page.picture) page.picture.bitmap.close();
      page.picture = {...head, bitmap};
      isDirty = true;
    } else {
      bitmap.close();
    }
  } catch (error) {
    // A picture that is damaged; the next one comes.
  }
  send({shown: head.number});
}

const answerLine = (id) => document.querySelector(`#answers li[data-id="${Number(id)}"] .answered`);

let noteTimer = 0;
function note(text) {
  page.note = text;
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => { page.note = ''; isDirty = true; }, 8000);
}

function setCameras(names) {
  page.cameras = names;
  if (!names.includes(page.camera)) watch(names[0] || '');
  $('cameras').replaceChildren(...(names.length < 2 ? [] : names).map((name) => {
    const tab = document.createElement('button');
    tab.setAttribute('role', 'tab');
    tab.setAttribute('aria-selected', name === page.camera);
    tab.textContent = name;
    tab.onclick = () => { watch(name); setCameras(page.cameras); };
    return tab;
  }));
  if (names.length) send({watch: page.camera});
}

function watch(name) {
  page.camera = name;
  if (page.picture) page.picture.bitmap.close();
  page.picture = null;
  send({watch: name});
  if (page.past !== null) lookBack(page.past);
  isDirty = true;
}

function setState(changed) {
  const state = Object.assign(page.state, changed);
  $('source').textContent = state.source || '';
  if (document.activeElement !== $('keep-ratio') && state.keep_ratio) {
    $('keep-ratio').value = state.keep_ratio;
  }
  if (state.keep_ratio) $('keep-value').textContent = `${Math.round(100 * state.keep_ratio)} %`;
  for (const [name, choices] of [['mode', state.modes], ['model', state.models]]) {
    if (!choices) continue;
    $(name).replaceChildren(...choices.map((choice) => {
      // A path is known by its last part.
      const option = new Option(choice.split('/').filter(Boolean).pop(), choice);
      option.title = choice;
      return option;
    }));
    $(name).value = state[name];
    $(name).disabled = choices.length < 2;
  }
}

// ---- The past minute ----------------------------------------------------------------------

let isFetching = false;
async function lookBack(at) {
  page.past = Math.min(Math.max(at, now() - page.history), now());
  isDirty = true;
  if (isFetching) return;
  isFetching = true;
  let wanted = null;
  while (page.past !== null && wanted !== page.past) {
    wanted = page.past;
    try {
      const answer = await fetch(`/near/${encodeURIComponent(page.camera)}?at=${wanted}`);
      if (!answer.ok) break;
      const bitmap = await createImageBitmap(await answer.blob());
      if (page.pastPicture) page.pastPicture.close();
      page.pastPicture = bitmap;
      isDirty = true;
    } catch (error) {
      break;
    }
  }
  isFetching = false;
}

function goLive() {
  page.past = null;
  if (page.pastPicture) page.pastPicture.close();
  page.pastPicture = null;
  isDirty = true;
}

function shownReport() {
  if (page.past === null) return page.reports[page.reports.length - 1] || null;
  return page.reports.findLast((event) => event.at <= page.past) || null;
}

// ---- Drawing ------------------------------------------------------------------------------

function sized(canvas) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  const context = canvas.getContext('2d');
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height, scale];
}

function fitted(bitmap, width, height) {
  const scale = Math.min(width / bitmap.width, height / bitmap.height);
  const w = bitmap.width * scale, h = bitmap.height * scale;
  return [(width - w) / 2, (height - h) / 2, w, h];
}

// Rows, columns and the kept cells of a frame of a report. Two frames of a step of a video share them.
function cellsOf(report, index) {
  const steps = report.tokens.steps || report.frames.map((_, place) => [place]);
  const grids = report.tokens.grids || steps.map(() => report.tokens.grid);
  const step = steps.findIndex((frames) => frames.includes(index));
  let first = 0;
  for (let i = 0; i < step; i++) first += grids[i][0] * grids[i][1];
  const [rows, columns] = grids[step];
  // Of a window that the model was not asked about nothing was dropped either.
  const kept = report.confirmed ? null : new Set(report.tokens.keep
    .filter((place) => place >= first && place < first + rows * columns)
    .map((place) => place - first));
  return {rows, columns, kept, count: kept ? kept.size : rows * columns};
}

function dim(context, cells, x, y, width, height) {
  if (!cells.kept) return;
  context.fillStyle = 'rgba(15, 18, 22, .62)';
  for (let row = 0; row < cells.rows; row++) {
    for (let column = 0; column < cells.columns; column++) {
      if (cells.kept.has(row * cells.columns + column)) continue;
      const left = Math.round(x + column * width / cells.columns);
      const top = Math.round(y + row * height / cells.rows);
      context.fillRect(left, top, Math.round(x + (column + 1) * width / cells.columns) - left,
        Math.round(y + (row + 1) * height / cells.rows) - top);
    }
  }
}

function drawBox(context, found, risk, area, scale, note) {
  const [x, y, width, height] = area;
  const [left, top, right, bottom] = found.box;
  const x1 = x + left * width, y1 = y + top * height;
  const w = (right - left) * width, h = (bottom - top) * height;
  context.setLineDash(note ? [14 * scale, 10 * scale] : []);
  for (const [thick, ink] of [[7, '#0c0e12'], [4, COLOURS[risk]]]) {
    context.lineWidth = thick * scale;
    context.strokeStyle = ink;
    context.strokeRect(x1, y1, w, h);
  }
  const size = 20 * scale, label = note ? `${found.label}  ${note}` : found.label;
  context.font = `700 ${size}px system-ui, "DejaVu Sans", sans-serif`;
  const chip = context.measureText(label).width + size;
  const cx = Math.min(Math.max(x1 - 2 * scale, x), x + width - chip);
  const cy = y1 - 1.6 * size >= y ? y1 - 1.6 * size - 2 * scale : Math.min(y1 + h + 4 * scale,
    y + height - 1.6 * size);
  context.fillStyle = COLOURS[risk];
  context.fillRect(cx, cy, chip, 1.6 * size);
  context.fillStyle = '#0c0e12';
  context.textBaseline = 'middle';
  context.fillText(label, cx + size / 2, cy + .83 * size);
}

const ageOf = (event) => now() - event.at + (event.report.age_ms || 0) / 1000;

function drawPicture(event, risk) {
  const [context, width, height, scale] = sized($('picture'));
  const bitmap = page.past === null ? page.picture && page.picture.bitmap : page.pastPicture;
  if (!bitmap) return;
  const area = fitted(bitmap, width, height);
  context.drawImage(bitmap, ...area);
  if (!event || risk === null) return;
  const report = event.report;
  const index = report.frames.findLastIndex((frame) => frame.camera === page.camera);
  // How far the picture has gone on since the one that the answer is about.
  const ahead = page.past === null ? ageOf(event) : (page.past - event.at) + (report.age_ms || 0) / 1000;
  if (index >= 0 && ahead < OLD_SEC && $('show-cells').checked) {
    dim(context, cellsOf(report, index), ...area);
  }
  const found = (page.past === null && page.risk ? page.risk.report : report).object;
  if (found && found.box && found.camera === page.camera) {
    drawBox(context, found, risk, area, scale, ahead < OLD_SEC ? '' : `${ahead.toFixed(1)} s ago`);
  }
}

// A picture of the strip, or null until it is there. What an <img> has shown stays in the caches of the
// browser, decoded; a bitmap is gone when it is closed.
function stripPicture(number) {
  if (!page.strip.has(number)) {
    page.strip.set(number, null);
    fetch(`/picture/${Number(number)}`)
      .then((answer) => answer.ok ? answer.blob() : Promise.reject(new Error(answer.statusText)))
      .then((blob) => createImageBitmap(blob))
      .then((bitmap) => {
        if (!page.strip.has(number)) return bitmap.close();
        page.strip.set(number, bitmap);
        isDirty = true;
      })
      .catch(() => {});  // it is too old; the next ones come
  }
  return page.strip.get(number);
}

function drawStrip(event) {
  const frames = event ? event.report.frames : [];
  const shown = frames.map((frame, index) => [frame, index])
    .filter(([frame]) => frame.camera === page.camera || frames.every((one) => one.camera !== page.camera))
    .slice(-5);
  const strip = $('window');
  while (strip.children.length > shown.length) strip.lastChild.remove();
  while (strip.children.length < shown.length) {
    const figure = document.createElement('figure');
    figure.append(document.createElement('canvas'), document.createElement('figcaption'));
    strip.append(figure);
  }
  const wanted = new Set();
  shown.forEach(([frame, index], place) => {
    const figure = strip.children[place], [canvas, caption] = figure.children;
    const cells = cellsOf(event.report, index);
    figure.classList.toggle('key', event.report.key_frame.index === index);
    const ago = (frame.stamp - event.report.stamp) / 1e9;
    caption.textContent = `${ago.toFixed(1)} s · ${cells.count} of ${cells.rows * cells.columns}`;
    const [context, width, height] = sized(canvas);
    if (frame.picture === null || frame.picture === undefined) return;
    wanted.add(frame.picture);
    const image = stripPicture(frame.picture);
    if (!image) return;
    const area = fitted(image, width, height);
    context.drawImage(image, ...area);
    dim(context, cells, ...area);
  });
  for (const [number, image] of page.strip) {
    if (wanted.has(number)) continue;
    if (image) image.close();
    page.strip.delete(number);
  }
}

function drawLine(id, points, top) {
  const [context, width, height, scale] = sized($(id));
  const from = now() - page.history;
  const most = Math.max(top, ...points.map(([, value]) => value)) || 1;
  context.beginPath();
  points.forEach(([at, value], i) => {
    const x = width * (at - from) / page.history, y = height - 2 * scale - (height - 4 * scale) * value / most;
    if (i) context.lineTo(x, y); else context.moveTo(x, y);
  });
  context.strokeStyle = COLOURS.low;
  context.lineWidth = 2 * scale;
  context.lineJoin = 'round';
  context.stroke();
}

function drawTimeline() {
  const [context, width, height, scale] = sized($('timeline'));
  const end = now(), from = end - page.history;
  const x = (at) => width * (at - from) / page.history;
  const base = height - 20 * scale, full = base - 8 * scale;
  page.reports.forEach((event, i) => {
    const next = i + 1 < page.reports.length ? page.reports[i + 1].at : end;
    const until = Math.min(next, event.at + page.maxAge);
    const risk = event.report.risk.level, tall = full * HEIGHTS[risk];
    context.fillStyle = COLOURS[risk];
    context.fillRect(x(event.at), base - tall, Math.max(1, x(until) - x(event.at) + .5), tall);
  });
  context.fillStyle = '#98a2b0';
  context.font = `${12 * scale}px system-ui, "DejaVu Sans", sans-serif`;
  context.textBaseline = 'alphabetic';
  for (let ago = 10; ago < page.history; ago += 10) {
    context.textAlign = 'center';
    context.fillText(`−${ago} s`, x(end - ago), height - 5 * scale);
    context.fillRect(x(end - ago), base, scale, 4 * scale);
  }
  context.textAlign = 'start';
  const cursor = page.past === null ? width - 2 * scale : x(page.past);
  context.fillStyle = '#eef1f5';
  context.fillRect(cursor - 1.5 * scale, 0, 3 * scale, base);
  const ago = page.past === null ? 0 : end - page.past;
  $('timeline').setAttribute('aria-valuenow', (-ago).toFixed(0));
}

function draw() {
  // What is further back than the timeline goes is gone.
  if (page.past !== null && page.past < now() - page.history) lookBack(now() - page.history + .5);
  const event = shownReport();
  const isLive = page.past === null;
  // An answer that was begun and never finished does not stay either.
  const isFresh = (begun) => isLive && begun && now() - begun.at <= page.maxAge;
  const partial = isFresh(page.risk) ? page.risk.report : null;
  const age = event ? (isLive ? now() : page.past) - event.at : Infinity;
  // Nothing that was said stays longer than it may, and nothing at all without a connection.
  const isOld = (age > page.maxAge || (isLive && event && page.retracted > event.at)) && !partial;
  const isGone = !page.isOpen || isOld || !event;
  const report = event && event.report;
  const said = partial || report;
  const risk = isGone && !partial ? 'unknown' : said.risk.level;
  document.body.dataset.risk = risk;
  const level = !page.isOpen ? 'NO CONNECTION' : isGone && !partial
    ? (event ? `NO ANSWER FOR ${Math.floor(age)} s` : 'NO ANSWER YET') : TITLES[risk];
  setText('level', level);
  setText('object', isGone && !partial ? '' : said.object ? said.object.label : '');
  // The reason for another risk is none for this one; for the same one it stays until the new
  // one is written, so that it can be read.
  const isSame = !isGone && partial && partial.risk.level === report.risk.level &&
    (!partial.object || (report.object && partial.object.label === report.object.label));
  const writing = page.isOpen && !isSame && isFresh(page.writing) ? page.writing : null;
  const begun = isSame ? null : partial;
  $('said').classList.toggle('writing', Boolean(writing || begun));
  const words = writing || (begun ? {explanation: ' '} : report);
  const isSilent = isGone && !writing && !begun;
  setText('explanation', isSilent ? '' : words.explanation || (writing ? '' : 'No answer that can be read.'));
  setText('action', isSilent || risk === 'unknown' || !words.action ? '' : words.action);
  setText('description', isSilent ? '' : words.description || '');
  setText('status', page.note || page.state.status || (page.state.is_open_to_others
    ? 'open to the network' : ''));
  setText('when', isLive ? '' : `${(now() - page.past).toFixed(1)} s ago`);
  $('live').classList.toggle('on', isLive);
  drawPicture(isGone ? null : event, isGone && !partial ? null : risk);
  drawStrip(isGone && !isOld ? null : event);
  const at = (value) => page.reports.map((one) => [one.at, value(one.report)]);
  drawLine('latency-line', at((one) => one.latency_ms.total || 0), 100);
  drawLine('kept-line', at((one) => one.tokens.kept), 1);
  drawLine('age-line', at((one) => one.age_ms || 0), 100);
  const seconds = (ms) => ms === undefined || ms === null ? '–' : `${(ms / 1000).toFixed(2)} s`;
  setText('latency', report ? seconds(report.latency_ms.total) : '–');
  setText('kept', report ? `${report.tokens.kept} of ${report.tokens.total}` : '–');
  setText('age', !report ? '–' : seconds((report.age_ms || 0) + (isLive ? 1000 * age : 0)));
  drawTimeline();
}

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function tick() {
  if (isDirty) {
    isDirty = false;
    draw();
  }
  requestAnimationFrame(tick);
}

// ---- What a person does -------------------------------------------------------------------

$('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  const question = $('question').value.trim() || 'Is it safe to drive on?';
  send({ask: question});
  $('question').value = '';
});
$('keep-ratio').addEventListener('input', () => {
  $('keep-value').textContent = `${Math.round(100 * $('keep-ratio').value)} %`;
});
$('keep-ratio').addEventListener('change', () =>
  send({change: {keep_ratio: Number($('keep-ratio').value)}}));
for (const name of ['mode', 'model']) {
  $(name).addEventListener('change', () => send({change: {[name]: $(name).value}}));
}
$('show-cells').addEventListener('change', () => { isDirty = true; });
$('live').addEventListener('click', goLive);

const timeline = $('timeline');
const scrub = (event) => {
  const box = timeline.getBoundingClientRect();
  const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  if (share > .995) goLive(); else lookBack(now() - page.history * (1 - share));
};
timeline.addEventListener('pointerdown', (event) => {
  timeline.setPointerCapture(event.pointerId);
  scrub(event);
});
timeline.addEventListener('pointermove', (event) => { if (event.buttons) scrub(event); });
timeline.addEventListener('keydown', (event) => {
  const step = {ArrowLeft: -STEP_SEC, ArrowRight: STEP_SEC}[event.key];
  if (step) lookBack((page.past === null ? now() : page.past) + step);
  else if (event.key === 'Escape' || event.key === 'End') goLive();
  else return;
  event.preventDefault();
});
window.addEventListener('resize', () => { isDirty = true; });
// Ages grow and the timeline moves, whether or not something comes.
setInterval(() => { isDirty = true; }, 200);
connect();
tick();
