// What lies over the picture: a map (coverage, depth, clipped), the unmatched picture, outlines, the mark of a place.
// One canvas, drawn anew with each step of the view; only the part of a map that is seen is drawn.
"use strict";

zemosaic.layer = (() => {
  function create(viewer, state) {
    const canvas = document.createElement("canvas");
    canvas.className = "layer";
    canvas.setAttribute("aria-hidden", "true");
    viewer.canvas.after(canvas);
    const images = new Map();

    function draw() {
      if (!viewer.world.getItemCount()) return;
      const ratio = window.devicePixelRatio || 1, element = viewer.element;
      const width = Math.round(element.clientWidth * ratio), height = Math.round(element.clientHeight * ratio);
      // Setting a size clears the canvas and makes it anew: only when it changes.
      if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
      const context = canvas.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, width, height);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      const to = zemosaic.picture.transform(viewer), size = [width / ratio, height / ratio];
      if (state.map) drawMap(context, image(state.map.url), to, size, [0, size[0]], 0.7);
      if (state.split !== null && state.mosaic.before) {
        drawMap(context, image(state.mosaic.before), to, size, [0, state.split * size[0]], 1);
        context.fillStyle = "#ffffff";
        context.fillRect(state.split * size[0] - 1, 0, 2, size[1]);
      }
      zemosaic.frames.draw(context, state.mosaic.frames, state.hovered, to, "#ffd166");
      zemosaic.frames.draw(context, state.mosaic.frames, state.chosen, to, "#4cc9f0");
      if (state.place) drawMark(context, to, state.place);
    }

    // A picture of the whole mosaic, from disk once.
    function image(url) {
      if (!images.has(url)) {
        const found = new Image();
        found.onload = draw;
        found.src = url;
        images.set(url, found);
      }
      return images.get(url);
    }

    // The part of a picture of the whole mosaic between two columns of the screen.
    function drawMap(context, picture, to, [width, height], [from, until], opacity) {
      if (!picture.complete || !picture.naturalWidth) return;
      const mosaic = state.mosaic;
      const left = to.x - to.scale / 2, top = to.y - to.scale * (mosaic.height - 0.5);
      const wide = to.scale * mosaic.width, high = to.scale * mosaic.height;
      const x0 = Math.max(from, left), x1 = Math.min(until, left + wide);
      const y0 = Math.max(0, top), y1 = Math.min(height, top + high);
      if (x1 <= x0 || y1 <= y0) return;
      const sx = picture.naturalWidth / wide, sy = picture.naturalHeight / high;
      context.globalAlpha = opacity;
      context.imageSmoothingEnabled = false;
      context.drawImage(
        picture, (x0 - left) * sx, (y0 - top) * sy, (x1 - x0) * sx, (y1 - y0) * sy, x0, y0, x1 - x0, y1 - y0);
      context.globalAlpha = 1;
    }

    function drawMark(context, to, place) {
      const x = to.x + to.scale * place.x, y = to.y - to.scale * place.y;
      context.strokeStyle = "#4cc9f0";
      context.lineWidth = 2;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 6 * dx, y + 6 * dy);
        context.lineTo(x + 16 * dx, y + 16 * dy);
      }
      context.stroke();
    }

    viewer.addHandler("update-viewport", draw);
    viewer.addHandler("resize", draw);
    return draw;
  }

  return { create };
})();
