// The first page: where frames are, what is there, runs so far.
import { html, useEffect, useState } from "./view.js";
import { folderOf, get, post, scanOf } from "./api.js";
import { t } from "./words.js";
import { go } from "./address.js";
import { FolderChoice, Found } from "./folder.js";
import { Needs } from "./needs.js";

export function Start({ settings, say }) {
  const [start, setStart] = useState(null);
  const [view, setView] = useState(null);
  const [out, setOut] = useState("");
  const [scan, setScan] = useState(null);
  const [making, setMaking] = useState(false);
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
  const demo = async () => {
    setMaking(true);
    try { await open((await post("/api/demo")).path); } catch (problem) { say(problem); }
    setMaking(false);
  };
  if (!start) return null;
  return html`
    <h1>${t("start.title")}</h1>
    <section class="card">
      <${FolderChoice} view=${view} roots=${start.roots} open=${open} />
      <p class="actions"><button onClick=${demo} disabled=${making}>${t("start.demo")}</button> <small role="status">${making ? t("start.demo-making") : t("start.demo-help")}</small></p>
    </section>
    ${view?.n_images > 0 && html`<section class="card" aria-live="polite">
      <h2>${t("start.found")}</h2>
      <${Found} view=${view} scan=${scan} />
      <${Needs} view=${view} scan=${scan} />
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

function Card({ run, load, say }) {
  const forget = () => post(`/api/runs/${run.id}/forget`).then(load, say);
  return html`<li class="card">
    <a href="/run/${run.id}"><strong>${run.name}</strong></a>
    <span class="state ${run.state}">${t(`state.${run.state}`)}</span>
    <small>${run.out}</small>
    <button class="plain" onClick=${forget} disabled=${run.state === "running"}>${t("start.forget")}</button>
  </li>`;
}
