import { useState } from "preact/hooks";
import { get, type List, type Problem, send } from "../api";
import { changed, go, href, place, refine } from "../route";
import { duration, inOwnZone } from "../time";
import { Busy, Failed, Table, Title } from "../ui/parts";
import { asProblem, useLoad } from "../ui/load";
import { AnalysisView } from "./analysis";
import { limitText, type Schedule as Known, type Summary, type Task } from "./model";

export function Schedule({ id }: { id: string }) {
  const path = `/v1/schedules/${encodeURIComponent(id)}`;
  const loaded = useLoad(path, (signal) => get<Known>(path, signal));
  const list = useLoad(path + "/analyses", (signal) => get<List<Summary>>(path + "/analyses?limit=20", signal));
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);
  const schedule = loaded.data;
  if (!schedule || loaded.problem) {
    return (
      <>
        <Title text="Schedule" />
        {loaded.problem ? <Failed problem={loaded.problem} again={loaded.again} /> : <Busy what="the schedule" />}
      </>
    );
  }
  const act = async (what: () => Promise<void>): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      await what();
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(false);
  };
  const analyse = (): Promise<void> =>
    act(async () => {
      const answer = await send<{ request_id: string }>("POST", "/v1/analyses", { body: { schedule_id: schedule.id } });
      refine({ analysis: answer.body.request_id });
      list.again();
    });
  const remove = (): Promise<void> =>
    act(async () => {
      await send("DELETE", path, { version: schedule.version });
      go(["schedules"]);
    });
  const step = (task: Task, verb: "start" | "complete", at: string | null): Promise<void> =>
    act(async () => {
      await send("POST", `${path}/tasks/${encodeURIComponent(task.id)}/${verb}`, { body: { at } });
      loaded.again();
    });
  const shown = place.value.query.get("analysis") ?? list.data?.items[0]?.request_id ?? null;
  return (
    <article class="schedule">
      <p class="way">
        <a href={href(["schedules"])}>Weather windows</a>
      </p>
      <Title text={schedule.name}>
        <p class="buttons">
          <button type="button" class="main" disabled={isBusy} onClick={() => void analyse()}>
            Analyse now
          </button>
          <a class="button" href={href(["schedules", schedule.id, "edit"])}>
            Change
          </a>
        </p>
      </Title>
      <p class="small">
        At {schedule.location.lat}, {schedule.location.lon} ·{" "}
        {schedule.repeat_every ? `analysed every ${duration(schedule.repeat_every)}` : "analysed on request"} · version {schedule.version},{" "}
        {inOwnZone(schedule.updated_at)}
      </p>
      {problem && <Failed problem={problem} />}
      {list.problem && <Failed problem={list.problem} again={list.again} />}
      {shown ? (
        <AnalysisView key={shown} id={shown} schedule={schedule} ended={list.again} />
      ) : (
        list.data && <p class="notice">This schedule was never analysed. Analyse it to see when its tasks can start.</p>
      )}
      <h2>Tasks</h2>
      <Tasks tasks={schedule.tasks} isBusy={isBusy} step={step} />
      {(list.data?.items.length ?? 0) > 1 && <Earlier analyses={list.data!.items} shown={shown} />}
      <details class="noprint">
        <summary>Delete</summary>
        <p>
          <button type="button" class="danger" disabled={isBusy} onClick={() => void remove()}>
            Delete this schedule
          </button>
        </p>
      </details>
    </article>
  );
}

interface TasksProps {
  tasks: Task[];
  isBusy: boolean;
  step: (task: Task, verb: "start" | "complete", at: string | null) => Promise<void>;
}

function Tasks({ tasks, isBusy, step }: TasksProps) {
  const name = (id: string): string => tasks.find((task) => task.id === id)?.name ?? id;
  return (
    <Table label="Tasks">
      <thead>
        <tr>
          <th scope="col">Task</th>
          <th scope="col">Takes</th>
          <th scope="col">Limits</th>
          <th scope="col">After</th>
          <th scope="col">State</th>
        </tr>
      </thead>
      <tbody>
        {tasks.map((task) => (
          <tr key={task.id}>
            <th scope="row">{task.name}</th>
            <td class="nowrap">
              {duration(task.duration)}
              {task.contingency && <span class="quiet"> + {duration(task.contingency)}</span>}
            </td>
            <td>{task.limits.map((limit) => <div key={limit.variable}>{limitText(limit)}</div>)}</td>
            <td>{task.predecessors.map(name).join(", ")}</td>
            <td>
              <State task={task} isBusy={isBusy} step={step} />
            </td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}

function State({ task, isBusy, step }: { task: Task; isBusy: boolean; step: TasksProps["step"] }) {
  const [at, setAt] = useState("");
  if (task.state === "completed") {
    return (
      <span class="good">
        completed {inOwnZone(task.completed_at!)}
      </span>
    );
  }
  const verb = task.state === "planned" ? "start" : "complete";
  const instant = at ? new Date(at).toISOString() : null;
  return (
    <div class="step-state">
      <span>{task.state === "planned" ? "planned" : `under way since ${inOwnZone(task.started_at!)}`}</span>
      <span class="noprint buttons">
        <input type="datetime-local" aria-label={`When ${task.name} was ${verb}ed; now when empty`} value={at} onChange={(event) => setAt(event.currentTarget.value)} />
        <button type="button" disabled={isBusy} onClick={() => void step(task, verb, instant)}>
          {verb === "start" ? "Start" : "Complete"}
          <span class="unseen"> {task.name}</span>
        </button>
      </span>
    </div>
  );
}

function Earlier({ analyses, shown }: { analyses: Summary[]; shown: string | null }) {
  return (
    <>
      <h2>Analyses</h2>
      <ul class="history">
        {analyses.map((one) => (
          <li key={one.request_id}>
            <a
              href={href(place.value.path, changed({ analysis: one.request_id }))}
              aria-current={one.request_id === shown ? "true" : undefined}
            >
              {inOwnZone(one.requested_at)}
            </a>{" "}
            {one.state}
            {one.origin === "repeat" && <span class="quiet">, by itself</span>}
            {one.state === "completed" &&
              (one.earliest_completion ? `, done by ${inOwnZone(one.earliest_completion)}` : ", no completion in sight")}
            {one.is_stale && <span class="warn"> on a stale forecast</span>}
          </li>
        ))}
      </ul>
    </>
  );
}
