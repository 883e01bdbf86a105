// Pixels of the mosaic to places on the sky and back, and places as text.
// Pixels are zero-based, y up, as in the FITS file; places are ICRS degrees.
"use strict";

window.zemosaic = window.zemosaic || {};

zemosaic.coordinates = (() => {
  const DEG = Math.PI / 180;

  // Zenithal projections: native latitude, radians, of a distance from the reference point, degrees; and back.
  const PROJECTIONS = {
    TAN: { theta: (r) => Math.atan2(1 / DEG, r), radius: (t) => (t > 0 ? 1 / (DEG * Math.tan(t)) : NaN) },
    SIN: { theta: (r) => Math.acos(r * DEG), radius: (t) => (t >= 0 ? Math.cos(t) / DEG : NaN) },
    ARC: { theta: (r) => Math.PI / 2 - r * DEG, radius: (t) => 90 - t / DEG },
    STG: { theta: (r) => Math.PI / 2 - 2 * Math.atan(r * DEG / 2), radius: (t) => 2 / DEG * Math.tan(Math.PI / 4 - t / 2) },
    ZEA: { theta: (r) => Math.PI / 2 - 2 * Math.asin(r * DEG / 2), radius: (t) => 2 / DEG * Math.sin(Math.PI / 4 - t / 2) },
  };

  // The place of a pixel; null where the projection shows none. `wcs` is as zemosaic writes it into data.js.
  function pixelToSky(wcs, x, y) {
    const [[a, b], [c, d]] = wcs.cd;
    const u = a * (x - wcs.crpix[0]) + b * (y - wcs.crpix[1]);
    const v = c * (x - wcs.crpix[0]) + d * (y - wcs.crpix[1]);
    const phi = Math.atan2(u, -v) - wcs.lonpole * DEG;
    const theta = PROJECTIONS[wcs.projection].theta(Math.hypot(u, v));
    const pole = wcs.crval[1] * DEG;
    const dec = Math.asin(Math.sin(theta) * Math.sin(pole) + Math.cos(theta) * Math.cos(pole) * Math.cos(phi));
    const ra = wcs.crval[0] * DEG + Math.atan2(
      -Math.cos(theta) * Math.sin(phi),
      Math.sin(theta) * Math.cos(pole) - Math.cos(theta) * Math.sin(pole) * Math.cos(phi));
    return Number.isFinite(ra + dec) ? [(((ra / DEG) % 360) + 360) % 360, dec / DEG] : null;
  }

  // The pixel of a place; null for one that the projection cannot show.
  function skyToPixel(wcs, raDeg, decDeg) {
    const ra = (raDeg - wcs.crval[0]) * DEG, dec = decDeg * DEG, pole = wcs.crval[1] * DEG;
    const sine = Math.sin(dec) * Math.sin(pole) + Math.cos(dec) * Math.cos(pole) * Math.cos(ra);
    const radius = PROJECTIONS[wcs.projection].radius(Math.asin(Math.min(1, Math.max(-1, sine))));
    const phi = wcs.lonpole * DEG + Math.atan2(
      -Math.cos(dec) * Math.sin(ra),
      Math.sin(dec) * Math.cos(pole) - Math.cos(dec) * Math.sin(pole) * Math.cos(ra));
    const u = radius * Math.sin(phi), v = -radius * Math.cos(phi);
    const [[a, b], [c, d]] = wcs.cd, det = a * d - b * c;
    const x = wcs.crpix[0] + (d * u - b * v) / det, y = wcs.crpix[1] + (a * v - c * u) / det;
    return Number.isFinite(x + y) ? [x, y] : null;
  }

  // Degrees as "12 34 56.78": of whole units, minutes and seconds.
  function sexagesimal(value, width, digits) {
    const unit = 10 ** digits;
    const total = Math.round(Math.abs(value) * 3600 * unit);
    const seconds = (total % (60 * unit)) / unit, minutes = Math.floor(total / (60 * unit)) % 60;
    const whole = Math.floor(total / (3600 * unit));
    const pad = (n, w) => String(n).padStart(w, "0");
    return `${pad(whole, width)} ${pad(minutes, 2)} ${pad(seconds.toFixed(digits), digits + 3)}`;
  }

  function toHours(raDeg, decDeg) {
    const text = sexagesimal(raDeg / 15, 2, 2);
    const ra = text.startsWith("24") ? "00 00 00.00" : text;
    return `${ra} ${decDeg < 0 ? "-" : "+"}${sexagesimal(decDeg, 2, 1)}`;
  }

  function toDegrees(raDeg, decDeg) {
    return `${raDeg.toFixed(5)} ${decDeg < 0 ? "-" : "+"}${Math.abs(decDeg).toFixed(5)}`;
  }

  // A place from text: two numbers in degrees, or six in hours and degrees, whatever stands between them.
  function parsePlace(text) {
    const numbers = text.trim().split(/[\s,:hdms°'"′″]+/i).filter(Boolean);
    if (numbers.some((n) => !/^[+-]?\d+(\.\d*)?$/.test(n))) return null;
    const value = (parts) => parts.reduce((sum, n, k) => sum + Math.abs(Number(n)) / 60 ** k, 0);
    const half = numbers.length / 2;
    if (![1, 2, 3].includes(half)) return null;
    const ra = value(numbers.slice(0, half)) * (half > 1 ? 15 : 1);
    const dec = value(numbers.slice(half)) * (numbers[half].startsWith("-") ? -1 : 1);
    return ra <= 360 && Math.abs(dec) <= 90 ? [ra, dec] : null;
  }

  return { pixelToSky, skyToPixel, toHours, toDegrees, parsePlace };
})();
