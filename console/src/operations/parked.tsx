// Keys whose events a projection cannot fold: which, why, and what is done about them.
import { useState } from "preact/hooks";
import { all, get, pause, Problem, send } from "../api";
import { href, place } from "../route";
import { inOwnZone } from "../time";
import { Act } from "../ui/act";
import { useEvery, useLoad } from "../ui/load";
import { Busy, Choice, count, Empty, Failed, Filter, sentence } from "../ui/parts";
import { Fact } from "../plans/plan";
import { Head } from "./nav";

interface Parked {
  projection: string;
  version: string;
  key: string;
  topic: string;
  partition: number;
  offset: number;
  last_offset: number;
  since: string | null;
  reason: string;
  fault: string;
  discarded: { offset: number; fault: string }[];
}

interface Event {
  type?: string;
  time?: string;
  unread?: string | null;
}

interface Action {
  id: string | null;
  action: string;
  state: "under_way" | "completed";
  matched: number;
  succeeded: number;
  failed: { key: string; reason: string }[];
}

/** Shown at most, and so many are acted on at once. */
const MOST = 1_000;
const REASONS: [string, string][] = [
  ["", "Any"],
  ["event", "The event"],
  ["schema", "Its schema"],
  ["unknown_event", "An unknown event"],
  ["panic", "A panic"],
];

const FOLLOWS = {
  redrive: "The events of the key are folded again, from the one that could not be on. Where the fault was mended, its rows are right after that; otherwise it stays parked.",
  discard: "The event that cannot be folded is passed over for good in these tables, and the key goes on behind it. The log keeps the event.",
};
type Remedy = keyof typeof FOLLOWS;
const LABELS: Record<Remedy, string> = { redrive: "Redrive", discard: "Discard" };

export function ParkedKeys() {
  const { query } = place.value;
  const asked = new URLSearchParams({ limit: "500" });
  for (const name of ["projection", "reason", "key"]) {
    const value = query.get(name)?.trim();
    if (value) asked.set(name, value);
  }
  const path = `/v1/admin/parked?${asked}`;
  const loaded = useLoad(path, (signal) => all<Parked>(path, MOST, signal));
  const [outcome, setOutcome] = useState<Action | null>(null);
  useEvery(5_000, loaded.again);
  const keys = loaded.of === path ? loaded.data?.items : undefined;
  const isFiltered = ["projection", "reason", "key"].some((name) => asked.has(name));
  const act = async (remedy: Remedy, reason: string): Promise<void> => {
    const filter = Object.fromEntries([...asked].filter(([name]) => name !== "limit"));
    setOutcome(await finished(await send<Action>("POST", `/v1/admin/parked/${remedy}`, { body: { reason, expect: keys?.length ?? 0, filter } })));
    loaded.again();
  };
  return (
    <>
      <Head at="parked" text="Parked keys">
        {keys && keys.length > 0 && (
          <p class="buttons">
            {(["redrive", "discard"] as const).map((remedy) => (
              <Act
                key={remedy}
                label={LABELS[remedy]}
                of={`all ${count(keys.length, "key")}${isFiltered ? " that match" : ""}`}
                kind={remedy === "discard" ? "danger" : undefined}
                act={(reason) => act(remedy, reason)}
              >
                <p>{FOLLOWS[remedy]}</p>
              </Act>
            ))}
          </p>
        )}
      </Head>
      <form class="filters" aria-label="Filter parked keys" onSubmit={(event) => event.preventDefault()}>
        <Filter name="projection" label="Projection" value={query.get("projection") ?? ""} debounceMs={400} />
        <Choice name="reason" label="Fault of" value={query.get("reason") ?? ""} options={REASONS} />
        <Filter name="key" label="Key" wide value={query.get("key") ?? ""} debounceMs={400} />
      </form>
      {outcome && <Outcome of={outcome} />}
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      {!keys && !loaded.problem && <Busy what="parked keys" />}
      {keys?.length === 0 && <Empty>{isFiltered ? "No parked key matches." : "No key is parked: every event could be folded."}</Empty>}
      {keys && keys.length > 0 && (
        <ol class="audit" aria-label="Parked keys">
          {keys.map((one) => (
            <li key={`${one.projection} ${one.version} ${one.key}`}>
              <p>
                <a href={href(["operations", "parked", one.projection, one.key])}>{one.key}</a>{" "}
                <span class="quiet">
                  {one.projection}, tables {one.version}
                </span>
              </p>
              <p class="bad">{one.fault}</p>
              <p class="small">
                {one.since && `since ${inOwnZone(one.since)}, `}
                {one.topic} / {one.partition} at {one.offset}
                {one.last_offset > one.offset && `, newest passed over ${one.last_offset}`}
              </p>
            </li>
          ))}
        </ol>
      )}
      {loaded.data?.next_cursor && <p class="notice">More than {count(MOST, "key")} are parked: filter to see and mend the others.</p>}
    </>
  );
}

export function ParkedKey({ projection, name }: { projection: string; name: string }) {
  const path = `/v1/admin/parked/${encodeURIComponent(projection)}/${encodeURIComponent(name)}`;
  const loaded = useLoad(path, (signal) => get<Parked & { event: Event | null; also: Parked[] }>(path, signal));
  const [outcome, setOutcome] = useState<Action | null>(null);
  const known = loaded.of === path ? loaded.data : null;
  const isGone = loaded.problem?.status === 404;
  const act = async (remedy: Remedy, reason: string): Promise<void> => {
    setOutcome(await finished(await send<Action>("POST", `${path}/${remedy}`, { body: { reason } })));
    loaded.again();
  };
  return (
    <>
      <Head at="parked" text={name}>
        {known && !isGone && (
          <p class="buttons">
            {(["redrive", "discard"] as const).map((remedy) => (
              <Act
                key={remedy}
                label={LABELS[remedy]}
                of={name}
                kind={remedy === "discard" ? "danger" : undefined}
                act={(reason) => act(remedy, reason)}
              >
                <p>{FOLLOWS[remedy]}</p>
              </Act>
            ))}
          </p>
        )}
      </Head>
      {outcome && <Outcome of={outcome} />}
      {isGone && <Empty>This key is not parked{outcome ? " any more" : ""}.</Empty>}
      {loaded.problem && !isGone && <Failed problem={loaded.problem} again={loaded.again} />}
      {!known && !loaded.problem && <Busy what="the key" />}
      {known && !isGone && (
        <>
          <p class="notice bad">{sentence(known.fault)}</p>
          <dl class="facts">
            <Fact name="Projection">
              <a href={href(["operations", "projections", known.projection])}>{known.projection}</a>, tables {known.version}
            </Fact>
            <Fact name="Fault of">{REASONS.find(([reason]) => reason === known.reason)?.[1] ?? known.reason}</Fact>
            <Fact name="Since">{known.since ? inOwnZone(known.since) : "not known"}</Fact>
            <Fact name="Event">
              {known.topic} / {known.partition} at {known.offset}
            </Fact>
            <Fact name="Passed over">up to {known.last_offset}</Fact>
            {known.discarded.length > 0 && <Fact name="Discarded">{known.discarded.map((one) => one.offset).join(", ")}</Fact>}
            {known.also.length > 0 && <Fact name="Also in">tables {known.also.map((one) => one.version).join(", ")}</Fact>}
          </dl>
          <h2>The event</h2>
          {known.event?.unread && <p class="warn">It cannot be read: {known.event.unread}</p>}
          {known.event ? (
            <pre class="note" tabIndex={0}>
              {JSON.stringify(known.event, null, 2)}
            </pre>
          ) : (
            <p class="quiet">The log keeps it no more.</p>
          )}
        </>
      )}
    </>
  );
}

/** What is under way is asked for until it is over, within half a minute. */
async function finished(answer: { body: Action }): Promise<Action> {
  let action = answer.body;
  for (let waited = 0; action.state === "under_way" && action.id && waited < 60; waited++) {
    await pause(500);
    try {
      action = await get<Action>(`/v1/admin/parked/actions/${encodeURIComponent(action.id)}`);
    } catch (error) {
      // This server may hear of it a moment later.
      if (!(error instanceof Problem) || error.status !== 404) throw error;
    }
  }
  return action;
}

function Outcome({ of }: { of: Action }) {
  const verb = of.action === "redrive" ? "redriven" : "discarded";
  return (
    <div class={`notice ${of.failed.length > 0 ? "warn" : "good"}`} role="status">
      <p>
        {of.state === "under_way" ? "It is still under way: " : ""}
        {`${of.succeeded} of ${count(of.matched, "key")} ${verb}.`}
      </p>
      {of.failed.length > 0 && (
        <ul>
          {of.failed.map((one) => (
            <li key={one.key}>
              {one.key}: {one.reason}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
