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

// Counts of frames over each cell of a map of the box. Each row of a shape adds 1 where it begins and takes 1 where it
// ends; one sum along the row then gives the counts, so that 20,000 frames cost their edges and not their areas.
export function coverage(shapes, [x0, x1, y0, y1], width, height) {
  const counts = new Int32Array(height * (width + 1));
  const sx = width / (x1 - x0), sy = height / (y1 - y0);
  for (const shape of shapes) {
    if (!shape) continue;
    const ys = shape.map(([, y]) => (y - y0) * sy);
    const top = Math.max(Math.ceil(Math.min(...ys) - 0.5), 0), end = Math.min(Math.ceil(Math.max(...ys) - 0.5), height);
    for (let row = top; row < end; row++) {
      const [from, to] = crossing(shape, (row + 0.5) / sy + y0);
      const a = Math.min(Math.max(Math.ceil((from - x0) * sx - 0.5), 0), width);
      const b = Math.min(Math.max(Math.ceil((to - x0) * sx - 0.5), 0), width);
      counts[row * (width + 1) + a] += 1;
      counts[row * (width + 1) + b] -= 1;
    }
  }
  const map = new Int32Array(width * height);
  for (let row = 0; row < height; row++) {
    for (let column = 0, sum = 0; column < width; column++) {
      sum += counts[row * (width + 1) + column];
      map[row * width + column] = sum;
    }
  }
  return map;
}

// Where a level line enters and leaves a convex shape.
function crossing(shape, y) {
  let from = Infinity, to = -Infinity;
  for (let i = 0; i < shape.length; i++) {
    const [xa, ya] = shape[i], [xb, yb] = shape[(i + 1) % shape.length];
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
