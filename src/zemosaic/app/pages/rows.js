// The table of frames: only the rows in view are made, so that 20,000 cost what 20 cost.
import { html, useEffect, useRef, useState } from "./view.js";
import { fileOf } from "./api.js";
import { short } from "./numbers.js";
import { t } from "./words.js";

// Height of a row in rem, as the style has it.
const ROW_REM = 2.75;

export function Rows({ run, frames, gone, here, choose, toggle }) {
  const box = useRef(null);
  const [top, setTop] = useState(0);
  const row = ROW_REM * parseFloat(getComputedStyle(document.documentElement).fontSize);
  const first = Math.max(Math.floor(top / row) - 2, 0), last = Math.min(first + 20, frames.length);
  const at = frames.findIndex((frame) => here.has(frame.path));
  useEffect(() => {
    if (at < 0 || !box.current) return;
    const y = at * row;
    if (y < box.current.scrollTop || y + row > box.current.scrollTop + box.current.clientHeight) box.current.scrollTop = y - box.current.clientHeight / 2;
  }, [at]);
  const step = (by) => frames.length && choose([frames[Math.min(Math.max(at + by, 0), frames.length - 1)].path]);
  const keys = { j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
    x: () => toggle(here, true), u: () => toggle(here, false), a: () => choose(frames.map((frame) => frame.path)) };
  return html`<div class="row heads" aria-hidden="true"><span></span><span></span><span>${t("rows.name")}</span><span>${t("quantity.fwhm_px")}</span>
      <span class="wide">${t("quantity.ellipticity")}</span><span class="wide">${t("quantity.n_stars")}</span><span>${t("rows.why")}</span></div>
    <div class="rows" ref=${box} tabindex="0" role="grid" aria-rowcount=${frames.length} aria-label=${t("rows.label")}
      onScroll=${(e) => setTop(e.target.scrollTop)}
      onKeyDown=${(e) => { if (keys[e.key] && !e.ctrlKey) { e.preventDefault(); keys[e.key](); } }}>
    <div role="rowgroup" style=${{ height: `${frames.length * row}px` }}>${frames.slice(first, last).map((frame, i) => html`
      <div key=${frame.path} role="row" aria-rowindex=${first + i + 1} class="row ${gone.has(frame.path) ? "gone" : ""} ${here.has(frame.path) ? "here" : ""}"
          style=${{ top: `${(first + i) * row}px` }} onClick=${() => choose([frame.path])}>
        <span role="gridcell"><input type="checkbox" tabindex="-1" aria-label=${t("rows.use", { name: frame.name })} checked=${!gone.has(frame.path)}
          onClick=${(e) => { e.stopPropagation(); toggle(new Set([frame.path])); }} /></span>
        <span role="gridcell">${frame.picture && html`<img class="thumb" alt="" src=${fileOf(run, frame.picture)} />`}</span>
        <span role="gridcell">${frame.name}</span><span role="gridcell">${short(frame.fwhm_px)}</span>
        <span role="gridcell" class="wide">${short(frame.ellipticity)}</span><span role="gridcell" class="wide">${short(frame.n_stars)}</span>
        <span role="gridcell">${frame.reason}</span>
      </div>`)}</div></div>`;
}
