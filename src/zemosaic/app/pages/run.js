// A run: what it does now, how long it takes yet, what it said; in the end the mosaic.
import { html, useEffect, useRef, useState } from "./view.js";
import { fileOf, follow, get, post } from "./api.js";
import { addEvent, emptyRun, isLearning, secondsLeft, shareDone } from "./progress.js";
import { inGb, spell, spellLeft } from "./numbers.js";
import { chosenLanguage, t } from "./words.js";
import { Result } from "./result.js";
import { Frames } from "./frames.js";
import { Add } from "./add.js";

// A reader is told how a run stands at most so often: more would never let it finish a sentence.
const STATUS_MS = 5000;

export function Run({ id, part, say }) {
  const [told, setTold] = useState(null);
  const [state, setState] = useState(null);
  const [lost, setLost] = useState(false);
  const [turn, setTurn] = useState(0);
  const language = chosenLanguage();
  useEffect(() => { get(`/api/runs/${id}`).then(setState, say); }, [id, language]);
  useEffect(() => {
    // Events come in bursts; the page follows at the rate of the screen.
    let run = emptyRun(), due = 0;
    const show = () => { due = 0; setTold(run); };
    const stop = follow(id, (event) => {
      run = addEvent(run, event);
      if (event.event === "State") setState(event);
      if (!due) due = requestAnimationFrame(show);
    }, setLost);
    return () => { stop(); cancelAnimationFrame(due); };
  }, [id, turn, language]);
  if (!state || !told) return null;
  const act = (action) => post(`/api/runs/${id}/${action}`).then((found) => {
    setState(found);
    if (action === "go") setTurn(turn + 1);
  }, say);
  const again = (found) => { setState(found); setTurn(turn + 1); };
  if (part === "frames") return html`<${Frames} run=${state} say=${say} begun=${again} />`;
  if (part === "add") return html`<${Add} run=${state} say=${say} begun=${again} />`;
  return html`
    <h1>${state.name} <span class="state ${state.state}">${t(`state.${state.state}`)}</span></h1>
    ${lost && html`<p class="problem" role="alert">${t("run.lost")}</p>`}
    ${state.state === "running" && html`<${AtWork} id=${id} run=${told} stop=${() => act("stop")} />`}
    ${["stopped", "failed", "died"].includes(state.state) && html`<section class="card" role="alert">
      <p>${state.state === "failed" ? state.problem : t(`run.${state.state}`)}</p>
      ${state.state === "failed" && html`<p>${t("run.kept")}</p>`}
      <button class="primary" onClick=${() => act("go")}>${t("run.go")}</button></section>`}
    ${state.state === "looked" && html`<section class="card"><p>${t("run.looked")}</p>
      <p class="actions"><a class="button primary" href="/run/${id}/frames">${t("run.frames")}</a></p></section>`}
    ${state.state === "done" && html`<${Result} run=${state} />`}
    <${Said} run=${told} />
    <section class="card"><h2>${t("run.command")}</h2><pre>${state.asked.command}</pre></section>`;
}

function AtWork({ id, run, stop }) {
  const share = shareDone(run);
  const left = isLearning(run) ? null : secondsLeft(run);
  const [status, setStatus] = useState("");
  const last = useRef(0);
  const stage = run.stage ? t(`stage.${run.stage}`) : t("run.between");
  const count = run.total ? t("run.count", { done: run.done, total: run.total }) : "";
  const time = left === null ? t("run.learning") : spellLeft(left);
  document.title = `${Math.round(100 * share)} % · ZeMosaic`;
  useEffect(() => {
    if (Date.now() - last.current < STATUS_MS) return;
    last.current = Date.now();
    setStatus(`${stage} ${count} ${time}`);
  });
  return html`<section class="card">
    <h2>${stage}</h2>
    <progress max="1" value=${share} aria-label=${t("run.progress")}></progress>
    <p>${[count, time, t("run.elapsed", { time: spell(run.now) })].filter(Boolean).join(" · ")}</p>
    ${run.usedBytes > 0 && run.capBytes > 0 && html`<p>${t("run.memory", { used: inGb(run.usedBytes), cap: inGb(run.capBytes) })}</p>`}
    <p class="unseen" role="status">${status}</p>
    ${run.picture > 0 && html`<img class="growing" alt=${t("run.picture")} src=${`${fileOf(id, ".zemosaic/preview/growing.png")}?n=${Math.floor(run.now / 2)}`} />`}
    <p class="actions"><button class="primary" onClick=${stop}>${t("run.stop")}</button> <small>${t("run.nothing-lost")}</small></p>
  </section>`;
}

function Said({ run }) {
  const reasons = {};
  for (const gone of run.leftOut) (reasons[gone.reason] ??= []).push(gone.name);
  const groups = Object.entries(reasons).sort((a, b) => b[1].length - a[1].length);
  const warnings = run.notices.filter((notice) => notice.level !== "info");
  return html`
    ${groups.length > 0 && html`<section class="card"><h2>${t("run.left-out", { n: run.leftOut.length })}</h2>
      <ul>${groups.slice(0, 20).map(([reason, names]) => html`<li>${reason} <small>${names.slice(0, 5).map(baseOf).join(", ")}${names.length > 5 ? " …" : ""}</small></li>`)}</ul></section>`}
    ${warnings.length > 0 && html`<section class="card"><h2>${t("run.warnings")}</h2>
      <ul>${warnings.map((notice) => html`<li>${notice.message}</li>`)}</ul></section>`}
    ${run.notices.length > 0 && html`<details class="card"><summary>${t("run.log", { n: run.notices.length })}</summary>
      <ul>${run.notices.map((notice) => html`<li>${notice.message}</li>`)}</ul></details>`}`;
}

const baseOf = (path) => path.split(/[/\\]/).pop();
