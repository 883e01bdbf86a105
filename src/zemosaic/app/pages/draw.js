// Draws the chart of the sky: counts of frames as a picture, lines of right ascension and declination, outlines.
import { coverage } from "./sky.js";
import { gridLines } from "./grid.js";
import { penOf } from "./pen.js";

// Outlines beyond this many are a felt that shows nothing and takes seconds to draw.
const MOST_OUTLINES = 600;

// Cells of the map of counts across the chart: a cell is then some two pixels of a screen.
const MAP_CELLS = 480;

// East is left: x falls to the right, y falls downwards.
export function fit([x0, x1, y0, y1], canvas) {
  const width = canvas?.clientWidth || 1, height = canvas?.clientHeight || 1;
  const scale = Math.min(width / (x1 - x0), height / (y1 - y0));
  return { scale, left: (x0 + x1) / 2 + width / scale / 2, top: (y0 + y1) / 2 + height / scale / 2, width, height };
}

export function draw(canvas, { sky, seen, packed, lines, outline, aimed }) {
  const view = fit(seen, canvas), { scale, left, top, width, height } = view;
  const { pen } = penOf(canvas);
  pen.fillStyle = "#05070c";
  pen.fillRect(0, 0, width, height);
  const area = [left - width / scale, left, top - height / scale, top];
  const rows = Math.max(Math.round((MAP_CELLS * height) / width), 1);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture(coverage(packed, area, MAP_CELLS, rows), MAP_CELLS, rows), 0, 0, width, height);
  const trace = (shape, isClosed) => {
    pen.beginPath();
    shape.forEach(([x, y]) => pen.lineTo((left - x) * scale, (top - y) * scale));
    if (isClosed) pen.closePath();
    pen.stroke();
  };
  drawGrid(pen, gridLines(area, sky.middle), view, trace);
  for (const { shapes, dash, width, colour } of lines) {
    pen.setLineDash(dash);
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    shapes.forEach((shape) => trace(shape, true));
  }
  pen.lineWidth = 1.5;
  pen.strokeStyle = "#fff";
  if (outline) { pen.setLineDash([3, 3]); trace(outline, true); }
  if (aimed) {
    pen.setLineDash([]);
    for (const [dx, dy] of [[8, 0], [0, 8]]) {
      pen.beginPath(); pen.moveTo(width / 2 - dx, height / 2 - dy); pen.lineTo(width / 2 + dx, height / 2 + dy); pen.stroke();
    }
  }
}

// Outlines of what matters, by how they are drawn: of few frames all, then those left out, then those chosen.
export function outlinesOf(frames, shapes, gone, here) {
  const few = frames.length <= MOST_OUTLINES, groups = [[], [], [], []];
  let n = 0;
  frames.forEach(({ path }, i) => {
    const isGone = gone.has(path), isHere = here.has(path);
    if (shapes[i] && (few || isGone || isHere) && n++ < MOST_OUTLINES) groups[isGone + 2 * isHere].push(shapes[i]);
  });
  const looks = [["rgba(255,255,255,.35)", 0.8, []], ["#ff9d5c", 0.8, [5, 4]], ["#ffffff", 2.5, []], ["#ffffff", 2.5, [5, 4]]];
  return looks.map(([colour, width, dash], k) => ({ shapes: groups[k], colour, width, dash }));
}

// Height of a label, and room about it.
const LABEL_PX = 14;

// Lines, each with its label where it leaves the chart: right ascension at the bottom, declination at the left. A label
// that would lie over another is left away.
function drawGrid(pen, lines, { scale, left, top, width, height }, trace) {
  pen.setLineDash([]);
  pen.lineWidth = 0.7;
  pen.font = "12px system-ui, sans-serif";
  const taken = [];
  for (const { kind, label, points } of lines) {
    pen.strokeStyle = "rgba(170,190,220,.4)";
    trace(points, false);
    const [x, y] = points.reduce((best, point) => (kind === "ra" ? point[1] < best[1] : point[0] > best[0]) ? point : best);
    const long = pen.measureText(label).width + 6;
    const at = { x: Math.min(Math.max((left - x) * scale + 3, 3), width - long), y: Math.min(Math.max((top - y) * scale - 4, LABEL_PX), height - 5) };
    if (taken.some((other) => Math.abs(other.y - at.y) < LABEL_PX && at.x < other.x + other.long && other.x < at.x + long)) continue;
    taken.push({ ...at, long });
    pen.fillStyle = "rgba(215,225,240,.95)";
    pen.fillText(label, at.x, at.y);
  }
}

// Counts as a picture, from dark blue over green to yellow; mirrored, since east is left.
function picture(counts, columns, rows) {
  let most = 1;
  for (let k = 0; k < counts.length; k++) if (counts[k] > most) most = counts[k];
  const colours = new Uint32Array(most + 1);
  for (let count = 1; count <= most; count++) colours[count] = colourOf(Math.log1p(count) / Math.log1p(most));
  const image = new ImageData(columns, rows), dots = new Uint32Array(image.data.buffer);
  for (let k = 0; k < counts.length; k++) dots[counts.length - 1 - k] = colours[counts[k]];
  const canvas = new OffscreenCanvas(columns, rows);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Opaque, its bytes in the order of a picture's: red, green, blue, opacity.
function colourOf(share) {
  const bytes = Uint8ClampedArray.of(255 * (1.6 * share - 0.65), 60 + 165 * share, 110 + 60 * Math.sin(3 * share) - 70 * share, 255);
  return new Uint32Array(bytes.buffer)[0];
}
