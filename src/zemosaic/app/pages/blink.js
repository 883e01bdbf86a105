// The picture of one frame, and many in turn: what differs between them jumps to the eye.
import { html, useEffect, useState } from "./view.js";
import { fileOf } from "./api.js";
import { short } from "./numbers.js";
import { t } from "./words.js";

// Long enough to see a picture, short enough to remember the one before.
const BLINK_MS = 500;

// Goes through the chosen frames where there are several, else through all.
export function Blink({ run, frames, gone, here, choose, toggle }) {
  const drawn = frames.filter((frame) => frame.picture);
  const chosen = drawn.filter((frame) => here.has(frame.path));
  const turn = chosen.length > 1 ? chosen : drawn;
  const [shown, setShown] = useState("");
  const [playing, setPlaying] = useState(false);
  useEffect(() => { if (chosen.length) setShown(chosen[0].path); }, [here]);
  const at = Math.max(turn.findIndex((frame) => frame.path === shown), 0);
  const step = (by) => {
    const next = turn[(at + by + turn.length) % turn.length].path;
    setShown(next);
    if (turn === drawn && !playing) choose([next]);
  };
  useEffect(() => {
    if (!playing || turn.length < 2) return undefined;
    const timer = setTimeout(() => step(1), BLINK_MS);
    return () => clearTimeout(timer);
  }, [playing, at, turn.length]);
  if (!drawn.length) return html`<p>${t("blink.none")}</p>`;
  const frame = turn[at];
  const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), b: () => setPlaying(!playing), x: () => toggle([frame.path]) };
  return html`<div class="blink" tabindex="0" role="group" aria-label=${t("blink.label")}
      onKeyDown=${(e) => { if (keys[e.key] && !e.ctrlKey) { e.preventDefault(); keys[e.key](); } }}>
    <img alt=${frame.name} src=${fileOf(run, frame.picture)} class=${gone.has(frame.path) ? "gone" : ""} />
    <div><p><strong>${frame.name}</strong> <small>${at + 1} / ${turn.length}${gone.has(frame.path) ? ` · ${t("blink.gone")}` : ""}</small></p>
      <p>${t("blink.facts", { fwhm: short(frame.fwhm_px) || "–", stars: short(frame.n_stars) || "–", sky: short(frame.sky) || "–" })}</p>
      ${frame.reason && html`<p>${frame.reason}</p>`}
      <p class="actions"><button onClick=${() => step(-1)} aria-label=${t("blink.before")}>◀</button>
        <button aria-pressed=${playing} onClick=${() => setPlaying(!playing)}>${t("blink.play")}</button>
        <button onClick=${() => step(1)} aria-label=${t("blink.after")}>▶</button>
        <button onClick=${() => toggle([frame.path])}>${gone.has(frame.path) ? t("frames.take-back") : t("blink.leave-out")}</button></p>
      <small>${t("blink.help")}</small></div>
  </div>`;
}
