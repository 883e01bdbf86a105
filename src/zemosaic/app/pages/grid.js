// Lines of right ascension and declination over a part of the sky, as points on the chart's plane. Pure.
import { toPlane, toSky } from "./sky.js";

// Steps between lines, in degrees; of right ascension those that are whole minutes or seconds of time where they can be.
const STEPS = [30, 15, 10, 5, 2, 1, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01];

// About so many lines each way: more hide the frames.
const LINES = 5;

// Places along each side that tell what part of the sky is seen, and points of a line: as many as leave no gap at its ends.
const PLACES = 24;
const POINTS = 120;

export function gridLines(area, middle) {
  const { ras, decs } = seenPart(area, middle);
  const lines = [];
  for (const dec of ticks(decs))
    lines.push({ kind: "dec", label: `${round(dec)}°`, points: inside(along(ras, POINTS).map((ra) => toPlane(ra, dec, middle)), area) });
  for (const ra of ticks(ras))
    lines.push({ kind: "ra", label: `${round((ra + 720) % 360)}°`, points: inside(along(decs, POINTS).map((dec) => toPlane(ra, dec, middle)), area) });
  return lines.filter((line) => line.points.length > 1);
}

// Ranges of right ascension (about that of the middle, so that it may pass 0) and declination.
function seenPart([x0, x1, y0, y1], middle) {
  const ras = [], decs = [];
  for (const fx of along([0, 1])) for (const fy of along([0, 1])) {
    const [ra, dec] = toSky(x0 + fx * (x1 - x0), y0 + fy * (y1 - y0), middle);
    ras.push(((ra - middle[0] + 540) % 360) - 180 + middle[0]);
    decs.push(dec);
  }
  const range = (values) => [Math.min(...values), Math.max(...values)];
  return { ras: range(ras), decs: range(decs) };
}

const along = ([from, to], n = PLACES) => Array.from({ length: n + 1 }, (_, k) => from + ((to - from) * k) / n);

function ticks([from, to]) {
  const step = STEPS.find((size) => (to - from) / size >= LINES - 1) ?? STEPS[STEPS.length - 1];
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.max(Math.min(Math.floor(to / step) - first + 1, 40), 0) }, (_, k) => (first + k) * step);
}

const round = (value) => String(Number(value.toFixed(2)));

const inside = (points, [x0, x1, y0, y1]) => points.filter(([x, y]) => x0 <= x && x <= x1 && y0 <= y && y <= y1);
