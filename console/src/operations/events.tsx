import { useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "../api";
import { href, place } from "../route";
import { inOwnZone } from "../time";
import { Choice, count, Failed, Filter } from "../ui/parts";
import { asProblem } from "../ui/load";
import { Head } from "./nav";
import { follow } from "./stream";
import { useTopics } from "./topics";

interface Event {
  id: string;
  type: string;
  time: string;
  subject: string;
  partition: number;
  offset: number;
  sequence: number | null;
  data: unknown;
}

/** Shown at most; older ones make room. */
const KEPT = 300;
/** What came is shown so often, however fast it comes. */
const SHOWN_EVERY_MS = 250;

/** `latest`, `beginning`, or events since a time. */
function questionOf(topic: string, query: URLSearchParams): string {
  const asked = new URLSearchParams();
  const from = query.get("from") ?? "latest";
  const since = query.get("since");
  asked.set("after", from === "time" ? "beginning" : from);
  if (from === "time" && since) {
    const time = new Date(since);
    if (!Number.isNaN(time.getTime())) asked.set("since", time.toISOString());
  }
  for (const name of ["type", "key"]) {
    const value = query.get(name)?.trim();
    if (value) asked.set(name, value);
  }
  return `/v1/events/${encodeURIComponent(topic)}?${asked}`;
}

export function Events({ topic }: { topic: string }) {
  const query = place.value.query;
  const topics = useTopics();
  const question = questionOf(topic, query);
  const [isHeld, hold] = useState(false);
  const tail = useTail(question, isHeld);
  const text = (name: string): string => query.get(name) ?? "";
  return (
    <>
      <Head at="topics" text={topic}>
        <p class="buttons">
          <span class={tail.state === "open" ? "good" : "quiet"} role="status">
            {isHeld ? "held" : tail.state === "open" ? "live" : "connecting…"}
          </span>
          <button type="button" onClick={() => hold(!isHeld)}>
            {isHeld ? "Go on" : "Hold"}
          </button>
        </p>
      </Head>
      <form class="filters" aria-label="Filter events" onSubmit={(event) => event.preventDefault()}>
        <label class="filter">
          <span>Topic</span>
          <select
            value={topic}
            onChange={(event) => (location.hash = href(["operations", "events", event.currentTarget.value], query))}
          >
            {[...new Set([topic, ...(topics.data ?? [])])].map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        <Choice
          name="from"
          label="Start"
          value={text("from") || "latest"}
          options={[["latest", "Now"], ["beginning", "At the beginning"], ["time", "At a time"]]}
        />
        {text("from") === "time" && <Filter name="since" label="Since" type="datetime-local" value={text("since")} debounceMs={400} />}
        <Filter name="type" label="Type" value={text("type")} placeholder="plan.listed" debounceMs={500} />
        <Filter name="key" label="Key" wide value={text("key")} debounceMs={500} />
      </form>
      {tail.problem && <Failed problem={tail.problem} again={tail.again} />}
      <p class="small">
        {tail.seen === 0 ? "No event yet." : `${count(tail.seen, "event")}, newest first.`}
        {tail.seen > KEPT && ` The newest ${KEPT} are shown.`}
      </p>
      <ol class="events">
        {tail.events.map((event) => (
          <Row key={`${event.partition}/${event.offset}`} topic={topic} event={event} />
        ))}
      </ol>
    </>
  );
}

function Row({ topic, event }: { topic: string; event: Event }) {
  const [isOpen, open] = useState(false);
  return (
    <li>
      <details onToggle={(toggled) => open(toggled.currentTarget.open)}>
        <summary>
          <span class="time">{inOwnZone(event.time)}</span> <strong>{event.type}</strong> <code>{event.subject}</code>{" "}
          <span class="quiet">
            {event.partition}/{event.offset}
          </span>
        </summary>
        {isOpen && event.subject && (
          <p>
            <a href={href(["operations", "history", topic, event.subject])}>Its history</a>
          </p>
        )}
        {isOpen && (
          <pre class="note" tabIndex={0}>
            {JSON.stringify(event, null, 2)}
          </pre>
        )}
      </details>
    </li>
  );
}

interface Tail {
  events: Event[];
  seen: number;
  state: "open" | "waiting";
  problem: Problem | null;
  again: () => void;
}

/** The newest events of a stream. While it is held, what comes is kept and not shown. */
function useTail(question: string, isHeld: boolean): Tail {
  const [shown, show] = useState<{ events: Event[]; seen: number }>({ events: [], seen: 0 });
  const [state, setState] = useState<"open" | "waiting">("waiting");
  const [problem, setProblem] = useState<Problem | null>(null);
  const [round, setRound] = useState(0);
  const held = useRef(isHeld);
  held.current = isHeld;
  useEffect(() => {
    const cancel = new AbortController();
    let [kept, seen, isNew]: [Event[], number, boolean] = [[], 0, false];
    show({ events: [], seen: 0 });
    setProblem(null);
    setState("waiting");
    const timer = setInterval(() => {
      if (!isNew || held.current) return;
      isNew = false;
      show({ events: kept, seen });
    }, SHOWN_EVERY_MS);
    const message = ({ data }: { data: string }): void => {
      kept = [JSON.parse(data) as Event, ...kept.slice(0, KEPT - 1)];
      seen += 1;
      isNew = true;
    };
    follow(question, cancel.signal, { message, state: setState }).catch((error: unknown) => {
      if (!cancel.signal.aborted) setProblem(asProblem(error));
    });
    return () => {
      clearInterval(timer);
      cancel.abort();
    };
  }, [question, round]);
  return { ...shown, state, problem, again: () => setRound((number) => number + 1) };
}
