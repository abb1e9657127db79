// What operators and projectors did, in words. The list of `type`s is that of the events on
// `operations.events`; a type that a newer server has is shown as it is.
import type { ComponentChildren } from "preact";
import { href } from "../route";
import { sentence, spoken } from "../ui/parts";
import { STATES } from "./projections";

export interface Deed {
  time: string;
  actor: string;
  action: string;
  type: string;
  target: string;
  reason: string;
  before: string | null;
  outcome: string;
}

type Words = (deed: Deed) => ComponentChildren;

const while_ = ({ before }: Deed): string => (before ? ` while it was ${spoken(before)}` : "");
const way = ({ before, outcome }: Deed): string => (before ? `: ${spoken(before)} → ${spoken(outcome)}` : `: now ${spoken(outcome)}`);
const rebuild = (rest: (deed: Deed) => string): Words => (deed) => <>Rebuild of <OfRebuild of={deed.target} />{rest(deed)}</>;
const reads = (rest: string): Words => (deed) => <>Reads of <OfRebuild of={deed.target} /> {rest}</>;
const parked = (what: string, rest: (deed: Deed) => string): Words => (deed) => <>{what} of <OfParked of={deed.target} />{rest(deed)}</>;
const repair = (rest: (deed: Deed) => string): Words => (deed) => <>Partial rebuild of <OfPart of={deed.target} />{rest(deed)}</>;
const provider = (rest: string): Words => (deed) => <>Provider <OfProvider of={deed.target} /> {rest}</>;

const wasRequested = (): string => " was requested";
const came = ({ outcome }: Deed): string => `: ${outcome}`;

const WORDS: Record<string, Words> = {
  "rebuild.requested": rebuild(wasRequested),
  "rebuild.advanced": rebuild(way),
  "rebuild.verified": rebuild(way),
  "rebuild.failed": rebuild((deed) => ` failed${while_(deed)}`),
  "rebuild.paused": rebuild((deed) => ` was paused${while_(deed)}`),
  "rebuild.resumed": rebuild((deed) => ` was resumed${way(deed)}`),
  "rebuild.cancelled": rebuild((deed) => ` was cancelled${while_(deed)}`),
  "generation.activated": reads("were switched to the rebuilt tables"),
  "generation.rolled_back": reads("were switched back to the tables before the rebuild"),
  "generation.dropped": rebuild(() => ": the tables beside the live ones were dropped"),
  "redrive.requested": parked("Redrive", wasRequested),
  "redrive.reported": parked("Redrive", came),
  "discard.requested": parked("Discard", wasRequested),
  "discard.reported": parked("Discard", came),
  "repair.requested": repair(wasRequested),
  "repair.reported": repair(came),
  "provider.paused": provider("was paused"),
  "provider.resumed": provider("was resumed"),
  "import.started": () => "Import of an export began",
  "import.completed": () => "Import of an export was completed",
};

export function Told({ deed }: { deed: Deed }) {
  const words = WORDS[deed.type];
  if (!words) {
    return (
      <>
        <strong>{deed.type ?? deed.action}</strong> <code>{deed.target}</code> <span class="quiet">{spoken(deed.outcome)}</span>
      </>
    );
  }
  // A rebuild that goes on by itself: what its new state means, nobody's reason tells.
  const meaning = deed.type === "rebuild.advanced" && STATES[deed.outcome];
  return (
    <>
      <strong class={isBad(deed) ? "bad" : undefined}>{words(deed)}</strong>
      {meaning && <span class="quiet"> {sentence(`it ${meaning}`)}</span>}
    </>
  );
}

const isBad = ({ type, outcome }: Deed): boolean =>
  type === "rebuild.failed" || (/\.reported$/.test(type) && !outcome.endsWith(" 0 failed"));

/** `projection/rest`; what has no such form stays whole. */
function split(target: string): [string, string | null] {
  const at = target.indexOf("/");
  return at < 0 ? [target, null] : [target.slice(0, at), target.slice(at + 1)];
}

function OfRebuild({ of }: { of: string }) {
  const [projection, id] = split(of);
  return id ? <a href={href(["operations", "rebuilds", id])}>{projection}</a> : <>{projection}</>;
}

/** One by its key, or how many. */
function OfParked({ of }: { of: string }) {
  const [projection, key] = split(of);
  if (!key) return <>{projection}</>;
  return (
    <>
      the parked key <a href={href(["operations", "parked", projection, key])}>{key}</a> of {projection}
    </>
  );
}

function OfPart({ of }: { of: string }) {
  const [projection, part] = split(of);
  return (
    <>
      <a href={href(["operations", "projections", projection])}>{projection}</a>
      {part && `, ${part}`}
    </>
  );
}

function OfProvider({ of }: { of: string }) {
  const name = split(of)[1] ?? of;
  return <a href={href(["operations", "providers", name])}>{name}</a>;
}
