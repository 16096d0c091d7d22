// Figures over the slots: uPlot draws them; legends, readouts and keys are ours.
const SHADES = ["blue", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "ink"];
const DASHES = [[], [7, 3], [2, 2], [9, 3, 2, 3]];
const OWN = {
  orric: ["blue", 0],
  "orric-guided": ["#009E73", 0],
  "orric-joint": ["#56B4E9", 0],
  thief: ["#E69F00", 0],
  "inference-only": ["#D55E00", 0],
  "batch-norm-only": ["#E69F00", 1],
  "teacher-only": ["ink", 2],
};

// Every allocator keeps its look in all figures and under all accuracy models.
const LOOKS = (() => {
  const looks = {},
    free = [];
  for (const dash of [0, 1, 2, 3]) for (const shade of SHADES) free.push([shade, dash]);
  const names = [...new Set(META.results.map(one => one.allocator))];
  const taken = new Set(names.filter(name => OWN[name]).map(name => String(OWN[name])));
  const left = free.filter(look => !taken.has(String(look)));
  // More than there are: they begin anew.
  let next = 0;
  for (const name of names) looks[name] = OWN[name] || left[next++ % left.length];
  return looks;
})();

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// Ink and blue are lighter in the dark.
const ink = colour => (colour === "ink" ? css("--ink") : colour === "blue" ? css("--serving") : colour);
const look = result => {
  const [colour, dash] = LOOKS[META.results[result].allocator];
  return {colour: ink(colour), dash: DASHES[dash]};
};

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function swatch(colour, dash, area) {
  const mark = area
    ? `<rect width="14" height="10" y="1" fill="${colour}"/>`
    : `<line x1="0" x2="24" y1="6" y2="6" stroke="${colour}" stroke-width="2.5" stroke-dasharray="${dash.join(" ")}"/>`;
  const holder = element("span", {class: "swatch", "aria-hidden": "true"});
  holder.innerHTML = `<svg width="${area ? 14 : 24}" height="12">${mark}</svg>`;
  return holder;
}

// A figure with a heading, a legend whose values follow the cursor, and a line that says what a point is.
class Chart {
  constructor(id, heading, height) {
    this.id = id;
    this.height = height;
    this.plot = null;
    this.heading = element("h3", {id: `${id}-heading`}, heading);
    this.unit = element("p", {class: "unit"});
    this.tools = element("span", {class: "tools"});
    this.legend = element("ul", {class: "legend"});
    this.place = element("output", {class: "readout", "aria-live": "off"});
    this.holder = element("div", {
      class: "plot",
      tabindex: "0",
      role: "application",
      "aria-labelledby": `${id}-heading`,
      "aria-description": "Arrow keys move the cursor, plus and minus zoom, 0 shows the whole run.",
      onkeydown: event => this.key(event),
      // Cursors move in all figures at once; only the one at hand is read out.
      onfocus: () => this.place.setAttribute("aria-live", "polite"),
      onblur: () => this.place.setAttribute("aria-live", "off"),
    });
    this.note = element("figcaption");
    this.figure = element(
      "figure",
      {id, class: "chart"},
      element("div", {class: "head"}, this.heading, this.tools),
      this.unit,
      this.holder,
      element("div", {class: "foot"}, this.legend, this.place),
      this.note,
    );
    this.items = [];
  }

  key(event) {
    const u = this.plot,
      n = u ? u.data[0].length : 0;
    if (!n || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10}[event.key];
    if (step) {
      const now = u.cursor.idx ?? (step > 0 ? -1 : n);
      this.moveTo(Math.min(Math.max(now + step, 0), n - 1));
    } else if (event.key === "Home" || event.key === "End") this.moveTo(event.key === "Home" ? 0 : n - 1);
    else if (event.key === "+" || event.key === "=") zoomBy(0.5, this.slotAtCursor());
    else if (event.key === "-") zoomBy(2, this.slotAtCursor());
    else if (event.key === "0" || event.key === "Escape") show({from: 1, to: META.slots});
    else return;
    event.preventDefault();
  }

  moveTo(index) {
    const left = this.plot.valToPos(this.plot.data[0][index], "x");
    this.plot.setCursor({left, top: this.plot.over.clientHeight / 2});
  }

  slotAtCursor() {
    const index = this.plot.cursor.idx;
    return index === null || index === undefined ? null : this.plot.data[0][index];
  }

  // items: {label, colour, dash, area, value(index), pick}
  explain(items, selected) {
    this.items = items;
    this.legend.replaceChildren(
      ...items.map(item => {
        item.output = element("b");
        const name = item.pick
          ? element(
              "button",
              {type: "button", onclick: item.pick, "aria-pressed": String(item.label === selected)},
              item.label,
            )
          : item.label;
        return element(
          "li",
          item.label === selected ? {class: "selected"} : {},
          swatch(item.colour, item.dash || [], item.area),
          name,
          item.output,
        );
      }),
    );
  }

  tell(index, where) {
    for (const item of this.items)
      item.output.textContent = index === null || !item.value ? "" : ` ${item.value(index)}`;
    this.place.textContent = index === null ? "" : where(index);
  }

  draw(options, data) {
    if (this.plot) this.plot.destroy();
    const width = Math.max(this.holder.clientWidth, 240);
    const base = {
      width,
      height: this.height,
      legend: {show: false},
      padding: [10, 12, 0, 0],
      cursor: {y: false, drag: {x: true, y: false, dist: 4}, points: {size: 7}, sync: options.sync},
      hooks: {},
      scales: {},
      series: [],
      bands: [],
    };
    const found = {...base, ...options, cursor: {...base.cursor, ...options.cursor}};
    this.plot = new uPlot(found, data, this.holder);
  }
}

const axisFont = () => "12px system-ui, 'DejaVu Sans', sans-serif";
// The same for all figures over the slots, so that a slot stands at one place in all of them.
const gutter = () => (innerWidth < 600 ? 66 : 118);
// Of a logarithmic axis only powers of ten; where there are fewer than three of them 2 and 5 times these, too.
const sparse = splits => {
  const digit = value =>
    value > 0 ? Math.round((value / 10 ** Math.floor(Math.log10(value) + 1e-9)) * 1e6) / 1e6 : 0;
  const few = splits.filter(value => digit(value) === 1).length < 3;
  return splits.map(value => (digit(value) === 1 || (few && [2, 5].includes(digit(value))) ? value : null));
};

function axes(format, xFormat, {label, size, x = {}, y = {}} = {}) {
  const common = {
    stroke: css("--soft"),
    font: axisFont(),
    grid: {stroke: css("--line"), width: 1},
    ticks: {stroke: css("--line"), width: 1, size: 4},
  };
  return [
    {
      ...common,
      space: 64,
      size: 26,
      ...(label ? {label, labelFont: axisFont(), labelSize: 20, labelGap: 2} : {}),
      grid: {show: false},
      values: (u, splits) => splits.map(xFormat),
      ...x,
    },
    {
      ...common,
      space: 28,
      size: size || gutter(),
      values: (u, splits) => splits.map(one => (one === null ? "" : format(one))),
      ...y,
    },
  ];
}
const LOGARITHMIC = {filter: (u, splits) => sparse(splits), grid: {filter: (u, splits) => sparse(splits)}};
const logarithmicAxis = () => ({
  ...LOGARITHMIC,
  grid: {...LOGARITHMIC.grid, stroke: css("--line"), width: 1},
  ticks: {...LOGARITHMIC.grid, stroke: css("--line"), width: 1, size: 4},
});

// Steps of severity behind a figure: the darker, the more severe.
function severityBands(u, state) {
  const steps = stepsShown(state);
  if (!steps) return;
  const {ctx, bbox} = u,
    ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.font = `${10.5 * ratio}px system-ui, 'DejaVu Sans', sans-serif`;
  ctx.textBaseline = "top";
  steps.forEach(([first, corruption, severity], n) => {
    const next = n + 1 < steps.length ? steps[n + 1][0] : META.slots + 1;
    if (next <= state.from || first > state.to || severity < 0) return;
    const left = Math.max(u.valToPos(first - 0.5, "x", true), bbox.left);
    const right = Math.min(u.valToPos(next - 0.5, "x", true), bbox.left + bbox.width);
    ctx.fillStyle = css("--ink");
    ctx.globalAlpha = 0.028 * severity;
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    const name = META.severities.corruptions[corruption];
    const texts = [`${name.replaceAll("_", " ")} ${severity}`, String(severity)].filter(
      text => ctx.measureText(text).width + 8 * ratio < right - left,
    );
    ctx.globalAlpha = 1;
    ctx.fillStyle = css("--soft");
    if (texts.length) ctx.fillText(texts[0], left + 4 * ratio, bbox.top + 2 * ratio);
  });
  ctx.restore();
}

// The steps of the stream shown; of all streams only where all have the same.
function stepsShown(state) {
  const {streams, patterns, alike} = META.severities;
  const which = state.stream >= 0 ? streams[state.stream] : alike ? streams[0] : -1;
  return which < 0 ? null : patterns[which];
}

function severityNote(state) {
  const {streams, alike, patterns} = META.severities;
  const steps = stepsShown(state);
  if (!steps) {
    if (state.stream < 0 && !alike) return "Streams differ in their drift: choose one to see its steps of severity.";
    return streams.length ? "Severity changes too often to be drawn." : "";
  }
  return steps.some(step => step[2] > 0) ? "Grey bands: corruption and severity, the darker the more severe." : "";
}

// The bounds of the values between the ends that are shown, with a little room.
function bounds(columns, least = 0, room = 0.06) {
  let low = Infinity,
    high = -Infinity;
  for (const column of columns)
    for (const value of column || []) {
      if (value === null || value === undefined) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  if (low > high || (low === 0 && high === 0)) return [0, 1];
  const reach = (high - low || Math.abs(high) || 1) * room;
  return [least === null ? low - reach : least, high + reach];
}

function logBounds(columns) {
  let [low, high] = bounds(
    columns.map(one => (one || []).filter(value => value > 0)),
    null,
    0,
  );
  if (!(low > 0)) [low, high] = [0.1, 1];
  return [low / 1.3, high * 1.3];
}
