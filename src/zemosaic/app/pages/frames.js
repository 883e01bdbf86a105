// Frames before the mosaic: where they lie, how good they are, which are left out. One choice for chart, plots and table.
import { html, useEffect, useMemo, useState } from "./view.js";
import { post } from "./api.js";
import { Blink } from "./blink.js";
import { Chart } from "./chart.js";
import { QUANTITIES, Strip, isBeyond } from "./quality.js";
import { Rows } from "./rows.js";
import { readFrames } from "./table.js";
import { go } from "./address.js";
import { chosenLanguage, t } from "./words.js";

export function Frames({ run, say, begun }) {
  const [frames, setFrames] = useState(null);
  const [byHand, setByHand] = useState(new Map());
  const [limits, setLimits] = useState({});
  const [here, setHere] = useState(new Set());
  useEffect(() => { readFrames(run.id).then(setFrames, say); }, [run.id, chosenLanguage()]);
  const gone = useMemo(() => {
    const found = new Set();
    for (const frame of frames || []) {
      const beyond = QUANTITIES.some((quantity) => isBeyond(frame, quantity, limits[quantity.name]));
      if (byHand.has(frame.path) ? byHand.get(frame.path) : beyond || !frame.use) found.add(frame.path);
    }
    return found;
  }, [frames, byHand, limits]);
  const measured = useMemo(() => (frames || []).filter((frame) => Number.isFinite(frame.fwhm_px)), [frames]);
  if (!frames) return null;
  if (!frames.length) return html`<h1>${t("page.frames")}</h1><p>${t("frames.none")}</p>`;

  // Leave out, or take back; without a word the other of what stands.
  const toggle = (paths, leave) => {
    const next = new Map(byHand);
    for (const path of paths) next.set(path, leave ?? !gone.has(path));
    setByHand(next);
  };
  const choose = (paths) => setHere(new Set(paths));
  const make = async () => {
    try {
      begun(await post(`/api/runs/${run.id}/selection`, { left_out: [...gone] }));
      go(`/run/${run.id}`);
    } catch (problem) { say(problem); }
  };
  return html`
    <h1>${t("frames.title", { name: run.name })}</h1>
    <p role="status">${t("frames.uses", { n: frames.length - gone.size, all: frames.length })}</p>
    <p class="actions"><button class="primary" onClick=${make} disabled=${run.state === "running" || gone.size === frames.length}>${t("start.make")}</button>
      <button onClick=${() => toggle(here, true)} disabled=${!here.size}>${t("frames.leave-out", { n: here.size })}</button>
      <button onClick=${() => toggle(here, false)} disabled=${!here.size}>${t("frames.take-back")}</button>
      <button onClick=${() => { setByHand(new Map()); setLimits({}); }}>${t("frames.reset")}</button></p>
    <section class="card"><h2>${t("frames.sky")}</h2><${Chart} frames=${frames} gone=${gone} here=${here} choose=${choose} toggle=${toggle} /></section>
    <section class="card"><h2>${t("frames.quality")}</h2><div class="strips">${QUANTITIES.map((quantity) => html`
      <${Strip} key=${quantity.name} of=${quantity} frames=${measured} gone=${gone} limit=${limits[quantity.name]}
        setLimit=${(limit) => setLimits({ ...limits, [quantity.name]: limit })} />`)}</div></section>
    <section class="card"><h2>${t("frames.pictures")}</h2><${Blink} run=${run.id} frames=${frames} gone=${gone} here=${here} choose=${choose} toggle=${toggle} /></section>
    <section class="card"><h2>${t("frames.table")}</h2><${Rows} run=${run.id} frames=${frames} gone=${gone} here=${here} choose=${choose} toggle=${toggle} />
      <small>${t("rows.help")}</small></section>`;
}
