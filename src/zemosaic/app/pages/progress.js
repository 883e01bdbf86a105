// How a run stands, from its events: stage, share done, time left, what was told. Pure: events in, a value out.

// Shares of the time of a run, as measured on 96 raw frames of a telescope; a stage that is not here takes little.
const SHARES = { scan: 1, measure: 22, solve: 8, match: 15, stack: 44, preview: 4, viewer: 3, report: 3 };

// Before this share of the work the rate says nothing yet.
const LEARNING = 0.05;

export const emptyRun = () => ({
  stage: "", done: 0, total: null, seconds: {}, begun: 0, now: 0, picture: 0, leftOut: [], notices: [], look: false, end: null,
});

export function addEvent(run, event) {
  const next = { ...run, now: event.at_s ?? run.now };
  switch (event.event) {
    case "RunStarted": return { ...emptyRun(), look: event.look };
    case "StageStarted": return { ...next, stage: event.stage, total: event.total, done: 0, begun: event.at_s };
    case "Progress": return { ...next, done: event.done };
    case "StageEnded": {
      const seconds = { ...run.seconds, [event.stage]: (run.seconds[event.stage] || 0) + event.seconds };
      return { ...next, seconds, stage: "", done: 0, total: null };
    }
    case "PatchFinished": return { ...next, picture: run.picture + 1 };
    case "LeftOut": return { ...next, leftOut: [...run.leftOut, event] };
    case "Notice": return { ...next, notices: [...run.notices, event] };
    case "State": return { ...next, end: event };
    default: return next;
  }
}

// Share of the run that is done, 0 to 1, by the shares of stages.
export function shareDone(run) {
  const stages = Object.keys(SHARES).filter((stage) => !run.look || ["scan", "measure", "solve"].includes(stage));
  const whole = stages.reduce((sum, stage) => sum + SHARES[stage], 0);
  let done = 0;
  for (const stage of stages) {
    if (stage in run.seconds && stage !== run.stage) done += SHARES[stage];
    else if (stage === run.stage && run.total) done += (SHARES[stage] * run.done) / run.total;
  }
  return done / whole;
}

// Seconds left; null while there is nothing to tell it from. Within a stage its own rate counts; stages to come take
// their share of what those before took.
export function secondsLeft(run) {
  const share = shareDone(run);
  if (share < LEARNING || run.now <= 0) return null;
  return (run.now * (1 - share)) / share;
}
