// Frames on the sky: their corners on a plane, how many lie over each place, which lie under a point. Pure.
const RAD = Math.PI / 180;

// Corners on the plane that touches the sky at the middle of all frames, in degrees; x grows to the east.
export function layOut(frames) {
  const corners = frames.map((frame) => frame.corners).filter(Boolean);
  if (!corners.length) return null;
  const middle = middleOf(corners.flat());
  return { middle, shapes: frames.map((frame) => frame.corners && frame.corners.map(([ra, dec]) => toPlane(ra, dec, middle))) };
}

// The mean direction: right at RA 0h and at the poles, where means of coordinates are not.
function middleOf(places) {
  let x = 0, y = 0, z = 0;
  for (const [ra, dec] of places) {
    x += Math.cos(dec * RAD) * Math.cos(ra * RAD);
    y += Math.cos(dec * RAD) * Math.sin(ra * RAD);
    z += Math.sin(dec * RAD);
  }
  return [(Math.atan2(y, x) / RAD + 360) % 360, Math.atan2(z, Math.hypot(x, y)) / RAD];
}

export function toPlane(ra, dec, [ra0, dec0]) {
  const a = (ra - ra0) * RAD, d = dec * RAD, d0 = dec0 * RAD;
  const away = Math.max(Math.sin(d0) * Math.sin(d) + Math.cos(d0) * Math.cos(d) * Math.cos(a), 1e-3);
  return [(Math.cos(d) * Math.sin(a)) / away / RAD, (Math.cos(d0) * Math.sin(d) - Math.sin(d0) * Math.cos(d) * Math.cos(a)) / away / RAD];
}

export function toSky(x, y, [ra0, dec0]) {
  const u = x * RAD, v = y * RAD, d0 = dec0 * RAD;
  const ra = Math.atan2(u, Math.cos(d0) - v * Math.sin(d0)) / RAD + ra0;
  const dec = Math.atan2(Math.sin(d0) + v * Math.cos(d0), Math.hypot(u, Math.cos(d0) - v * Math.sin(d0))) / RAD;
  return [(ra + 720) % 360, dec];
}

export function boundsOf(shapes) {
  const box = [Infinity, -Infinity, Infinity, -Infinity];
  for (const shape of shapes) for (const [x, y] of shape || []) {
    box[0] = Math.min(box[0], x); box[1] = Math.max(box[1], x);
    box[2] = Math.min(box[2], y); box[3] = Math.max(box[3], y);
  }
  return box;
}

// Numbers of a packed edge: where it begins and ends in y, x where it begins, x a y, and 1 where the shape
// begins there, seen along x, or -1 where it ends.
const EDGE = 5;

// Shapes in flat arrays: the box of each, and its edges from their lower to their upper end. A chart is redrawn many
// times a second, and reading corners from arrays within arrays would be most of that.
export function pack(shapes) {
  const known = shapes.filter(Boolean);
  const n = known.reduce((sum, shape) => sum + shape.length, 0);
  const boxes = new Float64Array(4 * known.length), ends = new Int32Array(known.length), edges = new Float64Array(EDGE * n);
  let k = 0;
  known.forEach((shape, s) => {
    boxes.set(boundsOf([shape]), 4 * s);
    const turn = Math.sign(areaOf(shape)); // with corners against the clock it begins where they go down
    shape.forEach(([xa, ya], i) => {
      const [xb, yb] = shape[(i + 1) % shape.length];
      if (ya === yb) return;
      const up = ya < yb;
      edges.set([up ? ya : yb, up ? yb : ya, up ? xa : xb, (xb - xa) / (yb - ya), up ? -turn : turn], EDGE * k++);
    });
    ends[s] = k;
  });
  return { boxes, ends, edges };
}

// Positive where the corners go against the clock.
function areaOf(shape) {
  return shape.reduce((sum, [xa, ya], i) => sum + xa * shape[(i + 1) % shape.length][1] - shape[(i + 1) % shape.length][0] * ya, 0) / 2;
}

// Counts of frames over each cell of a map of the box, for packed convex shapes. Each row of a shape adds 1 where it
// begins and takes 1 where it ends; one sum along the row then gives the counts, so that 20,000 frames cost their edges
// and not their areas.
export function coverage({ boxes, ends, edges }, [x0, x1, y0, y1], width, height) {
  const wide = width + 1, counts = new Int32Array(height * wide), map = new Int32Array(width * height);
  const sx = width / (x1 - x0), sy = height / (y1 - y0);
  for (let s = 0, begin = 0; s < ends.length; begin = ends[s++]) {
    if (boxes[4 * s] >= x1 || boxes[4 * s + 1] <= x0 || boxes[4 * s + 2] >= y1 || boxes[4 * s + 3] <= y0) continue;
    for (let k = EDGE * begin; k < EDGE * ends[s]; k += EDGE) {
      const low = edges[k], slope = edges[k + 3], sign = edges[k + 4];
      const top = Math.max(Math.ceil((low - y0) * sy - 0.5), 0), end = Math.min(Math.ceil((edges[k + 1] - y0) * sy - 0.5), height);
      for (let row = top; row < end; row++) {
        const column = Math.ceil((edges[k + 2] + ((row + 0.5) / sy + y0 - low) * slope - x0) * sx - 0.5);
        counts[row * wide + Math.min(Math.max(column, 0), width)] += sign;
      }
    }
  }
  for (let row = 0; row < height; row++) {
    for (let column = 0, sum = 0; column < width; column++) {
      sum += counts[row * wide + column];
      map[row * width + column] = sum;
    }
  }
  return map;
}

// Where a level line enters and leaves a convex shape.
function crossing(shape, y) {
  let from = Infinity, to = -Infinity;
  for (let i = 0; i < shape.length; i++) {
    const a = shape[i], b = shape[(i + 1) % shape.length], xa = a[0], ya = a[1], xb = b[0], yb = b[1];
    if ((ya <= y) === (yb <= y)) continue;
    const x = xa + ((y - ya) / (yb - ya)) * (xb - xa);
    from = Math.min(from, x); to = Math.max(to, x);
  }
  return [from, to];
}

export function isInside(shape, x, y) {
  if (!shape) return false;
  const [from, to] = crossing(shape, y);
  return from <= x && x < to;
}
