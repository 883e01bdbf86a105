// More frames for a finished mosaic: which folder, which of its frames are new, where they lie over what is there.
import { html, useEffect, useState } from "./view.js";
import { folderOf, get, post, scanOf } from "./api.js";
import { Chart } from "./chart.js";
import { FolderChoice, Found } from "./folder.js";
import { readFrames } from "./table.js";
import { go } from "./address.js";
import { chosenLanguage, t } from "./words.js";

export function Add({ run, say, begun }) {
  const [roots, setRoots] = useState(null);
  const [known, setKnown] = useState(null);
  const [view, setView] = useState(null);
  const [scan, setScan] = useState(null);
  useEffect(() => { get("/api/start").then((start) => setRoots(start.roots), say); }, []);
  useEffect(() => { readFrames(run.id).then(setKnown, say); }, [run.id, chosenLanguage()]);
  if (!roots || !known) return null;

  const open = async (path) => {
    try {
      const found = await folderOf(path);
      setView(found);
      setScan(null);
      if (found.n_images) setScan(await scanOf(found.path));
    } catch (problem) { say(problem); }
  };
  const add = async () => {
    try {
      begun(await post(`/api/runs/${run.id}/add`, { inputs: [view.path] }));
      go(`/run/${run.id}`);
    } catch (problem) { say(problem); }
  };
  const paths = new Set(known.map((frame) => frame.path));
  const lights = (scan?.frames || []).filter((frame) => frame.kind === "light");
  const fresh = lights.filter((frame) => !paths.has(frame.path)).map((frame) => ({ ...frame, corners: frame.corners_deg }));
  const n_placed = fresh.filter((frame) => frame.corners).length;
  return html`
    <h1>${t("add.title", { name: run.name })}</h1>
    <section class="card"><${FolderChoice} view=${view} roots=${roots} open=${open} /></section>
    ${view?.n_images > 0 && html`<section class="card" aria-live="polite">
      <h2>${t("start.found")}</h2>
      <${Found} view=${view} scan=${scan} />
      ${scan?.frames && html`<p><strong>${t("add.new", { n: fresh.length })}</strong>
        ${lights.length > fresh.length && html` ${t("add.known", { n: lights.length - fresh.length })}`}</p>`}
      <p class="actions"><button class="primary" onClick=${add} disabled=${!scan || (scan.frames && !fresh.length) || run.state === "running"}>${t("add.go")}</button>
        <small>${t("add.keeps")}</small></p>
    </section>`}
    <section class="card"><h2>${t("frames.sky")}</h2>
      <p>${fresh.length > 0 ? t("add.by-header", { n: n_placed }) : t("add.so-far")}</p>
      <${Chart} frames=${[...known, ...fresh]} gone=${new Set(known.filter((frame) => !frame.use).map((frame) => frame.path))}
        here=${new Set(fresh.map((frame) => frame.path))} />
    </section>`;
}
