import { useState } from "preact/hooks";
import { get, type List, type Problem, send } from "../api";
import { href } from "../route";
import { age, inOwnZone, span } from "../time";
import { Busy, count, Failed, sentence, spoken, Table } from "../ui/parts";
import { asProblem, useEvery, useLoad, useNow } from "../ui/load";
import type { Provider } from "../plans/model";
import { isGood, type Readiness, readiness, type Status, signs, status, told, troubles } from "./health";
import { Head } from "./nav";
import { useTopics } from "./topics";

const REFRESH_MS = 5_000;

export function Operations() {
  const ready = useLoad("/readyz", readiness);
  const providers = useLoad("/v1/providers", (signal) => get<List<Provider>>("/v1/providers", signal));
  const whole = useLoad("/v1/admin/status", status);
  const topics = useTopics();
  const now = useNow(1_000);
  useEvery(REFRESH_MS, () => {
    ready.again();
    providers.again();
    whole.again();
  });
  // Who may not read the installation's status is told what everybody may know.
  const isAllowed = whole.data !== "forbidden";
  const isKnown = ready.data && providers.data && whole.data;
  const known = isAllowed && whole.data !== "forbidden" ? whole.data : null;
  const found = known ? told(known) : troubles(ready.data, providers.data?.items ?? [], now);
  return (
    <>
      <Head at={null} text="Is it well?" />
      {whole.problem && <Failed problem={whole.problem} again={whole.again} />}
      {ready.problem && <Failed problem={ready.problem} again={ready.again} />}
      {providers.problem && <Failed problem={providers.problem} again={providers.again} />}
      {!isKnown && !ready.problem && !providers.problem && <Busy what="the state" />}
      {isKnown && !ready.problem && !providers.problem && (
        <div class={`notice ${found.some((one) => one.severity === "bad") ? "bad" : found.length ? "warn" : "good"}`} role="status">
          <p>
            <strong>{found.length === 0 ? "All is well." : found.length === 1 ? "One thing wants attention." : `${found.length} things want attention.`}</strong>
          </p>
          {found.length > 0 && (
            <ul>
              {found.map((one) => (
                <li key={one.what}>
                  <span class={one.severity}>{sentence(one.what)}</span>{" "}
                  <span class="small">
                    {one.since && `since ${inOwnZone(one.since)}`}
                    {one.since && one.runbook && ", "}
                    {one.runbook && (
                      <>
                        see <code>{one.runbook}</code>
                      </>
                    )}
                  </span>
                </li>
              ))}
            </ul>
          )}
        </div>
      )}
      {!isAllowed && <p class="small">A token with the scope operator:read shows the whole installation here.</p>}
      {known && <Installation known={known} now={now} />}
      {ready.data && <Process ready={ready.data} />}
      {providers.data && <Providers providers={providers.data.items} now={now} again={providers.again} />}
      <h2>Events</h2>
      {topics.problem && <Failed problem={topics.problem} />}
      <ul class="links">
        {(topics.data ?? []).map((topic) => (
          <li key={topic}>
            <a href={href(["operations", "events", topic])}>{topic}</a>
          </li>
        ))}
      </ul>
    </>
  );
}

function Installation({ known, now }: { known: Status; now: number }) {
  return (
    <>
      {known.rebuilds && known.rebuilds.length > 0 && (
        <>
          <h2>Rebuilds under way</h2>
          <ul>
            {known.rebuilds.map((one) => (
              <li key={one.id}>
                <a href={href(["operations", "rebuilds", one.id])}>{one.projection}</a> {one.state}
                {one.progress && `, ${(one.progress.share * 100).toFixed(1)} %`}
              </li>
            ))}
          </ul>
        </>
      )}
      {known.projections && (
        <>
          <h2>Projections</h2>
          <Table label="Projections">
            <thead>
              <tr>
                <th scope="col">Projection</th>
                <th scope="col" class="number">
                  Behind
                </th>
                <th scope="col">Last progress</th>
                <th scope="col" class="number">
                  Parked keys
                </th>
              </tr>
            </thead>
            <tbody>
              {known.projections.filter((one) => one !== null).map((one) => (
                <tr key={one.name}>
                  <th scope="row">
                    <a href={href(["operations", "projections", one.name])}>{one.name}</a>
                  </th>
                  <td class={`number ${one.lag_events > 0 ? "warn" : ""}`}>
                    {count(one.lag_events, "event")}
                    {(one.lag_s ?? 0) > 0 && ` (${span(one.lag_s ?? 0)})`}
                  </td>
                  <td>{one.last_progress_at ? `${age(one.last_progress_at, now)} ago` : "none yet"}</td>
                  <td class={`number ${one.parked > 0 ? "bad" : ""}`}>{one.parked}</td>
                </tr>
              ))}
            </tbody>
          </Table>
        </>
      )}
      <p class="small">
        Almanac {known.version}, {known.engine} engine; answered by{" "}
        {known.instances.map((one) => `${one.name} (${one.roles.join(", ")})`).join("; ")}.
      </p>
    </>
  );
}

function Process({ ready }: { ready: Readiness }) {
  return (
    <>
      <h2>This process</h2>
      <dl class="facts">
        <div>
          <dt>Readiness</dt>
          <dd class={ready.status === "ready" ? "good" : "bad"}>{ready.status}</dd>
        </div>
        {signs(ready).map(([name, value]) => (
          <div key={name}>
            <dt>{sentence(spoken(name)).slice(0, -1)}</dt>
            <dd class={isGood(value) ? "" : "bad"}>{value}</dd>
          </div>
        ))}
        <div>
          <dt>Cache</dt>
          <dd>{ready.out_of_date_partitions === 0 ? "up to date" : `${ready.out_of_date_partitions} partitions out of date`}</dd>
        </div>
      </dl>
    </>
  );
}

function Providers({ providers, now, again }: { providers: Provider[]; now: number; again: () => void }) {
  if (providers.length === 0) {
    return (
      <>
        <h2>Providers</h2>
        <p class="quiet">No provider was fetched yet.</p>
      </>
    );
  }
  return (
    <>
      <h2>Providers</h2>
      <Table label="Providers">
        <thead>
          <tr>
            <th scope="col">Provider</th>
            <th scope="col">Last good body</th>
            <th scope="col">Breaker</th>
            <th scope="col" class="number">Plans</th>
            <th scope="col">Next fetch</th>
            <th scope="col">Last failure</th>
            <th scope="col">
              <span class="unseen">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {providers.map((one) => (
            <Row key={one.name} provider={one} now={now} again={again} />
          ))}
        </tbody>
      </Table>
    </>
  );
}

function Row({ provider, now, again }: { provider: Provider; now: number; again: () => void }) {
  const [said, setSaid] = useState<string | Problem | null>(null);
  const fetchNow = async (): Promise<void> => {
    setSaid("asking…");
    try {
      await send("POST", `/v1/providers/${encodeURIComponent(provider.name)}/fetches`);
      setSaid("asked for a fetch");
      again();
    } catch (error) {
      setSaid(asProblem(error));
    }
  };
  const failure = provider.last_failure;
  const due = provider.next_fetch_at ? (Date.parse(provider.next_fetch_at) - now) / 1000 : null;
  return (
    <tr>
      <th scope="row">
        <a href={href(["operations", "providers", provider.name])}>{provider.name}</a>
      </th>
      <td>
        {provider.last_success_at ? `${age(provider.last_success_at, now)} ago` : "never"}
        {provider.freshness.objective_s !== null && <div class="small">objective {span(provider.freshness.objective_s)}</div>}
      </td>
      <td class={provider.paused ? "warn" : provider.breaker === "closed" ? "" : "bad"}>
        {provider.paused ? "paused" : provider.breaker}
        {provider.consecutive_failures > 0 && <div class="small">{provider.consecutive_failures} failures in a row</div>}
      </td>
      <td class="number">
        {provider.listed_plans?.toLocaleString("en-GB")}
        {(provider.last_body?.quarantined ?? 0) > 0 && (
          <div class="small">
            <a href={href(["operations", "quarantine"], { provider: provider.name })}>{provider.last_body!.quarantined} quarantined</a>
          </div>
        )}
      </td>
      <td class="words">
        {due === null || provider.freshness.objective_s === null ? "" : due > 0 ? `in ${span(due)}` : "due"}
        <div class="small">{provider.next_fetch_reason}</div>
      </td>
      <td class="words">
        {failure ? (typeof failure === "string" ? failure : (failure.detail ?? failure.category)) : ""}
        {provider.last_failure_at && <div class="small">{inOwnZone(provider.last_failure_at)}</div>}
      </td>
      <td>
        <button type="button" class="nowrap" onClick={() => void fetchNow()}>
          Fetch now<span class="unseen"> {provider.name}</span>
        </button>
        <div class="small" role="status">
          {typeof said === "string" ? said : said ? <span class="bad">{said.detail}</span> : null}
        </div>
      </td>
    </tr>
  );
}
