// The page of a HiPS: its tiles as one picture, north up and east left, without a server or a network.
//
// The picture is an equal-area projection about the middle of the mosaic, in degrees (x to the west, y to the north).
// A tile is drawn in squares so small that each is a parallelogram there.
"use strict";

zemosaic.atlas = (() => {
  const data = zemosaic.hips, find = (id) => document.getElementById(id);
  const canvas = find("sky"), context = canvas.getContext("2d");
  const TILE_PX = 512, MOST_IMAGES = 300, PLACEHOLDER_ORDERS = 3, DIRECTORY_TILES = 10000;
  const SQUARE_ORDER = 6;  // squares of tiles of this order, 0.9 degrees, and below are parallelograms to a tenth of a pixel
  const MOST_BENT = 0.02, MOST_SQUARES = 64;  // along a side: at the poles squares bend whatever their size
  const WCS = { projection: "ZEA", crpix: [0, 0], crval: data.middle, cd: [[-1, 0], [0, 1]], lonpole: 180 };
  // Of each face's southern corner: rings from the north pole, and eighths of a turn (Gorski et al. 2005).
  const RING = [2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4], COLUMN = [1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7];
  const images = new Map(), tiles = Array.from({ length: data.order + 1 }, () => []);
  const view = { x: 0, y: 0, scale: 1 };  // the middle, degrees, and screen pixels a degree

  // The place in the picture of a place in a face, 0 to 1 to the north-east and to the north-west.
  function placeOf(face, east, west) {
    const ring = RING[face] - east - west, cap = Math.min(ring, 4 - ring, 1);
    const height = cap < 1 ? Math.sign(2 - ring) * (1 - cap * cap / 3) : (2 - ring) * 2 / 3;
    const turn = cap > 0 ? 45 * (COLUMN[face] + (east - west) / cap) : 0;
    return zemosaic.coordinates.skyToPixel(WCS, turn, Math.asin(height) * 180 / Math.PI);
  }

  // Even bits of a cell's number count along the first axis, odd ones along the second.
  function evenBits(number) {
    let found = 0;
    for (let bit = 1, rest = number; rest > 0; bit *= 2, rest = Math.floor(rest / 4)) found += bit * (rest % 2);
    return found;
  }

  function addTile(order, cell) {
    const side = 2 ** order, face = Math.floor(cell / (side * side)), inside = cell % (side * side);
    const corner = [evenBits(inside) / side, evenBits(Math.floor(inside / 2)) / side];
    const folder = Math.floor(cell / DIRECTORY_TILES) * DIRECTORY_TILES;
    tiles[order].push({ face, corner, size: 1 / side, url: `Norder${order}/Dir${folder}/Npix${cell}${data.suffix}` });
  }

  // Squares of a tile: where the first lies in it, and origin and edges in the picture; all round it a box.
  function squaresOf(tile) {
    if (!tile.squares) cut(tile, Math.max(Math.round(tile.size * 2 ** SQUARE_ORDER), 1));
    return tile;
  }

  function cut(tile, n) {
    const step = tile.size / n;
    const corners = Array.from({ length: (n + 1) ** 2 }, (_, k) =>
      placeOf(tile.face, tile.corner[0] + Math.floor(k / (n + 1)) * step, tile.corner[1] + (k % (n + 1)) * step));
    tile.squares = [];
    let bent = 0;
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        const [p, q, r, s] = [0, 1, n + 1, n + 2].map((k) => corners[row * (n + 1) + column + k]);
        if (!p || !q || !r || !s) continue;
        const mean = (axis, signs) => signs.reduce((sum, sign, k) => sum + sign * [p, q, r, s][k][axis], 0);
        const across = [0, 1].map((axis) => mean(axis, [-1, 1, -1, 1]) / 2), down = [0, 1].map((axis) => mean(axis, [-1, -1, 1, 1]) / 2);
        const origin = [0, 1].map((axis) => mean(axis, [1, 1, 1, 1]) / 4 - across[axis] / 2 - down[axis] / 2);
        const slack = Math.hypot(mean(0, [1, -1, -1, 1]), mean(1, [1, -1, -1, 1])) / 2;
        bent = Math.max(bent, slack / Math.hypot(...across));
        tile.squares.push({ row: row / n, column: column / n, side: 1 / n, origin, across, down, slack });
      }
    }
    const seen = corners.filter((place) => place);
    tile.low = [0, 1].map((axis) => Math.min(...seen.map((place) => place[axis])));
    tile.high = [0, 1].map((axis) => Math.max(...seen.map((place) => place[axis])));
    if (bent > MOST_BENT && 2 * n <= MOST_SQUARES) cut(tile, 2 * n);
  }

  let cells = data.cells.flatMap(([first, last]) => Array.from({ length: last - first + 1 }, (_, k) => first + k));
  for (let order = data.order; order >= 0; order--) {
    for (const cell of cells) addTile(order, cell);
    cells = [...new Set(cells.map((cell) => Math.floor(cell / 4)))];
  }

  const toScreen = (x, y) => [
    canvas.clientWidth / 2 + view.scale * (x - view.x), canvas.clientHeight / 2 - view.scale * (y - view.y),
  ];
  const toPicture = (x, y) => [
    view.x + (x - canvas.clientWidth / 2) / view.scale, view.y + (canvas.clientHeight / 2 - y) / view.scale,
  ];

  // A picture once it is there; those not used for longest go first.
  function imageOf(url) {
    let image = images.get(url);
    if (image) images.delete(url);
    else {
      image = new Image();
      image.onload = ask;
      image.src = url;
    }
    images.set(url, image);
    while (images.size > MOST_IMAGES) images.delete(images.keys().next().value);
    return image.complete && image.naturalWidth ? image : null;
  }

  function draw() {
    asked = false;
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, ...size);
    const wanted = Math.ceil(Math.log2(view.scale * data.face_deg * ratio / TILE_PX));
    const order = Math.min(Math.max(wanted, 0), data.order);
    const isSeen = (tile) => {
      const { low, high } = squaresOf(tile), [left, bottom] = toScreen(...low), [right, top] = toScreen(...high);
      return right >= 0 && left <= width && bottom >= 0 && top <= height;
    };
    const found = (level) => tiles[level].filter(isSeen).map((tile) => [tile, imageOf(tile.url)]);
    const best = found(order);
    // Coarser tiles lie below, until those that are wanted are there.
    const first = best.every(([, image]) => image) ? order : Math.max(order - PLACEHOLDER_ORDERS, 0);
    for (let level = first; level <= order; level++) {
      for (const [tile, image] of level === order ? best : found(level)) if (image) drawTile(tile, image, ratio);
    }
  }

  // Rows of a tile run to the north-east, columns to the north-west. A square is drawn larger by what it bends, which
  // is much at the poles, and by half a screen pixel: no gaps show between squares.
  function drawTile(tile, image, ratio) {
    const scale = ratio * view.scale;
    for (const { row, column, side, origin, across, down, slack } of tile.squares) {
      const px = side * image.naturalWidth, [x, y] = toScreen(...origin);
      const more = px * (slack + 0.5 / scale) / Math.min(Math.hypot(...across), Math.hypot(...down));
      context.setTransform(
        scale * across[0] / px, -scale * across[1] / px, scale * down[0] / px, -scale * down[1] / px, ratio * x, ratio * y);
      context.drawImage(
        image, column * image.naturalWidth, row * image.naturalHeight, px, px, -more, -more, px + 2 * more, px + 2 * more);
    }
  }

  let asked = false;
  function ask() {
    if (!asked) requestAnimationFrame(draw);
    asked = true;
  }

  function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const before = toPicture(x, y);
    view.scale *= factor;
    const after = toPicture(x, y);
    view.x += before[0] - after[0];
    view.y += before[1] - after[1];
    ask();
  }
  function move(dx, dy) {
    [view.x, view.y] = toPicture(canvas.clientWidth / 2 - dx, canvas.clientHeight / 2 - dy);
    ask();
  }
  function showAll() {
    [view.x, view.y] = [0, 0];
    view.scale = Math.min(canvas.clientWidth / data.size_deg[0], canvas.clientHeight / data.size_deg[1]);
    ask();
  }

  find("title").textContent = document.title = data.title;
  find("in").addEventListener("click", () => zoom(2));
  find("out").addEventListener("click", () => zoom(0.5));
  find("all").addEventListener("click", showAll);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(2 ** (-event.deltaY / 300), event.offsetX, event.offsetY);
  }, { passive: false });
  const held = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.offsetX, event.offsetY]);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => held.delete(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    const at = [event.offsetX, event.offsetY], before = held.get(event.pointerId);
    if (before) {
      const others = [...held].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const apart = ([x, y]) => Math.hypot(x - others[0][0], y - others[0][1]);
      if (others.length) zoom(apart(at) / Math.max(apart(before), 1), ...others[0]);
      else move(at[0] - before[0], at[1] - before[1]);
      held.set(event.pointerId, at);
    }
    const sky = zemosaic.coordinates.pixelToSky(WCS, ...toPicture(...at));
    find("hours").textContent = sky ? zemosaic.coordinates.toHours(...sky) : "";
    find("degrees").textContent = sky ? zemosaic.coordinates.toDegrees(...sky) : "";
  });
  const KEYS = {
    ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
    "+": () => zoom(2), "-": () => zoom(0.5), 0: showAll,
  };
  canvas.addEventListener("keydown", (event) => {
    if (!KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  window.addEventListener("resize", ask);
  showAll();
  return { WCS, toScreen, isDrawn: () => !asked && [...images.values()].every((image) => image.complete) };
})();
