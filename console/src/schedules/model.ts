// Schedules and analyses as the API gives and takes them.
import { duration } from "../time";

export interface Limit {
  variable: string;
  min?: number | null;
  max?: number | null;
}

export interface Task {
  id: string;
  name: string;
  duration: string;
  contingency: string | null;
  predecessors: string[];
  limits: Limit[];
  state: "planned" | "started" | "completed";
  started_at: string | null;
  completed_at: string | null;
}

export type TaskBody = Omit<Task, "state" | "started_at" | "completed_at">;

export interface ScheduleBody {
  name: string;
  location: { lat: number; lon: number };
  repeat_every: string | null;
  tasks: TaskBody[];
}

export interface Schedule extends Omit<ScheduleBody, "tasks"> {
  id: string;
  version: number;
  owner: string;
  created_at: string;
  updated_at: string;
  tasks: Task[];
}

export interface Change {
  kind: "window.opened" | "window.lost" | "task.at_risk";
  task: string;
  reason: string | null;
}

export interface Summary {
  request_id: string;
  state: "queued" | "running" | "completed" | "failed" | "cancelled";
  progress: number;
  origin: "request" | "repeat";
  schedule_id: string | null;
  schedule_version: number | null;
  requested_at: string;
  updated_at: string;
  earliest_completion?: string | null;
  is_stale?: boolean | null;
  error?: { code: string; detail: string } | null;
  previous?: string | null;
  changes?: Change[] | null;
}

interface Span {
  from: string;
  to: string;
}

export interface TaskResult {
  id: string;
  unrestricted: boolean;
  failed?: string | null;
  alpha?: { table: string; row: number; factor: number; limit: number } | null;
  windows: Span[];
  start_windows: (Span & { margin?: { variable: string; amount: number } | null })[];
  earliest_start?: string | null;
  waiting_s?: number | null;
  longest_window?: (Span & { ended_by: string }) | null;
}

export interface Planned {
  task: string;
  start: string | null;
  end: string | null;
  latest_start: string | null;
  at_risk: string | null;
}

export interface Source {
  source: string;
  issued_at?: string | null;
  fetched_at?: string | null;
  age_s?: number | null;
  attribution?: string | null;
}

export interface Analysis extends Summary {
  place?: number | null;
  stage?: string;
  now?: string;
  forecast?: Source & { variables: Record<string, { source: string; step: string; until: string }>; sources?: Source[] };
  warnings?: { code: string; detail: string; variable?: string | null }[];
  result?: { start_from?: string; earliest_completion: string | null; plan: Planned[]; tasks: TaskResult[] };
}

export const isOver = (analysis: Summary): boolean => !["queued", "running"].includes(analysis.state);

export const VARIABLES: Record<string, [string, string]> = {
  wave_height_m: ["significant wave height", "m"],
  wave_period_s: ["wave period", "s"],
  wind_speed_ms: ["wind speed", "m/s"],
  wind_gust_ms: ["wind gust", "m/s"],
  current_speed_ms: ["current speed", "m/s"],
  visibility_m: ["visibility", "m"],
};

export const variableName = (variable: string): string => VARIABLES[variable]?.[0] ?? variable;

export function limitText(limit: Limit): string {
  const [name, unit] = VARIABLES[limit.variable] ?? [limit.variable, ""];
  const bounds = [
    limit.min !== undefined && limit.min !== null ? `at least ${limit.min}` : "",
    limit.max !== undefined && limit.max !== null ? `at most ${limit.max}` : "",
  ];
  return `${name} ${bounds.filter(Boolean).join(", ")} ${unit}`;
}

/** What ended a window, in words. */
export function endedBy(reason: string): string {
  if (reason === "gap") return "a gap in the forecast";
  if (reason === "end_of_forecast") return "the end of the forecast";
  if (reason.startsWith("missing:")) return `missing ${variableName(reason.slice(8))}`;
  return variableName(reason);
}

export function changeText(change: Change, name: (task: string) => string): string {
  switch (change.kind) {
    case "window.opened":
      return `${name(change.task)} can be started again`;
    case "window.lost":
      return change.reason === "planned_start"
        ? `${name(change.task)} can no longer start when the last plan said`
        : `${name(change.task)} has no possible start any more`;
    case "task.at_risk":
      return `${name(change.task)} is under way and at risk`;
  }
}

export function bodyOf(schedule: Schedule): ScheduleBody {
  const { name, location, repeat_every, tasks } = schedule;
  return {
    name,
    location,
    repeat_every: repeat_every ?? null,
    tasks: tasks.map(({ id, name, duration, contingency, predecessors, limits }) => ({
      id, name, duration, contingency: contingency ?? null, predecessors, limits,
    })),
  };
}

export function linesOf(name: string, value: unknown): string[] {
  if (value === null || value === undefined) return [];
  switch (name) {
    case "location": {
      const { lat, lon } = value as ScheduleBody["location"];
      return [`${lat}, ${lon}`];
    }
    case "repeat_every":
      return [`every ${duration(value as string)}`];
    case "tasks":
      return (value as TaskBody[]).map((task) =>
        [
          `${task.name} (${task.id}): ${duration(task.duration)}`,
          task.contingency && `contingency ${duration(task.contingency)}`,
          task.predecessors.length > 0 && `after ${task.predecessors.join(", ")}`,
          ...task.limits.map(limitText),
        ]
          .filter(Boolean)
          .join("; "),
      );
  }
  return [String(value)];
}
