// What was set aside of the bodies that providers sent: of which plan, why, since when, and whether it still is.
import { all, get, type List } from "../api";
import { href, place } from "../route";
import { inOwnZone } from "../time";
import { useEvery, useLoad } from "../ui/load";
import { Busy, Choice, count, Empty, Failed, Filter, sentence } from "../ui/parts";
import type { Fault as NamedFault, Provider } from "../plans/model";
import { Head } from "./nav";

/** One plan of one body. */
interface SetAside {
  provider: string;
  observed_at: string;
  place: string;
  subject: string;
  reason: string;
  fragment: string;
}

/** The same fault of the same plan, in however many bodies. */
interface Fault {
  newest: SetAside;
  since: string;
  bodies: number;
}

/** Records that are read at most: every body that changed may bring a thousand. */
const MOST = 5_000;
const HOUR_MS = 3_600_000;
const SPANS: [string, string][] = [
  ["", "Last day"],
  ["7", "Last 7 days"],
  ["90", "All that is kept"],
];

export function Quarantine() {
  const { query } = place.value;
  const provider = query.get("provider") ?? "";
  const days = Number(query.get("days") || 1);
  const since = new Date(Math.floor(Date.now() / HOUR_MS - days * 24) * HOUR_MS).toISOString();
  const asked = new URLSearchParams({ limit: "500", since, ...(provider && { provider }) });
  const path = `/v1/admin/quarantine?${asked}`;
  const loaded = useLoad(path, (signal) => all<SetAside>(path, MOST, signal));
  const providers = useLoad("/v1/providers", (signal) => get<List<Provider>>("/v1/providers", signal));
  useEvery(30_000, () => {
    loaded.again();
    providers.again();
  });
  const words = (query.get("text") ?? "").trim().toLowerCase();
  const known = loaded.of === path ? loaded.data : null;
  const faults = known && together(known.items).filter(({ newest }) => `${newest.subject} ${newest.reason}`.toLowerCase().includes(words));
  const names = [...new Set([...(providers.data?.items ?? []).map((one) => one.name), ...(provider ? [provider] : [])])].sort();
  const isFiltered = words !== "" || provider !== "";
  return (
    <>
      <Head at="quarantine" text="Quarantine" />
      <form class="filters" aria-label="Filter what was set aside" onSubmit={(event) => event.preventDefault()}>
        <Choice name="provider" label="Provider" value={provider} options={[["", "Any"], ...names.map((name): [string, string] => [name, name])]} />
        <Choice name="days" label="Seen" value={query.get("days") ?? ""} options={SPANS} />
        <Filter name="text" label="Plan or reason" type="search" wide value={query.get("text") ?? ""} />
      </form>
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      {!known && !loaded.problem && <Busy what="what was set aside" />}
      {faults?.length === 0 && (
        <Empty>{isFiltered ? "Nothing that was set aside matches." : "Nothing was set aside: every plan that providers sent in this time could be read."}</Empty>
      )}
      {faults && faults.length > 0 && (
        <>
          <p class="small">{count(faults.length, "fault")}. Everything else of the bodies was taken.</p>
          <ol class="audit" aria-label="What was set aside">
            {faults.map((fault) => (
              <Item key={keyOf(fault.newest)} fault={fault} of={providers.data?.items.find((one) => one.name === fault.newest.provider)} />
            ))}
          </ol>
        </>
      )}
      {known?.next_cursor && <p class="notice">There is more than {MOST.toLocaleString("en-GB")} records: choose a provider or a shorter time.</p>}
    </>
  );
}

function Item({ fault, of }: { fault: Fault; of: Provider | undefined }) {
  const { newest, since, bodies } = fault;
  const isMended = of?.last_body?.faults && !mayHold(of.last_body.faults, of.last_body.quarantined ?? 0, newest);
  return (
    <li>
      <p>
        <strong>{newest.subject}</strong> <span class="quiet">of</span>{" "}
        <a href={href(["operations", "providers", newest.provider])}>{newest.provider}</a>
        {isMended && <span class="good"> not in the newest body any more</span>}
      </p>
      <p class={isMended ? "" : "bad"}>{sentence(newest.reason)}</p>
      <p class="small">
        since {inOwnZone(since)}
        {bodies > 1 && `, last ${inOwnZone(newest.observed_at)}, in ${count(bodies, "body", "bodies")}`}, at {newest.place}
      </p>
      {newest.fragment && (
        <details>
          <summary>As it was sent</summary>
          <pre class="note" tabIndex={0}>
            {newest.fragment}
          </pre>
        </details>
      )}
    </li>
  );
}

/** Whether the fault may be one of the newest body, which names its first faults only. */
function mayHold(named: NamedFault[], faults: number, one: SetAside): boolean {
  return named.length < faults || named.some((fault) => fault.subject === one.subject && fault.reason === one.reason);
}

const keyOf = (one: SetAside): string => JSON.stringify([one.provider, one.subject, one.reason]);

/** Records, the oldest first, as faults, the newest first. */
function together(records: SetAside[]): Fault[] {
  const faults = new Map<string, Fault>();
  for (const newest of records) {
    const key = keyOf(newest);
    const before = faults.get(key);
    // The map keeps the order in which keys came: a key that comes again goes to the end.
    faults.delete(key);
    faults.set(key, { newest, since: before?.since ?? newest.observed_at, bodies: (before?.bodies ?? 0) + 1 });
  }
  return [...faults.values()].reverse();
}
