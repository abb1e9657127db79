import type { VNode } from "preact";
import { useMemo, useRef } from "preact/hooks";
import { href } from "../route";
import { age, clockOf, dateOf, inOwnZone, longDate, shortDate } from "../time";
import { count } from "../ui/parts";
import { isFresh } from "./freshness";
import { byDay, type Plan, price, type Provider, type Sale, saleOf } from "./model";

/** A day as it was shown last. */
interface Shown {
  plans: Plan[];
  stale: string;
  /** Nothing of it changes with time before that. */
  until: number;
  day: VNode;
}

/** Thousands of rows are left alone until they change: a day that is shown as it was is the same node, which
 *  nobody looks into. */
export function Days({ plans, now, providers }: { plans: Plan[]; now: number; providers: Provider[] }) {
  const minute = Math.ceil(now / 60_000) * 60_000;
  const stale = providers.filter((one) => !isFresh(one, now)).map((one) => one.name);
  const of = stale.join("\n");
  const shown = useRef(new Map<string, Shown>());
  return useMemo(() => {
    const days = new Map<string, Shown>();
    for (const [date, ofDay] of byDay(plans)) {
      const before = shown.current.get(date);
      const isSame =
        before?.stale === of &&
        minute < before.until &&
        before.plans.length === ofDay.length &&
        ofDay.every((plan, place) => plan === before.plans[place]);
      const again = (): Shown => {
        const names = new Set(stale);
        return { plans: ofDay, stale: of, until: changes(ofDay, minute, names), day: day(date, ofDay, minute, names) };
      };
      days.set(date, isSame ? before : again());
    }
    shown.current = days;
    return <div class="days">{[...days.values()].map((one) => one.day)}</div>;
  }, [plans, of, minute]);
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

function day(date: string, plans: Plan[], now: number, stale: Set<string>) {
  return (
    <section key={date} aria-label={longDate(date)}>
      <h2>
        {longDate(date)} <span class="quiet">{count(plans.length, "plan")}</span>
      </h2>
      {parts(plans).map((part) => (
        <ul key={part[0]!.id} class="plans" style={{ "--rows": part.length }}>
          {part.map((plan) => (
            <Row key={plan.id} plan={plan} now={now} isStale={stale.has(plan.provider)} />
          ))}
        </ul>
      ))}
    </section>
  );
}

/** A browser lays out those that are seen, whole: a part is about what a screen shows. */
const PART = 30;

function parts(plans: Plan[]): Plan[][] {
  return Array.from({ length: Math.ceil(plans.length / PART) }, (_, place) => plans.slice(place * PART, (place + 1) * PART));
}

function Row({ plan, now, isStale }: { plan: Plan; now: number; isStale: boolean }) {
  return (
    <li>
      <span class="time">{hours(plan)}</span>
      <a class="name" href={href(["plans", plan.id])}>
        {plan.title || "(without a title)"}
      </a>
      <span class="state">
        <SaleState plan={plan} now={now} />
        {(isStale || !plan.listed) && <span class="quiet"> as of {age(plan.last_seen_at, now)} ago</span>}
      </span>
      <span class="price">{price(plan)}</span>
    </li>
  );
}

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
