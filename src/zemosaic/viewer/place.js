// What is known of one place: where it is, what the maps say, which frames lie over it.
"use strict";

zemosaic.place = (() => {
  // Maps come with the page as one byte a cell, so that they can be read where pictures from disk cannot.
  function unpack(map) {
    if (!map.bytes) map.bytes = Uint8Array.from(atob(map.cells), (c) => c.charCodeAt(0));
    return map.bytes;
  }

  // The value of a map at a pixel; null outside of the mosaic and where nothing was seen.
  function valueAt(map, mosaic, pixel) {
    const column = Math.floor(((pixel.x + 0.5) / mosaic.width) * map.columns);
    const row = Math.floor(((pixel.y + 0.5) / mosaic.height) * map.rows);
    if (column < 0 || row < 0 || column >= map.columns || row >= map.rows) return null;
    const cell = unpack(map)[row * map.columns + column];
    return cell === 0 ? null : map.low + ((cell - 1) / 254) * (map.high - map.low);
  }

  function skyOf(mosaic, pixel) {
    return mosaic.wcs ? zemosaic.coordinates.pixelToSky(mosaic.wcs, pixel.x, pixel.y) : null;
  }

  function tellNumber(value, unit) {
    if (value === null) return zemosaic.say("no data");
    const text = zemosaic.number(Number.isInteger(value) ? String(value) : value.toPrecision(3));
    return unit ? `${text} ${unit}` : text;
  }

  // Fill a list of terms with what is known of a pixel.
  function describe(list, mosaic, pixel) {
    const sky = skyOf(mosaic, pixel), rows = [];
    if (sky) {
      rows.push([zemosaic.say("RA Dec"), zemosaic.coordinates.toHours(...sky)], [zemosaic.say("in degrees"), zemosaic.coordinates.toDegrees(...sky)]);
    }
    rows.push([zemosaic.say("pixel x, y"), `${Math.round(pixel.x)}, ${Math.round(pixel.y)}`]);
    for (const map of mosaic.maps) rows.push([zemosaic.say(map.title), tellNumber(valueAt(map, mosaic, pixel), map.unit)]);
    list.replaceChildren(...rows.flatMap(([term, text]) => [element("dt", term), element("dd", text)]));
  }

  // The command that tells each frame's value there; OUT is the folder above the page's.
  function command(mosaic, pixel) {
    const sky = skyOf(mosaic, pixel);
    return sky ? `zemosaic explain OUT --at "${zemosaic.coordinates.toDegrees(...sky)}"` : "";
  }

  // Names of files are whatever someone called them: text, never markup.
  function element(name, text) {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  }

  return { describe, command, skyOf, valueAt, element };
})();
