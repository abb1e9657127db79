import { useState } from "preact/hooks";
import { get, type Problem, send } from "../api";
import { duration, inOwnZone, shortInOwnZone, span } from "../time";
import { Busy, Failed, sentence, Table } from "../ui/parts";
import { asProblem, useEvery, useLoad, useNow } from "../ui/load";
import { Chart, Note } from "./chart";
import { type Analysis, changeText, endedBy, isOver, type Planned, type Schedule, type TaskResult, variableName } from "./model";

const POLL_MS = 700;

export function AnalysisView({ id, schedule, ended }: { id: string; schedule: Schedule; ended: () => void }) {
  const path = `/v1/analyses/${encodeURIComponent(id)}`;
  const loaded = useLoad(path, (signal) => get<Analysis>(path, signal));
  const now = useNow(10_000);
  const analysis = loaded.data;
  const [wasWaiting, setWaiting] = useState(false);
  useEvery(POLL_MS, () => {
    if (!analysis || loaded.loading) return;
    if (!isOver(analysis)) {
      setWaiting(true);
      loaded.again();
    } else if (wasWaiting) {
      setWaiting(false);
      ended();
    }
  });
  if (loaded.problem) return <Failed problem={loaded.problem} again={loaded.again} />;
  if (!analysis) return <Busy what="the analysis" />;
  const name = (task: string): string => schedule.tasks.find((one) => one.id === task)?.name ?? task;
  return (
    <section aria-labelledby="analysis">
      <h2 id="analysis">Analysis of {inOwnZone(analysis.requested_at)}</h2>
      {!isOver(analysis) && <Waiting analysis={analysis} path={path} again={loaded.again} />}
      {analysis.state === "failed" && analysis.error && (
        <div class="notice bad" role="alert">
          <p>
            <strong>It failed.</strong> {sentence(analysis.error.detail)} <code>{analysis.error.code}</code>
          </p>
        </div>
      )}
      {analysis.state === "cancelled" && <p class="notice">It was cancelled.</p>}
      {analysis.state === "completed" && analysis.result && (
        <>
          {analysis.schedule_version !== null && analysis.schedule_version !== schedule.version && (
            <p class="notice warn">
              This is of version {analysis.schedule_version}; the schedule is at version {schedule.version} now.
            </p>
          )}
          <p class="answer">
            {analysis.result.earliest_completion ? (
              <>
                All tasks can be done by <strong>{inOwnZone(analysis.result.earliest_completion)}</strong>.
              </>
            ) : (
              <strong>The forecast has no window in which all tasks can be done.</strong>
            )}
          </p>
          <Changes analysis={analysis} name={name} />
          {(analysis.warnings?.length ?? 0) > 0 && (
            <ul class="notice warn" aria-label="Warnings">
              {analysis.warnings!.map((warning) => (
                <li key={warning.code + (warning.variable ?? "")}>
                  {sentence(warning.detail)} <code>{warning.code}</code>
                </li>
              ))}
            </ul>
          )}
          <Chart path={path} text={described(analysis, name)} />
          <Plan plan={analysis.result.plan} tasks={analysis.result.tasks} name={name} />
          <Sources analysis={analysis} now={now} />
          <Note path={path} />
        </>
      )}
    </section>
  );
}

function Waiting({ analysis, path, again }: { analysis: Analysis; path: string; again: () => void }) {
  const [problem, setProblem] = useState<Problem | null>(null);
  const cancel = async (): Promise<void> => {
    try {
      await send("DELETE", path);
      again();
    } catch (error) {
      setProblem(asProblem(error));
    }
  };
  const where =
    analysis.state === "queued"
      ? analysis.place
        ? `In the queue, at place ${analysis.place}.`
        : "In the queue."
      : analysis.stage === "waiting_for_forecast"
        ? "Waiting for a forecast."
        : "Computing.";
  return (
    <div class="notice" role="status">
      <p>{where}</p>
      <p>
        <progress aria-label="Progress" max={1} value={analysis.state === "running" ? analysis.progress : undefined} />{" "}
        <button type="button" onClick={() => void cancel()}>
          Cancel
        </button>
      </p>
      {problem && <Failed problem={problem} />}
    </div>
  );
}

function Changes({ analysis, name }: { analysis: Analysis; name: (task: string) => string }) {
  if (!analysis.previous) return null;
  const changes = analysis.changes ?? [];
  if (changes.length === 0) return <p class="small">No window opened or was lost since the last analysis.</p>;
  return (
    <div class={changes.some((one) => one.kind !== "window.opened") ? "notice warn" : "notice good"}>
      <p>
        <strong>Since the last analysis</strong>
      </p>
      <ul>
        {changes.map((change) => (
          <li key={change.kind + change.task}>{sentence(changeText(change, name))}</li>
        ))}
      </ul>
    </div>
  );
}

/** What the chart shows, in words; the table below has all of it. */
function described(analysis: Analysis, name: (task: string) => string): string {
  const parts = analysis.result!.tasks.map((task) => {
    if (task.failed) return `${name(task.id)}: ${task.failed}`;
    if (task.unrestricted) return `${name(task.id)}: no limits`;
    const from = task.start_windows[0];
    return `${name(task.id)}: ${from ? `can start from ${inOwnZone(from.from)}` : "no possible start"}`;
  });
  return `Chart of the forecast and the windows of each task. ${parts.join(". ")}. The table below has the whole plan.`;
}

function Plan({ plan, tasks, name }: { plan: Planned[]; tasks: TaskResult[]; name: (task: string) => string }) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return (
    <Table label="Plan" class="plan-table">
      <caption class="small">Times in {zone}</caption>
      <thead>
        <tr>
          <th scope="col">Task</th>
          <th scope="col">Start</th>
          <th scope="col">End</th>
          <th scope="col">Latest start</th>
          <th scope="col">Possible starts</th>
          <th scope="col">Longest window</th>
        </tr>
      </thead>
      <tbody>
        {plan.map((one) => {
          const task = tasks.find((other) => other.id === one.task);
          return (
            <tr key={one.task}>
              <th scope="row">{name(one.task)}</th>
              <td>
                {one.start ? shortInOwnZone(one.start) : <span class="bad">none</span>}
                {one.at_risk && <div class="bad">at risk from {shortInOwnZone(one.at_risk)}</div>}
              </td>
              <td>{one.end && shortInOwnZone(one.end)}</td>
              <td>{one.latest_start && shortInOwnZone(one.latest_start)}</td>
              <td class="starts">{task && <Starts task={task} />}</td>
              <td>
                {task?.longest_window &&
                  `${span((Date.parse(task.longest_window.to) - Date.parse(task.longest_window.from)) / 1000)}, ended by ${endedBy(task.longest_window.ended_by)}`}
              </td>
            </tr>
          );
        })}
      </tbody>
    </Table>
  );
}

const SHOWN = 4;

function Starts({ task }: { task: TaskResult }) {
  if (task.failed) return <span class="bad">{task.failed}</span>;
  if (task.unrestricted) return <>any time (no limits)</>;
  return (
    <>
      {task.start_windows.slice(0, SHOWN).map((window) => (
        <div key={window.from}>
          {shortInOwnZone(window.from)}
          {window.to !== window.from && ` to ${shortInOwnZone(window.to)}`}
          {window.margin && (
            <span class="quiet">
              {" "}
              (margin {window.margin.amount} in {variableName(window.margin.variable)})
            </span>
          )}
        </div>
      ))}
      {task.start_windows.length > SHOWN && <div class="quiet">and {task.start_windows.length - SHOWN} more</div>}
      {task.alpha && (
        <div class="quiet">
          alpha {task.alpha.factor} of table {task.alpha.table}, limit {task.alpha.limit} m
        </div>
      )}
    </>
  );
}

/** The age of what the result rests on: then, and now. */
function Sources({ analysis, now }: { analysis: Analysis; now: number }) {
  const forecast = analysis.forecast;
  if (!forecast) return null;
  const sources = forecast.sources?.length ? forecast.sources : [forecast];
  return (
    <>
      <h3>Forecast</h3>
      <ul class="plainlist">
        {sources.map((one) => {
          const time = one.issued_at ?? one.fetched_at;
          const variables = Object.entries(forecast.variables).filter(([, variable]) => variable.source === one.source);
          return (
            <li key={one.source} class={analysis.is_stale ? "warn" : ""}>
              <strong>{one.source}</strong>
              {time && `, ${one.issued_at ? "issued" : "fetched"} ${inOwnZone(time)}, ${span((now - Date.parse(time)) / 1000)} ago`}
              {typeof one.age_s === "number" && ` (${span(one.age_s)} old at the analysis)`}
              {variables.length > 0 && (
                <span class="quiet">
                  : {variables.map(([variable, known]) => `${variableName(variable)} in steps of ${duration(known.step)} until ${inOwnZone(known.until)}`).join("; ")}
                </span>
              )}
              {one.attribution && <div class="small">{one.attribution}</div>}
            </li>
          );
        })}
      </ul>
    </>
  );
}
