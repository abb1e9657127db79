import { get, type List } from "../api";
import { inOwnZone } from "../time";
import { useEvery, useLoad, useMore } from "../ui/load";
import { Busy, Empty, Failed } from "../ui/parts";
import { type Deed, Told } from "./deeds";
import { Head } from "./nav";

const PATH = "/v1/admin/audit?limit=100";

/** What operators did, and why, the newest first. */
export function Audit() {
  const loaded = useLoad(PATH, (signal) => get<List<Deed>>(PATH, signal));
  const more = useMore<Deed>(PATH);
  useEvery(10_000, () => {
    // A list that was extended is left alone.
    if (more.pages.length === 0) loaded.again();
  });
  const items = [...(loaded.data?.items ?? []), ...more.pages.flatMap((page) => page.items)];
  const last = more.pages.at(-1) ?? loaded.data;
  return (
    <>
      <Head at="audit" text="Audit" />
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      {!loaded.data && !loaded.problem && <Busy what="the audit" />}
      {loaded.data && items.length === 0 && <Empty>No operator has done anything yet.</Empty>}
      {items.length > 0 && (
        <ol class="audit" aria-label="What operators did">
          {items.map((one, place) => (
            <li key={place}>
              <p>
                <Told deed={one} />
              </p>
              <p class="small">
                {inOwnZone(one.time)}, by {one.actor}, as <code>{one.type ?? one.action}</code> of <code>{one.target}</code>
              </p>
              {one.reason && <p>{one.reason}</p>}
            </li>
          ))}
        </ol>
      )}
      {more.problem && <Failed problem={more.problem} />}
      {last?.next_cursor && (
        <p class="more">
          <button type="button" disabled={more.loading} onClick={() => more.load(last.next_cursor!)}>
            {more.loading ? "Loading…" : "Show more"}
          </button>
        </p>
      )}
    </>
  );
}
