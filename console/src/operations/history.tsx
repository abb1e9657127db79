// One aggregate, event by event: what was known after each, and what each changed.
import { useEffect, useState } from "preact/hooks";
import { all, get, type List } from "../api";
import { changed, go, href, place, refine } from "../route";
import { inOwnZone } from "../time";
import { useLoad } from "../ui/load";
import { Busy, Choice, count, Empty, Failed, Table } from "../ui/parts";
import { Head } from "./nav";
import { useTopics } from "./topics";

interface Moment {
  type: string;
  time: string;
  state: Record<string, unknown>;
}

/** Of one aggregate no more events are looked at. */
const MOST = 5_000;
/** Pages of a topic that are looked through for a key; each may pass over ten thousand events. */
const MOST_PAGES = 500;

interface Event {
  type: string;
  time: string;
  data: unknown;
}

/** Plans have a table of their histories; other keys are looked for in the log. */
async function historyOf(topic: string, key: string, signal: AbortSignal, tell: (looked: number) => void): Promise<Moment[]> {
  if (topic === "plans.events") {
    type Change = { type: string; occurred_at: string; plan: Record<string, unknown> };
    const { items } = await all<Change>(`/v1/plans/${encodeURIComponent(key)}/history?limit=500`, MOST, signal);
    return items.map((one) => ({ type: one.type, time: one.occurred_at, state: one.plan }));
  }
  const found: Moment[] = [];
  let after = "beginning";
  for (let pages = 1; pages <= MOST_PAGES && found.length < MOST; pages++) {
    const query = new URLSearchParams({ after, key, limit: "500" });
    const page: List<Event> = await get<List<Event>>(`/v1/events/${encodeURIComponent(topic)}?${query}`, signal);
    for (const one of page.items) {
      const state = one.data && typeof one.data === "object" ? (one.data as Record<string, unknown>) : { data: one.data };
      // Both follow from the event before.
      delete state.before;
      delete state.changed;
      found.push({ type: one.type, time: one.time, state });
    }
    // The end: nothing was passed over.
    if (!page.next_cursor || page.next_cursor === after) break;
    after = page.next_cursor;
    tell(pages);
  }
  return found;
}

export function History({ topic, id }: { topic: string | null; id: string | null }) {
  return (
    <>
      <Head at="history" text="History" />
      <Which topic={topic ?? "plans.events"} id={id ?? ""} />
      {topic && id ? (
        <Through key={`${topic} ${id}`} topic={topic} id={id} />
      ) : (
        <Empty>Name a topic and the id of a plan, a recipe, a schedule or whatever else has events there.</Empty>
      )}
    </>
  );
}

function Which({ topic, id }: { topic: string; id: string }) {
  const topics = useTopics();
  return (
    <form
      class="filters"
      aria-label="Which history"
      onSubmit={(event) => {
        event.preventDefault();
        const form = new FormData(event.currentTarget);
        const wanted = String(form.get("id") ?? "").trim();
        if (wanted) go(["operations", "history", String(form.get("topic")), wanted]);
      }}
    >
      <label class="filter">
        <span>Topic</span>
        <select name="topic" key={topics.data ? "known" : "unknown"}>
          {[...new Set([topic, ...(topics.data ?? [])])].map((one) => (
            <option key={one} selected={one === topic}>
              {one}
            </option>
          ))}
        </select>
      </label>
      <label class="filter wide">
        <span>Id</span>
        <input type="text" name="id" autocomplete="off" spellcheck={false} defaultValue={id} required />
      </label>
      <button type="submit">Show</button>
    </form>
  );
}

function Through({ topic, id }: { topic: string; id: string }) {
  const [looked, tell] = useState(0);
  const loaded = useLoad(`${topic} ${id}`, (signal) => historyOf(topic, id, signal, tell));
  if (loaded.problem) return <Failed problem={loaded.problem} again={loaded.again} />;
  if (!loaded.data) return <Busy what={looked > 0 ? `the history (${count(looked, "page")} of the topic passed over)` : "the history"} />;
  const moments = loaded.data;
  if (moments.length === 0) return <Empty>The topic has no event with this key.</Empty>;
  return <Moments moments={moments} />;
}

function Moments({ moments }: { moments: Moment[] }) {
  const { query } = place.value;
  const asked = Number(query.get("at"));
  const at = asked >= 1 && asked <= moments.length ? Math.floor(asked) : moments.length;
  const [now, before] = [moments[at - 1]!, moments[at - 2]];
  const rows = rowsOf(before?.state ?? {}, now.state);
  const isAll = query.get("show") === "all";
  const shown = isAll ? rows : rows.filter((row) => row.isChanged);
  const to = (next: number): void => refine({ at: next === moments.length ? null : String(next) });
  // Where the slider was moved to is told once, when it rests.
  const said = useResting(`Event ${at} of ${moments.length}, ${now.type}`, 500);
  return (
    <>
      <div class="slider">
        <label for="moment">
          Event {at} of {moments.length}
        </label>
        <input
          id="moment"
          type="range"
          min={1}
          max={moments.length}
          value={at}
          aria-valuetext={`${at} of ${moments.length}: ${now.type}, ${inOwnZone(now.time)}`}
          onInput={(event) => to(Number(event.currentTarget.value))}
        />
        <p class="buttons">
          <button type="button" disabled={at === 1} onClick={() => to(at - 1)}>
            Earlier
          </button>
          <button type="button" disabled={at === moments.length} onClick={() => to(at + 1)}>
            Later
          </button>
        </p>
      </div>
      <h2>
        {now.type} <span class="quiet">{inOwnZone(now.time)}</span>
      </h2>
      <p class="unseen" role="status">
        {said}
      </p>
      <form class="filters" aria-label="What is shown" onSubmit={(event) => event.preventDefault()}>
        <Choice name="show" label="Show" value={isAll ? "all" : ""} options={[["", "What it changed"], ["all", "All that was known"]]} />
      </form>
      {shown.length === 0 ? <p class="quiet">It changed nothing that is shown.</p> : <Known rows={shown} />}
      <details>
        <summary>All {count(moments.length, "event")}</summary>
        <ol class="history">
          {moments.map((one, number) => (
            <li key={number}>
              <a href={href(place.value.path, changed({ at: String(number + 1) }))} aria-current={number + 1 === at ? "true" : undefined}>
                {inOwnZone(one.time)}
              </a>{" "}
              <code>{one.type}</code>
            </li>
          ))}
        </ol>
      </details>
    </>
  );
}

function Known({ rows }: { rows: Line[] }) {
  return (
    <Table label="What was known" class="known">
      <thead>
        <tr>
          <th scope="col">Field</th>
          <th scope="col">Before</th>
          <th scope="col">After it</th>
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={row.name}>
            <th scope="row">{row.name}</th>
            <td>{row.isChanged && row.before ? <del>{row.before}</del> : <span class="quiet">{row.before}</span>}</td>
            <td>{row.isChanged && row.after ? <ins>{row.after}</ins> : row.after}</td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}

function useResting(text: string, ms: number): string {
  const [resting, rest] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => rest(text), ms);
    return () => clearTimeout(timer);
  }, [text, ms]);
  return resting;
}

interface Line {
  name: string;
  before: string;
  after: string;
  isChanged: boolean;
}

export function rowsOf(before: Record<string, unknown>, after: Record<string, unknown>): Line[] {
  const [old, next] = [flat(before), flat(after)];
  const names = [...new Set([...next.keys(), ...old.keys()])];
  return names.map((name) => {
    const [was, is] = [old.get(name) ?? "", next.get(name) ?? ""];
    return { name, before: was, after: is, isChanged: was !== is };
  });
}

/** Records have times as milliseconds. */
const isMoment = (path: string, value: unknown): value is number => typeof value === "number" && /_at$/.test(path) && Math.abs(value) < 8.64e15;

/** Values by their paths, such as `zones.0.price`. */
function flat(value: unknown, path = "", found = new Map<string, string>()): Map<string, string> {
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value);
    if (entries.length === 0 && path) found.set(path, Array.isArray(value) ? "(none)" : "(empty)");
    for (const [name, inner] of entries) flat(inner, path ? `${path}.${name}` : name, found);
  } else if (path) {
    found.set(path, value === null ? "–" : isMoment(path, value) ? new Date(value).toISOString() : String(value));
  }
  return found;
}
