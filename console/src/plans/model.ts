// Plans as the API gives them, and what is asked for.
import { addDays, addMonths, dateOf, isDate, mondayOf, today, weekdayNumber } from "../time";

export interface Plan {
  id: string;
  provider: string;
  base_plan_id: string;
  plan_id: string;
  title: string;
  organizer_id: string | null;
  starts_at: string;
  ends_at: string | null;
  sell_from: string | null;
  sell_to: string | null;
  sold_out: boolean;
  sell_mode: string;
  min_price: number | null;
  max_price: number | null;
  capacity: number;
  currency: string | null;
  url: string | null;
  listed: boolean;
  first_seen_at: string;
  last_seen_at: string;
  zones?: { zone_id: string; name: string | null; capacity: number; price: number | null; numbered: boolean }[];
}

export interface Provider {
  name: string;
  /** Null of one that was paused before it was ever fetched. */
  breaker: string | null;
  consecutive_failures: number;
  /** Without an objective it is asked when somebody needs it: a forecast service. */
  freshness: { age_s: number | null; met: boolean | null; objective_s: number | null };
  last_success_at: string | null;
  last_failure_at: string | null;
  last_failure: string | { category?: string; detail?: string } | null;
  last_outcome: string | null;
  /** Null of a service that lists no plans. */
  listed_plans: number | null;
  next_fetch_at: string | null;
  next_fetch_reason: string | null;
  /** By an operator; why, other operators are told. */
  paused: { since: string; by: string } | null;
  /** With nulls while there was none. */
  last_body: { bytes: number | null; quarantined: number | null; observed_at: string | null; faults: Fault[] | null } | null;
}

/** What of a body could not be read, and where in it. */
export interface Fault {
  place: string;
  subject: string;
  reason: string;
}

export type Sale = "upcoming" | "on" | "sold_out" | "over";

/** The same rule by which the API filters. */
export function saleOf(plan: Plan, now: number): Sale {
  const ended = Date.parse(plan.ends_at ?? plan.starts_at) <= now;
  if (ended || (plan.sell_to && Date.parse(plan.sell_to) <= now)) return "over";
  if (plan.sold_out || plan.capacity === 0) return "sold_out";
  if (plan.sell_from && Date.parse(plan.sell_from) > now) return "upcoming";
  return "on";
}

export type View = "list" | "week" | "month";
export const viewOf = (query: URLSearchParams): View => {
  const view = query.get("view");
  return view === "week" || view === "month" ? view : "list";
};

/** Local dates from `from` on, before `until`; null is without a bound. */
export interface Dates {
  from: string | null;
  until: string | null;
}

/** `when` stays true when the address is opened on another day; dates given are as they are. */
export function datesOf(query: URLSearchParams): Dates {
  const now = today();
  const anchor = query.get("date");
  const date = isDate(anchor) ? anchor : now;
  switch (viewOf(query)) {
    case "week":
      return { from: mondayOf(date), until: addDays(mondayOf(date), 7) };
    case "month": {
      const first = mondayOf(addMonths(date, 0));
      const last = addDays(addMonths(date, 1), -1);
      return { from: first, until: addDays(mondayOf(last), 7) };
    }
  }
  switch (query.get("when")) {
    case "today":
      return { from: now, until: addDays(now, 1) };
    case "weekend": {
      const saturday = addDays(mondayOf(now), 5);
      return { from: weekdayNumber(now) === 6 ? now : saturday, until: addDays(saturday, 2) };
    }
    case "week":
      return { from: now, until: addDays(now, 7) };
    case "all":
      return { from: null, until: null };
  }
  const [from, to] = [query.get("from"), query.get("to")];
  return { from: isDate(from) ? from : now, until: isDate(to) ? addDays(to, 1) : null };
}

/** Parameters of `/v1/plans`. Days are the provider's: what is asked for reaches as far as any zone's
 *  day does, and `isWithin` leaves out what lies on another day there. */
export function questionOf(query: URLSearchParams, dates: Dates, limit: number): string {
  const asked = new URLSearchParams();
  if (dates.from) asked.set("starts_from", dates.from + "T00:00:00+14:00");
  if (dates.until) asked.set("starts_until", dates.until + "T00:00:00-12:00");
  for (const name of ["q", "min_price", "max_price", "sale", "provider"]) {
    const value = query.get(name)?.trim();
    if (value) asked.set(name, value);
  }
  if (query.get("unlisted") !== "yes") asked.set("listed", "true");
  asked.set("limit", String(limit));
  return "/v1/plans?" + asked;
}

/** Where calendars and feed readers find what the view shows. */
export function feedOf(kind: "ics" | "rss", query: URLSearchParams, dates: Dates): string {
  const asked = new URLSearchParams(questionOf(query, dates, 0).split("?")[1]);
  asked.delete("limit");
  // Who subscribes reads on tomorrow: "from today" is what is not over yet, whatever today is.
  if (viewOf(query) === "list" && !query.get("from") && !query.get("when")) {
    asked.delete("starts_from");
    if (!asked.has("sale")) for (const sale of ["upcoming", "on", "sold_out"]) asked.append("sale", sale);
  }
  return `/v1/plans.${kind}?${asked}`;
}

export function isWithin(plan: Plan, dates: Dates): boolean {
  const date = dateOf(plan.starts_at);
  return (!dates.from || date >= dates.from) && (!dates.until || date < dates.until);
}

/** By local day, and by local time in it. */
export function byDay(plans: Plan[]): [string, Plan[]][] {
  const days = new Map<string, Plan[]>();
  const sorted = [...plans].sort((one, other) => (one.starts_at.slice(0, 19) < other.starts_at.slice(0, 19) ? -1 : 1));
  for (const plan of sorted) {
    const date = dateOf(plan.starts_at);
    const ofDay = days.get(date);
    if (ofDay) ofDay.push(plan);
    else days.set(date, [plan]);
  }
  return [...days];
}

/** By currency; null of what is none. To make one takes longer than a row does. */
const formats = new Map<string, Intl.NumberFormat | null>();

function formatOf(currency: string): Intl.NumberFormat | null {
  let format = formats.get(currency);
  if (format === undefined) {
    try {
      format = new Intl.NumberFormat("en-GB", { style: "currency", currency });
    } catch {
      format = null;
    }
    formats.set(currency, format);
  }
  return format;
}

export function price(plan: Plan): string {
  if (plan.min_price === null) return "";
  const { currency } = plan;
  const show = (amount: number): string => {
    if (!currency) return amount.toFixed(2);
    return formatOf(currency)?.format(amount) ?? `${amount.toFixed(2)} ${currency}`;
  };
  if (plan.max_price === null || plan.max_price === plan.min_price) return show(plan.min_price);
  return `${show(plan.min_price)} – ${show(plan.max_price)}`;
}
