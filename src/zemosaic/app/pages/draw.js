// Draws the chart of the sky: counts of frames as a picture, lines of right ascension and declination, outlines.
import { coverage } from "./sky.js";
import { gridLines } from "./grid.js";

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

export function draw(canvas, { sky, seen, kept, frames, gone, here, outline, aimed }) {
  const view = fit(seen, canvas), { scale, left, top, width, height } = view;
  const pen = penOf(canvas, width, height);
  const area = [left - width / scale, left, top - height / scale, top];
  const rows = Math.max(Math.round((MAP_CELLS * height) / width), 1);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture(coverage(kept, area, MAP_CELLS, rows), MAP_CELLS, rows), 0, 0, width, height);
  const trace = (shape, isClosed) => {
    pen.beginPath();
    shape.forEach(([x, y]) => pen.lineTo((left - x) * scale, (top - y) * scale));
    if (isClosed) pen.closePath();
    pen.stroke();
  };
  drawGrid(pen, gridLines(area, sky.middle), view, trace);
  let n = 0;
  const few = frames.length <= MOST_OUTLINES;
  frames.forEach((frame, i) => {
    const shape = sky.shapes[i], isGone = gone.has(frame.path), isHere = here.has(frame.path);
    if (!shape || !(few || isGone || isHere) || n++ > MOST_OUTLINES) return;
    pen.setLineDash(isGone ? [5, 4] : []);
    pen.lineWidth = isHere ? 2.5 : 0.8;
    pen.strokeStyle = isHere ? "#ffffff" : isGone ? "#ff9d5c" : "rgba(255,255,255,.35)";
    trace(shape, true);
  });
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

function penOf(canvas, width, height) {
  const dots = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * dots)) canvas.width = Math.round(width * dots);
  if (canvas.height !== Math.round(height * dots)) canvas.height = Math.round(height * dots);
  const pen = canvas.getContext("2d");
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.fillStyle = "#05070c";
  pen.fillRect(0, 0, width, height);
  return pen;
}

// Lines, each with its label where it leaves the chart: right ascension at the bottom, declination at the left.
function drawGrid(pen, lines, { scale, left, top, height }, trace) {
  pen.setLineDash([]);
  pen.lineWidth = 0.7;
  pen.font = "12px system-ui, sans-serif";
  for (const { kind, label, points } of lines) {
    pen.strokeStyle = "rgba(170,190,220,.4)";
    trace(points, false);
    const [x, y] = points.reduce((best, point) => (kind === "ra" ? point[1] < best[1] : point[0] > best[0]) ? point : best);
    pen.fillStyle = "rgba(215,225,240,.95)";
    pen.fillText(label, Math.max((left - x) * scale + 3, 3), Math.min((top - y) * scale - 4, height - 5));
  }
}

// Counts as a picture, from dark blue over green to yellow; mirrored, since east is left.
function picture(counts, columns, rows) {
  const most = counts.reduce((a, b) => Math.max(a, b), 1);
  const image = new ImageData(columns, rows);
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    const count = counts[(rows - 1 - row) * columns + (columns - 1 - column)];
    if (!count) continue;
    const share = Math.log1p(count) / Math.log1p(most), k = 4 * (row * columns + column);
    image.data[k] = 255 * Math.max(0, 1.6 * share - 0.65);
    image.data[k + 1] = 60 + 165 * share;
    image.data[k + 2] = 110 + 60 * Math.sin(3 * share) - 70 * share;
    image.data[k + 3] = 255;
  }
  const canvas = new OffscreenCanvas(columns, rows);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
