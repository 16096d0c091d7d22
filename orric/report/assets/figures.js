// The figures over the slots and the distribution: each takes the state, and draws the allocator that is selected.
const SYNC = uPlot.sync("slots");
const rgba = (colour, alpha) =>
  `rgba(${[1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16)).join(", ")}, ${alpha})`;

function slotOptions(state, chart, where) {
  return {
    sync: {key: SYNC.key, scales: ["x", null]},
    cursor: {
      drag: {x: true, y: false, dist: 4, setScale: false},
      sync: {key: SYNC.key, scales: ["x", null], setSeries: false},
    },
    hooks: {
      drawClear: [u => severityBands(u, state)],
      setCursor: [u => chart.tell(u.cursor.idx ?? null, where)],
      setSelect: [
        u => {
          if (u.select.width < 4) return;
          zoomTo(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
        },
      ],
    },
    scales: {x: {time: false, range: [state.from - 0.5, state.to + 0.5]}},
  };
}

const slotAxis = (value, n) => (Number.isInteger(value) ? (n ? whole(value) : `slot ${whole(value)}`) : "");
const whichStream = state =>
  state.stream < 0
    ? META.streams.length > 1
      ? `all ${META.streams.length} streams`
      : META.streams[0]
    : META.streams[state.stream];

function pointNote(lines) {
  const {size} = lines.block;
  return size > 1
    ? `One point for ${size} slots: their mean; the band reaches from the least to the greatest slot.`
    : "One point for each slot.";
}

// An area between the least and the greatest slot of a bin, in the colour of its line.
function banded(lines, result, channel, colour) {
  const low = lines.of(result, `${channel}_low`),
    high = lines.of(result, `${channel}_high`);
  return low && high ? {columns: [high, low], fill: rgba(colour, 0.18)} : null;
}

// Put lines into uPlot's form; items become the legend.
function drawLines(chart, state, lines, rows, options) {
  const data = [lines.x],
    series = [{}],
    bands = [];
  const few = lines.x.length < 60 ? {show: true, size: 5} : {show: false};
  for (const row of rows) {
    if (row.band) {
      for (const column of row.band.columns) {
        data.push(column);
        series.push({stroke: "transparent", width: 0, points: {show: false}});
      }
      bands.push({series: [data.length - 2, data.length - 1], fill: row.band.fill});
    }
    data.push(row.values);
    const stepped = row.area
      ? {paths: uPlot.paths.bars({size: [1, 60], align: 0}), fill: rgba(row.colour, 0.75), width: 0}
      : {};
    // A single point between gaps would be invisible.
    const lonely = row.values.some(
      (value, n) => value !== null && (row.values[n - 1] ?? null) === null && (row.values[n + 1] ?? null) === null,
    );
    series.push({
      stroke: row.colour,
      width: row.width || 1.6,
      dash: row.dash || [],
      points: row.area ? {show: false} : lonely ? {show: true, size: 5} : few,
      alpha: row.alpha || 1,
      ...stepped,
    });
  }
  const base = slotOptions(state, chart, index => lines.told(index) + moment(lines.x[index]));
  chart.draw(
    {
      ...base,
      ...options,
      hooks: {...base.hooks, ...(options.hooks || {})},
      scales: {...base.scales, ...options.scales},
      series,
      bands,
    },
    data,
  );
  chart.explain(
    rows.map(row => ({
      label: row.label,
      colour: row.colour,
      dash: row.dash,
      area: row.area,
      pick: row.pick,
      value: index => row.format(row.values[index]),
    })),
    options.selected,
  );
}

function drawArrivals(chart, state) {
  const lines = linesOf(state),
    result = state.result,
    arrivals = css("--arrivals");
  const kinds = [
    ["late", "late", "#E69F00"],
    ["shed", "shed", "#D55E00"],
    ["gone", "abandoned or lost", "#CC79A7"],
  ];
  const rows = kinds
    .map(([channel, label, colour]) => ({
      label,
      colour,
      values: lines.of(result, channel),
      area: true,
      format: short,
    }))
    .filter(row => row.values.some(value => value > 0));
  // Higher ones behind, so that none hides another.
  const sum = row => row.values.reduce((total, value) => total + (value || 0), 0);
  rows.sort((a, b) => sum(b) - sum(a));
  const row = {
    label: "arrived",
    colour: arrivals,
    values: lines.of(result, "requests"),
    band: banded(lines, result, "requests", arrivals),
    format: short,
  };
  rows.push(row);
  const columns = rows.flatMap(one => [one.values, ...(one.band ? one.band.columns : [])]);
  drawLines(chart, state, lines, rows, {
    scales: {y: {range: bounds(columns, 0, stepsShown(state) ? 0.2 : 0.06)}},
    axes: axes(short, slotAxis),
  });
  chart.unit.textContent = `Requests per slot of ${whichStream(state)}, under ${nameOf(result)}`;
  chart.note.textContent = [pointNote(lines), severityNote(state)].join(" ");
}

function drawQueue(chart, state) {
  const lines = linesOf(state),
    result = state.result,
    colour = look(result).colour;
  const row = {
    label: "waiting at the slot's end",
    colour,
    values: lines.of(result, "waiting"),
    band: banded(lines, result, "waiting", colour),
    format: short,
  };
  const columns = [row.values, ...(row.band ? row.band.columns : [])];
  // A flat line says less than a sentence.
  const empty = columns.every(values => values.every(value => !(value > 0)));
  chart.holder.hidden = chart.legend.parentElement.hidden = empty;
  chart.unit.textContent = `Requests of ${whichStream(state)} that wait, or are in service, under ${nameOf(result)}`;
  chart.note.textContent = empty ? "At the end of no slot shown does any." : pointNote(lines);
  if (empty) return;
  drawLines(chart, state, lines, [row], {
    scales: {y: {range: bounds(columns, 0, stepsShown(state) ? 0.25 : 0.06)}},
    axes: axes(short, slotAxis),
  });
}

function deadlinesOf(state) {
  const shown = state.stream < 0 ? META.deadlines : [META.deadlines[state.stream]];
  return [...new Set(shown.filter(one => one !== null))].sort((a, b) => a - b).slice(0, 5);
}

// Lines across, or upright, at the deadlines, each with its name.
function deadlineMarks(u, state, scale) {
  const {ctx, bbox} = u,
    ratio = devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = css("--fault");
  ctx.lineWidth = 1.5 * ratio;
  ctx.setLineDash([5 * ratio, 3 * ratio]);
  ctx.font = `${11 * ratio}px system-ui, 'DejaVu Sans', sans-serif`;
  // Readable on whatever lies behind it.
  const write = (text, x, y) => {
    ctx.save();
    ctx.setLineDash([]);
    ctx.lineWidth = 4 * ratio;
    ctx.strokeStyle = css("--paper");
    ctx.strokeText(text, x, y);
    ctx.restore();
    ctx.fillText(text, x, y);
  };
  for (const deadline of deadlinesOf(state)) {
    const at = u.valToPos(deadline, scale, true),
      text = `deadline ${short(deadline, "s")}`;
    ctx.beginPath();
    if (scale === "x") {
      if (at < bbox.left || at > bbox.left + bbox.width) continue;
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      const fits = at + ctx.measureText(text).width + 6 * ratio < bbox.left + bbox.width;
      ctx.textAlign = fits ? "left" : "right";
      ctx.textBaseline = "bottom";
      ctx.stroke();
      write(text, at + (fits ? 4 : -4) * ratio, bbox.top + bbox.height - 4 * ratio);
    } else {
      if (at < bbox.top || at > bbox.top + bbox.height) continue;
      ctx.moveTo(bbox.left, at);
      ctx.lineTo(bbox.left + bbox.width, at);
      ctx.textAlign = "right";
      const above = at - 16 * ratio > bbox.top;
      ctx.textBaseline = above ? "bottom" : "top";
      ctx.stroke();
      write(text, bbox.left + bbox.width - 4 * ratio, at + (above ? -3 : 3) * ratio);
    }
  }
  ctx.restore();
}

function drawLatency(chart, state) {
  const lines = linesOf(state),
    result = state.result,
    {colour} = look(result);
  const p50 = lines.of(result, "p50_s"),
    p99 = lines.of(result, "p99_s");
  const known = p99.some(value => value !== null);
  chart.figure.hidden = !META.measured;
  if (chart.figure.hidden) return;
  const band = banded(lines, result, "p99_s", colour);
  const seconds = value => short(value, "s");
  const rows = [
    {label: "99th percentile", colour, values: p99, band, format: seconds, width: 2},
    {label: "median", colour, dash: [6, 3], values: p50, format: seconds},
  ];
  const deadlines = deadlinesOf(state);
  const range = logBounds([p50, p99, ...(band ? band.columns : []), deadlines]);
  drawLines(chart, state, lines, known ? rows : [], {
    scales: {y: {distr: 3, range}},
    axes: axes(short, slotAxis, {y: logarithmicAxis()}),
    hooks: {draw: [u => deadlineMarks(u, state, "y")]},
  });
  const all = state.stream < 0 && META.streams.length > 1;
  chart.unit.textContent =
    `Seconds from arrival to answer, of ${whichStream(state)}, under ${nameOf(result)}` +
    (known ? "" : ": nobody was answered");
  chart.note.textContent =
    (all
      ? "Of all streams: the mean of their medians, and the 99th percentile of the one that waits longest. "
      : "") + pointNote(lines);
}

const MEASURES = {in_time: "in-time accuracy", accuracy: "mean accuracy", answered: "accuracy of the answered"};
const OF_WHAT = {
  in_time:
    "Of the requests that ended in the slot (answered, shed, abandoned or lost) the part that was right and in time",
  accuracy: "Of the requests that ended in the slot (answered, shed, abandoned or lost) the part that was right",
  answered: "Of the requests that were answered in the slot the part that was right",
};

function drawAccuracy(chart, state) {
  const lines = linesOf(state),
    channel = state.measure;
  const rows = rivals(state.result).map(n => {
    const {colour, dash} = look(n),
      chosen = n === state.result,
      name = META.results[n].allocator;
    return {
      label: name,
      colour,
      dash,
      values: lines.of(n, channel),
      format: percent,
      width: chosen ? 3 : 1.3,
      alpha: chosen ? 1 : 0.75,
      pick: () => show({result: n}),
      band: chosen ? banded(lines, n, channel, colour) : null,
      chosen,
    };
  });
  rows.sort((a, b) => a.chosen - b.chosen);
  const columns = rows.flatMap(one => [one.values, ...(one.band ? one.band.columns : [])]);
  const [low, high] = bounds(columns, null, 0.1);
  drawLines(chart, state, lines, rows, {
    scales: {y: {range: [Math.max(low, 0), Math.min(high, stepsShown(state) ? 1.08 : 1.02)]}},
    axes: axes(value => (value > 1 ? "" : `${+(100 * value).toFixed(1)} %`), slotAxis),
    selected: nameOf(state.result),
  });
  // The one that is selected comes first where it is read.
  chart.legend.prepend(chart.legend.querySelector(".selected"));
  chart.unit.textContent = `${OF_WHAT[channel]}; ${whichStream(state)}; bold: ${nameOf(state.result)}`;
  chart.note.textContent = [pointNote(lines), severityNote(state)].join(" ");
}

function drawDistribution(chart, state) {
  const all = state.stream < 0 || META.streams.length === 1,
    kind = all ? "all" : "streams",
    grid = META.grids[kind];
  // Its heading goes with it.
  chart.figure.hidden = chart.figure.parentElement.hidden = grid.length === 0;
  if (chart.figure.hidden) return;
  const tail = state.tail,
    line = all ? 0 : state.stream,
    rows = [];
  for (const n of rivals(state.result)) {
    const nines = unpack(META.results[n].cdf[kind], "nines", line, grid.length);
    if (nines.every(value => value === null)) continue;
    const values = nines.map(value =>
      value === null ? null : tail ? (value >= 6.99 ? null : 10 ** -value) : value >= 6.99 ? 1 : 1 - 10 ** -value,
    );
    rows.push({n, values, label: META.results[n].allocator, chosen: n === state.result});
  }
  rows.sort((a, b) => a.chosen - b.chosen);
  const series = [
    {},
    ...rows.map(({n, chosen}) => ({
      stroke: look(n).colour,
      dash: look(n).dash,
      width: chosen ? 3 : 1.5,
      alpha: chosen ? 1 : 0.8,
      points: {show: false},
    })),
  ];
  const format = tail ? value => short(value) : value => percent(value, 2);
  const deadlines = deadlinesOf(state),
    least = Math.min(grid[0], ...deadlines),
    most = Math.max(grid[grid.length - 1], ...deadlines.map(one => 1.1 * one));
  const y = tail
    ? {distr: 3, range: [Math.max(Math.min(...rows.flatMap(row => row.values.filter(value => value))), 1e-6), 1.1]}
    : {range: [0, 1.02]};
  const ticks = axes(tail ? short : value => percent(value, 0), value => (value === null ? "" : short(value)), {
    label: "seconds from arrival to answer",
    size: 58,
    x: logarithmicAxis(),
    y: tail ? logarithmicAxis() : {},
  });
  chart.draw(
    {
      series,
      axes: ticks,
      scales: {x: {time: false, distr: 3, range: state.latencies || [least, most]}, y},
      cursor: {drag: {x: true, y: false, dist: 4, setScale: false}},
      hooks: {
        setCursor: [u => chart.tell(u.cursor.idx ?? null, index => `within ${short(grid[index], "s")}`)],
        draw: [u => deadlineMarks(u, state, "x")],
        setSelect: [
          u => {
            if (u.select.width >= 4)
              show({latencies: [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")]});
          },
        ],
      },
    },
    [grid, ...rows.map(row => row.values)],
  );
  chart.explain(
    rows.map(row => ({
      label: row.label,
      ...look(row.n),
      pick: () => show({result: row.n}),
      value: index => format(row.values[index]),
    })),
    nameOf(state.result),
  );
  chart.legend.prepend(...[chart.legend.querySelector(".selected")].filter(Boolean));
  chart.unit.textContent = `${tail ? "Part of the answered requests that took longer" : "Part of the answered requests that took no longer"}, of ${whichStream(state)}; bold: ${nameOf(state.result)}`;
  const row = all ? 0 : 1 + state.stream,
    seconds = name => short(total(state.result, row, name), "s");
  const phases = [
    ["before", "those that began before the slot's retraining"],
    ["during", "those that began while it ran"],
    ["after", "those that began after it"],
  ]
    .filter(([key]) => total(state.result, row, `${key}_p99_s`) !== null)
    .map(([key, text]) => `of ${text} within ${seconds(`${key}_p99_s`)}`);
  chart.note.textContent =
    total(state.result, row, "p99_s") === null
      ? `Under ${nameOf(state.result)} nobody was answered.`
      : `Under ${nameOf(state.result)} half were answered within ${seconds("p50_s")}, 99 % within ${seconds("p99_s")}` +
        (phases.length ? `; 99 % ${phases.join(", ")}.` : ".");
}

function drawPrediction(chart, state) {
  const same = META.results.map((one, n) => n).filter(n => META.results[n].allocator === nameOf(state.result));
  const lines = linesOf(state),
    colours = {onnx: css("--ink"), curve: "#D55E00", table: "#009E73"};
  const rows = same.map(n => {
    const {model, modelName} = META.results[n];
    return {
      label: modelName,
      colour: colours[model],
      dash: model === "onnx" ? [] : DASHES[model === "curve" ? 1 : 2],
      values: lines.of(n, "answered"),
      format: percent,
      width: 2,
    };
  });
  const [low, high] = bounds(
    rows.map(row => row.values),
    null,
    0.08,
  );
  drawLines(chart, state, lines, rows, {
    scales: {y: {range: [Math.max(low, 0), Math.min(high, stepsShown(state) ? 1.08 : 1.02)]}},
    axes: axes(value => (value > 1 ? "" : `${+(100 * value).toFixed(1)} %`), slotAxis),
  });
  const real = rows[same.findIndex(n => META.results[n].model === "onnx")];
  const told = rows
    .filter(row => row !== real && real)
    .map(row => {
      const off = row.values
        .map((value, n) => (value === null || real.values[n] === null ? null : Math.abs(value - real.values[n])))
        .filter(one => one !== null);
      return `${row.label[0].toUpperCase()}${row.label.slice(1)} is off by ${short((100 * off.reduce((a, b) => a + b, 0)) / off.length)} points (mean over the points shown)`;
    });
  chart.unit.textContent = `Of the requests that were answered in the slot the part that was right; ${whichStream(state)}, under ${nameOf(state.result)}`;
  chart.note.textContent = [
    told.length ? `${told.join(". ")}.` : "It ran under one accuracy model only.",
    pointNote(lines),
  ].join(" ");
}
