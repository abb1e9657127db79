import { useState } from "preact/hooks";
import { get } from "../api";
import { go, href } from "../route";
import { duration, isoDuration } from "../time";
import { Conflict } from "../ui/conflict";
import { useEditing } from "../ui/edit";
import { FaultList, Faults, Field, Group, Select } from "../ui/form";
import { Busy, Failed, Title } from "../ui/parts";
import { useLoad } from "../ui/load";
import { Remove } from "../recipes/form";
import { bodyOf, type Limit, linesOf, type Schedule, type ScheduleBody, VARIABLES } from "./model";

interface LimitRow {
  variable: string;
  min: string;
  max: string;
}

interface TaskRow {
  id: string;
  name: string;
  duration: string;
  contingency: string;
  predecessors: string;
  limits: LimitRow[];
}

interface Typed {
  name: string;
  lat: string;
  lon: string;
  repeat: string;
  tasks: TaskRow[];
}

const NO_TASK: TaskRow = { id: "", name: "", duration: "", contingency: "", predecessors: "", limits: [] };

function typedOf(body: ScheduleBody | null): Typed {
  const text = (number: number | null | undefined): string => (number === null || number === undefined ? "" : String(number));
  return {
    name: body?.name ?? "",
    lat: text(body?.location.lat),
    lon: text(body?.location.lon),
    repeat: duration(body?.repeat_every),
    tasks: body?.tasks.map((task) => ({
      id: task.id,
      name: task.name,
      duration: duration(task.duration),
      contingency: duration(task.contingency),
      predecessors: task.predecessors.join(", "),
      limits: task.limits.map((limit) => ({ variable: limit.variable, min: text(limit.min), max: text(limit.max) })),
    })) ?? [NO_TASK],
  };
}

const numberOf = (text: string): number => {
  const written = text.trim().replace(",", ".");
  // What is no number is sent as it is: the server names it at its field.
  return written !== "" && !Number.isNaN(Number(written)) ? Number(written) : (text.trim() as never);
};

function limitOf(row: LimitRow): Limit {
  const limit: Limit = { variable: row.variable };
  if (row.min.trim()) limit.min = numberOf(row.min);
  if (row.max.trim()) limit.max = numberOf(row.max);
  return limit;
}

function bodyOfTyped(typed: Typed): ScheduleBody {
  return {
    name: typed.name,
    location: { lat: numberOf(typed.lat), lon: numberOf(typed.lon) },
    repeat_every: isoDuration(typed.repeat) || null,
    tasks: typed.tasks.map((task) => ({
      id: task.id.trim(),
      name: task.name,
      duration: isoDuration(task.duration),
      contingency: isoDuration(task.contingency) || null,
      predecessors: task.predecessors.split(",").map((one) => one.trim()).filter(Boolean),
      limits: task.limits.map(limitOf),
    })),
  };
}

export function ScheduleForm({ id }: { id: string | null }) {
  const path = id ? `/v1/schedules/${encodeURIComponent(id)}` : "";
  const loaded = useLoad(path, (signal) => (path ? get<Schedule>(path, signal) : Promise.resolve(null)));
  const title = id ? "Change a schedule" : "New schedule";
  if (loaded.problem && !loaded.data) {
    return (
      <>
        <Title text={title} />
        <Failed problem={loaded.problem} again={loaded.again} />
      </>
    );
  }
  if (path && !loaded.data) return <Busy what="the schedule" />;
  return <Form title={title} loaded={loaded.data} />;
}

function Form({ title, loaded }: { title: string; loaded: Schedule | null }) {
  // What the change began from, whatever is loaded later.
  const [known] = useState(loaded);
  const [typed, setTyped] = useState(() => typedOf(known && bodyOf(known)));
  const editing = useEditing<ScheduleBody, Schedule>("/v1/schedules", known, bodyOf, (id) => go(["schedules", id]));
  const set = <Name extends keyof Typed>(name: Name) => (value: Typed[Name]): void => setTyped({ ...typed, [name]: value });
  const back = known ? href(["schedules", known.id]) : href(["schedules"]);
  if (editing.conflict && known) {
    const { mine, theirs } = editing.conflict;
    return (
      <>
        <Title text={title} />
        <Conflict
          base={{ ...bodyOf(known) }}
          mine={{ ...mine }}
          theirs={{ ...theirs }}
          linesOf={linesOf}
          choose={(chosen) => {
            const body = chosen as unknown as ScheduleBody;
            setTyped(typedOf(body));
            void editing.resolve(body);
          }}
          cancel={editing.dismiss}
        />
      </>
    );
  }
  const submit = (event: Event): void => {
    event.preventDefault();
    void editing.write(bodyOfTyped(typed));
  };
  return (
    <Faults.Provider value={editing.problem?.faults ?? []}>
      <p class="way">
        <a href={back}>{known ? known.name : "Weather windows"}</a>
      </p>
      <Title text={title} />
      {editing.problem && <FaultList problem={editing.problem} />}
      <form class="form" noValidate onSubmit={submit}>
        <Field pointer="#/name" label="Name" required value={typed.name} set={set("name")} />
        <div class="row">
          <Field pointer="#/location/lat" label="Latitude" size={9} inputMode="decimal" required value={typed.lat} set={set("lat")} />
          <Field pointer="#/location/lon" label="Longitude" size={9} inputMode="decimal" required value={typed.lon} set={set("lon")} />
          <Field pointer="#/repeat_every" label="Analyse every" size={10} hint="such as 1 h; empty: on request only" value={typed.repeat} set={set("repeat")} />
        </div>
        <Group pointer="#/tasks" legend="Tasks" hint="Durations such as 4 h or 1 d 6 h. Predecessors are the ids of tasks that must end first.">
          {typed.tasks.map((task, at) => (
            <TaskFields
              key={at}
              at={at}
              task={task}
              set={(changes) => set("tasks")(typed.tasks.map((one, number) => (number === at ? { ...one, ...changes } : one)))}
              remove={() => set("tasks")(typed.tasks.filter((_, number) => number !== at))}
            />
          ))}
          <button type="button" onClick={() => set("tasks")([...typed.tasks, { ...NO_TASK, predecessors: typed.tasks.at(-1)?.id ?? "" }])}>
            Add a task
          </button>
        </Group>
        <p class="buttons">
          <button type="submit" class="main" disabled={editing.isBusy}>
            {editing.isBusy ? "Writing…" : known ? "Write the change" : "Write the schedule"}
          </button>
          <a href={back}>Cancel</a>
        </p>
      </form>
    </Faults.Provider>
  );
}

interface TaskProps {
  at: number;
  task: TaskRow;
  set: (changes: Partial<TaskRow>) => void;
  remove: () => void;
}

function TaskFields({ at, task, set, remove }: TaskProps) {
  const pointer = `#/tasks/${at}`;
  const put = (number: number, changes: Partial<LimitRow>): void =>
    set({ limits: task.limits.map((row, other) => (other === number ? { ...row, ...changes } : row)) });
  return (
    <div class="item" role="group" aria-label={`Task ${at + 1}`}>
      <div class="row">
        <Field pointer={`${pointer}/id`} label="Id" size={10} required value={task.id} set={(id) => set({ id })} />
        <Field pointer={`${pointer}/name`} label="Name" required value={task.name} set={(name) => set({ name })} />
        <Field pointer={`${pointer}/duration`} label="Takes" size={8} required value={task.duration} set={(text) => set({ duration: text })} />
        <Field pointer={`${pointer}/contingency`} label="Contingency" size={8} value={task.contingency} set={(contingency) => set({ contingency })} />
        <Field pointer={`${pointer}/predecessors`} label="Predecessors" size={14} value={task.predecessors} set={(predecessors) => set({ predecessors })} />
        <Remove what={`task ${at + 1}`} remove={remove} />
      </div>
      {task.limits.map((limit, number) => (
        <div key={number} class="row limit" role="group" aria-label={`Limit ${number + 1} of task ${at + 1}`}>
          <Select
            pointer={`${pointer}/limits/${number}/variable`}
            label="Limit on"
            value={limit.variable}
            set={(variable) => put(number, { variable })}
            options={Object.entries(VARIABLES).map(([name, [text, unit]]): [string, string] => [name, `${text} (${unit})`])}
          />
          <Field pointer={`${pointer}/limits/${number}/max`} label="At most" size={7} inputMode="decimal" value={limit.max} set={(max) => put(number, { max })} />
          <Field pointer={`${pointer}/limits/${number}/min`} label="At least" size={7} inputMode="decimal" value={limit.min} set={(min) => put(number, { min })} />
          <Remove what={`limit ${number + 1} of task ${at + 1}`} remove={() => set({ limits: task.limits.filter((_, other) => other !== number) })} />
        </div>
      ))}
      <p>
        <button
          type="button"
          onClick={() => {
            const next = Object.keys(VARIABLES).find((name) => !task.limits.some((limit) => limit.variable === name));
            set({ limits: [...task.limits, { variable: next ?? "wave_height_m", min: "", max: "" }] });
          }}
        >
          Add a limit<span class="unseen"> to task {at + 1}</span>
        </button>
      </p>
    </div>
  );
}
