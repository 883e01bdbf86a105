// One measured quantity against time, with a slider that leaves out what lies beyond it.
import { html, useEffect, useRef } from "./view.js";
import { short } from "./numbers.js";
import { penOf } from "./pen.js";
import { t } from "./words.js";

// Room for the numbers of a strip, left of its points.
const LEFT_PX = 48;

// What is shown, and which end is the bad one.
export const QUANTITIES = [
  { name: "fwhm_px", bad: "high" }, { name: "ellipticity", bad: "high" }, { name: "sky", bad: "high" },
  { name: "noise", bad: "high" }, { name: "n_stars", bad: "low" }, { name: "place_rms_px", bad: "high" },
];

export function Strip({ of: quantity, frames, gone, limit, setLimit }) {
  const canvas = useRef(null);
  const values = frames.map((frame) => frame[quantity.name]).filter((value) => Number.isFinite(value));
  useEffect(() => { if (canvas.current) draw(canvas.current, frames, quantity, gone, limit); }, [frames, quantity, gone, limit, document.documentElement.dataset.theme, document.documentElement.lang]);
  if (values.length < 2) return null;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const open = quantity.bad === "high" ? most : least;
  const n = frames.filter((frame) => isBeyond(frame, quantity, limit)).length;
  return html`<div class="strip">
    <label>${t(`quantity.${quantity.name}`)} <small>${limit === undefined ? t("quality.all") : t("quality.beyond", { n, limit: short(limit) })}</small>
      <canvas ref=${canvas} aria-hidden="true"></canvas>
      <input type="range" aria-label=${t(`quantity.${quantity.name}`)} min=${least} max=${most} step="any" value=${limit ?? open}
        onInput=${(e) => setLimit(Number(e.target.value) === open ? undefined : Number(e.target.value))} /></label>
  </div>`;
}

export function isBeyond(frame, quantity, limit) {
  if (limit === undefined || !Number.isFinite(frame[quantity.name])) return false;
  return quantity.bad === "high" ? frame[quantity.name] > limit : frame[quantity.name] < limit;
}

function draw(canvas, frames, quantity, gone, limit) {
  const { pen, width, height } = penOf(canvas);
  const style = getComputedStyle(canvas);
  const values = frames.map((frame) => frame[quantity.name]);
  pen.strokeStyle = pen.fillStyle = style.color;
  const real = values.filter((value) => Number.isFinite(value));
  const [least, most] = [Math.min(...real), Math.max(...real)];
  const y = (value) => height - 6 - ((height - 12) * (value - least)) / (most - least || 1);
  values.forEach((value, i) => {
    if (!Number.isFinite(value)) return;
    const x = LEFT_PX + ((width - LEFT_PX - 6) * i) / Math.max(frames.length - 1, 1);
    if (gone.has(frames[i].path)) pen.strokeRect(x - 2.5, y(value) - 2.5, 5, 5); else pen.fillRect(x - 2, y(value) - 2, 4, 4);
  });
  pen.font = "11px system-ui, sans-serif";
  pen.globalAlpha = 0.75;
  pen.fillText(short(most), 3, 11);
  pen.fillText(short(least), 3, height - 3);
  pen.globalAlpha = 1;
  if (limit !== undefined) {
    pen.strokeStyle = style.borderTopColor;
    pen.beginPath(); pen.moveTo(0, y(limit)); pen.lineTo(width, y(limit)); pen.stroke();
  }
}
