// The report: what is selected, the controls that select it, and the order of the figures.
let state = {
  result: META.first,
  stream: -1,
  from: 1,
  to: META.slots,
  latencies: null,
  tail: false,
  measure: META.measure === "in-time accuracy" ? "in_time" : "accuracy",
};
const nameOf = result => META.results[result].allocator;
// Those that can be compared: of the same accuracy model.
const rivals = result =>
  META.results.map((one, n) => n).filter(n => META.results[n].model === META.results[result].model);

const charts = {
  timeline: [new Chart("timeline", "Timeline of the GPUs", 300), drawTimeline],
  arrivals: [new Chart("arrivals", "Arrivals, and what was late or lost", 190), drawArrivals],
  queue: [new Chart("queue", "Queue", 150), drawQueue],
  latency: [new Chart("latency", "Latency", 190), drawLatency],
  accuracy: [new Chart("accuracy", "Accuracy", 300), drawAccuracy],
  distribution: [new Chart("distribution", "Distribution of latencies", 300), drawDistribution],
};
if (new Set(META.results.map(one => one.model)).size > 1) {
  charts.prediction = [new Chart("prediction", "Predicted and real accuracy", 240), drawPrediction];
}

function show(change) {
  state = {...state, ...change};
  state.from = Math.max(Math.round(state.from), 1);
  state.to = Math.min(Math.round(state.to), META.slots);
  render();
}

function zoomTo(low, high) {
  let from = Math.max(Math.ceil(low), 1),
    to = Math.min(Math.floor(high), META.slots);
  if (to - from < 3)
    [from, to] = [
      Math.max(Math.round((from + to) / 2) - 2, 1),
      Math.min(Math.round((from + to) / 2) + 2, META.slots),
    ];
  show({from, to});
}

function zoomBy(factor, centre) {
  const middle = centre ?? (state.from + state.to) / 2,
    half = Math.max(((state.to - state.from) / 2) * factor, 2);
  const low = Math.max(middle - half, 1),
    high = Math.min(Math.max(low + 2 * half, middle + half), META.slots);
  zoomTo(Math.max(Math.min(low, high - 2 * half), 1), high);
}

function option(value, text) {
  return element("option", {value}, text);
}

const controls = (() => {
  const several = new Set(META.results.map(one => one.model)).size > 1;
  const result = element(
    "select",
    {id: "allocator", onchange: event => show({result: +event.target.value})},
    ...META.results.map((one, n) => option(n, several ? `${one.allocator} (${one.modelName})` : one.allocator)),
  );
  const names = element(
    "datalist",
    {id: "stream-names"},
    ...META.streams.map(name => element("option", {value: name})),
  );
  const stream = element("input", {
    id: "stream",
    list: "stream-names",
    type: "search",
    placeholder: `all ${META.streams.length}`,
    autocomplete: "off",
    size: "14",
    oninput: event => pickStream(event.target.value, false),
    onchange: event => pickStream(event.target.value, true),
  });
  const from = element("input", {
    id: "from",
    type: "number",
    min: 1,
    max: META.slots,
    "aria-label": "first slot",
    onchange: read,
  });
  const to = element("input", {
    id: "to",
    type: "number",
    min: 1,
    max: META.slots,
    "aria-label": "last slot",
    onchange: read,
  });
  function read() {
    const [first, last] = [+from.value || 1, +to.value || META.slots];
    zoomTo(Math.min(first, last), Math.max(first, last));
  }
  const reset = element(
    "button",
    {type: "button", id: "reset", onclick: () => show({from: 1, to: META.slots, latencies: null})},
    "whole run",
  );
  const windows = META.blocks
    .filter(one => one.kind === "all" && one.size === 1 && one.bins < META.slots)
    .map(one =>
      element(
        "button",
        {type: "button", class: "window", onclick: () => show({from: one.first + 1, to: one.first + one.bins})},
        one.first === 0 ? `first ${one.bins} slots` : `${one.bins} around the worst`,
      ),
    );
  const field = (label, ...parts) => element("label", {}, `${label} `, ...parts);
  const bar = element(
    "div",
    {id: "controls", role: "group", "aria-label": "What the figures show"},
    field("allocator", result),
    ...(META.streams.length > 1 ? [field("stream", stream), names] : []),
    element("span", {class: "range"}, "slots ", from, " to ", to),
    reset,
    ...windows,
  );
  return {bar, result, stream, from, to, reset};
})();

function pickStream(text, last) {
  const exact = META.streams.indexOf(text),
    likely = META.streams.findIndex(name => name.includes(text));
  const found = text === "" ? -1 : exact >= 0 ? exact : last && likely >= 0 ? likely : state.stream;
  if (found !== state.stream) show({stream: found});
  else if (last) controls.stream.value = found < 0 ? "" : META.streams[found];
}

// Of every stream what the selected allocator makes of it, and the leading measure of all allocators.
const streamTable = (() => {
  if (META.streams.length < 2) return null;
  const search = element("input", {
    type: "search",
    placeholder: "name has …",
    "aria-label": "filter streams by name",
    oninput: () => filterRows(table, search.value, told),
  });
  const told = element("output");
  const table = element("table", {id: "streams"});
  const note = element("p", {class: "note"});
  return {
    of: null,
    table,
    told,
    search,
    note,
    whole: element(
      "div",
      {},
      note,
      element("p", {class: "filters"}, search, told),
      element("div", {class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Streams"}, table),
    ),
  };
})();

function fillStreams() {
  if (!streamTable) return;
  if (streamTable.of !== state.result) rebuildStreams();
  [...streamTable.table.tBodies[0].rows].forEach(row => {
    const chosen = +row.dataset.stream === state.stream;
    row.classList.toggle("selected", chosen);
    row.querySelector("button").setAttribute("aria-pressed", String(chosen));
  });
}

function rebuildStreams() {
  streamTable.of = state.result;
  const rows = rivals(state.result),
    lead = n => rows.map(r => total(r, 1 + n, "leading"));
  const own = [
    ["requests", short],
    ["late", percent],
    ["unanswered", percent],
    ["p50_s", value => short(value)],
    ["p99_s", value => short(value)],
  ];
  const heads = [
    "stream",
    META.measure,
    "requests",
    "late",
    "unanswered",
    "p50 latency (s)",
    "p99 latency (s)",
    ...rows.filter(r => r !== state.result).map(nameOf),
  ];
  streamTable.note.textContent =
    `A row selects the stream that the figures show. Of ${nameOf(state.result)}` +
    (rows.length > 1 ? `; the columns named after other allocators hold their ${META.measure}.` : ".");
  const sorted = [...streamTable.table.querySelectorAll("th")].findIndex(one => one.hasAttribute("aria-sort"));
  const rising =
    sorted >= 0 && streamTable.table.querySelectorAll("thead th")[sorted].getAttribute("aria-sort") === "ascending";
  const cell = (value, text, bar) =>
    element(
      "td",
      {
        "data-value": value === null ? "" : value,
        ...(bar === undefined ? {} : {class: "bar", style: `--part: ${bar === null ? 0 : (100 * bar).toFixed(1)}%`}),
      },
      text,
    );
  streamTable.table.replaceChildren(
    element(
      "thead",
      {},
      element("tr", {}, ...heads.map(one => element("th", {scope: "col"}, element("button", {type: "button"}, one)))),
    ),
    element(
      "tbody",
      {},
      ...META.streams.map((name, k) => {
        const values = lead(k),
          mine = values[rows.indexOf(state.result)];
        return element(
          "tr",
          {"data-stream": k, onclick: () => show({stream: state.stream === k ? -1 : k})},
          element("th", {scope: "row", "data-value": name}, element("button", {type: "button"}, name)),
          cell(mine, percent(mine), mine),
          ...own.map(([key, format]) => {
            const value = total(state.result, 1 + k, key);
            return cell(value, format(value));
          }),
          ...rows
            .map((r, i) => [r, values[i]])
            .filter(([r]) => r !== state.result)
            .map(([, value]) => cell(value, percent(value), value)),
        );
      }),
    ),
  );
  sortable(streamTable.table);
  if (sorted >= 0) sortBy(streamTable.table, sorted, rising);
  filterRows(streamTable.table, streamTable.search.value, streamTable.told);
}

function fillEvents() {
  const {events, eventsLeftOut} = META.results[state.result],
    holder = document.getElementById("events");
  holder.hidden = !events.length;
  if (!events.length) return;
  const rows = events.map(([time, slot, subject, what]) =>
    element(
      "tr",
      {},
      element("td", {}, whole(slot)),
      element("td", {}, short(time)),
      element("td", {}, subject),
      element("td", {}, what),
    ),
  );
  holder.replaceChildren(
    element(
      "summary",
      {},
      `Events under ${nameOf(state.result)}: ${whole(events.length + eventsLeftOut)}` +
        (eventsLeftOut ? ` (the first ${events.length} are told here, all in events.jsonl)` : ""),
    ),
    element(
      "div",
      {class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Events"},
      element(
        "table",
        {class: "words"},
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            ...["slot", "time (s)", "what", "happened"].map(one => element("th", {scope: "col"}, one)),
          ),
        ),
        element("tbody", {}, ...rows),
      ),
    ),
  );
}

function render() {
  controls.result.value = state.result;
  if (document.activeElement !== controls.stream || state.stream >= 0)
    controls.stream.value = state.stream < 0 ? "" : META.streams[state.stream];
  controls.from.value = state.from;
  controls.to.value = state.to;
  controls.reset.disabled = state.from === 1 && state.to === META.slots && !state.latencies;
  for (const row of document.querySelectorAll("tr[data-result]")) {
    const chosen = +row.dataset.result === state.result;
    row.classList.toggle("selected", chosen);
    row.querySelector("th button").setAttribute("aria-pressed", String(chosen));
  }
  const holders = Object.keys(META.costs).map(key => [key, document.getElementById(`tradeoff-${key}`)]);
  for (const [key, holder] of holders) holder.parentElement.hidden = !placed(key, state).length;
  const known = holders.filter(([, holder]) => !holder.parentElement.hidden);
  document.getElementById("tradeoffs").hidden = !known.length;
  for (const [key, holder] of known) drawScatter(holder, key, state);
  for (const [chart, draw] of Object.values(charts)) {
    chart.tell(null);
    draw(chart, state);
  }
  fillEvents();
  fillStreams();
  document.body.dataset.shown = JSON.stringify({
    allocator: nameOf(state.result),
    model: META.results[state.result].model,
    stream: state.stream,
    from: state.from,
    to: state.to,
  });
}

function build() {
  const root = document.getElementById("interactive"),
    measures = element(
      "select",
      {"aria-label": "which accuracy", onchange: event => show({measure: event.target.value})},
      ...Object.entries(MEASURES)
        .filter(([key]) => key !== "in_time" || META.measure === "in-time accuracy")
        .map(([key, text]) => option(key, text)),
    );
  measures.value = state.measure;
  charts.accuracy[0].tools.append(measures);
  const tail = element("input", {
    type: "checkbox",
    id: "tail",
    onchange: event => show({tail: event.target.checked}),
  });
  charts.distribution[0].tools.append(element("label", {}, tail, " the tail, on a logarithmic scale"));
  const batches = META.batches
    ? `Bars: 95 % intervals from the means of ${META.batches} batches of consecutive slots of this one run, so that drift widens them; differences between allocators, which saw the same requests, are surer than the bars say.`
    : "The run is too short for intervals.";
  const references = META.results.some(one => one.reference) ? " Diamonds are reference lines." : "";
  const scatters = Object.keys(META.costs).map(key =>
    element("div", {class: "tradeoff"}, element("h3", {}, COST_HEADS[key]), element("div", {id: `tradeoff-${key}`})),
  );
  root.append(
    controls.bar,
    element(
      "section",
      {id: "tradeoffs"},
      element("h2", {}, "What accuracy costs"),
      element(
        "p",
        {class: "unit"},
        `${META.measure[0].toUpperCase()}${META.measure.slice(1)} over all requests; up is better, left is cheaper`,
      ),
      element("div", {class: "row"}, ...scatters),
      element("output", {class: "readout", id: "tradeoffs-told"}),
      element(
        "p",
        {class: "note"},
        `The dashed line is the front: nobody is both cheaper and more accurate.${references} ${batches} The p99 latency has no interval.`,
      ),
    ),
    element(
      "section",
      {},
      element("h2", {}, "Over the slots"),
      element(
        "p",
        {class: "note"},
        "Drag to zoom, in any of them; arrow keys move the cursor of the figure that has the focus.",
      ),
      ...["timeline"].map(key => charts[key][0].figure),
      element("details", {id: "events"}),
      ...["arrivals", "queue", "latency", "accuracy", ...(charts.prediction ? ["prediction"] : [])].map(
        key => charts[key][0].figure,
      ),
    ),
    element("section", {}, element("h2", {}, "Latencies"), charts.distribution[0].figure),
    ...(streamTable ? [element("section", {}, element("h2", {}, "Streams"), streamTable.whole)] : []),
  );
}

function selectRows() {
  const rows = [...document.querySelectorAll("tr[data-result]")];
  for (const row of rows) {
    row.addEventListener("click", () => show({result: +row.dataset.result}));
    row.querySelector("th button").addEventListener("keydown", event => {
      const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
      if (!step) return;
      event.preventDefault();
      // In the order that is seen.
      const seen = [...document.querySelectorAll("tr[data-result]")].filter(one => !one.hidden);
      const next = seen[seen.indexOf(row) + step];
      if (next) {
        show({result: +next.dataset.result});
        next.querySelector("th button").focus();
      }
    });
  }
}

async function begin() {
  await inflate();
  build();
  selectRows();
  render();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) {
      width = innerWidth;
      render();
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
  // On paper everything is dark on light.
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("paper");
    render();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    render();
  });
  document.body.dataset.ready = "true";
  document.body.dataset.milliseconds = Math.round(performance.now());
}
begin();
