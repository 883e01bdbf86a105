// How a run stands, from its events: stage, share done, time left, what was told. Pure: events in, a value out.

// Seconds of stages as measured on 96 raw frames of a telescope; a stage that is not here takes little. They stand in
// where no mosaic was made on this machine yet.
const USUAL = {
  seconds: { scan: 1, measure: 22, solve: 8, match: 15, stack: 44, preview: 4, viewer: 3, report: 5 }, n_values: 96 * 1080 * 1920,
};

// What a look at the frames alone comes to.
const LOOK = ["scan", "measure", "solve"];

// Stages that take their time whatever the number of frames.
const FIXED = ["report", "preview", "viewer", "edit", "regions", "checksums"];

// A stage of less than this part of the whole tells nothing of the others.
const HEAVY = 0.05;

// Before this share of the work the rate says nothing yet.
const LEARNING = 0.05;

// A stage that took less than this part of what was to be expected found its work done by an earlier run.
const TAKEN_OVER = 0.2;

export const emptyRun = () => ({
  stage: "", done: 0, total: null, seconds: {}, begun: 0, now: 0, picture: 0, leftOut: [], notices: [], look: false, end: null,
  usedBytes: 0, capBytes: 0,
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
    case "MemoryCapped": return { ...next, capBytes: event.cap_bytes };
    case "MemoryUsed": return { ...next, usedBytes: event.used_bytes };
    case "State": return { ...next, end: event };
    default: return next;
  }
}

const known = (pace) => (pace.seconds ? pace : USUAL);

// Seconds that a mosaic of frames with so many values takes where the last one kept its pace.
export function guessSeconds(pace, nValues) {
  const { seconds, n_values } = known(pace);
  const times = nValues / (n_values || USUAL.n_values);
  return Object.keys(seconds).filter((stage) => stage !== "compile").reduce((sum, stage) => sum + seconds[stage] * (FIXED.includes(stage) ? 1 : times), 0);
}

// Seconds left; null while there is nothing to tell it from. The stage at work goes on at its own rate, the more so the
// more of it is done; stages to come take what they took in `pace`, the last mosaic of this machine, times how much
// slower this run was so far.
export function secondsLeft(run, pace) {
  const usual = known(pace).seconds;
  const stages = Object.keys(usual).filter((stage) => stage !== "compile" && (!run.look || LOOK.includes(stage)));
  const inStage = run.now - run.begun;
  const slower = slowness(run, usual, stages, inStage);
  if (slower === null) return null;
  const done = run.total ? run.done / run.total : 0;
  let left = 0;
  for (const stage of stages) {
    const expected = usual[stage] * (FIXED.includes(stage) ? 1 : slower);
    if (stage !== run.stage) left += stage in run.seconds ? 0 : expected;
    else left += done * (run.done ? (inStage * (run.total - run.done)) / run.done : 0) + (1 - done) * Math.max(expected - inStage, 0);
  }
  return left;
}

// How many times longer than usual the stages took that matter and had work to do: those that ended, each as much as it
// weighs, and the one at work as far as it is done.
function slowness(run, usual, stages, inStage) {
  const whole = stages.reduce((sum, stage) => sum + usual[stage], 0);
  const heavy = stages.filter((stage) => !FIXED.includes(stage) && usual[stage] > HEAVY * whole);
  const rates = [];
  for (const stage of heavy) {
    if (stage === run.stage && run.done && run.total) rates.push([(inStage * run.total) / run.done / usual[stage], (usual[stage] * run.done) / run.total]);
    else if (stage !== run.stage && stage in run.seconds) rates.push([run.seconds[stage] / usual[stage], usual[stage]]);
  }
  const worked = rates.filter(([rate]) => rate >= TAKEN_OVER * Math.max(...rates.map(([other]) => other)));
  const weight = worked.reduce((sum, [, share]) => sum + share, 0);
  return weight > 0 ? worked.reduce((sum, [rate, share]) => sum + rate * share, 0) / weight : null;
}

// Share of the run that is done, 0 to 1, by the time it takes.
export function shareDone(run, pace) {
  const left = secondsLeft(run, pace);
  return left === null || run.now + left <= 0 ? 0 : run.now / (run.now + left);
}

export const isLearning = (share) => share < LEARNING;
