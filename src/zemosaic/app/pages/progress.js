// How a run stands, from its events: stage, share done, time left, what was told. Pure: events in, a value out.

// Before this share of the time the guess says nothing yet.
const LEARNING = 0.05;

// At work beside the stages, in other processes: it is not what a run does next.
const BESIDE = "compile";

const nothing = { stage: "", done: 0, total: null };

export const emptyRun = () => ({
  ...nothing, open: [], now: 0, left: null, picture: 0, leftOut: [], notices: [], end: null, usedBytes: 0, capBytes: 0,
});

// `open` are the stages that began and did not end: some run beside each other, and the one that began last is shown.
const showing = (run, open) => ({ ...run, open, ...(open.findLast((stage) => stage.stage !== BESIDE) || open[0] || nothing) });

export function addEvent(run, event) {
  const next = { ...run, now: event.at_s ?? run.now };
  const others = run.open.filter((stage) => stage.stage !== event.stage);
  switch (event.event) {
    case "RunStarted": return emptyRun();
    case "StageStarted": return showing(next, [...others, { stage: event.stage, total: event.total, done: 0 }]);
    case "Progress": return showing(next, run.open.map((stage) => (stage.stage === event.stage ? { ...stage, done: event.done } : stage)));
    case "StageEnded": return showing(next, others);
    case "TimeLeft": return { ...next, left: { seconds: event.seconds, at: event.at_s } };
    case "PatchFinished": return { ...next, picture: run.picture + 1 };
    case "LeftOut": return { ...next, leftOut: [...run.leftOut, event] };
    case "Notice": return { ...next, notices: [...run.notices, event] };
    case "MemoryCapped": return { ...next, capBytes: event.cap_bytes };
    case "MemoryUsed": return { ...next, usedBytes: event.used_bytes };
    case "State": return { ...next, end: event };
    default: return next;
  }
}

// Seconds left, as the run told them last, less what has gone by since; null while nothing tells it.
export const secondsLeft = (run) => run.left && Math.max(run.left.seconds - (run.now - run.left.at), 0);

// Share of the run that is done, 0 to 1, by the time it takes.
export function shareDone(run) {
  const left = secondsLeft(run);
  return left === null || run.now + left <= 0 ? 0 : run.now / (run.now + left);
}

export const isLearning = (run) => shareDone(run) < LEARNING;
