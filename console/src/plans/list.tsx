import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { href } from "../route";
import { age, clockOf, dateOf, inOwnZone, longDate, shortDate } from "../time";
import { count } from "../ui/parts";
import { isFresh } from "./freshness";
import { byDay, type Plan, price, type Provider, type Sale, saleOf } from "./model";

/** A browser lays out those parts of a day that are seen, whole: a part is about what a screen shows. */
const PART = 30;
/** Rows that are made in one frame. Others wait for the frames after it, so that none takes long. */
const AT_ONCE = 60;

interface Day {
  date: string;
  parts: Plan[][];
}

/** A part as it was shown last. */
interface Shown {
  plans: Plan[];
  stale: string;
  /** Nothing of it changes with time before that. */
  until: number;
  node: VNode;
}

interface Section {
  parts: VNode[];
  plans: number;
  node: VNode;
}

/** What is on the screen: parts by date and place, days by their date. A plan that comes or goes moves all behind it
 *  by one; a part that has not been made again yet shows what stood there, so that nobody's place on the page moves. */
interface Screen {
  parts: Map<string, Shown>;
  days: Map<string, Section>;
  isWhole: boolean;
}

/** Thousands of rows are left alone until they change: a part that is shown as it was is the same node, and Preact
 *  does not look into components' nodes that are the same. (Into elements' it does: hence the components here.) */
export function Days({ plans, now, providers }: { plans: Plan[]; now: number; providers: Provider[] }) {
  const minute = Math.ceil(now / 60_000) * 60_000;
  const stale = providers.filter((one) => !isFresh(one, now)).map((one) => one.name);
  const of = stale.join("\n");
  const days = useMemo(() => byDay(plans).map(([date, ofDay]): Day => ({ date, parts: parts(ofDay) })), [plans]);
  const [frame, next] = useState(0);
  const before = useRef<Screen>({ parts: new Map(), days: new Map(), isWhole: true });
  const screen = useMemo(() => (before.current = drawn(days, before.current, minute, stale)), [days, of, minute, frame]);
  useLayoutEffect(() => {
    if (screen.isWhole) return;
    const asked = requestAnimationFrame(() => next((number) => number + 1));
    return () => cancelAnimationFrame(asked);
  }, [screen]);
  return useMemo(() => <All days={[...screen.days.values()].map((one) => one.node)} />, [screen]);
}

const All = ({ days }: { days: VNode[] }) => <div class="days">{days}</div>;

/** As many parts as a frame has time for are made anew; of the others, those that were there stay as they were. */
function drawn(days: Day[], before: Screen, minute: number, stale: string[]): Screen {
  const of = stale.join("\n");
  const names = new Set(stale);
  const screen: Screen = { parts: new Map(), days: new Map(), isWhole: true };
  let left = AT_ONCE;
  for (const { date, parts } of days) {
    const nodes: VNode[] = [];
    for (const [place, plans] of parts.entries()) {
      const id = `${date}/${place}`;
      let shown = before.parts.get(id);
      if (shown && isAsItWas(shown, plans, of, minute)) {
        // The same array is the same at a glance.
        shown.plans = plans;
      } else {
        if (left > 0) shown = { plans, stale: of, until: changes(plans, minute, names), node: <Part key={id} plans={plans} now={minute} stale={names} /> };
        else screen.isWhole = false;
        left -= plans.length;
      }
      if (!shown) continue;
      screen.parts.set(id, shown);
      nodes.push(shown.node);
    }
    if (nodes.length > 0) screen.days.set(date, section(date, parts, nodes, before.days.get(date)));
  }
  return screen;
}

function isAsItWas(shown: Shown, plans: Plan[], stale: string, minute: number): boolean {
  if (shown.stale !== stale || minute >= shown.until) return false;
  if (shown.plans === plans) return true;
  return shown.plans.length === plans.length && plans.every((plan, place) => plan === shown.plans[place]);
}

/** When the state of a sale changes next; ages do every minute. */
function changes(plans: Plan[], now: number, stale: Set<string>): number {
  if (plans.some((plan) => !plan.listed || stale.has(plan.provider))) return now + 60_000;
  const times = plans.flatMap((plan) => [plan.sell_from, plan.sell_to, plan.ends_at ?? plan.starts_at]);
  return times.reduce((next, time) => {
    const at = time ? Date.parse(time) : NaN;
    return at > now && at < next ? at : next;
  }, Infinity);
}

function section(date: string, ofDay: Plan[][], parts: VNode[], before: Section | undefined): Section {
  const plans = ofDay.reduce((sum, part) => sum + part.length, 0);
  const isSame = before?.plans === plans && before.parts.length === parts.length;
  if (before && isSame && parts.every((part, place) => part === before.parts[place])) return before;
  return { parts, plans, node: <OfDay key={date} date={longDate(date)} plans={plans} parts={parts} /> };
}

const OfDay = ({ date, plans, parts }: { date: string; plans: number; parts: VNode[] }) => (
  <section aria-label={date}>
    <h2>
      {date} <span class="quiet">{count(plans, "plan")}</span>
    </h2>
    {parts}
  </section>
);

function parts(plans: Plan[]): Plan[][] {
  return Array.from({ length: Math.ceil(plans.length / PART) }, (_, place) => plans.slice(place * PART, (place + 1) * PART));
}

const Part = ({ plans, now, stale }: { plans: Plan[]; now: number; stale: Set<string> }) => (
  <ul class="plans" style={{ "--rows": plans.length }}>
    {plans.map((plan) => row(plan, now, stale.has(plan.provider)))}
  </ul>
);

/** No component, nor made of any: there are thousands. */
const row = (plan: Plan, now: number, isStale: boolean): VNode => (
  <li key={plan.id}>
    <span class="time">{hours(plan)}</span>
    <a class="name" href={href(["plans", plan.id])}>
      {plan.title || "(without a title)"}
    </a>
    <span class="state">
      {SaleState({ plan, now })}
      {(isStale || !plan.listed) && <span class="quiet"> as of {age(plan.last_seen_at, now)} ago</span>}
    </span>
    <span class="price">{price(plan)}</span>
  </li>
);

/** `20:00 – 21:30`; an end on another day with its day. */
export function hours(plan: Plan): string {
  const start = clockOf(plan.starts_at);
  if (!plan.ends_at) return start;
  const end = clockOf(plan.ends_at);
  if (dateOf(plan.ends_at) === dateOf(plan.starts_at)) return `${start} – ${end}`;
  const isNextMorning = Date.parse(plan.ends_at) - Date.parse(plan.starts_at) < 12 * 3_600_000;
  return isNextMorning ? `${start} – ${end}` : `${start} – ${shortDate(dateOf(plan.ends_at))} ${end}`;
}

export const SALE: Record<Sale, [string, string]> = {
  on: ["on sale", "good"],
  upcoming: ["not yet on sale", ""],
  sold_out: ["sold out", "bad"],
  over: ["sale over", "quiet"],
};

export function SaleState({ plan, now }: { plan: Plan; now: number }) {
  const sale = saleOf(plan, now);
  const [words, kind] = SALE[sale];
  if (!plan.listed) {
    return (
      <span class="warn" title={`Not in the feed since ${inOwnZone(plan.last_seen_at)}`}>
        left the feed
      </span>
    );
  }
  const detail =
    sale === "upcoming" && plan.sell_from
      ? `on sale from ${shortDate(dateOf(plan.sell_from))} ${clockOf(plan.sell_from)}`
      : sale === "on" && plan.sell_mode !== "online"
        ? "not sold online"
        : words;
  return <span class={kind}>{detail}</span>;
}
