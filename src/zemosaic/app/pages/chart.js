// The chart of the sky: how many frames lie over each place, outlines of those that matter, choice by pointer and keys.
import { html, useEffect, useMemo, useRef, useState } from "./view.js";
import { boundsOf, coverage, isInside, layOut, toSky } from "./sky.js";
import { t } from "./words.js";

// Outlines beyond this many are a felt that shows nothing and takes seconds to draw.
const MOST_OUTLINES = 600;

// Cells of the map of counts across the chart: a cell is then some two pixels of a screen.
const MAP_CELLS = 480;

export function Chart({ frames, gone, here, choose, toggle }) {
  const canvas = useRef(null);
  const sky = useMemo(() => layOut(frames), [frames]);
  const [box, setBox] = useState(null);
  const whole = useMemo(() => sky && padded(boundsOf(sky.shapes)), [sky]);
  const [lasso, setLasso] = useState(null);
  const seen = box || whole;
  const kept = useMemo(() => sky && sky.shapes.map((shape, i) => (gone.has(frames[i].path) ? null : shape)), [sky, gone]);

  useEffect(() => { if (sky && canvas.current) draw(canvas.current, sky, seen, kept, frames, gone, here, lasso); });
  useEffect(() => {
    const resize = new ResizeObserver(() => setBox((known) => (known ? [...known] : null)));
    if (canvas.current) resize.observe(canvas.current);
    return () => resize.disconnect();
  }, []);
  if (!sky) return html`<p>${t("chart.none")}</p>`;

  const at = (event) => {
    const area = canvas.current.getBoundingClientRect();
    const { left, top, scale } = fit(seen, canvas.current);
    return [left - (event.clientX - area.left) / scale, top - (event.clientY - area.top) / scale];
  };
  const zoom = (factor, [x, y] = [(seen[0] + seen[1]) / 2, (seen[2] + seen[3]) / 2]) =>
    setBox([x + (seen[0] - x) * factor, x + (seen[1] - x) * factor, y + (seen[2] - y) * factor, y + (seen[3] - y) * factor]);
  const move = (dx, dy) => {
    const [w, h] = [seen[1] - seen[0], seen[3] - seen[2]];
    setBox([seen[0] + dx * w, seen[1] + dx * w, seen[2] + dy * h, seen[3] + dy * h]);
  };
  const press = (event) => {
    const from = at(event), begin = [...seen];
    canvas.current.setPointerCapture(event.pointerId);
    const drag = (next) => {
      const to = at(next);
      if (event.shiftKey) setLasso([from, to]);
      else setBox((known) => {
        const [x, y] = [from[0] - to[0], from[1] - to[1]], now = known || begin;
        return [now[0] + x, now[1] + x, now[2] + y, now[3] + y];
      });
    };
    const release = (last) => {
      canvas.current.onpointermove = canvas.current.onpointerup = null;
      const to = at(last);
      if (event.shiftKey) { choose(inBox(sky.shapes, frames, from, to)); setLasso(null); }
      else if (Math.hypot(last.clientX - event.clientX, last.clientY - event.clientY) < 4)
        choose(frames.filter((_, i) => isInside(sky.shapes[i], ...to)).map((frame) => frame.path));
    };
    canvas.current.onpointermove = drag;
    canvas.current.onpointerup = release;
  };
  const keys = { "+": () => zoom(0.8), "-": () => zoom(1.25), 0: () => setBox(null), ArrowLeft: () => move(0.1, 0),
    ArrowRight: () => move(-0.1, 0), ArrowUp: () => move(0, 0.1), ArrowDown: () => move(0, -0.1), x: () => toggle(here) };
  const [ra, dec] = toSky((seen[0] + seen[1]) / 2, (seen[2] + seen[3]) / 2, sky.middle);
  return html`<canvas ref=${canvas} class="chart" tabindex="0" role="img" aria-label=${t("chart.label", { n: kept.filter(Boolean).length })}
      onPointerDown=${press} onWheel=${(e) => { e.preventDefault(); zoom(e.deltaY > 0 ? 1.15 : 0.87, at(e)); }}
      onKeyDown=${(e) => { if (keys[e.key]) { e.preventDefault(); keys[e.key](); } }}></canvas>
    <p class="actions"><button onClick=${() => setBox(null)}>${t("chart.fit")}</button><button onClick=${() => zoom(0.8)} aria-label=${t("chart.in")}>+</button>
      <button onClick=${() => zoom(1.25)} aria-label=${t("chart.out")}>−</button>
      <small>${t("chart.middle", { ra: ra.toFixed(3), dec: dec.toFixed(3) })} · ${t("chart.help")}</small></p>`;
}

function padded([x0, x1, y0, y1]) {
  const edge = 0.04 * Math.max(x1 - x0, y1 - y0);
  return [x0 - edge, x1 + edge, y0 - edge, y1 + edge];
}

// East is left: x falls to the right, y falls downwards.
function fit([x0, x1, y0, y1], canvas) {
  const width = canvas?.clientWidth || 1, height = canvas?.clientHeight || 1;
  const scale = Math.min(width / (x1 - x0), height / (y1 - y0));
  return { scale, left: (x0 + x1) / 2 + width / scale / 2, top: (y0 + y1) / 2 + height / scale / 2, width, height };
}

function inBox(shapes, frames, [xa, ya], [xb, yb]) {
  const [x0, x1, y0, y1] = [Math.min(xa, xb), Math.max(xa, xb), Math.min(ya, yb), Math.max(ya, yb)];
  const isIn = (shape) => {
    if (!shape) return false;
    const x = shape.reduce((sum, corner) => sum + corner[0], 0) / shape.length;
    const y = shape.reduce((sum, corner) => sum + corner[1], 0) / shape.length;
    return x0 <= x && x <= x1 && y0 <= y && y <= y1;
  };
  return frames.filter((_, i) => isIn(shapes[i])).map((frame) => frame.path);
}

function draw(canvas, sky, seen, kept, frames, gone, here, lasso) {
  const { scale, left, top, width, height } = fit(seen, canvas);
  const dots = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * dots)) canvas.width = Math.round(width * dots);
  if (canvas.height !== Math.round(height * dots)) canvas.height = Math.round(height * dots);
  const pen = canvas.getContext("2d");
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.fillStyle = "#05070c";
  pen.fillRect(0, 0, width, height);
  const columns = MAP_CELLS, rows = Math.max(Math.round((MAP_CELLS * height) / width), 1);
  const counts = coverage(kept, [left - width / scale, left, top - height / scale, top], columns, rows);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture(counts, columns, rows), 0, 0, width, height);
  const outline = (shape) => {
    pen.beginPath();
    shape.forEach(([x, y]) => pen.lineTo((left - x) * scale, (top - y) * scale));
    pen.closePath();
    pen.stroke();
  };
  let n = 0;
  const few = frames.length <= MOST_OUTLINES;
  frames.forEach((frame, i) => {
    const shape = sky.shapes[i], isGone = gone.has(frame.path), isHere = here.has(frame.path);
    if (!shape || !(few || isGone || isHere) || n++ > MOST_OUTLINES) return;
    pen.setLineDash(isGone ? [5, 4] : []);
    pen.lineWidth = isHere ? 2.5 : 0.8;
    pen.strokeStyle = isHere ? "#ffffff" : isGone ? "#ff9d5c" : "rgba(255,255,255,.35)";
    outline(shape);
  });
  if (lasso) { pen.setLineDash([3, 3]); pen.strokeStyle = "#fff"; outline([lasso[0], [lasso[1][0], lasso[0][1]], lasso[1], [lasso[0][0], lasso[1][1]]]); }
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
