// Which frames an outline on the chart takes: those whose middle lies in it. Pure.
export const boxOf = ([xa, ya], [xb, yb]) => [[xa, ya], [xb, ya], [xb, yb], [xa, yb]];

export function inOutline(shape, corners) {
  if (!shape) return false;
  const x = shape.reduce((sum, corner) => sum + corner[0], 0) / shape.length;
  const y = shape.reduce((sum, corner) => sum + corner[1], 0) / shape.length;
  let inside = false; // after each edge that a line from the middle to the east crosses, the other
  corners.forEach(([xa, ya], i) => {
    const [xb, yb] = corners[(i + 1) % corners.length];
    if ((ya <= y) !== (yb <= y) && x < xa + ((y - ya) / (yb - ya)) * (xb - xa)) inside = !inside;
  });
  return inside;
}

// The evening of a night by its date: what was exposed before noon (UTC) belongs to the evening before.
export function nightOf(frame) {
  const time = Date.parse(/Z|[+-]\d\d:/.test(frame.date_obs || "") ? frame.date_obs : `${frame.date_obs}Z`);
  return Number.isNaN(time) ? "" : new Date(time - 12 * 3600e3).toISOString().slice(0, 10);
}
