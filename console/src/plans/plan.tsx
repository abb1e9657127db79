import { useState } from "preact/hooks";
import { get, type List } from "../api";
import { href } from "../route";
import { age, clockOf, dateOf, inOwnZone, longDate, offsetOf } from "../time";
import { Busy, Failed, Outside, Table, Title } from "../ui/parts";
import { useLoad, useNow } from "../ui/load";
import { hours, SaleState } from "./list";
import { type Plan as Known, price } from "./model";

export function Plan({ id }: { id: string }) {
  const path = `/v1/plans/${encodeURIComponent(id)}`;
  const loaded = useLoad(path, (signal) => get<Known>(path, signal));
  const now = useNow(10_000);
  const plan = loaded.of === path ? loaded.data : null;
  if (loaded.problem) {
    return (
      <>
        <Title text="Plan" />
        <Failed problem={loaded.problem} again={loaded.again} />
      </>
    );
  }
  if (!plan) return <Busy what="the plan" />;
  const own = inOwnZone(plan.starts_at);
  return (
    <article class="plan">
      <p class="way">
        <a href={href(["plans"])}>Plans</a>
      </p>
      <Title text={plan.title || "(without a title)"} />
      <dl class="facts">
        <Fact name="When">
          {longDate(dateOf(plan.starts_at))}, {hours(plan)} <span class="quiet">{offsetOf(plan.starts_at)}, local time</span>
        </Fact>
        <Fact name="Your time">{own}</Fact>
        <Fact name="Sale">
          <SaleState plan={plan} now={now} />
          {(plan.sell_from || plan.sell_to) && <span class="quiet"> · sale{period(plan)}</span>}
        </Fact>
        {price(plan) && <Fact name="Price">{price(plan)}</Fact>}
        <Fact name="Places left">{plan.capacity.toLocaleString("en-GB")}</Fact>
        <Fact name="Provider">
          {plan.provider}, plan {plan.base_plan_id} / {plan.plan_id}
          {plan.organizer_id && `, organizer ${plan.organizer_id}`}
        </Fact>
        <Fact name="Known since">{inOwnZone(plan.first_seen_at)}</Fact>
        <Fact name="Last seen">
          {age(plan.last_seen_at, now)} ago {plan.listed ? "" : "(it is no longer in the feed)"}
        </Fact>
        {plan.url && (
          <Fact name="Tickets">
            <Outside url={plan.url}>{plan.url}</Outside>
          </Fact>
        )}
      </dl>
      <h2>Zones</h2>
      {plan.zones?.length ? (
        <Table label="Zones">
          <thead>
            <tr>
              <th scope="col">Zone</th>
              <th scope="col" class="number">Places left</th>
              <th scope="col" class="number">Price</th>
              <th scope="col">Seats</th>
            </tr>
          </thead>
          <tbody>
            {plan.zones.map((zone, place) => (
              <tr key={place}>
                <td>{zone.name ?? zone.zone_id}</td>
                <td class="number">{zone.capacity.toLocaleString("en-GB")}</td>
                <td class="number">{price({ ...plan, min_price: zone.price, max_price: zone.price })}</td>
                <td>{zone.numbered ? "numbered" : "free"}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      ) : (
        <p class="quiet">The provider lists no zones.</p>
      )}
      <History path={path} />
    </article>
  );
}

function period(plan: Known): string {
  const day = (time: string): string => `${longDate(dateOf(time))}, ${clockOf(time)}`;
  return (plan.sell_from ? ` from ${day(plan.sell_from)}` : "") + (plan.sell_to ? ` to ${day(plan.sell_to)}` : "");
}

export function Fact({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

interface Change {
  type: string;
  time?: string;
  occurred_at?: string;
  changed?: string[];
  sequence?: number;
}

function History({ path }: { path: string }) {
  const [isOpen, open] = useState(false);
  return (
    <details onToggle={(event) => open(event.currentTarget.open)}>
      <summary>History</summary>
      {isOpen && <Changes path={path} />}
    </details>
  );
}

function Changes({ path }: { path: string }) {
  const loaded = useLoad(path + "/history", (signal) => get<List<Change>>(path + "/history?limit=500", signal));
  if (loaded.problem) return <Failed problem={loaded.problem} again={loaded.again} />;
  if (!loaded.data) return <Busy what="the history" />;
  return (
    <ol class="history">
      {loaded.data.items.map((change, place) => (
        <li key={place}>
          {inOwnZone(change.occurred_at ?? change.time ?? "")} <code>{change.type}</code>
          {change.changed?.length ? ` ${change.changed.join(", ")}` : ""}
        </li>
      ))}
    </ol>
  );
}
