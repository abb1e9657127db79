import { changed, href } from "../route";
import { addDays, clockOf, longDate, today, weekdayNumber, weekdayOf } from "../time";
import { count } from "../ui/parts";
import { SALE } from "./list";
import { byDay, type Plan, saleOf } from "./model";

/** Titles that a day of a month shows. */
const SHOWN = 3;

const toDay = (date: string): string =>
  href(["plans"], changed({ view: null, when: null, date: null, from: date, to: date }));

export function Week({ plans, from, now }: { plans: Plan[]; from: string; now: number }) {
  const days = new Map(byDay(plans));
  const dates = Array.from({ length: 7 }, (_, day) => addDays(from, day));
  return (
    <div class="week">
      {dates.map((date) => {
        const ofDay = days.get(date) ?? [];
        return (
          <section key={date} class={date === today() ? "today" : ""} aria-label={longDate(date)}>
            <h3>
              <a href={toDay(date)}>
                {weekdayOf(date).slice(0, 3)} {Number(date.slice(8))}
                <span class="unseen">: {longDate(date)}, </span>
              </a>
              <span class="quiet"> {ofDay.length ? count(ofDay.length, "plan") : "none"}</span>
            </h3>
            {ofDay.length > 0 && (
              <ul>
                {ofDay.slice(0, 40).map((plan) => (
                  <li key={plan.id}>
                    <span class="time">{clockOf(plan.starts_at)}</span>{" "}
                    <a href={href(["plans", plan.id])}>{plan.title || "(without a title)"}</a>
                    {saleOf(plan, now) !== "on" && (
                      <span class={`state ${SALE[saleOf(plan, now)][1]}`}> {SALE[saleOf(plan, now)][0]}</span>
                    )}
                  </li>
                ))}
              </ul>
            )}
            {ofDay.length > 40 && <a href={toDay(date)}>{ofDay.length - 40} more</a>}
          </section>
        );
      })}
    </div>
  );
}

export function Month({ plans, from, until }: { plans: Plan[]; from: string; until: string }) {
  const days = new Map(byDay(plans));
  const weeks: string[][] = [];
  for (let date = from; date < until; date = addDays(date, 1)) {
    if (weekdayNumber(date) === 0) weeks.push([]);
    weeks.at(-1)!.push(date);
  }
  const month = addDays(from, 10).slice(0, 7);
  return (
    <table class="month">
      <thead>
        <tr>
          {weeks[0]?.map((date) => (
            <th key={date} scope="col">
              <abbr title={weekdayOf(date)}>{weekdayOf(date).slice(0, 3)}</abbr>
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {weeks.map((week) => (
          <tr key={week[0]}>
            {week.map((date) => (
              <Day key={date} date={date} plans={days.get(date) ?? []} isOther={date.slice(0, 7) !== month} />
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Day({ date, plans, isOther }: { date: string; plans: Plan[]; isOther: boolean }) {
  return (
    <td class={`${isOther ? "other" : ""} ${date === today() ? "today" : ""}`}>
      <a class="date" href={toDay(date)}>
        <span aria-hidden="true">{Number(date.slice(8))}</span>
        {plans.length > 0 && <span class="number" aria-hidden="true">{plans.length}</span>}
        <span class="unseen">{`${longDate(date)}: ${count(plans.length, "plan")}`}</span>
      </a>
      <ul>
        {plans.slice(0, SHOWN).map((plan) => (
          <li key={plan.id}>
            <span class="time">{clockOf(plan.starts_at)}</span>{" "}
            <a href={href(["plans", plan.id])}>{plan.title || "(without a title)"}</a>
          </li>
        ))}
      </ul>
      {plans.length > SHOWN && (
        <a class="rest" href={toDay(date)}>
          {plans.length - SHOWN} more<span class="unseen"> on {longDate(date)}</span>
        </a>
      )}
    </td>
  );
}
