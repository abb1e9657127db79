import { changed, href, place } from "../route";
import { addDays, isDate, longDate, mondayOf, monthOf, shortDate, today } from "../time";
import { Choice, Filter, MoreFilters } from "../ui/parts";
import { type Dates, type Provider, type View, viewOf } from "./model";

const PRESETS: [string | null, string][] = [
  [null, "From today"],
  ["today", "Today"],
  ["weekend", "This weekend"],
  ["week", "Next 7 days"],
  ["all", "All dates"],
];

export function Views() {
  const view = viewOf(place.value.query);
  const link = (to: View, text: string) => (
    <a
      href={href(["plans"], changed({ view: to === "list" ? null : to }))}
      aria-current={view === to ? "page" : undefined}
    >
      {text}
    </a>
  );
  return (
    <nav class="switch" aria-label="View of plans">
      {link("list", "List")}
      {link("week", "Week")}
      {link("month", "Month")}
    </nav>
  );
}

export function Filters({ providers }: { providers: Provider[] }) {
  const query = place.value.query;
  const text = (name: string): string => query.get(name) ?? "";
  const isList = viewOf(query) === "list";
  const chosen = query.get("from") || query.get("to") ? "dates" : query.get("when");
  return (
    <form class="filters" role="search" aria-label="Filter plans" onSubmit={(event) => event.preventDefault()}>
      <Filter name="q" label="Words of the title" type="search" wide value={text("q")} />
      <MoreFilters
        isSet={["from", "to", "min_price", "max_price", "sale", "provider", "unlisted"].some((name) => query.get(name))}
      >
        {isList && (
          <>
            <Filter name="from" label="From" type="date" value={text("from")} debounceMs={0} />
            <Filter name="to" label="To" type="date" value={text("to")} debounceMs={0} />
          </>
        )}
        <Filter name="min_price" label="Price from" inputMode="decimal" size={5} value={text("min_price")} />
        <Filter name="max_price" label="Price to" inputMode="decimal" size={5} value={text("max_price")} />
        <Choice
          name="sale"
          label="Sale"
          value={text("sale")}
          options={[["", "Any"], ["on", "On sale"], ["upcoming", "Not yet on sale"], ["sold_out", "Sold out"], ["over", "Over"]]}
        />
        {providers.length > 1 && (
          <Choice
            name="provider"
            label="Provider"
            value={text("provider")}
            options={[["", "Any"], ...providers.map((one): [string, string] => [one.name, one.name])]}
          />
        )}
        <Choice
          name="unlisted"
          label="In the feed"
          value={text("unlisted")}
          options={[["", "Only now"], ["yes", "Now or before"]]}
        />
      </MoreFilters>
      {isList && (
        <nav class="presets" aria-label="Dates">
          {PRESETS.map(([when, name]) => (
            <a
              key={name}
              href={href(["plans"], changed({ when, from: null, to: null }))}
              aria-current={chosen === when ? "true" : undefined}
            >
              {name}
            </a>
          ))}
        </nav>
      )}
    </form>
  );
}

/** What the dates are, in words; for week and month with ways to the ones before and after. */
export function Span({ dates }: { dates: Dates }) {
  const query = place.value.query;
  const view = viewOf(query);
  if (view === "list") {
    const { from, until } = dates;
    if (!from && !until) return <p class="span">All dates</p>;
    const last = until && addDays(until, -1);
    if (from && last === from) return <p class="span">{longDate(from)}</p>;
    return (
      <p class="span">
        {from ? `From ${longDate(from)}` : ""}
        {last ? ` to ${longDate(last)}` : ""}
      </p>
    );
  }
  const given = query.get("date");
  const date = isDate(given) ? given : today();
  const step = (direction: number): string => {
    if (view === "week") return addDays(mondayOf(date), 7 * direction);
    const [year = 0, month = 1] = date.split("-").map(Number);
    return new Date(Date.UTC(year, month - 1 + direction, 1, 12)).toISOString().slice(0, 10);
  };
  const to = (direction: number): string => href(["plans"], changed({ date: step(direction) }));
  return (
    <nav class="span" aria-label={view === "week" ? "Weeks" : "Months"}>
      <a href={to(-1)} class="button">
        Earlier
      </a>
      <h2>
        {view === "week"
          ? `${shortDate(mondayOf(date))} – ${shortDate(addDays(mondayOf(date), 6))} ${addDays(mondayOf(date), 6).slice(0, 4)}`
          : monthOf(date)}
      </h2>
      <a href={to(1)} class="button">
        Later
      </a>
      <a href={href(["plans"], changed({ date: null }))}>Today</a>
    </nav>
  );
}
