// The numbers: inflated once, unpacked line by line when a figure wants one.
const META = JSON.parse(document.getElementById("meta").textContent);
let BYTES = null;

async function inflate() {
  const text = atob(document.getElementById("numbers").textContent.trim());
  const packed = Uint8Array.from(text, letter => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  BYTES = new DataView(await new Response(stream).arrayBuffer());
}

// One line of a pack: its two ends, then the codes' lower bytes, then, of fine ones, the upper.
function unpack(pack, channel, line, points) {
  const place = pack.channels.indexOf(channel);
  if (place < 0) return null;
  const row = place * pack.lines + line,
    rows = pack.channels.length * pack.lines;
  const low = BYTES.getFloat32(pack.at + 8 * row, true),
    high = BYTES.getFloat32(pack.at + 8 * row + 4, true);
  const codes = pack.at + 8 * rows + row * points,
    upper = codes + rows * points;
  const values = new Array(points),
    logarithmic = /^p\d+_s/.test(channel);
  for (let i = 0; i < points; i++) {
    const code = BYTES.getUint8(codes + i) + (pack.steps > 254 ? 256 * BYTES.getUint8(upper + i) : 0);
    const value = low + (code / pack.steps) * (high - low);
    values[i] = code > pack.steps ? null : logarithmic ? Math.exp(value) : value;
  }
  return values;
}

function total(result, row, name) {
  const pack = META.results[result].totals;
  const value = BYTES.getFloat32(pack.at + 4 * (row * pack.shape[1] + META.totals.indexOf(name)), true);
  return Number.isFinite(value) ? value : null;
}

// The finest block that holds all of the slots shown: "all", or one stream of "streams".
function blockFor(kind, from, to) {
  const fitting = META.blocks.filter(
    one => one.kind === kind && one.first + 1 <= from && to <= Math.min(one.first + one.size * one.bins, META.slots),
  );
  return fitting.reduce((best, one) => (one.size < best.size ? one : best));
}

// Lines of a result over the slots shown, with a bin to spare on either side.
class Lines {
  constructor(kind, line, from, to) {
    const block = (this.block = blockFor(kind, from, to));
    this.line = line;
    this.begin = Math.max(Math.floor((from - 1 - block.first) / block.size) - 1, 0);
    this.end = Math.min(Math.ceil((to - block.first) / block.size) + 1, block.bins);
    this.x = [];
    for (let i = this.begin; i < this.end; i++) this.x.push((this.first(i) + this.last(i)) / 2);
  }
  first(bin) {
    return this.block.first + bin * this.block.size + 1;
  }
  last(bin) {
    return Math.min(this.block.first + (bin + 1) * this.block.size, META.slots);
  }
  of(result, channel) {
    const values = unpack(this.block.packs[result], channel, this.line, this.block.bins);
    return values === null ? null : values.slice(this.begin, this.end);
  }
  // The slots of the bin that is drawn at a place.
  told(index) {
    const [first, last] = [this.first(this.begin + index), this.last(this.begin + index)];
    return first === last ? `slot ${whole(first)}` : `slots ${whole(first)} to ${whole(last)}`;
  }
}

function linesOf(state) {
  const all = state.stream < 0 || META.streams.length === 1;
  return new Lines(all ? "all" : "streams", all ? 0 : state.stream, state.from, state.to);
}

const whole = value => Math.round(value).toLocaleString("en");

function short(value, unit = "", digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text =
    size >= 1e9 || (size > 0 && size < 1e-3)
      ? value.toExponential(1).replace("e+", "e")
      : size >= 1000
        ? whole(value)
        : size >= 100 && digits < 4
          ? value.toFixed(Number.isInteger(value) ? 0 : 1)
          : String(+value.toPrecision(digits));
  return unit ? `${text} ${unit}` : text;
}

const percent = (value, digits = 1) =>
  value === null || !Number.isFinite(value) ? "–" : `${(100 * value).toFixed(digits)} %`;

// 1.2e9 as "1.2 G": for axes and readouts of MACs.
function prefixed(value, unit, digits = 4) {
  const steps = ["", "k", "M", "G", "T", "P"];
  const power = value > 0 ? Math.min(Math.max(Math.floor(Math.log10(value) / 3), 0), steps.length - 1) : 0;
  return `${short(value / 1000 ** power, "", digits)} ${steps[power]}${unit}`;
}

function moment(slot) {
  if (!META.slot_s) return "";
  const seconds = (slot - 1) * META.slot_s,
    parts = [];
  for (const [name, size] of [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
  ]) {
    const count = Math.floor((seconds - parts.reduce((sum, [, n, size]) => sum + n * size, 0)) / size);
    if (count || parts.length) parts.push([name, count, size]);
  }
  const rest = seconds - parts.reduce((sum, [, n, size]) => sum + n * size, 0);
  const said = parts
    .filter(([, n]) => n)
    .slice(0, 2)
    .map(([name, n]) => `${n} ${name}`);
  return ` (begins at ${said.length ? said.join(" ") : `${short(rest)} s`})`;
}
