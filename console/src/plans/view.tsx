import { useMemo } from "preact/hooks";
import { all, get, type List } from "../api";
import { place } from "../route";
import { Busy, count, Empty, Failed, Said, Title } from "../ui/parts";
import { useEvery, useLoad, useMore, useNow } from "../ui/load";
import { Month, Week } from "./calendar";
import { Filters, Span, Views } from "./filters";
import { Freshness } from "./freshness";
import { Days } from "./list";
import { Subscribe } from "./subscribe";
import { datesOf, isWithin, type Plan, type Provider, questionOf, viewOf } from "./model";

/** Of a list, at first and then: who wants more wants much. */
const [PAGE, NEXT_PAGES] = [100, 500];
/** Of a week or a month no more is loaded. */
const MOST = 2_000;
const REFRESH_MS = 30_000;

export function Plans() {
  const query = place.value.query;
  const view = viewOf(query);
  const dates = datesOf(query);
  const question = questionOf(query, dates, view === "list" ? PAGE : 500);
  const providers = useLoad("/v1/providers", (signal) => get<List<Provider>>("/v1/providers", signal));
  const page = useLoad(`${view} ${question}`, (signal) =>
    view === "list" ? get<List<Plan>>(question, signal) : all<Plan>(question, MOST, signal),
  );
  const more = useMore<Plan>(questionOf(query, dates, NEXT_PAGES));
  const ofPlans = (providers.data?.items ?? []).filter((one) => one.listed_plans !== null);
  const now = useNow(10_000);
  useEvery(REFRESH_MS, () => {
    providers.again();
    // A list that was extended is left alone: it would move under the reader.
    if (more.pages.length === 0) page.again();
  });

  const isCurrent = page.of === `${view} ${question}`;
  const plans = useMemo(() => {
    const loaded = page.data && isCurrent ? [...page.data.items, ...more.pages.flatMap((one) => one.items)] : [];
    return loaded.filter((plan) => isWithin(plan, dates));
  }, [page.data, isCurrent, more.pages, dates.from, dates.until]);
  const next = more.pages.at(-1)?.next_cursor ?? (more.pages.length ? null : (page.data?.next_cursor ?? null));
  const problem = page.problem;
  return (
    <>
      <Title text="Plans">
        <Views />
      </Title>
      <Filters providers={ofPlans} />
      <Freshness providers={ofPlans} now={now} />
      <Span dates={dates} />
      {problem && <Failed problem={problem} again={page.again} />}
      {!isCurrent && !problem && <Busy what="plans" />}
      {isCurrent && <Said>{`${count(plans.length, "plan")}${next ? ", and more" : ""}`}</Said>}
      {isCurrent && plans.length === 0 && view === "list" && !next && <NoPlans isFiltered={isFiltered(query)} />}
      {isCurrent && view === "list" && <Days plans={plans} now={now} providers={ofPlans} />}
      {isCurrent && view === "week" && <Week plans={plans} from={dates.from!} now={now} />}
      {isCurrent && view === "month" && <Month plans={plans} from={dates.from!} until={dates.until!} />}
      {isCurrent && view !== "list" && next && (
        <p class="notice">More than {count(MOST, "plan")} lie in this time: filter to see all of them.</p>
      )}
      {more.problem && <Failed problem={more.problem} />}
      {isCurrent && view === "list" && next && (
        <p class="more">
          <button type="button" disabled={more.loading} onClick={() => more.load(next)}>
            {more.loading ? "Loading…" : "Show more"}
          </button>
          <span class="quiet">{count(plans.length, "plan")} shown</span>
        </p>
      )}
      {isCurrent && <Subscribe dates={dates} />}
    </>
  );
}

function isFiltered(query: URLSearchParams): boolean {
  return ["q", "min_price", "max_price", "sale", "provider"].some((name) => query.get(name));
}

function NoPlans({ isFiltered }: { isFiltered: boolean }) {
  return (
    <Empty>
      {isFiltered
        ? "No plan of these dates matches the filters."
        : "No provider lists a plan on these dates. Other dates, or plans that left the feed, may have some."}
    </Empty>
  );
}
