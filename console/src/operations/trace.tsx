// What became of a request, a command, an event or an aggregate: each record and row that it led to.
import { get } from "../api";
import { go, href } from "../route";
import { inOwnZone } from "../time";
import { useLoad } from "../ui/load";
import { Busy, count, Empty, Failed } from "../ui/parts";
import { Head } from "./nav";

interface Hop {
  kind: string;
  at: string | null;
  topic: string | null;
  partition: number | null;
  offset: number | null;
  table: { name: string; folded: boolean; parked: boolean; row: boolean } | null;
  id: string;
  key: string;
  what: string;
  caused_by: string | null;
}

interface Found {
  id: string;
  complete: boolean;
  records_read: number;
  notes: string[];
  hops: Hop[];
}

export function Trace({ id }: { id: string | null }) {
  return (
    <>
      <Head at="trace" text="Trace" />
      <form
        class="filters"
        aria-label="What to trace"
        onSubmit={(event) => {
          event.preventDefault();
          const wanted = String(new FormData(event.currentTarget).get("id") ?? "").trim();
          if (wanted) go(["operations", "trace", wanted]);
        }}
      >
        <label class="filter wide">
          <span>Id</span>
          <input type="text" name="id" key={id ?? ""} autocomplete="off" spellcheck={false} defaultValue={id ?? ""} required />
        </label>
        <button type="submit">Follow</button>
      </form>
      {id ? <Way key={id} id={id} /> : <Empty>The id of a request, an event, an analysis, a plan, a recipe or a schedule.</Empty>}
    </>
  );
}

function Way({ id }: { id: string }) {
  const path = `/v1/admin/trace/${encodeURIComponent(id)}`;
  const loaded = useLoad(path, (signal) => get<Found>(path, signal));
  if (loaded.problem) return <Failed problem={loaded.problem} again={loaded.again} />;
  if (!loaded.data) return <Busy what="its way through topics and tables" />;
  const found = loaded.data;
  return (
    <>
      {!found.complete && (
        <p class="notice warn" role="status">
          {count(found.records_read, "record")} were read, which is the bound: there may be more of it.
        </p>
      )}
      {found.notes.map((note) => (
        <p key={note} class="quiet">
          {note}
        </p>
      ))}
      {found.hops.length > 0 && (
        <ol class="audit" aria-label="What became of it">
          {found.hops.map((one, place) => (
            <li key={place}>
              <p>
                <strong>{one.kind}</strong> {one.what}
              </p>
              <p class="small">
                {one.at && `${inOwnZone(one.at)}, `}
                <Where of={one} />
              </p>
              <p class="small">
                <a href={href(["operations", "trace", one.id || one.key])}>{one.id || one.key}</a>
                {one.caused_by && one.caused_by !== (one.id || one.key) && (
                  <>
                    , caused by <a href={href(["operations", "trace", one.caused_by])}>{one.caused_by}</a>
                  </>
                )}
              </p>
            </li>
          ))}
        </ol>
      )}
    </>
  );
}

function Where({ of }: { of: Hop }) {
  if (of.topic !== null) {
    return (
      <>
        <code>{of.topic}</code>, partition {of.partition}, offset {of.offset}
      </>
    );
  }
  return <code>{of.table?.name}</code>;
}
