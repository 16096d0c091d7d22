// Accuracy against what it costs: drawn as SVG, since its points are to be named, focused and clicked.
const SVG = "http://www.w3.org/2000/svg";
function mark(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const COST_HEADS = {
  macs_per_request: "Accuracy and compute",
  latency_p99_s: "Accuracy and latency",
  energy_j: "Accuracy and energy",
};
// How a cost is written, and the unit in which its ticks are round.
const COST_FORMATS = {
  macs_per_request: (value, digits) => prefixed(value, "MACs", digits),
  latency_p99_s: (value, digits) => short(value, "s", digits),
  energy_j: (value, digits) => prefixed(value / 3600, "Wh", digits),
};
const COST_UNITS = {macs_per_request: 1, latency_p99_s: 1, energy_j: 3600};
const COST_NAMES = {
  macs_per_request: "compute per request, inference and retraining",
  latency_p99_s: "p99 latency of the answered",
  energy_j: "energy of all GPUs",
};

function niceTicks(low, high, count) {
  const raw = (high - low) / count,
    power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(one => one * power).find(one => one >= raw);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9 * step; tick += step)
    ticks.push(+tick.toPrecision(12));
  return ticks;
}

const placed = (key, state) =>
  rivals(state.result).filter(n => META.results[n].place.accuracy && META.results[n].place[key]);

function drawScatter(holder, key, state) {
  const shown = placed(key, state);
  holder.replaceChildren();
  const place = n => ({y: META.results[n].place.accuracy, x: META.results[n].place[key]});
  const width = Math.max(holder.clientWidth, 260),
    height = shown.length > 8 ? 380 : 300,
    edge = {left: 50, right: 14, top: 12, bottom: 44};
  const xs = shown.flatMap(n => place(n).x),
    ys = shown.flatMap(n => place(n).y);
  let [left, right] = bounds([xs], null, 0.12),
    [bottom, top] = bounds([ys], null, 0.12);
  const logarithmic = Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 30;
  if (left < 0.5 * right) left = 0;
  // At least a tenth of the value wide, for the same reason as the height below.
  const span = 0.1 * Math.max(...xs);
  if (right - left < span) [left, right] = [(left + right - span) / 2, (left + right + span) / 2];
  // At least 2 points high, so that differences too small to matter do not fill the figure.
  if (top - bottom < 0.02) [bottom, top] = [(top + bottom) / 2 - 0.01, (top + bottom) / 2 + 0.01];
  [bottom, top] = [Math.max(bottom, 0), Math.min(top, 1.01)];
  const [a, b] = logarithmic
    ? [Math.log10(Math.min(...xs)) - 0.15, Math.log10(Math.max(...xs)) + 0.25]
    : [left, right];
  const px = x =>
    edge.left +
    (((logarithmic ? Math.log10(Math.max(x, 10 ** a)) : x) - a) / (b - a)) * (width - edge.left - edge.right);
  const py = y => height - edge.bottom - ((y - bottom) / (top - bottom)) * (height - edge.top - edge.bottom);
  const svg = mark("svg", {
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "group",
    "aria-label": `${META.measure} against ${COST_NAMES[key]}`,
  });
  const text = {fill: css("--soft"), "font-size": 11.5};
  for (const tick of niceTicks(bottom, top, 5)) {
    svg.append(
      mark("line", {x1: edge.left, x2: width - edge.right, y1: py(tick), y2: py(tick), stroke: css("--line")}),
    );
    svg.append(
      mark(
        "text",
        {...text, x: edge.left - 6, y: py(tick) + 4, "text-anchor": "end"},
        `${+(100 * tick).toFixed(1)} %`,
      ),
    );
  }
  const ticks = logarithmic
    ? niceTicks(Math.ceil(a), Math.floor(b), 4)
        .filter(Number.isInteger)
        .map(one => 10 ** one)
    : niceTicks(a / COST_UNITS[key], b / COST_UNITS[key], width < 400 ? 2 : 4).map(one => one * COST_UNITS[key]);
  for (const tick of ticks) {
    svg.append(
      mark("line", {
        x1: px(tick),
        x2: px(tick),
        y1: height - edge.bottom,
        y2: height - edge.bottom + 4,
        stroke: css("--soft"),
      }),
    );
    svg.append(
      mark(
        "text",
        {...text, x: px(tick), y: height - edge.bottom + 17, "text-anchor": px(tick) > width - 40 ? "end" : "middle"},
        COST_FORMATS[key](tick, 6),
      ),
    );
  }
  svg.append(mark("text", {...text, x: edge.left, y: height - 8}, COST_NAMES[key]));
  const model = META.results[state.result].model,
    front = META.fronts[model][key].filter(n => shown.includes(n));
  if (front.length) {
    const steps = front.map(
      (n, i) => `${i ? `H ${px(place(n).x[0])} V` : `M ${px(place(n).x[0])}`} ${py(place(n).y[0])}`,
    );
    svg.append(
      mark("path", {
        d: `${steps.join(" ")} H ${width - edge.right}`,
        fill: "none",
        stroke: css("--accent"),
        "stroke-dasharray": "5 4",
        "stroke-width": 1.3,
      }),
    );
  }
  // Names keep off the line of the front.
  const corners = front.map(n => ({x: px(place(n).x[0]), y: py(place(n).y[0])})),
    line = corners.flatMap(({x, y}, i) => [
      {left: x, right: corners[i + 1] ? corners[i + 1].x : width - edge.right, top: y - 1, bottom: y + 1},
      ...(i ? [{left: x - 1, right: x + 1, top: Math.min(y, corners[i - 1].y), bottom: Math.max(y, corners[i - 1].y)}] : []),
    ]);
  const points = shown.map(n => ({n, x: px(place(n).x[0]), y: py(place(n).y[0])}));
  // The selected one last, so that it lies on top.
  points.sort((one, other) => (one.n === state.result) - (other.n === state.result));
  for (const {n, x, y} of points) {
    const {colour} = look(n),
      result = META.results[n],
      chosen = n === state.result,
      {
        x: [mid, low, high],
        y: [, under, over],
      } = place(n);
    const told = `${result.allocator}: ${META.measure} ${percent(place(n).y[0], 2)}${over > under ? ` (${percent(under, 2)} to ${percent(over, 2)})` : ""}, ${COST_NAMES[key]} ${COST_FORMATS[key](mid)}${high > low ? ` (${COST_FORMATS[key](low)} to ${COST_FORMATS[key](high)})` : ""}`;
    const group = mark("g", {
      role: "button",
      tabindex: "0",
      class: "point",
      "aria-label": told,
      "aria-pressed": String(chosen),
      "data-result": n,
    });
    if (over > under)
      group.append(
        mark("line", {
          x1: x,
          x2: x,
          y1: Math.min(py(under), height - edge.bottom),
          y2: Math.max(py(over), edge.top),
          stroke: colour,
          "stroke-opacity": 0.55,
        }),
      );
    if (high > low)
      group.append(
        mark("line", {
          x1: Math.max(px(low), edge.left),
          x2: Math.min(px(high), width - edge.right),
          y1: y,
          y2: y,
          stroke: colour,
          "stroke-opacity": 0.55,
        }),
      );
    const radius = chosen ? 7.5 : 5.5;
    group.append(
      result.reference
        ? mark("path", {
            d: `M ${x} ${y - radius} L ${x + radius} ${y} L ${x} ${y + radius} L ${x - radius} ${y} Z`,
            fill: colour,
            stroke: css("--paper"),
          })
        : mark("circle", {
            cx: x,
            cy: y,
            r: radius,
            fill: colour,
            stroke: chosen ? css("--ink") : css("--paper"),
            "stroke-width": chosen ? 2 : 1,
          }),
    );
    const tell = () => (document.getElementById("tradeoffs-told").textContent = told);
    const pick = () => show({result: n});
    group.addEventListener("pointerenter", tell);
    group.addEventListener("focus", tell);
    group.addEventListener("click", pick);
    group.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      pick();
      document.querySelector(`#${holder.id} [data-result="${n}"]`).focus();
    });
    svg.append(group);
  }
  name(svg, points, {left: edge.left + 2, right: width - 4, top: 2, bottom: height - edge.bottom}, line, state);
  holder.append(svg);
}

// Names beside their points: at the nearest place where nothing else stands, with a leader where that is far.
function name(svg, points, frame, line, state) {
  const groups = [];
  for (const point of points) {
    const same = groups.find(one => Math.hypot(one.x - point.x, one.y - point.y) < 3);
    if (same) same.members.push(point.n);
    else groups.push({x: point.x, y: point.y, members: [point.n]});
  }
  // As large as a marker is drawn when it is selected.
  const marks = groups.map(one => ({left: one.x - 9, right: one.x + 9, top: one.y - 9, bottom: one.y + 9})),
    taken = [...marks, ...line];
  groups.sort((one, other) => other.members.includes(state.result) - one.members.includes(state.result));
  for (const group of groups) {
    const names = group.members.map(n => META.results[n].allocator),
      text = names.slice(0, 2).join(" = ") + (names.length > 2 ? ` + ${names.length - 2}` : "");
    const high = 13,
      bold = group.members.includes(state.result),
      wide = (bold ? 7.2 : 6.3) * text.length + 4;
    let found = null;
    for (const reach of [11, 20, 32, 46, 62, 80, 104]) {
      for (const angle of [315, 45, 225, 135, 0, 180, 270, 90]) {
        const x = group.x + reach * Math.cos((angle * Math.PI) / 180),
          y = group.y + reach * Math.sin((angle * Math.PI) / 180);
        const side = Math.cos((angle * Math.PI) / 180),
          begin = Math.abs(side) < 0.1 ? x - wide / 2 : side > 0 ? x : x - wide;
        const box = {left: begin, right: begin + wide, top: y - high / 2, bottom: y + high / 2};
        const free =
          box.left >= frame.left &&
          box.right <= frame.right &&
          box.top >= frame.top &&
          box.bottom <= frame.bottom &&
          !taken.some(
            one => box.left < one.right && one.left < box.right && box.top < one.bottom && one.top < box.bottom,
          );
        if (free) {
          found = {box, x, y, reach};
          break;
        }
      }
      if (found) break;
    }
    if (!found) continue;
    taken.push(found.box);
    if (found.reach > 20)
      svg.append(
        mark("line", {
          x1: group.x,
          y1: group.y,
          x2: found.x,
          y2: found.y,
          stroke: css("--soft"),
          "stroke-width": 0.7,
        }),
      );
    svg.append(
      mark(
        "text",
        {
          x: found.box.left + 2,
          y: found.box.bottom - 3,
          fill: css("--ink"),
          "font-size": 11.5,
          "font-weight": bold ? 700 : 400,
          class: "name",
        },
        text,
      ),
    );
  }
}
