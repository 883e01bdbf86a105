// The frame of all pages: places, language, theme, what went wrong.
import { html, render, useEffect, useState } from "./view.js";
import { address, onAddress } from "./address.js";
import { chosenLanguage, loadWords, t } from "./words.js";
import { Start } from "./start.js";
import { Run } from "./run.js";
import { Settings } from "./settings.js";

const THEMES = ["system", "light", "dark", "red"];

function App() {
  const [where, setWhere] = useState(address());
  const [language, setLanguage] = useState(chosenLanguage());
  const [theme, setTheme] = useState(localStorage.getItem("theme") || "system");
  const [problem, setProblem] = useState("");
  const [settings, setSettings] = useState({});
  useEffect(() => onAddress(() => { setWhere(address()); setProblem(""); }), []);
  document.documentElement.dataset.theme = theme; // before the parts of the page draw in its colours
  useEffect(() => localStorage.setItem("theme", theme), [theme]);
  const speak = async (wanted) => { await loadWords(wanted); setLanguage(wanted); };
  const change = (stage, name, value) => {
    const { [name]: _, ...keys } = settings[stage] || {};
    const { [stage]: __, ...others } = settings;
    const kept = value === undefined ? keys : { ...keys, [name]: value };
    setSettings(Object.keys(kept).length ? { ...others, [stage]: kept } : others);
  };
  const say = (error) => setProblem(error.message);
  if (where.page !== "run") document.title = "ZeMosaic";
  const link = (page, href) => html`<a href=${href} aria-current=${where.page === page ? "page" : null}>${t(`page.${page}`)}</a>`;
  return html`
    <header>
      <a class="brand" href="/">ZeMosaic</a>
      <nav aria-label=${t("page.nav")}>${link("start", "/")}${link("settings", "/settings")}
        ${where.page === "run" && html`<a href="/run/${where.run}" aria-current=${where.part ? null : "page"}>${t("page.run")}</a>
          <a href="/run/${where.run}/frames" aria-current=${where.part === "frames" ? "page" : null}>${t("page.frames")}</a>`}</nav>
      <select aria-label=${t("page.language")} value=${language} onChange=${(e) => speak(e.target.value)}>
        <option value="en" lang="en">English</option><option value="fr" lang="fr">Français</option></select>
      <select aria-label=${t("page.theme")} value=${theme} onChange=${(e) => setTheme(e.target.value)}>
        ${THEMES.map((name) => html`<option value=${name}>${t(`theme.${name}`)}</option>`)}</select>
    </header>
    <main>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${where.page === "start" && html`<${Start} settings=${settings} say=${say} />`}
      ${where.page === "settings" && html`<${Settings} settings=${settings} change=${change} say=${say} />`}
      ${where.page === "run" && html`<${Run} key=${where.run} id=${where.run} part=${where.part} say=${say} />`}
    </main>`;
}

await loadWords(chosenLanguage());
render(html`<${App} />`, document.body);
