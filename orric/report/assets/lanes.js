// The timeline: a lane for every GPU, and below it those of its streams, with what they spend their time on.
const USES = ["serving", "labelling", "sampling", "training", "swapping", "down"];
const MOST_LANES = 12;
const NAMES_OF_USES = {down: "stands still"};

// The lanes to draw: a stream's own and its GPU's, or every GPU and the streams that use it most.
function lanesOf(state) {
  const {placed, gpus} = META.results[state.result],
    lanes = [],
    left = [];
  const gpuLane = n => ({
    label: gpus[n],
    kind: "gpus",
    line: n,
    height: state.stream >= 0 || META.streams.length === 1 ? 84 : 46,
  });
  if (state.stream >= 0) {
    lanes.push(gpuLane(placed[state.stream]), {
      label: META.streams[state.stream],
      kind: "streams",
      line: state.stream,
      height: 84,
    });
    return {lanes, left: 0};
  }
  const most = Math.max(Math.floor(MOST_LANES / gpus.length), 2);
  for (let n = 0; n < Math.min(gpus.length, 12); n++) {
    lanes.push(gpuLane(n));
    if (META.streams.length < 2) continue;
    const here = placed
      .map((gpu, k) => [gpu, k])
      .filter(([gpu]) => gpu === n)
      .map(([, k]) => k);
    // Those that ask most; they use most.
    here.sort((a, b) => total(state.result, 1 + b, "requests") - total(state.result, 1 + a, "requests"));
    for (const k of here.slice(0, most).sort((a, b) => a - b))
      lanes.push({label: META.streams[k], kind: "streams", line: k, height: 24});
    left.push(Math.max(here.length - most, 0));
  }
  return {lanes, left: left.reduce((a, b) => a + b, 0), gpusLeft: Math.max(gpus.length - 12, 0)};
}

function fill(lane, state) {
  const lines = new Lines(
    META.streams.length === 1 && lane.kind === "streams" ? "all" : lane.kind,
    lane.line,
    state.from,
    state.to,
  );
  lane.lines = lines;
  lane.uses = USES.map(use => lines.of(state.result, use));
  lane.budget = lane.kind === "gpus" ? lines.of(state.result, "budget") : null;
  const stacked = lines.x.map((x, i) => lane.uses.reduce((sum, values) => sum + (values ? values[i] || 0 : 0), 0));
  lane.most = Math.max(...stacked, 1e-9);
}

function drawTimeline(chart, state) {
  const {lanes, left, gpusLeft} = lanesOf(state);
  for (const lane of lanes) fill(lane, state);
  // Streams share a scale, so that their lanes can be compared.
  const most = Math.max(...lanes.filter(lane => lane.kind === "streams").map(lane => lane.most), 1e-9);
  let top = 0;
  for (const lane of lanes) {
    lane.top = top;
    top += lane.height + (lane.kind === "gpus" ? 5 : 2);
    lane.scale = lane.kind === "gpus" ? Math.max(1, lane.most) : most;
  }
  chart.height = top + 36;
  const narrow = innerWidth < 600,
    room = gutter();
  const [xAxis, yAxis] = axes(String, slotAxis);
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = axisFont();
  const fits = text => pen.measureText(text).width <= room - 12;
  // The ends of names of many cameras tell them apart.
  const name = text => {
    let kept = text;
    while (kept.length > 1 && !fits(kept === text ? text : `…${kept}`)) kept = kept.slice(1);
    return kept === text ? text : `…${kept}`;
  };
  const grid = lanes[0].lines.x,
    base = slotOptions(state, chart, index => index);
  const shown = USES.filter((use, n) => lanes.some(lane => lane.uses[n] && lane.uses[n].some(value => value > 0)));
  chart.draw(
    {
      ...base,
      series: [{}, {stroke: "transparent", points: {show: false}}],
      scales: {...base.scales, y: {range: [0, top], dir: -1}},
      axes: [
        xAxis,
        {
          ...yAxis,
          size: room,
          grid: {show: false},
          ticks: {show: false},
          splits: () => lanes.map(lane => lane.top + lane.height / 2),
          values: () => lanes.map(lane => name(lane.kind === "gpus" || narrow ? lane.label : `  ${lane.label}`)),
          space: 1,
        },
      ],
      hooks: {
        ...base.hooks,
        drawClear: [],
        draw: [u => lanes.forEach(lane => paint(u, lane, state)), u => paintEvents(u, lanes, state)],
        setCursor: [u => tellLane(chart, u, lanes, state, shown)],
      },
    },
    [grid, grid.map(() => null)],
  );
  chart.explain([
    ...shown.map(use => ({label: NAMES_OF_USES[use] || use, colour: css(`--${use}`), area: true, use})),
    ...(lanes.some(lane => lane.budget && lane.budget.some(value => value !== null))
      ? [{label: "budget", colour: css("--ink"), dash: [3, 2]}]
      : []),
  ]);
  const what = META.measured ? "What the GPUs' time goes to" : "What the budget goes to";
  chart.unit.textContent =
    `${what} under ${nameOf(state.result)}; lanes of GPUs are drawn up to ${percent(Math.max(...lanes.filter(lane => lane.kind === "gpus").map(lane => lane.scale)), 0)}` +
    (lanes.some(lane => lane.kind === "streams") ? `; lanes of streams are drawn up to ${percent(most)}` : "");
  const {size} = lanes[0].lines.block,
    slots = lanes.map(lane => lane.lines.block.size);
  const bin =
    Math.max(...slots) > 1
      ? `A step is the mean of ${size === Math.max(...slots) ? size : `${Math.min(...slots)} (GPUs) or ${Math.max(...slots)} (streams)`} slots.`
      : "A step is a slot.";
  const others = [
    left ? `${left} streams that ask less are left out: choose one above.` : "",
    gpusLeft ? `${gpusLeft} GPUs are left out: choose a stream on them.` : "",
  ];
  chart.note.textContent = [bin, "What is empty idled, or belonged to the budget that others use.", ...others]
    .filter(Boolean)
    .join(" ");
}

function paint(u, lane, state) {
  const {ctx, bbox} = u,
    ratio = devicePixelRatio;
  const top = bbox.top + lane.top * ratio,
    height = lane.height * ratio,
    {lines} = lane;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, top, bbox.width, height);
  ctx.clip();
  ctx.fillStyle = css("--lane");
  ctx.fillRect(bbox.left, top, bbox.width, height);
  const edge = slot => u.valToPos(slot, "x", true);
  // No finer than the screen.
  const bins = lines.x.length,
    step = Math.max(1, Math.floor(bins / (bbox.width / ratio)));
  const colours = USES.map(use => css(`--${use}`));
  const budget = [];
  for (let i = 0; i < bins; i += step) {
    const count = Math.min(step, bins - i);
    const left = Math.round(edge(lines.first(lines.begin + i) - 0.5)),
      right = Math.round(edge(lines.last(lines.begin + i + count - 1) + 0.5));
    let floor = top + height;
    lane.uses.forEach((values, n) => {
      if (!values) return;
      let mean = 0;
      for (let j = i; j < i + count; j++) mean += (values[j] || 0) / count;
      if (mean <= 0) return;
      const high = (mean / lane.scale) * height;
      ctx.fillStyle = colours[n];
      ctx.fillRect(left, floor - high, Math.max(right - left, 1), high);
      floor -= high;
    });
    if (lane.budget && lane.budget[i] !== null)
      budget.push([left, right, top + height * (1 - lane.budget[i] / lane.scale)]);
  }
  ctx.strokeStyle = css("--ink");
  ctx.globalAlpha = 0.6;
  ctx.lineWidth = ratio;
  ctx.setLineDash([3 * ratio, 2 * ratio]);
  ctx.beginPath();
  for (const [left, right, y] of budget) {
    ctx.lineTo(left, Math.max(y, top + ratio));
    ctx.lineTo(right, Math.max(y, top + ratio));
  }
  ctx.stroke();
  ctx.restore();
}

function paintEvents(u, lanes, state) {
  const {ctx, bbox} = u,
    ratio = devicePixelRatio;
  ctx.save();
  ctx.fillStyle = css("--fault");
  for (const [, slot, subject] of META.results[state.result].events) {
    const lane = lanes.find(one => one.label === subject);
    if (!lane || slot < state.from || slot > state.to) continue;
    const x = u.valToPos(slot, "x", true),
      y = bbox.top + lane.top * ratio;
    ctx.beginPath();
    ctx.moveTo(x - 3 * ratio, y);
    ctx.lineTo(x + 3 * ratio, y);
    ctx.lineTo(x, y + 5 * ratio);
    ctx.fill();
  }
  ctx.restore();
}

function tellLane(chart, u, lanes, state, shown) {
  const {left, top} = u.cursor;
  if (left === undefined || left < 0) {
    chart.place.textContent = "";
    for (const item of chart.items) item.output.textContent = "";
    return;
  }
  const slot = u.posToVal(left, "x");
  const lane = lanes.find(one => top >= one.top && top < one.top + one.height + 5) || lanes[0],
    {lines} = lane;
  const index = lines.x.findIndex((x, i) => slot <= lines.last(lines.begin + i) + 0.5);
  if (index < 0) return;
  const parts = {};
  USES.forEach((use, n) => (parts[use] = lane.uses[n] ? lane.uses[n][index] || 0 : 0));
  const idle = Math.max(1 - Object.values(parts).reduce((a, b) => a + b, 0), 0);
  for (const item of chart.items)
    item.output.textContent = item.use
      ? ` ${percent(parts[item.use])}`
      : lane.budget
        ? ` ${percent(lane.budget[index])}`
        : "";
  const said = [`${lane.label}, ${lines.told(index)}${moment(lines.first(lines.begin + index))}`];
  if (lane.kind === "gpus") said.push(`${percent(idle)} of it idle`);
  const choice = ["retraining", "inference"].map(kind =>
    lane.kind === "streams" || META.streams.length === 1
      ? new Lines(
          META.streams.length === 1 ? "all" : "streams",
          META.streams.length === 1 ? 0 : lane.line,
          state.from,
          state.to,
        ).of(state.result, kind)
      : null,
  );
  if (choice[0] && choice[1])
    said.push(
      `decided: retraining ${META.choices.retraining[choice[0][index]]}, inference ${META.choices.inference[choice[1][index]]}`,
    );
  const near = META.results[state.result].events.filter(
    ([, at, subject]) =>
      subject === lane.label && at >= lines.first(lines.begin + index) && at <= lines.last(lines.begin + index),
  );
  said.push(...near.slice(0, 3).map(([, at, , what]) => `slot ${whole(at)}: ${what}`));
  chart.place.textContent = said.join("; ");
}
