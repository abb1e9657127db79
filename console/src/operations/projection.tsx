import { all, get, send } from "../api";
import { go, href } from "../route";
import { age, inOwnZone } from "../time";
import { Act } from "../ui/act";
import { useEvery, useLoad, useNow } from "../ui/load";
import { Busy, count, Failed, spoken, Table } from "../ui/parts";
import { Head } from "./nav";
import { behind, isMoving, isUnderWay, moved, type Projection as Known, type Rebuild, type Version } from "./projections";
import { RebuildLine } from "./rebuild";

const REFRESH_MS = 2_000;
/** Of all projections together; older ones are in the audit. */
const MOST_REBUILDS = 1_000;

export function Projections() {
  const path = "/v1/admin/projections";
  const loaded = useLoad(path, (signal) => all<Known>(path + "?limit=500", 500, signal));
  const rebuilds = useRebuilds();
  const now = useNow(1_000);
  useEvery(REFRESH_MS, () => {
    loaded.again();
    rebuilds.again();
  });
  const known = loaded.data?.items;
  return (
    <>
      <Head at="projections" text="Projections" />
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      {!known && !loaded.problem && <Busy what="projections" />}
      {known && (
        <Table label="Projections">
          <thead>
            <tr>
              <th scope="col">Projection</th>
              <th scope="col">Live tables</th>
              <th scope="col" class="number">
                Behind
              </th>
              <th scope="col">Last progress</th>
              <th scope="col" class="number">
                Parked keys
              </th>
              <th scope="col">Rebuild</th>
            </tr>
          </thead>
          <tbody>
            {known.map((one) => (
              <Row key={one.name} projection={one} rebuilds={rebuilds.data?.items ?? []} now={now} />
            ))}
          </tbody>
        </Table>
      )}
      {rebuilds.problem && <Failed problem={rebuilds.problem} />}
    </>
  );
}

function useRebuilds() {
  const path = "/v1/admin/rebuilds";
  return useLoad(path, (signal) => all<Rebuild>(path + "?limit=500", MOST_REBUILDS, signal));
}

function Row({ projection, rebuilds, now }: { projection: Known; rebuilds: Rebuild[]; now: number }) {
  const live = projection.versions.find((one) => one.version === projection.live);
  const last = live && moved(live);
  const rebuild = rebuilds.find((one) => one.projection === projection.name && isUnderWay(one));
  return (
    <tr>
      <th scope="row">
        <a href={href(["operations", "projections", projection.name])}>{projection.name}</a>
      </th>
      <td>
        {projection.live}
        {projection.serving && projection.serving !== projection.live && <div class="warn small">this server still answers from {projection.serving}</div>}
        {live?.down && <div class="bad small">down: {live.down.detail ?? live.down.category}</div>}
      </td>
      <td class={`number ${live && behind(live) > 0 ? "warn" : ""}`}>{live ? count(behind(live), "event") : ""}</td>
      <td>{last ? `${age(last, now)} ago` : "none yet"}</td>
      <td class={`number ${live && live.parked > 0 ? "bad" : ""}`}>{live?.parked ?? ""}</td>
      <td>{rebuild ? <a href={href(["operations", "rebuilds", rebuild.id])}>{spoken(rebuild.state)}</a> : <span class="quiet">none under way</span>}</td>
    </tr>
  );
}

export function Projection({ name }: { name: string }) {
  const path = `/v1/admin/projections/${encodeURIComponent(name)}`;
  const loaded = useLoad(path, (signal) => get<Known>(path, signal));
  const rebuilds = useRebuilds();
  const now = useNow(1_000);
  useEvery(REFRESH_MS, () => {
    loaded.again();
    rebuilds.again();
  });
  const known = loaded.of === path ? loaded.data : null;
  if (!known) {
    return (
      <>
        <Head at="projections" text={name} />
        {loaded.problem ? <Failed problem={loaded.problem} again={loaded.again} /> : <Busy what="the projection" />}
      </>
    );
  }
  const own = (rebuilds.data?.items ?? []).filter((one) => one.projection === name);
  const newest = [...own].sort((one, other) => (one.requested_at < other.requested_at ? 1 : -1));
  return (
    <>
      <Head at="projections" text={name}>
        <p class="buttons">
          <Start name={name} />
        </p>
      </Head>
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      {known.versions.map((version) => (
        <Tables key={version.version} version={version} isLive={version.version === known.live} now={now} />
      ))}
      <h2>Rebuilds</h2>
      {rebuilds.problem && <Failed problem={rebuilds.problem} again={rebuilds.again} />}
      {rebuilds.data && own.length === 0 && <p class="quiet">It was never rebuilt.</p>}
      <ul class="rebuilds">
        {newest.map((one) => (
          <RebuildLine key={one.id} rebuild={one} isNewest={one === newest[0]} now={now} again={rebuilds.again} />
        ))}
      </ul>
      <p class="unseen" role="status">
        {newest[0] && isMoving(newest[0]) ? `The rebuild is ${newest[0].state}.` : ""}
      </p>
    </>
  );
}

function Tables({ version, isLive, now }: { version: Version; isLive: boolean; now: number }) {
  const last = moved(version);
  const late = behind(version);
  return (
    <section aria-label={`Tables ${version.version}`}>
      <h2>
        Tables {version.version} <span class={isLive ? "good small" : "small"}>{isLive ? "live" : spoken(version.state)}</span>
      </h2>
      {version.down && (
        <div class="notice bad">
          <p>
            <strong>It stands still.</strong> {version.down.detail ?? version.down.category}
            {version.down.since && `, since ${inOwnZone(version.down.since)}`}
          </p>
        </div>
      )}
      <p>
        {late === 0 ? <span class="good">All that the log has is in them.</span> : <span class="warn">{count(late, "event")} behind.</span>}{" "}
        {last && <span class="quiet">They moved {age(last, now)} ago.</span>}{" "}
        {version.parked > 0 && <span class="bad">{count(version.parked, "key")} parked.</span>}
      </p>
      <details>
        <summary>{count(version.partitions.length, "partition")}</summary>
        <Table label={`Partitions of tables ${version.version}`}>
          <thead>
            <tr>
              <th scope="col">Topic and partition</th>
              <th scope="col" class="number">
                Position
              </th>
              <th scope="col" class="number">
                End
              </th>
              <th scope="col" class="number">
                Behind
              </th>
              <th scope="col">Last progress</th>
            </tr>
          </thead>
          <tbody>
            {version.partitions.map((one) => (
              <tr key={`${one.topic}/${one.partition}`}>
                <th scope="row">
                  {one.topic} / {one.partition}
                </th>
                <td class="number">{one.position.toLocaleString("en-GB")}</td>
                <td class="number">{one.end.toLocaleString("en-GB")}</td>
                <td class={`number ${one.lag_events > 0 ? "warn" : ""}`}>{one.lag_events.toLocaleString("en-GB")}</td>
                <td>{one.last_progress_at ? `${age(one.last_progress_at, now)} ago` : ""}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      </details>
    </section>
  );
}

function Start({ name }: { name: string }) {
  const start = async (reason: string, form: FormData): Promise<void> => {
    const kind = form.get("kind");
    const pace = Number(form.get("events_per_s"));
    const answer = await send<Rebuild>("POST", `/v1/admin/projections/${encodeURIComponent(name)}/rebuilds`, {
      body: {
        reason,
        dry_run: kind === "dry",
        activate: kind === "auto" ? "auto" : "manual",
        events_per_s: Number.isFinite(pace) && pace >= 0 ? Math.floor(pace) : 10_000,
      },
    });
    go(["operations", "rebuilds", answer.body.id]);
  };
  return (
    <Act label="Rebuild" of={name} act={start}>
      <p>
        Its tables are filled once more from the log, beside the live ones, and both are compared. Nothing is switched before
        that.
      </p>
      <fieldset>
        <legend>Then</legend>
        <p>
          <label class="check">
            <input type="radio" name="kind" value="manual" checked /> wait for somebody to activate it
          </label>
        </p>
        <p>
          <label class="check">
            <input type="radio" name="kind" value="auto" /> switch by itself if nothing differs
          </label>
        </p>
        <p>
          <label class="check">
            <input type="radio" name="kind" value="dry" /> only tell what differs (a dry run)
          </label>
        </p>
      </fieldset>
      <label class="field">
        <span>Events a second, 0 without a limit</span>
        <input type="number" name="events_per_s" min={0} step={1} defaultValue="10000" />
      </label>
    </Act>
  );
}
