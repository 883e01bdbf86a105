// The first page: where frames are, what is there, runs so far.
import { html, useEffect, useState } from "./view.js";
import { folderOf, get, post, scanOf } from "./api.js";
import { t } from "./words.js";
import { go } from "./address.js";

export function Start({ settings, say }) {
  const [start, setStart] = useState(null);
  const [view, setView] = useState(null);
  const [out, setOut] = useState("");
  const [scan, setScan] = useState(null);
  const load = () => get("/api/start").then(setStart, say);
  useEffect(() => { load(); }, []);

  const open = async (path) => {
    try {
      const found = await folderOf(path);
      setView(found);
      setOut(found.out);
      setScan(null);
      if (found.n_images) setScan(await scanOf(found.path));
    } catch (problem) { say(problem); }
  };
  const begin = async (look) => {
    try {
      const run = await post("/api/runs", { inputs: [view.path], out, settings, look });
      go(`/run/${run.id}`);
    } catch (problem) { say(problem); }
  };
  if (!start) return null;
  return html`
    <h1>${t("start.title")}</h1>
    <section class="card">
      <form onSubmit=${(e) => { e.preventDefault(); open(e.target.path.value.trim()); }}>
        <label>${t("start.folder")} <input name="path" value=${view?.path ?? ""} placeholder=${start.roots[0]} spellcheck="false" /></label>
        <button>${t("start.open")}</button>
      </form>
      <${Folder} view=${view} roots=${start.roots} open=${open} />
    </section>
    ${view?.n_images > 0 && html`<section class="card" aria-live="polite">
      <h2>${t("start.found")}</h2>
      <${Found} view=${view} scan=${scan} />
      <label>${t("start.out")} <input value=${out} onInput=${(e) => setOut(e.target.value)} spellcheck="false" /></label>
      <p class="actions">
        <button class="primary" onClick=${() => begin(false)}>${t("start.make")}</button>
        <button onClick=${() => begin(true)}>${t("start.look")}</button>
      </p>
    </section>`}
    ${start.runs.length > 0 && html`<section><h2>${t("start.history")}</h2>
      <ul class="runs">${start.runs.map((run) => html`<${Card} key=${run.id} run=${run} load=${load} say=${say} />`)}</ul>
    </section>`}`;
}

function Folder({ view, roots, open }) {
  const names = view ? view.folders.map((name) => [name, `${view.path.replace(/[/\\]$/, "")}/${name}`]) : roots.map((root) => [root, root]);
  const parent = view && view.parent;
  return html`<ul class="folders">
    ${view && html`<li><button class="plain" onClick=${() => open(parent ?? roots[0])} disabled=${!parent}>${t("start.up")}</button></li>`}
    ${names.map(([name, path]) => html`<li key=${path}><button class="plain folder" onClick=${() => open(path)}>${name}</button></li>`)}
  </ul>`;
}

function Found({ view, scan }) {
  if (!scan) return html`<p role="status">${t("start.reading", { n: view.n_images })}</p>`;
  if (!scan.frames) return html`<p>${t("start.images", { n: view.n_images })}</p>`;
  const kinds = {};
  for (const frame of scan.frames) kinds[frame.kind] = (kinds[frame.kind] || 0) + 1;
  const lights = scan.frames.filter((frame) => frame.kind === "light");
  const nights = new Set(lights.map((frame) => (frame.date_obs || "").slice(0, 10)).filter(Boolean));
  const filters = [...new Set(lights.map((frame) => frame.filter).filter(Boolean))];
  const seconds = [...new Set(lights.map((frame) => frame.exposure_s).filter((s) => s !== null))];
  return html`<ul class="facts">
    ${Object.entries(kinds).map(([kind, n]) => html`<li>${t(`kind.${kind}`, { n })}</li>`)}
    ${nights.size > 0 && html`<li>${t("start.nights", { n: nights.size })}</li>`}
    ${filters.length > 0 && html`<li>${t("start.filters", { names: filters.join(", ") })}</li>`}
    ${seconds.length > 0 && seconds.length < 5 && html`<li>${t("start.exposures", { names: seconds.join(", ") })}</li>`}
    ${scan.left_out.length > 0 && html`<li>${t("start.unreadable", { n: scan.left_out.length })}</li>`}
  </ul>`;
}

function Card({ run, load, say }) {
  const forget = () => post(`/api/runs/${run.id}/forget`).then(load, say);
  return html`<li class="card">
    <a href="/run/${run.id}"><strong>${run.name}</strong></a>
    <span class="state ${run.state}">${t(`state.${run.state}`)}</span>
    <small>${run.out}</small>
    <button class="plain" onClick=${forget} disabled=${run.state === "running"}>${t("start.forget")}</button>
  </li>`;
}
