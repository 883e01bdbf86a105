// The frames of a mosaic: which of them lie over a pixel, and their outlines.
"use strict";

zemosaic.frames = (() => {
  // Frames are held as columns: `corners` has eight numbers a frame, x and y of four corners in pixels of the mosaic.
  function contains(corners, k, x, y) {
    let inside = false;
    for (let i = 0, j = 3; i < 4; j = i++) {
      const xi = corners[8 * k + 2 * i], yi = corners[8 * k + 2 * i + 1];
      const xj = corners[8 * k + 2 * j], yj = corners[8 * k + 2 * j + 1];
      if ((yi > y) !== (yj > y) && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
    }
    return inside;
  }

  // Numbers of the frames whose outline holds a pixel.
  function over(frames, pixel) {
    const found = [];
    for (let k = 0; k < frames.name.length; k++) if (contains(frames.corners, k, pixel.x, pixel.y)) found.push(k);
    return found;
  }

  // Numbers of the frames whose name has a text in it, at most so many.
  function named(frames, text, most) {
    const wanted = text.toLowerCase(), found = [];
    for (let k = 0; k < frames.name.length && found.length < most; k++) {
      if (frames.name[k].toLowerCase().includes(wanted)) found.push(k);
    }
    return found;
  }

  // Draw outlines; `to` maps pixels to the screen (picture.transform).
  function draw(context, frames, numbers, to, colour) {
    context.strokeStyle = colour;
    context.lineWidth = 2;
    for (const k of numbers) {
      context.beginPath();
      for (let i = 0; i < 4; i++) {
        const x = to.x + to.scale * frames.corners[8 * k + 2 * i];
        const y = to.y - to.scale * frames.corners[8 * k + 2 * i + 1];
        if (i === 0) context.moveTo(x, y);
        else context.lineTo(x, y);
      }
      context.closePath();
      context.stroke();
    }
  }

  return { over, named, draw };
})();
