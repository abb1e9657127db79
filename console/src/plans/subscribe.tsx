import { place } from "../route";
import { type Dates, feedOf } from "./model";

/** The same plans for calendars and feed readers, as the filters stand. */
export function Subscribe({ dates }: { dates: Dates }) {
  const { query } = place.value;
  const calendar = feedOf("ics", query, dates);
  return (
    <nav class="subscribe" aria-label="Subscribe to these plans">
      <span class="quiet">These plans elsewhere:</span>
      <a href={`webcal://${location.host}${calendar}`}>subscribe in a calendar</a>
      <a href={calendar} download="plans.ics">
        calendar file
      </a>
      <a href={feedOf("rss", query, dates)}>RSS</a>
    </nav>
  );
}
