// The chart of the sky: how many frames lie over each place, outlines of those that matter, choice by pointer and keys.
import { html, useEffect, useMemo, useRef, useState } from "./view.js";
import { boundsOf, isInside, layOut, pack, toSky } from "./sky.js";
import { draw, fit, outlinesOf } from "./draw.js";
import { boxOf, inOutline } from "./choice.js";
import { Groups, Hits } from "./hits.js";
import { t } from "./words.js";

const TOOLS = ["move", "box", "lasso"];

// A pointer that moved less than this many pixels has clicked.
const CLICK_PX = 4;

// `choose` takes the paths of what was picked, `toggle` those to leave out or take back; without them it only shows.
export function Chart({ frames, gone, here, choose, toggle }) {
  const canvas = useRef(null);
  const sky = useMemo(() => layOut(frames), [frames]);
  const [view, setView] = useState(null);
  const [tool, setTool] = useState("move");
  const [outline, setOutline] = useState(null);
  const [hits, setHits] = useState([]);
  const [aimed, setAimed] = useState(false);
  const whole = useMemo(() => sky && padded(boundsOf(sky.shapes)), [sky]);
  const kept = useMemo(() => sky && sky.shapes.filter((shape, i) => shape && !gone.has(frames[i].path)), [sky, gone]);
  const packed = useMemo(() => sky && pack(kept), [kept]);
  const lines = useMemo(() => sky && outlinesOf(frames, sky.shapes, gone, here), [sky, gone, here]);
  const seen = view || whole;
  useEffect(() => { if (sky && canvas.current) draw(canvas.current, { sky, seen, packed, lines, outline, aimed }); });
  useEffect(() => {
    const resize = new ResizeObserver(() => setView((known) => (known ? [...known] : null)));
    if (canvas.current) resize.observe(canvas.current);
    return () => resize.disconnect();
  }, []);
  if (!sky) return html`<p>${t("chart.none")}</p>`;

  const at = (event) => {
    const area = canvas.current.getBoundingClientRect();
    const { left, top, scale } = fit(seen, canvas.current);
    return [left - (event.clientX - area.left) / scale, top - (event.clientY - area.top) / scale];
  };
  const middle = [(seen[0] + seen[1]) / 2, (seen[2] + seen[3]) / 2];
  const zoom = (factor, [x, y] = middle) =>
    setView([x + (seen[0] - x) * factor, x + (seen[1] - x) * factor, y + (seen[2] - y) * factor, y + (seen[3] - y) * factor]);
  const move = (dx, dy) => {
    const [w, h] = [seen[1] - seen[0], seen[3] - seen[2]];
    setView([seen[0] + dx * w, seen[1] + dx * w, seen[2] + dy * h, seen[3] + dy * h]);
  };
  const pick = (place) => {
    const found = frames.filter((_, i) => isInside(sky.shapes[i], ...place));
    setHits(found);
    choose?.(found.map((frame) => frame.path));
  };
  const pickInside = (corners) => {
    const found = frames.filter((_, i) => inOutline(sky.shapes[i], corners));
    setHits(found);
    choose?.(found.map((frame) => frame.path));
  };
  const press = (event) => {
    const from = at(event), begin = [...seen], how = event.shiftKey ? "box" : tool, path = [from];
    canvas.current.setPointerCapture(event.pointerId);
    canvas.current.onpointermove = (next) => {
      const to = at(next);
      path.push(to);
      if (how === "box") setOutline(boxOf(from, to));
      else if (how === "lasso") setOutline([...path]);
      else setView((known) => {
        const [x, y] = [from[0] - to[0], from[1] - to[1]], now = known || begin;
        return [now[0] + x, now[1] + x, now[2] + y, now[3] + y];
      });
    };
    canvas.current.onpointerup = (last) => {
      canvas.current.onpointermove = canvas.current.onpointerup = null;
      setOutline(null);
      if (Math.hypot(last.clientX - event.clientX, last.clientY - event.clientY) < CLICK_PX) pick(at(last));
      else if (how !== "move") pickInside(how === "box" ? boxOf(from, at(last)) : path);
    };
  };
  const keys = { "+": () => zoom(0.8), "-": () => zoom(1.25), 0: () => setView(null), ArrowLeft: () => move(0.1, 0),
    ArrowRight: () => move(-0.1, 0), ArrowUp: () => move(0, 0.1), ArrowDown: () => move(0, -0.1),
    Enter: () => pick(middle), x: () => toggle?.(here) };
  const [ra, dec] = toSky(...middle, sky.middle);
  return html`<canvas ref=${canvas} class="chart" tabindex="0" role="application" aria-label=${t("chart.label", { n: kept.length })}
      onFocus=${() => setAimed(canvas.current.matches(":focus-visible"))} onBlur=${() => setAimed(false)}
      onPointerDown=${press} onWheel=${(e) => { e.preventDefault(); zoom(e.deltaY > 0 ? 1.15 : 0.87, at(e)); }}
      onKeyDown=${(e) => { if (keys[e.key]) { e.preventDefault(); keys[e.key](); } }}></canvas>
    <p class="actions"><button onClick=${() => setView(null)}>${t("chart.fit")}</button><button onClick=${() => zoom(0.8)} aria-label=${t("chart.in")}>+</button>
      <button onClick=${() => zoom(1.25)} aria-label=${t("chart.out")}>−</button>
      ${choose && html`<span role="group" aria-label=${t("chart.tools")}>${TOOLS.map((name) => html`
        <button aria-pressed=${tool === name} onClick=${() => setTool(name)}>${t(`tool.${name}`)}</button>`)}</span>`}
      <small>${t("chart.middle", { ra: ra.toFixed(3), dec: dec.toFixed(3) })} · ${t("chart.help")}</small></p>
    ${choose && html`<${Groups} frames=${frames} choose=${choose} />`}
    ${toggle && html`<${Hits} hits=${hits} gone=${gone} toggle=${toggle} />`}`;
}

function padded([x0, x1, y0, y1]) {
  const edge = 0.04 * Math.max(x1 - x0, y1 - y0);
  return [x0 - edge, x1 + edge, y0 - edge, y1 + edge];
}
