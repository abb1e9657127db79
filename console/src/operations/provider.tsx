import { useState } from "preact/hooks";
import { get, type Problem, send } from "../api";
import { href } from "../route";
import { age, inOwnZone, span } from "../time";
import { Act } from "../ui/act";
import { asProblem, useEvery, useLoad, useNow } from "../ui/load";
import { Busy, count, Failed, spoken } from "../ui/parts";
import { Fact } from "../plans/plan";
import type { Fault as FaultOf, Provider as Known } from "../plans/model";
import { Head } from "./nav";

interface Counts {
  listed: number | null;
  changed: number | null;
  delisted: number | null;
  relisted: number | null;
  quarantined: number | null;
  faults: FaultOf[] | null;
}

type Told = Omit<Known, "last_body"> & {
  last_body: (Counts & { bytes: number | null; observed_at: string | null }) | null;
  last_replay: (Counts & { at: string; detail: unknown }) | null;
};

/** How one provider is doing, and what can be asked of it. */
export function Provider({ name }: { name: string }) {
  const path = `/v1/providers/${encodeURIComponent(name)}`;
  const loaded = useLoad(path, (signal) => get<Told>(path, signal));
  const now = useNow(1_000);
  useEvery(5_000, loaded.again);
  const known = loaded.of === path ? loaded.data : null;
  if (!known) {
    return (
      <>
        <Head at={null} text={name} />
        {loaded.problem ? <Failed problem={loaded.problem} again={loaded.again} /> : <Busy what="the provider" />}
      </>
    );
  }
  const due = known.next_fetch_at ? (Date.parse(known.next_fetch_at) - now) / 1000 : null;
  const failure = known.last_failure;
  return (
    <>
      <Head at={null} text={name}>
        <div class="buttons">
          <Asks path={path} isPaused={known.paused !== null} again={loaded.again} />
          <Pause name={name} isPaused={known.paused !== null} again={loaded.again} />
        </div>
      </Head>
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      <dl class="facts">
        {known.paused && (
          <Fact name="Paused">
            <span class="warn">
              since {inOwnZone(known.paused.since)}, by {known.paused.by}
            </span>
          </Fact>
        )}
        <Fact name="Last outcome">{known.last_outcome ? spoken(known.last_outcome) : "none yet"}</Fact>
        <Fact name="Last success">{known.last_success_at ? `${age(known.last_success_at, now)} ago` : "never"}</Fact>
        <Fact name="Objective">
          {known.freshness.objective_s === null ? (
            "none"
          ) : (
            <span class={known.freshness.met === false ? "bad" : ""}>
              {span(known.freshness.objective_s)}, {known.freshness.met === null ? "not known yet" : known.freshness.met ? "met" : "not met"}
            </span>
          )}
        </Fact>
        <Fact name="Breaker">
          <span class={known.breaker === "closed" || !known.breaker ? "" : "bad"}>{known.breaker ?? "not known yet"}</span>
          {known.consecutive_failures > 0 && `, ${count(known.consecutive_failures, "failure")} in a row`}
        </Fact>
        <Fact name="Next fetch">
          {due === null ? "not planned" : due > 0 ? `in ${span(due)}` : "due"} <span class="quiet">{known.next_fetch_reason}</span>
        </Fact>
        <Fact name="Last failure">
          {known.last_failure_at ? inOwnZone(known.last_failure_at) : "none"}
          {failure && `: ${typeof failure === "string" ? failure : (failure.detail ?? failure.category)}`}
        </Fact>
        {known.listed_plans !== null && <Fact name="Plans listed">{known.listed_plans.toLocaleString("en-GB")}</Fact>}
      </dl>
      {known.last_body?.observed_at && (
        <>
          <h2>Last body</h2>
          <dl class="facts">
            <Fact name="Read">{inOwnZone(known.last_body.observed_at)}</Fact>
            <Fact name="Size">{count(known.last_body.bytes ?? 0, "byte")}</Fact>
            <CountsOf counts={known.last_body} />
          </dl>
          <Faults of={known.last_body} />
          {(known.last_body.quarantined ?? 0) > 0 && (
            <p>
              <a href={href(["operations", "quarantine"], { provider: name })}>What was set aside, and since when</a>
            </p>
          )}
        </>
      )}
      {known.last_replay && (
        <>
          <h2>Last replay</h2>
          <dl class="facts">
            <Fact name="Ended">{inOwnZone(known.last_replay.at)}</Fact>
            <CountsOf counts={known.last_replay} />
          </dl>
          <Faults of={known.last_replay} />
        </>
      )}
    </>
  );
}

function CountsOf({ counts }: { counts: Counts }) {
  const names = ["listed", "changed", "delisted", "relisted", "quarantined"] as const;
  return (
    <Fact name="Plans">
      {names.filter((name) => counts[name] !== null).map((name, place) => (
        <span key={name} class={name === "quarantined" && counts[name]! > 0 ? "warn" : ""}>
          {place > 0 && ", "}
          {counts[name]!.toLocaleString("en-GB")} {name}
        </span>
      ))}
    </Fact>
  );
}

function Faults({ of }: { of: Counts }) {
  const { faults } = of;
  if (!faults || faults.length === 0) return null;
  const all = of.quarantined ?? faults.length;
  return (
    <details>
      <summary>{faults.length < all ? `The first ${faults.length} of ${count(all, "fault")}` : count(all, "fault")}</summary>
      <ul class="history">
        {faults.map((fault, place) => (
          <li key={place}>
            <strong>{fault.subject}</strong> at {fault.place}: <span class="warn">{fault.reason}</span>
          </li>
        ))}
      </ul>
    </details>
  );
}

function Pause({ name, isPaused, again }: { name: string; isPaused: boolean; again: () => void }) {
  const verb = isPaused ? "resume" : "pause";
  const act = async (reason: string): Promise<void> => {
    await send("POST", `/v1/admin/providers/${encodeURIComponent(name)}/${verb}`, { body: { reason } });
    again();
  };
  return (
    <Act key={verb} label={isPaused ? "Resume" : "Pause"} of={name} act={act}>
      <p>
        {isPaused
          ? "It is fetched again when its schedule says so, or at once where that has passed."
          : "A fetch that is under way ends. Then nobody asks this provider for anything until it is resumed; what it said last stays and grows old."}
      </p>
    </Act>
  );
}

function Asks({ path, isPaused, again }: { path: string; isPaused: boolean; again: () => void }) {
  const [said, setSaid] = useState<string | Problem | null>(null);
  const ask = async (what: string, words: string): Promise<void> => {
    setSaid("asking…");
    try {
      await send("POST", `${path}/${what}`);
      setSaid(words);
      again();
    } catch (error) {
      setSaid(asProblem(error));
    }
  };
  return (
    <>
      <button type="button" disabled={isPaused} onClick={() => void ask("fetches", "asked for a fetch")}>
        Fetch now
      </button>
      <button type="button" onClick={() => void ask("replays", "asked for a replay of the stored bodies")}>
        Read stored bodies again
      </button>
      <span role="status" class="small said">
        {typeof said === "string" ? said : said ? <span class="bad">{said.detail}</span> : null}
      </span>
    </>
  );
}
