import { get, send } from "../api";
import { href } from "../route";
import { age, inOwnZone, span } from "../time";
import { Act } from "../ui/act";
import { useEvery, useLoad, useNow } from "../ui/load";
import { Busy, count, Failed, sentence, spoken, Table } from "../ui/parts";
import { Fact } from "../plans/plan";
import { Head } from "./nav";
import { type Difference, isMoving, kindOf, type Progress, type Rebuild as Known, stateOf, stepsOf } from "./projections";

const REFRESH_MS = 1_000;
const SHOWN_DIFFERENCES = 200;

/** A rebuild in a list: how far it is, and what can be done about it. */
export function RebuildLine(props: { rebuild: Known; isNewest: boolean; now: number; again: () => void }) {
  const { rebuild, isNewest, now, again } = props;
  return (
    <li>
      <p>
        <a href={href(["operations", "rebuilds", rebuild.id])}>{inOwnZone(rebuild.requested_at)}</a>{" "}
        <strong class={kindOf(rebuild)}>{spoken(rebuild.state)}</strong>{" "}
        <span class="quiet">
          by {rebuild.requested_by}
          {rebuild.reason && `: ${rebuild.reason}`}
        </span>
      </p>
      {rebuild.progress && <Bar progress={rebuild.progress} />}
      {rebuild.failure && <p class="bad">{rebuild.failure.detail}</p>}
      {isNewest && <Buttons rebuild={rebuild} again={again} />}
      {!isMoving(rebuild) && <p class="small">last changed {age(rebuild.updated_at, now)} ago</p>}
    </li>
  );
}

export function Rebuild({ id }: { id: string }) {
  const path = `/v1/admin/rebuilds/${encodeURIComponent(id)}`;
  const loaded = useLoad(path, (signal) => get<Known>(path, signal));
  const now = useNow(1_000);
  useEvery(REFRESH_MS, () => {
    // What has ended only changes when somebody acts.
    if (!loaded.data || isMoving(loaded.data) || now % 5_000 < 1_000) loaded.again();
  });
  const rebuild = loaded.of === path ? loaded.data : null;
  if (!rebuild) {
    return (
      <>
        <Head at="projections" text="Rebuild" />
        {loaded.problem ? <Failed problem={loaded.problem} again={loaded.again} /> : <Busy what="the rebuild" />}
      </>
    );
  }
  return (
    <>
      <Head at="projections" text={`Rebuild of ${rebuild.projection}`} />
      {loaded.problem && <Failed problem={loaded.problem} again={loaded.again} />}
      <div class={`notice ${kindOf(rebuild)}`} role="status">
        <p>
          <strong>{sentence(spoken(rebuild.state))}</strong> {sentence(stateOf(rebuild))}
          {rebuild.different_rows !== null &&
            ` ${rebuild.different_rows === 0 ? "No row differs from the live tables." : `${count(rebuild.different_rows, "row")} differed from the live tables.`}`}
        </p>
        {rebuild.failure && (
          <p>
            {spoken(rebuild.failure.category)}: {rebuild.failure.detail}
          </p>
        )}
      </div>
      {rebuild.progress && <Bar progress={rebuild.progress} />}
      <Buttons rebuild={rebuild} again={loaded.again} />
      <dl class="facts">
        <Fact name="Projection">
          <a href={href(["operations", "projections", rebuild.projection])}>{rebuild.projection}</a>
        </Fact>
        <Fact name="Tables">
          {rebuild.version}.{rebuild.generation}
          {rebuild.dropped && " (dropped)"}
          {rebuild.serving && ", answered from by this server"}
        </Fact>
        <Fact name="Asked for by">
          {rebuild.requested_by}, {inOwnZone(rebuild.requested_at)}
        </Fact>
        <Fact name="Reason">{rebuild.reason || "none given"}</Fact>
        <Fact name="Then">{rebuild.dry_run ? "a dry run" : rebuild.activate === "auto" ? "switches by itself if nothing differs" : "waits to be activated"}</Fact>
        <Fact name="Pace">{rebuild.events_per_s === 0 ? "without a limit" : `${count(rebuild.events_per_s, "event")} a second`}</Fact>
        <Fact name="Last change">{age(rebuild.updated_at, now)} ago</Fact>
      </dl>
      {rebuild.differences && rebuild.differences.length > 0 && <Differences all={rebuild.differences} />}
      {rebuild.certificate && (
        <details>
          <summary>Certificate</summary>
          <p class="small">
            <code>almanac projections verify --certificate FILE</code> holds the log against it, on another engine too.
          </p>
          <pre class="note" tabIndex={0}>
            {JSON.stringify(rebuild.certificate, null, 2)}
          </pre>
        </details>
      )}
    </>
  );
}

function Bar({ progress }: { progress: Progress }) {
  const share = `${(progress.share * 100).toFixed(1)} %`;
  return (
    <p class="bar">
      <progress value={progress.share} max={1} aria-label="Share of the log that is read" />
      <strong>{share}</strong>
      <span class="quiet">
        {count(progress.events_left, "event")} left
        {progress.events_per_s !== null && `, ${count(progress.events_per_s, "event")} a second`}
        {progress.ready_in_s !== null && progress.events_left > 0 && `, about ${span(progress.ready_in_s)} to go`}
      </span>
    </p>
  );
}

function Buttons({ rebuild, again }: { rebuild: Known; again: () => void }) {
  const steps = stepsOf(rebuild);
  if (steps.length === 0) return null;
  return (
    <p class="buttons">
      {steps.map((step) => (
        <Act
          key={step.verb}
          label={step.label}
          of={`the rebuild of ${rebuild.projection}`}
          kind={step.kind}
          act={async (reason) => {
            await send("POST", `/v1/admin/rebuilds/${encodeURIComponent(rebuild.id)}/${step.verb}`, { body: { reason } });
            again();
          }}
        >
          <p>{step.follows}</p>
          {step.verb === "activate" && (rebuild.different_rows ?? 0) > 0 && (
            <p class="warn">{count(rebuild.different_rows ?? 0, "row")} differed from the live tables.</p>
          )}
        </Act>
      ))}
    </p>
  );
}

function Differences({ all }: { all: Difference[] }) {
  return (
    <>
      <h2>Differences</h2>
      {all.length > SHOWN_DIFFERENCES && <p class="small">The first {SHOWN_DIFFERENCES} are shown.</p>}
      <Table label="Differences">
        <thead>
          <tr>
            <th scope="col">Row</th>
            <th scope="col">Column</th>
            <th scope="col">Live</th>
            <th scope="col">Rebuilt</th>
          </tr>
        </thead>
        <tbody>
          {all.slice(0, SHOWN_DIFFERENCES).map((one) => (
            <tr key={`${one.table}/${one.partition}/${one.key}/${one.column}`}>
              <th scope="row">
                {one.table} / {one.partition} / {one.key}
              </th>
              <td>{one.column}</td>
              <td>
                <code>{shown(one.live)}</code>
              </td>
              <td>
                <code>{shown(one.rebuilt)}</code>
              </td>
            </tr>
          ))}
        </tbody>
      </Table>
    </>
  );
}

const shown = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value ?? null));
