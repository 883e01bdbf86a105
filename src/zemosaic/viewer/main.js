// The page: what is shown, and what answers to mouse, touch and keys.
"use strict";

(() => {
  const data = zemosaic.data, find = (id) => document.getElementById(id);
  const MOST_LISTED = 200;
  const state = { mosaic: data.mosaics[0], map: null, split: null, place: null, hovered: [], chosen: [] };

  // Who opens the page may ask for a language and a theme: the app does, in which a person has chosen them. It keeps the
  // theme where its pages find it; a change is told to all of them.
  const wishes = new URLSearchParams(location.search), asked = wishes.get("language");
  if (wishes.get("theme") === "app") {
    const wear = () => { document.documentElement.dataset.theme = localStorage.getItem("theme") || "system"; };
    wear();
    addEventListener("storage", wear);
  }
  if (asked ? asked === "fr" : data.language === "fr" || navigator.language.startsWith("fr")) zemosaic.translate("fr");
  const say = zemosaic.say;
  const viewer = zemosaic.picture.open(find("picture"), state.mosaic);
  const draw = zemosaic.layer.create(viewer, state);
  zemosaic.viewer = viewer;

  document.title = `${data.title} - ZeMosaic`;
  find("title").textContent = data.title;
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label", say("Picture of the mosaic. Arrow keys move, plus and minus zoom, 0 shows all, Enter tells of the middle."));

  // Which mosaic, which map over it.
  function showMosaic(mosaic) {
    Object.assign(state, { mosaic, map: null, place: null, hovered: [], chosen: [] });
    fillMaps();
    find("compare").hidden = !mosaic.before;
    find("outside").hidden = Boolean(mosaic.wcs);
    find("place").hidden = true;
    listFrames(zemosaic.frames.named(mosaic.frames, find("name").value, MOST_LISTED));
  }

  function fillMaps() {
    const option = (value, text) => Object.assign(zemosaic.place.element("option", text), { value });
    find("map").replaceChildren(option("", say("none")), ...state.mosaic.maps.map((map, k) => option(k, say(map.title))));
    showMap();
  }

  function showMap() {
    const chosen = find("map").value;
    state.map = chosen === "" ? null : state.mosaic.maps[Number(chosen)];
    find("legend").hidden = !state.map;
    if (state.map) {
      const unit = state.map.unit ? ` ${state.map.unit}` : "";
      find("low").textContent = `${state.map.low}${unit}`;
      find("high").textContent = `${state.map.high}${unit}`;
      find("ramp").style.background = `linear-gradient(to right, ${data.ramp.join(", ")})`;
    }
    draw();
  }

  const mosaics = data.mosaics.map((mosaic, k) => Object.assign(zemosaic.place.element("option", mosaic.label), { value: k }));
  find("mosaic").replaceChildren(...mosaics);
  find("which").hidden = mosaics.length < 2;
  find("mosaic").addEventListener("change", () => {
    showMosaic(data.mosaics[Number(find("mosaic").value)]);
    const bounds = viewer.viewport.getBounds();
    viewer.addOnceHandler("open", () => viewer.viewport.fitBounds(bounds, true));
    viewer.open(zemosaic.picture.tileSource(state.mosaic));
  });
  find("map").addEventListener("change", showMap);

  // Zoom.
  const zoomBy = (factor) => () => viewer.viewport.zoomBy(factor) && viewer.viewport.applyConstraints();
  find("in").addEventListener("click", zoomBy(2));
  find("out").addEventListener("click", zoomBy(0.5));
  find("all").addEventListener("click", () => viewer.viewport.goHome());
  find("full").addEventListener("click", () => {
    const item = viewer.world.getItemAt(0);
    viewer.viewport.zoomTo(item.imageToViewportZoom(1));
  });
  const bar = () => viewer.world.getItemCount() && zemosaic.scalebar.show(find("scale"), viewer, state.mosaic);
  viewer.addHandler("update-viewport", bar);

  // Coordinates under the pointer, and outlines of the frames there.
  function point(pixel) {
    const sky = zemosaic.place.skyOf(state.mosaic, pixel);
    find("hours").textContent = sky ? zemosaic.coordinates.toHours(...sky) : "";
    find("degrees").textContent = sky ? zemosaic.coordinates.toDegrees(...sky) : "";
    find("pixel").textContent = `x ${Math.round(pixel.x)}, y ${Math.round(pixel.y)}`;
    state.hovered = find("outlines").checked ? zemosaic.frames.over(state.mosaic.frames, pixel) : [];
  }
  let pending = null;
  viewer.element.addEventListener("pointermove", (event) => {
    const box = viewer.element.getBoundingClientRect();
    const at = { x: event.clientX - box.left, y: event.clientY - box.top };
    if (pending === null) {
      requestAnimationFrame(() => {
        const pixel = zemosaic.picture.pixelAt(viewer, pending);
        pending = null;
        if (!pixel) return;
        const before = state.hovered.length;
        point(pixel);
        if (before || state.hovered.length) draw();
      });
    }
    pending = at;
  });

  // A place: by click, by key, or by its coordinates.
  function explain(pixel) {
    state.place = { x: Math.round(pixel.x), y: Math.round(pixel.y) };
    state.chosen = [];
    const numbers = zemosaic.frames.over(state.mosaic.frames, pixel);
    zemosaic.place.describe(find("facts"), state.mosaic, pixel);
    find("over").textContent = numbers.length === 1 ? say("1 frame lies over it.") : say("{n} frames lie over it.", { n: numbers.length });
    find("command").textContent = zemosaic.place.command(state.mosaic, pixel);
    find("place").hidden = false;
    find("name").value = "";
    listFrames(numbers.slice(0, MOST_LISTED), say("over the place: {n}", { n: numbers.length }));
    draw();
  }
  viewer.addHandler("canvas-click", (event) => {
    if (!event.quick) return;
    const pixel = zemosaic.picture.pixelAt(viewer, event.position);
    if (pixel) explain(pixel);
  });
  viewer.addHandler("canvas-key", (event) => {
    if (event.originalEvent.key !== "Enter") return;
    event.preventDefaultAction = true;
    explain(zemosaic.picture.pixelAt(viewer, { x: viewer.element.clientWidth / 2, y: viewer.element.clientHeight / 2 }));
  });
  find("go").addEventListener("submit", (event) => {
    event.preventDefault();
    const place = zemosaic.coordinates.parsePlace(find("where").value);
    const at = place && state.mosaic.wcs && zemosaic.coordinates.skyToPixel(state.mosaic.wcs, ...place);
    const inside = at && at[0] > -0.5 && at[1] > -0.5 && at[0] < state.mosaic.width - 0.5 && at[1] < state.mosaic.height - 0.5;
    find("answer").textContent = !place ? say("That is no place: give RA and Dec, as 83.82 -5.39 or 5 35 17 -5 23 28.") : inside ? "" : say("That place is outside of the mosaic.");
    if (!inside) return;
    zemosaic.picture.goTo(viewer, { x: at[0], y: at[1] });
    explain({ x: at[0], y: at[1] });
  });

  // The table of frames.
  function listFrames(numbers, words) {
    const total = state.mosaic.frames.name.length;
    find("listed").textContent = words || (numbers.length < total ? say("{n} of {total} shown", { n: numbers.length, total }) : say("{n} in all", { n: total }));
    zemosaic.table.fill(find("rows"), state.mosaic.frames, numbers, {
      hover(k) {
        state.hovered = k === null ? [] : [k];
        draw();
      },
      choose(k, pressed) {
        state.chosen = pressed ? [...state.chosen, k] : state.chosen.filter((other) => other !== k);
        draw();
      },
    });
  }
  find("name").addEventListener("input", () => {
    state.chosen = [];
    listFrames(zemosaic.frames.named(state.mosaic.frames, find("name").value, MOST_LISTED));
    draw();
  });

  // Before and after: the unmatched picture left of the slider.
  find("split").addEventListener("input", () => {
    const share = Number(find("split").value) / 100;
    state.split = share > 0 ? share : null;
    draw();
  });

  zemosaic.stretch.connect(viewer, {
    brightness: find("brightness"), contrast: find("contrast"), saturation: find("saturation"), reset: find("neutral"),
  });
  showMosaic(state.mosaic);
})();
