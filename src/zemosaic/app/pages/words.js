// The words of the pages, in the language that a person chose.
const KNOWN = ["en", "fr"];
let words = {};

export function chosenLanguage() {
  const kept = localStorage.getItem("language");
  const own = (kept || navigator.language || "en").slice(0, 2);
  return KNOWN.includes(own) ? own : "en";
}

export async function loadWords(language) {
  localStorage.setItem("language", language);
  document.documentElement.lang = language;
  words = await (await fetch(`/static/words-${language}.json`)).json();
}

// A sentence, its {fields} filled in; of `key.one` where the field n is 1.
export function t(key, fields = {}) {
  const sentence = (fields.n === 1 && words[`${key}.one`]) || words[key] || key;
  return sentence.replace(/\{(\w+)\}/g, (_, name) => fields[name]);
}
