// Questions to the server, and the lines of a run as they come.
import { chosenLanguage } from "./words.js";

async function ask(method, path, body) {
  const headers = { "x-zemosaic": chosenLanguage() };
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const found = await answer.json().catch(() => ({ message: answer.statusText }));
  if (!answer.ok) throw new Error(found.message);
  return found;
}

export const get = (path) => ask("GET", path);
export const post = (path, body = {}) => ask("POST", path, body);
export const folderOf = (path) => get(`/api/folder?path=${encodeURIComponent(path)}`);
export const scanOf = (path) => get(`/api/scan?path=${encodeURIComponent(path)}`);
export const fileOf = (run, name) => `/api/runs/${run}/files/${name}`;

// Calls `on` for each event of a run, those of before first; returns what ends it. The browser itself asks again after
// a break and says what it had last. A run that is no longer at work is told as State; then nothing more comes.
export function follow(run, on, lost) {
  const source = new EventSource(`/api/runs/${run}/events?language=${chosenLanguage()}`);
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.event === "State") source.close();
    on(event);
  };
  source.onopen = () => lost(false);
  source.onerror = () => lost(source.readyState !== EventSource.CLOSED);
  return () => source.close();
}
