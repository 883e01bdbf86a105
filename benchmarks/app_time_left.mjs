// How well the app's run page guesses the time left, over lines of runs that `zemosaic build --watched --json` wrote.
//
//     node benchmarks/app_time_left.mjs LINES.jsonl [LAST.jsonl]
//
// LAST are the lines of the mosaic that was made before on the machine; without it the page has its built-in times.
// Looked at from half way to nine tenths of the run, at each event: what is left in truth is then known.
import fs from "node:fs";

const pages = new URL("../src/zemosaic/app/pages/progress.js", import.meta.url);
const { addEvent, emptyRun, secondsLeft } = await import(`data:text/javascript,${encodeURIComponent(fs.readFileSync(pages, "utf8"))}`);

const read = (path) => fs.readFileSync(path, "utf8").trim().split("\n").map(JSON.parse);

function paceOf(events) {
  const seconds = {};
  for (const event of events) if (event.event === "StageEnded") seconds[event.stage] = (seconds[event.stage] || 0) + event.seconds;
  return { seconds };
}

const [lines, last] = process.argv.slice(2);
const events = read(lines), pace = last ? paceOf(read(last)) : {};
const end = Math.max(...events.map((event) => event.at_s || 0));
const errors = [];
let run = emptyRun();
for (const event of events) {
  run = addEvent(run, event);
  if (event.at_s >= 0.5 * end && event.at_s <= 0.9 * end) errors.push(Math.abs(secondsLeft(run, pace) / (end - event.at_s) - 1));
}
const beyond = errors.filter((error) => error > 0.3).length;
console.log(`${end.toFixed(0)} s; error of the time left: worst ${(100 * Math.max(...errors)).toFixed(0)} %, beyond 30 % at ${beyond} of ${errors.length} events`);
